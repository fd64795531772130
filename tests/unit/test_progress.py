# SPDX-License-Identifier: Apache-2.0
"""Reporting, and being told to stop."""

from __future__ import annotations

import threading

import pytest

from volume_rbd import exception, progress


def test_silence_never_stops_anything() -> None:
    report = progress.Silent()
    report.step('x')
    report.start(5)
    report.advance(3, 2)
    report.check()


def test_counts_begin_anew_with_each_transfer() -> None:
    report = progress.Cancellable()
    report.step('one')
    report.start(10)
    report.advance(4)
    report.advance(1, 5)
    assert (report.current_step, report.total_bytes) == ('one', 10)
    assert (report.done_bytes, report.skipped_bytes) == (5, 5)
    report.start(3)
    assert (report.total_bytes, report.done_bytes, report.skipped_bytes) == (
        3, 0, 0)


def test_pieces_are_counted_from_any_thread() -> None:
    report = progress.Cancellable()
    threads = [threading.Thread(
        target=lambda: [report.advance(1, 2) for _ in range(1000)])
        for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (report.done_bytes, report.skipped_bytes) == (8000, 16000)


def test_once_cancelled_every_check_says_so() -> None:
    report = progress.Cancellable()
    report.check()
    threading.Thread(target=report.cancel).start()
    while not report.is_cancelled:
        pass
    for _ in range(2):
        with pytest.raises(exception.Cancelled):
            report.check()


def test_the_rate_is_that_of_what_was_moved(
        monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    report = progress.Cancellable()
    report.start(30)
    assert report.bytes_per_s == 0
    now[0] += 2
    report.advance(10, 20)
    assert report.bytes_per_s == 5
