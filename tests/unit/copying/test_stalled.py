# SPDX-License-Identifier: Apache-2.0
"""Somebody looks why nothing moves."""

from __future__ import annotations

import pytest

from volume_rbd import exception, progress
from volume_rbd.copying.stalled import Stalled


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_looks_only_where_nothing_moved_and_not_all_the_time() -> None:
    clock, looks, inner = Clock(), [], progress.Cancellable()
    report = Stalled(inner, lambda: looks.append(clock.now), clock=clock)
    for _ in range(10):
        clock.now += 3
        report.advance(1, 2)
        report.check()
    assert looks == []
    assert (inner.done_bytes, inner.skipped_bytes) == (10, 20)
    for _ in range(12):
        clock.now += 1
        report.check()
    assert looks == [135, 140]


def test_what_it_finds_ends_the_work() -> None:
    def look() -> None:
        raise exception.NoSpace('The pool is full.')

    clock = Clock()
    report = Stalled(progress.Silent(), look, clock=clock)
    report.check()
    clock.now += 6
    for _ in range(2):
        with pytest.raises(exception.NoSpace):
            report.check()


def test_it_hears_a_cancel_first() -> None:
    inner = progress.Cancellable()
    inner.cancel()
    with pytest.raises(exception.Cancelled):
        Stalled(inner, lambda: None).check()
