# SPDX-License-Identifier: Apache-2.0
"""A source as a readable stream: read ahead, holes made up as zeros."""

from __future__ import annotations

import collections
import io
from collections.abc import Iterable, Iterator

from volume_rbd import model, progress
from volume_rbd.copying.protocols import Completion, Source
from volume_rbd.model import MIB

CHUNK_BYTES = 4 * MIB


class SourceStream(io.RawIOBase):
    """Reads *source* from start to end, several reads in flight.

    Only extents that exist are read; holes come from memory. Closing waits
    for what is in flight.

    :ivar read_bytes: so many bytes were really read from the source.
    """

    def __init__(self, source: Source, *, operations: int,
                 report: progress.Progress) -> None:
        super().__init__()
        self.read_bytes = 0
        self._source = source
        self._report = report
        self._operations = operations
        self._pieces = _pieces(source.extents())
        # (length, None) is a hole; its zeros are never allocated at once.
        self._queue: collections.deque[tuple[int, Completion | None]] = (
            collections.deque())
        self._in_flight = 0
        self._current = memoryview(b'')
        self._zeros_left = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill *buffer* as far as the current piece goes."""
        self._report.check()
        if not self._current and not self._zeros_left and not self._next():
            return 0
        if self._zeros_left:
            count = min(len(buffer), self._zeros_left)
            buffer[:count] = bytes(count)
            self._zeros_left -= count
            self._report.advance(0, count)
            return count
        count = min(len(buffer), len(self._current))
        buffer[:count] = self._current[:count]
        self._current = self._current[count:]
        self._report.advance(count)
        return count

    def close(self) -> None:
        while self._queue:
            _, completion = self._queue.popleft()
            if completion is not None:
                completion.wait()
        super().close()

    def _next(self) -> bool:
        self._read_ahead()
        if not self._queue:
            return False
        length, completion = self._queue.popleft()
        if completion is None:
            self._zeros_left = length
        else:
            data = completion.wait() or b''
            self._in_flight -= 1
            self.read_bytes += len(data)
            self._current = memoryview(data)
            self._read_ahead()
        return True

    def _read_ahead(self) -> None:
        while self._in_flight < self._operations:
            piece = next(self._pieces, None)
            if piece is None:
                return
            completion = None
            if piece.exists:
                self._in_flight += 1
                completion = self._source.aio_read(piece.offset, piece.length)
            self._queue.append((piece.length, completion))


def _pieces(extents: Iterable[model.Extent]) -> Iterator[model.Extent]:
    """Cut what exists into chunks that end on chunk boundaries."""
    for extent in extents:
        if not extent.exists:
            yield extent
            continue
        offset = extent.offset
        while offset < extent.end:
            end = min(extent.end, (offset // CHUNK_BYTES + 1) * CHUNK_BYTES)
            yield model.Extent(offset, end - offset, True)
            offset = end
