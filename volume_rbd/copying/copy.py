# SPDX-License-Identifier: Apache-2.0
"""From one place to another: only what exists, several chunks in flight.

Data is written in the order in which its reads began. What is not in the
source is never read, and zeros that it holds become holes.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Iterator

from volume_rbd import model, progress
from volume_rbd.copying import inbound
from volume_rbd.copying.protocols import (
    Completion,
    Destination,
    Rewritable,
    Source,
)
from volume_rbd.copying.window import Window

#: Chunks end on multiples of this: whole objects of the usual size.
CHUNK_BYTES = 4 * model.MIB

# librbd takes no more at once than an int can hold.
_MOST_ZEROS = model.GIB


def into_empty(source: Source, destination: Destination, *, operations: int,
               report: progress.Progress) -> int:
    """Copy all of *source* into a destination that reads as zeros.

    :returns: the bytes that were really written.
    """
    with _Copy(source, destination, operations, report) as copy:
        for piece in _pieces(source.extents(), CHUNK_BYTES):
            if piece.exists:
                copy.read(piece)
            else:
                report.advance(0, piece.length)
    destination.flush()
    return copy.written_bytes


def changes(source: Source, destination: Rewritable,
            extents: Iterable[model.Extent], *, operations: int,
            report: progress.Progress) -> int:
    """Copy *extents* of *source* over what the destination has there; what
    does not exist becomes a hole.

    :returns: the bytes that were really written.
    """
    with _Copy(source, destination, operations, report,
               destination.aio_write_zeroes) as copy:
        for piece in _pieces(extents, CHUNK_BYTES):
            if piece.exists:
                copy.read(piece)
            else:
                copy.clear(piece)
                report.advance(0, piece.length)
    destination.flush()
    return copy.written_bytes


class _Copy:
    """Reads in flight, followed by writes in flight.

    Leaving the ``with`` block finishes both; after an error it only waits
    for them.
    """

    def __init__(self, source: Source, destination: Destination,
                 operations: int, report: progress.Progress,
                 write_zeroes: Callable[[int, int], Completion] | None = None
                 ) -> None:
        """:param write_zeroes: None where all is zeros already."""
        most = inbound.operations_within_memory(operations, CHUNK_BYTES)
        self._source = source
        self._report = report
        self._destination = destination
        self._write_zeroes = write_zeroes
        self._reads = Window(most)
        self._writes = Window(most)
        self._pieces: collections.deque[model.Extent] = collections.deque()
        self.written_bytes = 0

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None, traceback: object) -> None:
        with self._writes, self._reads:
            if error is not None:
                raise error
            while self._pieces:
                self._pass_on()

    def read(self, piece: model.Extent) -> None:
        if self._reads.is_full:
            self._pass_on()
        self._report.check()
        self._reads.push(functools.partial(
            self._source.aio_read, piece.offset, piece.length))
        self._pieces.append(piece)

    def clear(self, piece: model.Extent) -> None:
        self._report.check()
        if self._write_zeroes is not None and piece.length:
            self._writes.push(functools.partial(
                self._write_zeroes, piece.offset, piece.length))

    def _pass_on(self) -> None:
        """Write what the oldest read gave."""
        self._report.check()
        piece = self._pieces.popleft()
        data = self._reads.pop() or b''
        done = 0
        at = piece.offset
        for start, part in inbound.runs(data):
            offset = piece.offset + start
            self.clear(model.Extent(at, offset - at, False))
            self._writes.push(functools.partial(
                self._destination.aio_write, part, offset))
            done += len(part)
            at = offset + len(part)
        self.clear(model.Extent(at, piece.end - at, False))
        self.written_bytes += done
        self._report.advance(done, piece.length - done)


def _pieces(extents: Iterable[model.Extent], chunk_bytes: int
            ) -> Iterator[model.Extent]:
    """Cut into chunks that end on their multiples; holes into larger ones.
    """
    for extent in extents:
        most = chunk_bytes if extent.exists else _MOST_ZEROS
        at = extent.offset
        while at < extent.end:
            end = min(extent.end, (at // most + 1) * most)
            yield model.Extent(at, end - at, extent.exists)
            at = end
