# SPDX-License-Identifier: Apache-2.0
"""Progress that does something when an operation comes to a step."""

from __future__ import annotations

import time
from collections.abc import Callable

from volume_rbd import progress


class Steps(progress.Cancellable):
    """:param step: the step at which *action* is called, before it runs."""

    def __init__(self, step: str = '', action: Callable[[], None] | None
                 = None) -> None:
        super().__init__()
        self.names: list[str] = []
        self._step = step
        self._action = action

    def step(self, name: str) -> None:
        super().step(name)
        self.names.append(name)
        if name == self._step and self._action is not None:
            action, self._action = self._action, None
            action()


def cancelling_at(step: str) -> Steps:
    report = Steps(step)
    report._action = report.cancel
    return report


class AtBytes(progress.Cancellable):
    """:param action: is called once, when so many bytes have passed, moved
        or skipped.
    :ivar acted_at: when it was called; 0.0: it never was.
    :ivar stopped_at: when the operation heard that it was cancelled.
    """

    def __init__(self, count_bytes: int, action: Callable[[], None] | None
                 = None) -> None:
        super().__init__()
        self.acted_at = self.stopped_at = 0.0
        self._count_bytes = count_bytes
        self._action = action or self.cancel

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        passed = self.done_bytes + self.skipped_bytes
        if passed >= self._count_bytes and not self.acted_at:
            self.acted_at = time.monotonic()
            self._action()

    def check(self) -> None:
        if self.is_cancelled and not self.stopped_at:
            self.stopped_at = time.monotonic()
        super().check()
