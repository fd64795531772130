# SPDX-License-Identifier: Apache-2.0
"""A disk in memory whose operations take effect when they are waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from volume_rbd import model, progress


class MemoryDisk:
    """A Source and a Destination.

    :param failures: number of the operation (the first is 0) to its error.
    :ivar most_in_flight: so many operations were in flight at once.
    :ivar reads, writes, zeroed: (offset, length) of each, in the order they
        began.
    """

    def __init__(self, content: bytes | int,
                 extents: Sequence[model.Extent] = (),
                 failures: dict[int, Exception] | None = None) -> None:
        self.data = bytearray(content)
        self.in_flight: set[MemoryOperation] = set()
        self.most_in_flight = 0
        self.waited = 0
        self.flushes = 0
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self.zeroed: list[tuple[int, int]] = []
        self._extents = extents
        self._failures = failures or {}
        self._begun = 0

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def extents(self, offset: int = 0, length: int | None = None
                ) -> Iterator[model.Extent]:
        for extent in self._extents:
            first, last = max(extent.offset, offset), extent.end
            if length is not None:
                last = min(last, offset + length)
            if first < last:
                yield model.Extent(first, last - first, extent.exists)

    def aio_read(self, offset: int, length: int) -> MemoryOperation:
        self.reads.append((offset, length))
        return self._begin(lambda: bytes(self.data[offset:offset + length]))

    def aio_write(self, data: bytes, offset: int) -> MemoryOperation:
        assert offset + len(data) <= len(self.data)
        self.writes.append((offset, len(data)))

        def write() -> None:
            self.data[offset:offset + len(data)] = data

        return self._begin(write)

    def aio_write_zeroes(self, offset: int, length: int) -> MemoryOperation:
        assert offset + length <= len(self.data)
        self.zeroed.append((offset, length))

        def write() -> None:
            self.data[offset:offset + length] = bytes(length)

        return self._begin(write)

    def flush(self) -> None:
        assert not self.in_flight
        self.flushes += 1

    def _begin(self, action: Callable[[], bytes | None]) -> MemoryOperation:
        operation = MemoryOperation(self, action,
                                    self._failures.get(self._begun))
        self._begun += 1
        self.in_flight.add(operation)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        return operation


class MemoryOperation:
    def __init__(self, disk: MemoryDisk, action: Callable[[], bytes | None],
                 error: Exception | None) -> None:
        self._disk = disk
        self._action = action
        self._error = error

    def wait(self) -> bytes | None:
        self._disk.in_flight.remove(self)  # once only
        self._disk.waited += 1
        if self._error is not None:
            raise self._error
        return self._action()


class CancelsAt(progress.Cancellable):
    """Cancels itself when *bytes_passed* were moved or skipped."""

    def __init__(self, bytes_passed: int) -> None:
        super().__init__()
        self._limit = bytes_passed

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        if self.done_bytes + self.skipped_bytes >= self._limit:
            self.cancel()
