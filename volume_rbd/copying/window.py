# SPDX-License-Identifier: Apache-2.0
"""A bounded number of operations in flight, finished in the order they began.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from types import TracebackType
from typing import Self

from volume_rbd.copying.protocols import Completion


class Window:
    """Holds operations in flight; waits for the oldest where it is full.

    Leaving the ``with`` block waits for everything, also after an error: the
    buffers and the image must not go while librbd still uses them.
    """

    def __init__(self, operations: int) -> None:
        self._operations = operations
        self._pending: collections.deque[Completion] = collections.deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        failed: Exception | None = None
        while self._pending:
            try:
                self.pop()
            except Exception as problem:  # noqa: BLE001, raised below
                failed = failed or problem
        if error is None and failed is not None:
            raise failed

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= self._operations

    def push(self, begin: Callable[[], Completion]) -> None:
        """Begin one; where the window is full, the oldest is waited for
        first."""
        if self.is_full:
            self.pop()
        self._pending.append(begin())

    def pop(self) -> bytes | None:
        """Wait for the oldest and return what it gave."""
        return self._pending.popleft().wait()
