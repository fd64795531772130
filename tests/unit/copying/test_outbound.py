# SPDX-License-Identifier: Apache-2.0
"""A disk as a stream."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.copying.memory import CancelsAt, MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import outbound
from volume_rbd.model import MIB, Extent

TIB = 1024 ** 4
CHUNK = outbound.CHUNK_BYTES


def _disk(lengths: list[tuple[bool, int]], scale: int = 1,
          **options: dict[int, Exception]) -> MemoryDisk:
    """A disk of data and holes by turns; data is never zero."""
    content, extents = b'', []
    for exists, length in lengths:
        extents.append(Extent(len(content), length * scale, exists))
        content += bytes([len(extents) if exists else 0]) * (length * scale)
    return MemoryDisk(content, extents, **options)


def _stream(disk: MemoryDisk, operations: int = 4,
            report: progress.Progress | None = None
            ) -> outbound.SourceStream:
    return outbound.SourceStream(disk, operations=operations,
                                 report=report or progress.Silent())


def _drain(stream: outbound.SourceStream) -> None:
    with stream:
        while stream.read(MIB):
            pass


layouts = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=12)


@given(layouts, st.integers(1, 5), st.lists(st.integers(1, 40), min_size=1),
       st.integers(2, 7))
def test_the_stream_is_the_disk_whatever_the_reads_and_extents(
        lengths: list[tuple[bool, int]], operations: int, reads: list[int],
        chunk: int) -> None:
    disk = _disk(lengths)
    report = progress.Cancellable()
    got, at = b'', 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbound, 'CHUNK_BYTES', chunk)
        patch.setattr(outbound, '_ZEROS', bytes(chunk))
        with _stream(disk, operations, report) as stream:
            while piece := stream.read(reads[at % len(reads)]):
                assert len(piece) <= reads[at % len(reads)]
                got += piece
                at += 1
            assert stream.read(1) == b''
            read_bytes = stream.read_bytes
    data = sum(length for exists, length in lengths if exists)
    assert got == disk.data
    assert disk.most_in_flight <= operations
    assert read_bytes == data
    assert report.done_bytes == data
    assert report.done_bytes + report.skipped_bytes == len(got)
    assert sum(length for _, length in disk.reads) == data
    assert all(offset // chunk == (offset + length - 1) // chunk
               for offset, length in disk.reads)


@given(layouts)
def test_reads_without_a_size_give_one_piece_after_the_other(
        lengths: list[tuple[bool, int]]) -> None:
    disk = _disk(lengths)
    with _stream(disk) as stream:
        pieces = list(iter(stream.read, b''))
    assert b''.join(pieces) == disk.data
    assert len(pieces) == len(lengths)
    with _stream(disk) as stream:
        assert stream.readall() == disk.data


def test_no_read_gives_more_than_a_chunk_of_a_hole() -> None:
    disk = MemoryDisk(0, [Extent(0, 8 * TIB, False)])
    with _stream(disk) as stream:
        assert stream.read() == bytes(CHUNK)
        assert stream.read(2 * CHUNK) == bytes(CHUNK)


def test_data_is_read_in_chunks_that_end_on_chunk_boundaries() -> None:
    start = CHUNK // 4
    disk = MemoryDisk(3 * CHUNK, [Extent(0, start, False),
                                  Extent(start, 3 * CHUNK - start, True)])
    with _stream(disk) as stream:
        stream.read(start + 1)
        stream.read(1)
        assert disk.reads == [(start, CHUNK - start), (CHUNK, CHUNK),
                              (2 * CHUNK, CHUNK)]


def test_reads_run_ahead_up_to_the_bound() -> None:
    disk = _disk([(True, 10)], CHUNK)
    with _stream(disk, operations=3) as stream:
        stream.read(1)
        assert len(disk.in_flight) == 3
    assert disk.most_in_flight == 3


def test_reads_run_ahead_over_a_hole() -> None:
    disk = _disk([(False, 1), (True, 1), (False, 1), (True, 1)], 4096)
    with _stream(disk, operations=2) as stream:
        stream.read(1)
        assert disk.reads == [(4096, 4096), (3 * 4096, 4096)]


def test_nothing_is_read_before_it_is_asked_for() -> None:
    disk = _disk([(True, 1)], MIB)
    with _stream(disk):
        assert disk.reads == []


def test_a_hole_is_never_allocated_at_once() -> None:
    disk = MemoryDisk(0, [Extent(0, 8 * TIB, False)])
    stream = _stream(disk)
    tracemalloc.start()
    try:
        for _ in range(4):
            assert stream.read(MIB) == bytes(MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        stream.close()
    assert peak < 8 * MIB


def test_a_hole_is_filled_into_the_buffer_that_is_given() -> None:
    disk = _disk([(False, 3), (True, 2)])
    buffer = bytearray(b'old bytes')
    with _stream(disk) as stream:
        assert stream.readinto(memoryview(buffer)) == 3
        assert buffer == b'\0\0\0 bytes'
        assert stream.readinto(memoryview(buffer)) == 2
        assert buffer == b'\x02\x02\0 bytes'
        assert stream.readinto(memoryview(buffer)) == 0


# -- the end ------------------------------------------------------------------

def test_closing_waits_for_what_is_in_flight() -> None:
    disk = _disk([(True, 9)], CHUNK)
    with _stream(disk, operations=5) as stream:
        stream.read(1)
        assert disk.in_flight
    assert not disk.in_flight
    assert stream.closed


def test_closing_a_stream_that_was_never_read_reads_nothing() -> None:
    disk = _disk([(True, 1)])
    _stream(disk).close()
    assert disk.reads == []


def test_closing_twice_is_closing_once() -> None:
    disk = _disk([(True, 9)], CHUNK)
    stream = _stream(disk)
    stream.read(1)
    stream.close()
    stream.close()
    assert disk.waited == len(disk.reads)


@pytest.mark.parametrize('failing', range(4))
def test_a_failed_read_surfaces_and_closing_waits_for_the_rest(
        failing: int) -> None:
    disk = _disk([(True, 4)], CHUNK, failures={
        failing: exception.ClusterUnavailable('lost')})
    stream = _stream(disk, operations=4)
    with pytest.raises(exception.ClusterUnavailable):
        _drain(stream)
    assert not disk.in_flight
    assert stream.closed


def test_reads_that_fail_after_the_first_error_are_waited_for_too() -> None:
    failures: dict[int, Exception] = {
        number: exception.ClusterUnavailable(f'lost {number}')
        for number in range(4)}
    disk = _disk([(True, 4)], CHUNK, failures=failures)
    with pytest.raises(exception.ClusterUnavailable, match='lost 0'), \
            _stream(disk, operations=4) as stream:
        stream.read(1)
    assert not disk.in_flight
    assert stream.closed


def test_reads_that_nobody_will_see_may_fail_silently() -> None:
    disk = _disk([(True, 4)], CHUNK, failures={
        2: exception.ClusterUnavailable('lost')})
    with _stream(disk, operations=4) as stream:
        stream.read(1)
    assert not disk.in_flight
    assert stream.closed


def test_cancelling_midway_stops_the_stream_and_closing_waits() -> None:
    disk = _disk([(True, 9)], CHUNK)
    with pytest.raises(exception.Cancelled):
        _drain(_stream(disk, 3, CancelsAt(CHUNK)))
    assert not disk.in_flight
    assert len(disk.reads) <= 1 + 3


def test_a_hole_can_be_cancelled_too() -> None:
    disk = MemoryDisk(0, [Extent(0, 8 * TIB, False)])
    with pytest.raises(exception.Cancelled):
        _drain(_stream(disk, 3, CancelsAt(5 * MIB)))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * CHUNK)),
                max_size=9))
def test_what_exists_is_read_in_chunks_that_end_on_their_multiples(
        lengths: list[tuple[bool, int]]) -> None:
    extents, at = [], 0
    for exists, length in lengths:
        extents.append(Extent(at, length, exists))
        at += length
    pieces = list(outbound._pieces(extents))
    assert [piece for piece in pieces if not piece.exists] == [
        extent for extent in extents if not extent.exists]
    assert [piece.offset for piece in pieces] == (
        [0, *(piece.end for piece in pieces)][:len(pieces)])
    assert sum(piece.length for piece in pieces) == at
    for piece in pieces:
        assert not piece.exists or (
            piece.offset // CHUNK == (piece.end - 1) // CHUNK)
