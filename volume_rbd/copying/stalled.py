# SPDX-License-Identifier: Apache-2.0
"""Another program moves the bytes, and nothing moves any more: why?"""

from __future__ import annotations

import time
from collections.abc import Callable

from volume_rbd import progress

# A slow cluster is silent for longer, and is asked again.
_PATIENCE_S = 5.0


class Stalled(progress.Silent):
    """Reports to *report*; whoever asks it whether to go on while nothing
    has moved for some seconds has *look* called, which raises where it is no
    use to wait."""

    def __init__(self, report: progress.Progress, look: Callable[[], None],
                 *, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._look = look
        self._clock = clock
        self._moved_at = clock()

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        self._moved_at = self._clock()
        self._report.advance(done_bytes, skipped_bytes)

    def check(self) -> None:
        self._report.check()
        if self._clock() - self._moved_at >= _PATIENCE_S:
            self._look()
            self._moved_at = self._clock()
