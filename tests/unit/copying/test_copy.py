# SPDX-License-Identifier: Apache-2.0
"""From one disk to another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.copying.memory import CancelsAt, MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import copy, inbound
from volume_rbd.model import MIB, Extent

CHUNK = copy.CHUNK_BYTES
GRAIN = 64 * 1024


def _source(lengths: list[tuple[bool, int]], scale: int = GRAIN,
            **options: dict[int, Exception]) -> MemoryDisk:
    """Data and holes by turns; each third piece of data is zeros."""
    content, extents = b'', []
    for number, (exists, length) in enumerate(lengths):
        extents.append(Extent(len(content), length * scale, exists))
        value = number % 3 + 1 if exists and number % 3 else 0
        content += bytes([value]) * (length * scale)
    return MemoryDisk(content, extents, **options)


layouts = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=8)


@given(layouts, st.integers(1, 5))
def test_an_empty_destination_becomes_the_source(
        lengths: list[tuple[bool, int]], operations: int) -> None:
    source = _source(lengths)
    made = MemoryDisk(source.size_bytes)
    report = progress.Cancellable()
    written = copy.into_empty(source, made, operations=operations,
                              report=report)
    assert made.data == source.data
    assert made.flushes == 1
    assert written == report.done_bytes == sum(n for _, n in made.writes)
    assert report.done_bytes + report.skipped_bytes == source.size_bytes


@given(layouts, st.integers(1, 5))
def test_a_destination_with_data_becomes_the_source_where_it_changed(
        lengths: list[tuple[bool, int]], operations: int) -> None:
    source = _source(lengths)
    made = MemoryDisk(b'\xff' * (source.size_bytes + GRAIN))
    report = progress.Cancellable()
    written = copy.changes(source, made, source.extents(),
                           operations=operations, report=report)
    assert made.data == source.data + b'\xff' * GRAIN
    assert written == sum(n for _, n in made.writes)
    assert report.done_bytes + report.skipped_bytes == source.size_bytes


def test_what_has_not_changed_is_neither_read_nor_written() -> None:
    source = MemoryDisk(b'new' * MIB)
    made = MemoryDisk(b'old' * MIB)
    copy.changes(source, made, [Extent(MIB, 10, True), Extent(
        2 * MIB, 5, False)], operations=2, report=progress.Silent())
    assert source.reads == [(MIB, 10)]
    assert made.writes == [(MIB, 10)]
    assert made.zeroed == [(2 * MIB, 5)]


def test_holes_are_never_read_and_zeros_never_written() -> None:
    source = _source([(False, 1000), (True, 64), (False, 1000)])
    source.data[:] = bytes(source.size_bytes)
    made = MemoryDisk(source.size_bytes)
    copy.into_empty(source, made, operations=2, report=progress.Silent())
    assert source.reads == [(1000 * GRAIN, min(
        64 * GRAIN, CHUNK - 1000 * GRAIN % CHUNK)), *source.reads[1:]]
    assert made.writes == []


def test_chunks_end_on_objects() -> None:
    source = MemoryDisk(3 * CHUNK, [Extent(10, 2 * CHUNK, True)])
    copy.into_empty(source, MemoryDisk(3 * CHUNK), operations=4,
                    report=progress.Silent())
    assert source.reads == [(10, CHUNK - 10), (CHUNK, CHUNK),
                            (2 * CHUNK, 10)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * CHUNK))),
       st.integers(0, 3 * CHUNK))
def test_pieces_are_the_extents_cut_where_objects_end(
        lengths: list[tuple[bool, int]], start: int) -> None:
    extents, at = [], start
    for exists, length in lengths:
        extents.append(Extent(at, length, exists))
        at += length
    pieces = list(copy.pieces(extents))
    assert [piece.offset for piece in pieces] == (
        [start, *(piece.end for piece in pieces)][:len(pieces)])
    for piece in pieces:
        assert piece.length > 0
        [whole] = [extent for extent in extents
                   if extent.offset <= piece.offset < extent.end]
        assert piece.end <= whole.end
        assert piece.exists == whole.exists
        if piece.exists:
            assert piece.offset // CHUNK == (piece.end - 1) // CHUNK
            assert piece.end in (whole.end, (
                piece.offset // CHUNK + 1) * CHUNK)
    assert sum(piece.length for piece in pieces) == at - start


@pytest.mark.parametrize('operations', [1, 3, 64])
def test_no_more_is_in_flight_than_allowed(operations: int) -> None:
    source = MemoryDisk(b'x' * (20 * CHUNK), [Extent(0, 20 * CHUNK, True)])
    made = MemoryDisk(20 * CHUNK)
    copy.into_empty(source, made, operations=operations,
                    report=progress.Silent())
    most = min(operations, inbound.MAX_BYTES_IN_FLIGHT // CHUNK // 2)
    assert source.most_in_flight <= most
    assert made.most_in_flight <= most


@pytest.mark.parametrize('side', ['read', 'write'])
def test_after_an_error_all_that_is_in_flight_is_waited_for(side: str
                                                            ) -> None:
    error = {3: exception.ClusterUnavailable('lost')}
    source = MemoryDisk(b'x' * (9 * CHUNK), [Extent(0, 9 * CHUNK, True)],
                        error if side == 'read' else None)
    made = MemoryDisk(9 * CHUNK, failures=None if side == 'read' else error)
    with pytest.raises(exception.ClusterUnavailable):
        copy.into_empty(source, made, operations=4,
                        report=progress.Silent())
    assert not source.in_flight
    assert not made.in_flight


def test_it_can_be_cancelled() -> None:
    source = MemoryDisk(b'x' * (9 * CHUNK), [Extent(0, 9 * CHUNK, True)])
    made = MemoryDisk(9 * CHUNK)
    with pytest.raises(exception.Cancelled):
        copy.into_empty(source, made, operations=2,
                        report=CancelsAt(2 * CHUNK))
    assert len(made.writes) <= 5
    assert not source.in_flight
    assert not made.in_flight


def test_a_hole_larger_than_librbd_takes_is_cleared_in_parts() -> None:
    class Cleared(MemoryDisk):
        def aio_write_zeroes(self, offset, length):  # type: ignore
            self.zeroed.append((offset, length))
            return self._begin(lambda: None)

    made = Cleared(0)
    copy.changes(MemoryDisk(0), made, [Extent(0, 5 * 1024 ** 3 // 2, False)],
                 operations=2, report=progress.Silent())
    assert made.zeroed == [(0, 1024 ** 3), (1024 ** 3, 1024 ** 3),
                           (2 * 1024 ** 3, 1024 ** 3 // 2)]


def test_a_read_that_gives_too_little_ends_the_copy() -> None:
    class Shrunk(MemoryDisk):
        def aio_read(self, offset, length):  # type: ignore
            return super().aio_read(offset, length - 1)

    source = Shrunk(b'x' * MIB, [Extent(0, MIB, True)])
    with pytest.raises(exception.DataCorrupted, match='1048575 bytes came'):
        copy.into_empty(source, MemoryDisk(MIB), operations=2,
                        report=progress.Silent())


def test_a_full_pool_ends_the_copy_in_its_own_words() -> None:
    source = MemoryDisk(b'x' * (9 * CHUNK), [Extent(0, 9 * CHUNK, True)])
    made = MemoryDisk(9 * CHUNK, failures={4: exception.NoSpace('Full.')})
    with pytest.raises(exception.NoSpace):
        copy.into_empty(source, made, operations=4,
                        report=progress.Silent())
    assert not made.in_flight


def test_holes_between_reads_are_told_in_their_order() -> None:
    told: list[tuple[int, int]] = []

    class Telling(progress.Silent):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            told.append((done_bytes, skipped_bytes))

    source = MemoryDisk(b'x' * 10 + bytes(5) + b'x' * 10, [
        Extent(0, 10, True), Extent(10, 5, False), Extent(15, 10, True)])
    copy.into_empty(source, MemoryDisk(25), operations=16, report=Telling())
    assert told == [(10, 0), (0, 5), (10, 0)]
