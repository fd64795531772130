# SPDX-License-Identifier: Apache-2.0
"""Is a copy what it was made from?"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.copying.memory import CancelsAt, MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import compare, copy
from volume_rbd.model import MIB, Extent

CHUNK = copy.CHUNK_BYTES
SILENT = progress.Silent()


@st.composite
def layouts(draw: st.DrawFn, size: int) -> list[Extent]:
    """Extents that cover *size*, holes and data by chance."""
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), max_size=9)))
    return [Extent(start, end - start, draw(st.booleans()))
            for start, end in itertools.pairwise([0, *cuts, size])]


def _is_data(extents: list[Extent], at: int) -> bool:
    return any(extent.exists and extent.offset <= at < extent.end
               for extent in extents)


@given(layouts(60), layouts(60))
def test_of_two_layouts_what_exists_in_either_exists(
        first: list[Extent], second: list[Extent]) -> None:
    both = list(compare.either(first, second))
    assert both[0].offset == 0
    assert both[-1].end == 60
    assert all(one.end == two.offset
               for one, two in itertools.pairwise(both))
    assert all(extent.length > 0 for extent in both)
    for at in range(60):
        assert _is_data(both, at) == (
            _is_data(first, at) or _is_data(second, at))


def test_nothing_is_in_neither() -> None:
    assert list(compare.either([], [])) == []


@given(layouts(60), layouts(60), st.integers(1, 4))
def test_the_same_is_the_same_however_it_is_laid_out(
        first: list[Extent], second: list[Extent], operations: int) -> None:
    """Data that nobody wrote, and zeros that somebody did."""
    content = bytes(7 if _is_data(first, at) and _is_data(second, at) else 0
                    for at in range(60))
    report = progress.Cancellable()
    compare.check_same(MemoryDisk(content, first),
                       MemoryDisk(content, second),
                       operations=operations, report=report)
    assert report.done_bytes + report.skipped_bytes == 60


@given(layouts(60), st.integers(0, 59), st.integers(1, 4))
def test_one_byte_that_differs_is_found(
        extents: list[Extent], at: int, operations: int) -> None:
    """Also where the source has a hole: the copy has made data of it."""
    content = bytes(60)
    wrong = bytearray(content)
    wrong[at] = 1
    with pytest.raises(exception.DataCorrupted, match=' bytes at '):
        compare.check_same(
            MemoryDisk(content, extents),
            MemoryDisk(bytes(wrong), [Extent(0, 60, True)]),
            operations=operations, report=SILENT)


def test_what_is_a_hole_on_both_sides_is_not_read() -> None:
    extents = [Extent(0, CHUNK, False), Extent(CHUNK, CHUNK, True)]
    source = MemoryDisk(2 * CHUNK, extents)
    made = MemoryDisk(2 * CHUNK, extents)
    compare.check_same(source, made, operations=16, report=SILENT)
    assert source.reads == made.reads == [(CHUNK, CHUNK)]


def test_what_is_behind_the_end_of_the_source_does_not_matter() -> None:
    extents = [Extent(0, MIB, True)]
    compare.check_same(MemoryDisk(MIB, extents),
                       MemoryDisk(bytes(MIB) + b'more', extents),
                       operations=2, report=SILENT)


def test_a_copy_that_is_too_short_is_not_the_same() -> None:
    with pytest.raises(exception.DataCorrupted, match='has 5 bytes'):
        compare.check_same(MemoryDisk(6), MemoryDisk(5), operations=2,
                           report=SILENT)


def test_no_more_is_in_flight_than_a_copy_has() -> None:
    extents = [Extent(0, 20 * CHUNK, True)]
    sides = [MemoryDisk(20 * CHUNK, extents) for _ in range(2)]
    compare.check_same(*sides, operations=64, report=SILENT)
    assert sum(side.most_in_flight for side in sides) <= 8
    assert not any(side.in_flight for side in sides)


def test_it_can_be_cancelled_and_waits_for_what_is_in_flight() -> None:
    extents = [Extent(0, 9 * CHUNK, True)]
    sides = [MemoryDisk(9 * CHUNK, extents) for _ in range(2)]
    with pytest.raises(exception.Cancelled):
        compare.check_same(*sides, operations=2,
                           report=CancelsAt(2 * CHUNK))
    assert not any(side.in_flight for side in sides)
    assert len(sides[0].reads) < 6
