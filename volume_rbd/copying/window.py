# SPDX-License-Identifier: Apache-2.0
"""A bounded number of operations in flight, finished in the order they began.
"""

from __future__ import annotations

import collections
from types import TracebackType
from typing import Self

from volume_rbd import exception
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
        while self._pending:
            try:
                self.pop()
            except exception.VolumeRBDError:
                if error is None:
                    self._abandon()
                    raise

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= self._operations

    def push(self, completion: Completion) -> None:
        """Add one; where the window is full, the oldest is waited for."""
        self._pending.append(completion)
        if len(self._pending) > self._operations:
            self.pop()

    def pop(self) -> bytes | None:
        """Wait for the oldest and return what it gave."""
        return self._pending.popleft().wait()

    def _abandon(self) -> None:
        while self._pending:
            try:
                self.pop()
            except exception.VolumeRBDError:  # the first one is raised
                continue
