# SPDX-License-Identifier: Apache-2.0
"""A source as a readable stream: read ahead, holes made up as zeros."""

from __future__ import annotations

import collections
import contextlib
import io
from collections.abc import Iterable, Iterator

from volume_rbd import model, progress
from volume_rbd.copying.protocols import Completion, Source
from volume_rbd.model import MIB

#: Small, for memory: the buffers of librados come and go in arenas of its
#: threads, which keep several times of what is in flight (tried: 4 MiB took
#: twice the memory of 1 MiB and was not faster).
CHUNK_BYTES = 1 * MIB

_ZEROS = bytes(CHUNK_BYTES)


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

    def read(self, size: int = -1, /) -> bytes:
        """Up to *size* bytes, less where the current piece ends; with a
        negative *size* a piece. Empty at the end."""
        self._report.check()
        if not self._current and not self._zeros_left and not self._next():
            return b''
        if self._zeros_left:
            count = min(self._zeros_left, CHUNK_BYTES)
            if size >= 0:
                count = min(count, size)
            self._zeros_left -= count
            self._report.advance(0, count)
            return _ZEROS if count == CHUNK_BYTES else _ZEROS[:count]
        data = self._current
        if 0 <= size < len(data):
            data = data[:size]
        self._current = self._current[len(data):]
        self._report.advance(len(data))
        # A whole piece is handed on as it is, without a copy.
        whole = data.obj
        return whole if isinstance(whole, bytes) and len(
            whole) == len(data) else bytes(data)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)

    def close(self) -> None:
        while self._queue:
            _, completion = self._queue.popleft()
            if completion is not None:
                # Nobody will see these bytes, nor why they did not come.
                with contextlib.suppress(Exception):
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
