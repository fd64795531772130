# SPDX-License-Identifier: Apache-2.0
"""A stream into an empty disk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.copying.memory import CancelsAt, MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import inbound
from volume_rbd.model import MIB

GRAIN = 64 * 1024
DATA = b'\x01'
HOLE = b'\0'

#: Runs of one byte, around the grain's size, made into chunks.
runs = st.tuples(st.sampled_from([HOLE, HOLE, DATA, b'\xff']), st.one_of(
    st.integers(0, 3), st.integers(GRAIN - 2, GRAIN + 2),
    st.sampled_from([2 * GRAIN, 3 * GRAIN - 1])))
chunk_lists = st.lists(
    st.lists(runs, max_size=5).map(
        lambda parts: b''.join(byte * count for byte, count in parts)),
    max_size=5)


def _write(chunks: list[bytes], *, size: int | None = None,
           operations: int = 4, report: progress.Progress | None = None
           ) -> tuple[MemoryDisk, int]:
    disk = MemoryDisk(sum(map(len, chunks)) if size is None else size)
    written = inbound.write_stream(
        iter(chunks), disk, operations=operations,
        report=report or progress.Silent())
    return disk, written


@given(chunk_lists, st.integers(0, GRAIN), st.integers(1, 5))
@example([], 0, 1)
@example([b''], 0, 1)
@example([DATA * GRAIN + HOLE * GRAIN], 0, 1)
@example([HOLE * GRAIN + DATA], 0, 1)
@example([HOLE * (5 * MIB) + DATA], 0, 1)
def test_the_disk_holds_exactly_the_streams_bytes(
        chunks: list[bytes], more: int, operations: int) -> None:
    stream = b''.join(chunks)
    report = progress.Cancellable()
    disk, written = _write(chunks, size=len(stream) + more,
                           operations=operations, report=report)
    assert disk.data == stream + bytes(more)
    assert disk.most_in_flight <= operations
    assert disk.flushes == 1
    assert written == sum(length for _, length in disk.writes)
    assert report.done_bytes == written
    assert report.done_bytes + report.skipped_bytes == len(stream)


@given(chunk_lists)
def test_no_grain_of_zeros_is_written(chunks: list[bytes]) -> None:
    disk, _ = _write(chunks)
    begin = 0
    holes = set()
    for chunk in chunks:
        for at in range(0, len(chunk), GRAIN):
            if not any(chunk[at:at + GRAIN]):
                holes.add((begin + at, begin + min(at + GRAIN, len(chunk))))
        begin += len(chunk)
    for offset, length in disk.writes:
        assert length
        assert not [hole for hole in holes
                    if offset < hole[1] and hole[0] < offset + length]


def test_neighbouring_grains_are_written_in_one_operation() -> None:
    chunk = (HOLE * GRAIN + DATA * (3 * GRAIN) + HOLE * (2 * GRAIN)
             + DATA * 5)
    disk, written = _write([chunk])
    assert disk.writes == [(GRAIN, 3 * GRAIN), (6 * GRAIN, 5)]
    assert written == 3 * GRAIN + 5


def test_a_chunk_without_a_hole_is_written_as_it_came() -> None:
    disk, _ = _write([DATA * (4 * MIB), DATA * MIB])
    assert disk.writes == [(0, 4 * MIB), (4 * MIB, MIB)]


def test_one_byte_makes_its_grain_data() -> None:
    chunk = bytearray(4 * GRAIN)
    chunk[3 * GRAIN - 1] = 1
    disk, _ = _write([bytes(chunk)])
    assert disk.writes == [(2 * GRAIN, GRAIN)]


def test_a_stream_of_zeros_writes_nothing() -> None:
    disk, written = _write([bytes(4 * MIB)] * 3)
    assert (disk.writes, written) == ([], 0)


@pytest.mark.parametrize('sizes', [[5], [4, 1], [4, 0, 1], [0, 9]])
def test_a_stream_longer_than_the_disk_is_refused(sizes: list[int]) -> None:
    disk = MemoryDisk(4)
    with pytest.raises(exception.InvalidSize) as caught:
        inbound.write_stream((DATA * size for size in sizes), disk,
                             operations=4, report=progress.Silent())
    assert 'try again' in caught.value.remedy
    assert not disk.in_flight
    assert disk.flushes == 0


def test_a_stream_that_is_too_long_by_zeros_is_refused_as_well() -> None:
    with pytest.raises(exception.InvalidSize):
        _write([HOLE * 5], size=4)


@pytest.mark.parametrize('passed', [1, 4, 5, 12])
def test_cancelling_midway_waits_for_what_is_in_flight(passed: int) -> None:
    disk = MemoryDisk(100)
    with pytest.raises(exception.Cancelled):
        inbound.write_stream((DATA * 4 for _ in range(25)), disk,
                             operations=3, report=CancelsAt(passed))
    assert len(disk.writes) == -(-passed // 4)
    assert not disk.in_flight
    assert disk.flushes == 0


def test_cancelled_before_the_first_chunk_writes_nothing() -> None:
    report = progress.Cancellable()
    report.cancel()
    with pytest.raises(exception.Cancelled):
        _write([DATA], report=report)


@pytest.mark.parametrize('failing', range(6))
@pytest.mark.parametrize('operations', [1, 3, 9])
def test_a_failed_write_surfaces_and_the_rest_is_waited_for(
        failing: int, operations: int) -> None:
    disk = MemoryDisk(6, failures={failing: exception.NoSpace('full')})
    with pytest.raises(exception.NoSpace):
        inbound.write_stream([DATA] * 6, disk, operations=operations,
                             report=progress.Silent())
    assert not disk.in_flight
    assert disk.waited == len(disk.writes)
    assert disk.flushes == 0
    assert len(disk.writes) <= failing + operations


def test_a_stream_that_breaks_surfaces_and_the_rest_is_waited_for() -> None:
    def stream() -> Iterator[bytes]:
        yield DATA
        yield DATA
        raise exception.DataCorrupted('The hash does not match.')

    disk = MemoryDisk(9)
    with pytest.raises(exception.DataCorrupted):
        inbound.write_stream(stream(), disk, operations=8,
                             report=progress.Silent())
    assert disk.waited == 2
    assert disk.flushes == 0


@pytest.mark.parametrize(('operations', 'chunk', 'expected'), [
    (16, 4 * MIB, 8), (4, 4 * MIB, 4), (64, MIB, 32), (16, 32 * MIB, 1),
    (16, 33 * MIB, 1), (1, 1, 1), (64, 4096, 64)])
def test_operations_in_flight_stay_within_the_memory(
        operations: int, chunk: int, expected: int) -> None:
    assert inbound.operations_within_memory(operations, chunk) == expected


@given(st.integers(1, 64), st.integers(1, 2 * inbound.MAX_BYTES_IN_FLIGHT))
def test_there_is_always_one_operation_and_mostly_the_bound(
        operations: int, chunk: int) -> None:
    allowed = inbound.operations_within_memory(operations, chunk)
    assert 1 <= allowed <= operations
    assert (allowed == 1
            or allowed * chunk <= inbound.MAX_BYTES_IN_FLIGHT)
