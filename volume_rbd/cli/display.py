# SPDX-License-Identifier: Apache-2.0
"""Progress for a person: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich import console as rich_console
from rich import progress as rich_progress

from volume_rbd import progress

#: What is over sooner than this shows no bar.
PATIENCE_S = 2.0


class Display(progress.Cancellable):
    """Use as a context manager around the operation.

    :ivar on_begun: is called once, with the first step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_begun: Callable[[], None] | None = None

    def step(self, name: str) -> None:
        super().step(name)
        on_begun, self.on_begun = self.on_begun, None
        if on_begun is not None:
            on_begun()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        pass


class LineDisplay(Display):
    """One line a step on stderr, and one for each tenth of a transfer that
    takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._tenth = 0

    def step(self, name: str) -> None:
        super().step(name)
        sys.stderr.write(f'{name}\n')

    def start(self, total_bytes: int) -> None:
        super().start(total_bytes)
        self._started = time.monotonic()
        self._tenth = 0

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        passed = self.done_bytes + self.skipped_bytes
        tenth = 10 * passed // self.total_bytes if self.total_bytes else 10
        seconds = time.monotonic() - self._started
        if tenth > self._tenth and seconds > PATIENCE_S:
            self._tenth = tenth
            rate = passed / seconds / 1024 ** 2
            sys.stderr.write(f'  {tenth * 10} %, {rate:.0f} MiB/s\n')


class BarDisplay(Display):
    """A bar with rate and time left, for what takes over two seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._bar = rich_progress.Progress(
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn('{task.description}'),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            rich_progress.DownloadColumn(binary_units=True),
            rich_progress.TransferSpeedColumn(),
            rich_progress.TimeRemainingColumn(),
            console=rich_console.Console(stderr=True), transient=True)
        self._task: rich_progress.TaskID | None = None

    def step(self, name: str) -> None:
        super().step(name)
        if self._task is not None:
            self._bar.update(self._task, description=name)

    def start(self, total_bytes: int) -> None:
        super().start(total_bytes)
        if self._task is not None:
            self._bar.reset(self._task, total=total_bytes)

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        if self._task is None:
            if time.monotonic() - self._started < PATIENCE_S:
                return
            self._task = self._bar.add_task(
                self.current_step, total=self.total_bytes)
            self._bar.start()
        self._bar.update(self._task, total=self.total_bytes,
                         completed=self.done_bytes + self.skipped_bytes)

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._bar.stop()


def open_display() -> Display:
    return BarDisplay() if sys.stderr.isatty() else LineDisplay()
