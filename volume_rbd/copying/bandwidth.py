# SPDX-License-Identifier: Apache-2.0
"""No more than so many bytes a second, for all transfers of a backend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from volume_rbd import progress

# So soon a transfer that is held back hears that it was cancelled.
_NAP_S = 0.1


class Bandwidth:
    """What several transfers share. A transfer that ran ahead waits until its
    bytes would have passed at the rate; who comes later waits behind it.

    :param bytes_per_s: None for no limit.
    :param clock: seconds; tests have their own.
    """

    def __init__(self, bytes_per_s: float | None = None, *,
                 clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    @property
    def is_limited(self) -> bool:
        return self._bytes_per_s is not None

    def use(self, count_bytes: int) -> float:
        """:returns: when, by the clock, these bytes have passed."""
        if self._bytes_per_s is None:
            return 0.0
        with self._lock:
            begin = max(self._free_at, self._clock())
            self._free_at = begin + count_bytes / self._bytes_per_s
            return self._free_at

    def nap(self, until: float) -> bool:
        """Sleep a little; False where *until* has come."""
        left_s = until - self._clock()
        if left_s <= 0:
            return False
        self._sleep(min(left_s, _NAP_S))
        return True


class Limited:
    """Reports to *report*, and holds back whoever reports here: ``check()``
    returns when the bytes told so far may have passed.

    One transfer each; they share the *bandwidth*.
    """

    def __init__(self, report: progress.Progress, bandwidth: Bandwidth
                 ) -> None:
        self._report = report
        self._bandwidth = bandwidth
        self._until = 0.0

    def step(self, name: str) -> None:
        self._report.step(name)

    def start(self, total_bytes: int) -> None:
        self._report.start(total_bytes)

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        self._report.advance(done_bytes, skipped_bytes)
        if done_bytes:
            self._until = self._bandwidth.use(done_bytes)

    def check(self) -> None:
        self._report.check()
        while self._bandwidth.nap(self._until):
            self._report.check()


def limited(report: progress.Progress, bandwidth: Bandwidth
            ) -> progress.Progress:
    """*report*, for one transfer of the backend that has *bandwidth*."""
    return Limited(report, bandwidth) if bandwidth.is_limited else report
