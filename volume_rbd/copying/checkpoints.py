# SPDX-License-Identifier: Apache-2.0
"""How far a copy has come, told so that another process can go on there."""

from __future__ import annotations

import time
from collections.abc import Callable

#: By the clock and not by the bytes: what a killed copy loses is time, and to
#: flush is to wait for the few writes in flight (tried: 20 to 100 ms), however
#: much was written before. Every 5 s that is about one percent of the copy.
EVERY_S = 5.0


class Checkpoints:
    """Of one copy.

    :param save: is told the offset up to which all is written and flushed.
    :param clock: seconds; tests have their own.
    """

    def __init__(self, save: Callable[[int], None], *,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._save = save
        self._clock = clock
        self._saved_at = clock()

    @property
    def is_due(self) -> bool:
        return self._clock() - self._saved_at >= EVERY_S

    def save(self, offset: int) -> None:
        self._save(offset)
        self._saved_at = self._clock()
