# SPDX-License-Identifier: Apache-2.0
"""How work tells what it is doing, and how it is told to stop.

Whoever moves bytes is handed a :class:`Progress`; the domain never prints.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from volume_rbd import exception


class Progress(Protocol):
    """What an operation reports to, and asks whether to go on."""

    def step(self, name: str) -> None:
        """A new step begins; *name* is a short phrase for a person."""

    def start(self, total_bytes: int) -> None:
        """A transfer of *total_bytes* begins; earlier counts are void."""

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        """So many more bytes were moved, so many needed no moving.

        May be called from any thread.
        """

    def check(self) -> None:
        """Raise :class:`~volume_rbd.exception.Cancelled` if told to stop."""


class Silent:
    """Reports to nobody and never cancels: the default."""

    def step(self, name: str) -> None:
        pass

    def start(self, total_bytes: int) -> None:
        pass

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        pass

    def check(self) -> None:
        pass


class Cancellable(Silent):
    """Counts, and can be cancelled from another thread or a signal handler.

    A base for those who show progress: override the reporting methods and
    call the base's.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self.current_step = ''
        self.total_bytes = 0
        self.done_bytes = 0
        self.skipped_bytes = 0
        self._started_at = time.monotonic()

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def bytes_per_s(self) -> float:
        """Of what was moved, since the transfer began."""
        passed_s = time.monotonic() - self._started_at
        return self.done_bytes / passed_s if passed_s > 0 else 0.0

    def step(self, name: str) -> None:
        self.current_step = name

    def start(self, total_bytes: int) -> None:
        with self._lock:
            self.total_bytes = total_bytes
            self.done_bytes = self.skipped_bytes = 0
            self._started_at = time.monotonic()

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        with self._lock:
            self.done_bytes += done_bytes
            self.skipped_bytes += skipped_bytes

    def check(self) -> None:
        if self._cancelled.is_set():
            raise exception.Cancelled(
                'Cancelled; what had been made was undone.')
