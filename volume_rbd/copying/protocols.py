# SPDX-License-Identifier: Apache-2.0
"""What bytes can be moved from and to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from volume_rbd import model


class Completion(Protocol):
    """One operation in flight."""

    def wait(self) -> bytes | None:
        """Block until it is done; the data of a read, None for a write."""


class Source(Protocol):
    """Random access to bytes, a hole known as such."""

    @property
    def size_bytes(self) -> int: ...

    def extents(self, offset: int = 0, length: int | None = None
                ) -> Iterator[model.Extent]: ...

    def aio_read(self, offset: int, length: int) -> Completion: ...


class Rewritable(Protocol):
    """A destination that may hold data already."""

    @property
    def size_bytes(self) -> int: ...

    def aio_write(self, data: bytes, offset: int) -> Completion: ...

    def aio_write_zeroes(self, offset: int, length: int) -> Completion: ...

    def flush(self) -> None: ...


class Destination(Protocol):
    """Random access for writing; what is not written reads as zeros."""

    @property
    def size_bytes(self) -> int: ...

    def aio_write(self, data: bytes, offset: int) -> Completion: ...

    def flush(self) -> None: ...
