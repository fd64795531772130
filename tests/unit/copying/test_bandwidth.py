# SPDX-License-Identifier: Apache-2.0
"""No more than so many bytes a second."""

from __future__ import annotations

import pytest

from tests.unit.copying.memory import MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import copy
from volume_rbd.copying.bandwidth import Bandwidth, Limited, limited
from volume_rbd.model import MIB, Extent


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def bandwidth(self, bytes_per_s: float) -> Bandwidth:
        return Bandwidth(bytes_per_s, clock=lambda: self.now,
                         sleep=self.sleep)


def _copy(size_bytes: int, report: progress.Progress) -> None:
    source = MemoryDisk(b'x' * size_bytes, [Extent(0, size_bytes, True)])
    copy.into_empty(source, MemoryDisk(size_bytes), operations=2,
                    report=report)


def test_a_copy_takes_as_long_as_its_bytes_need() -> None:
    clock = Clock()
    _copy(40 * MIB, Limited(progress.Silent(), clock.bandwidth(8 * MIB)))
    # The last chunk is written, and nobody waits behind it.
    assert clock.now - 100 == pytest.approx((40 - 4) / 8, abs=0.6)


def test_two_transfers_share_it() -> None:
    clock = Clock()
    shared = clock.bandwidth(8 * MIB)
    first, second = (Limited(progress.Silent(), shared) for _ in range(2))
    for report in (first, second):
        report.advance(8 * MIB)
    second.check()
    assert clock.now - 100 == pytest.approx(2)


def test_what_was_not_moved_costs_nothing() -> None:
    clock = Clock()
    report = Limited(progress.Silent(), clock.bandwidth(1))
    report.advance(0, 100 * MIB)
    report.check()
    assert clock.naps == []


def test_who_did_nothing_for_a_while_has_saved_nothing_up() -> None:
    clock = Clock()
    report = Limited(progress.Silent(), clock.bandwidth(10))
    clock.now += 1000
    report.advance(10)
    report.check()
    assert clock.now == pytest.approx(1101)


def test_a_transfer_that_is_held_back_hears_soon_that_it_was_cancelled(
        ) -> None:
    clock = Clock()
    inner = progress.Cancellable()
    report = Limited(inner, Bandwidth(
        1, clock=lambda: clock.now,
        sleep=lambda seconds: (clock.sleep(seconds), inner.cancel())[0]))
    report.advance(3600)
    with pytest.raises(exception.Cancelled):
        report.check()
    assert clock.now - 100 <= 0.1


def test_the_report_behind_it_hears_everything() -> None:
    inner = progress.Cancellable()
    report = Limited(inner, Bandwidth(1e9))
    report.step('copying')
    report.start(9)
    report.advance(5, 4)
    assert (inner.current_step, inner.total_bytes, inner.done_bytes,
            inner.skipped_bytes) == ('copying', 9, 5, 4)


def test_without_a_limit_nobody_stands_between() -> None:
    inner = progress.Silent()
    assert limited(inner, Bandwidth()) is inner
    assert Bandwidth().use(5) == 0
