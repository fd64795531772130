# SPDX-License-Identifier: Apache-2.0
"""Progress that does something when an operation comes to a step."""

from __future__ import annotations

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
