# SPDX-License-Identifier: Apache-2.0
"""A copy goes on where another one stopped."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.copying.memory import CancelsAt, MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import checkpoints, copy
from volume_rbd.copying.checkpoints import Checkpoints
from volume_rbd.model import Extent

CHUNK = copy.CHUNK_BYTES
GRAIN = 64 * 1024

layouts = st.lists(st.tuples(st.booleans(), st.integers(1, 150)), min_size=1,
                   max_size=6)


def _source(lengths: list[tuple[bool, int]]) -> MemoryDisk:
    """Data and holes by turns, the data different everywhere."""
    data, extents = bytearray(), []
    for exists, grains in lengths:
        extents.append(Extent(len(data), grains * GRAIN, exists))
        for _ in range(grains):
            start = len(data).to_bytes(8, 'big')
            data += start * (GRAIN // 8) if exists else bytes(GRAIN)
    return MemoryDisk(bytes(data), extents)


class Interrupted:
    """One copy after the other of one source, each stopped in between.

    What was in flight when it was stopped is lost with it.
    """

    def __init__(self, source: MemoryDisk, operations: int,
                 seconds_a_look: float) -> None:
        self.source = source
        self.start = 0
        self.made = MemoryDisk(source.size_bytes)
        self._kept = bytes(source.size_bytes)
        self._operations = operations
        self._seconds = seconds_a_look

    def run(self, report: progress.Progress, *hashes: object) -> int:
        self.made = MemoryDisk(self._kept)
        self.source.reads.clear()
        clock = itertools.count(0.0, self._seconds)
        start = self.start
        written = copy.into_empty(
            self.source, self.made, operations=self._operations,
            report=report, sinks=hashes, start=start,  # type: ignore
            checkpoints=Checkpoints(self._save, clock=lambda: next(clock)))
        return written

    def _save(self, offset: int) -> None:
        assert offset > self.start
        assert self.made.flushes
        assert not self.made.in_flight
        self.start, self._kept = offset, bytes(self.made.data)
        assert self._kept[:offset] == self.source.data[:offset]


@given(layouts, st.integers(1, 5), st.sampled_from([0.3, 1.0, 2.5, 5.0]),
       st.lists(st.integers(1, 400 * GRAIN), max_size=3), st.booleans())
def test_a_copy_that_is_interrupted_anywhere_ends_as_one_that_is_not(
        lengths: list[tuple[bool, int]], operations: int, seconds: float,
        stops: list[int], has_sink: bool) -> None:
    source = _source(lengths)
    copies = Interrupted(source, operations, seconds)
    for stop in stops:
        try:
            copies.run(CancelsAt(stop), *[hashlib.md5()] * has_sink)
        except exception.Cancelled:
            continue
    start = copies.start
    whole, report = hashlib.sha512(), progress.Cancellable()
    written = copies.run(report, *[whole] * has_sink)
    assert copies.made.data == source.data
    if has_sink:
        assert whole.digest() == hashlib.sha512(source.data).digest()
    else:
        assert all(offset >= start for offset, _ in source.reads)
    assert all(offset >= start for offset, _ in copies.made.writes)
    assert written == sum(length for _, length in copies.made.writes)
    assert report.done_bytes + report.skipped_bytes == source.size_bytes


def test_what_is_there_already_is_read_for_the_sinks_and_not_written(
        ) -> None:
    source = _source([(True, 200), (False, 100), (True, 100)])
    start = 250 * GRAIN
    made = MemoryDisk(bytes(source.data[:start]).ljust(
        source.size_bytes, b'\0'))
    whole, report = hashlib.sha256(), progress.Cancellable()
    written = copy.into_empty(
        source, made, operations=4, report=report, sinks=[whole],
        start=start)
    assert written == 100 * GRAIN
    assert sum(length for _, length in source.reads) == 300 * GRAIN
    assert whole.digest() == hashlib.sha256(source.data).digest()
    # What was read counts: it uses the bandwidth.
    assert report.done_bytes == 300 * GRAIN
    assert made.data == source.data


def test_without_a_sink_it_is_not_even_listed() -> None:
    source = _source([(True, 200), (True, 100)])
    report = progress.Cancellable()
    copy.into_empty(source, MemoryDisk(source.size_bytes), operations=4,
                    report=report, start=200 * GRAIN)
    assert sum(length for _, length in source.reads) == 100 * GRAIN
    assert report.skipped_bytes == 200 * GRAIN


def test_a_copy_that_was_complete_has_nothing_to_do() -> None:
    source = _source([(True, 10)])
    made = MemoryDisk(bytes(source.data))
    assert copy.into_empty(source, made, operations=4, start=10 * GRAIN,
                           report=progress.Silent()) == 0
    assert source.reads == made.writes == []


def test_between_two_checkpoints_nothing_waits() -> None:
    source = _source([(True, 64 * 20)])
    made = MemoryDisk(source.size_bytes)
    saved: list[int] = []
    clock = itertools.count(0.0, 1.0)
    copy.into_empty(source, made, operations=4, report=progress.Silent(),
                    checkpoints=Checkpoints(saved.append,
                                            clock=lambda: next(clock)))
    # It looks at the clock once a chunk, and once more after each.
    assert saved == [5 * CHUNK, 10 * CHUNK, 15 * CHUNK, 20 * CHUNK]
    assert made.flushes == 1 + len(saved)


def test_it_is_due_by_the_clock() -> None:
    now = [100.0]
    saved: list[int] = []
    kept = Checkpoints(saved.append, clock=lambda: now[0])
    assert not kept.is_due
    now[0] += checkpoints.EVERY_S
    assert kept.is_due
    kept.save(7)
    assert not kept.is_due
    assert saved == [7]


def test_a_write_that_fails_is_no_checkpoint() -> None:
    source = _source([(True, 64 * 9)])
    made = MemoryDisk(source.size_bytes,
                      failures={1: exception.NoSpace('Full.')})
    saved: list[int] = []
    clock = itertools.count(0.0, 3.0)
    with pytest.raises(exception.NoSpace):
        copy.into_empty(source, made, operations=4,
                        report=progress.Silent(), checkpoints=Checkpoints(
                            saved.append, clock=lambda: next(clock)))
    assert saved in ([], [CHUNK])
