# SPDX-License-Identifier: Apache-2.0
"""From one place to another: only what exists, several chunks in flight.

Data is written in the order in which its reads began. What is not in the
source is never read, and zeros that it holds become holes.

Because of that order a checkpoint is one offset: all before it is written.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from volume_rbd import exception, model, progress
from volume_rbd.copying import inbound
from volume_rbd.copying.checkpoints import Checkpoints
from volume_rbd.copying.protocols import (
    Completion,
    Destination,
    Rewritable,
    Source,
)
from volume_rbd.copying.sinks import Feeder, Sink
from volume_rbd.copying.window import Window

#: Chunks end on multiples of this: whole objects of the usual size.
CHUNK_BYTES = 4 * model.MIB

# librbd takes no more at once than an int can hold.
_MOST_ZEROS = model.GIB


def into_empty(source: Source, destination: Destination, *, operations: int,
               report: progress.Progress, sinks: Sequence[Sink] = (),
               start: int = 0, checkpoints: Checkpoints | None = None) -> int:
    """Copy all of *source* into a destination that reads as zeros.

    :param sinks: are fed all of it in order, holes as zeros.
    :param start: the destination has all before it: the checkpoint of an
        earlier copy of the same bytes. That part is read for the sinks only;
        the state of a hash cannot be kept.
    :returns: the bytes that were really written.
    :raises DataCorrupted: a read gave less than was asked for.
    """
    parts = [source.extents(start)] if start < source.size_bytes else []
    if start and sinks:
        parts.insert(0, source.extents(0, start))
    elif start:
        report.advance(0, start)
    with Feeder(sinks, report) as feeder, \
            _Copy(source, destination, operations, report, feeder,
                  start=start, checkpoints=checkpoints) as copy:
        for piece in pieces(itertools.chain(*parts)):
            copy.add(piece)
    destination.flush()
    return copy.written_bytes


def changes(source: Source, destination: Rewritable,
            extents: Iterable[model.Extent], *, operations: int,
            report: progress.Progress) -> int:
    """Copy *extents* of *source* over what the destination has there; what
    does not exist becomes a hole.

    :returns: the bytes that were really written.
    :raises DataCorrupted: a read gave less than was asked for.
    """
    with Feeder((), report) as feeder, \
            _Copy(source, destination, operations, report, feeder,
                  destination.aio_write_zeroes) as copy:
        for piece in pieces(extents):
            copy.add(piece)
    destination.flush()
    return copy.written_bytes


class _Copy:
    """Reads in flight, followed by writes in flight.

    Leaving the ``with`` block finishes both; after an error it only waits
    for them.
    """

    def __init__(self, source: Source, destination: Destination,
                 operations: int, report: progress.Progress, feeder: Feeder,
                 write_zeroes: Callable[[int, int], Completion] | None = None,
                 *, start: int = 0, checkpoints: Checkpoints | None = None
                 ) -> None:
        """:param write_zeroes: None where all is zeros already.
        :param start: what ends there or before is only read."""
        # The reads and the writes share the memory (tried: with twice as much
        # in flight a copy took 156 MiB instead of 108 and was not faster).
        most = inbound.operations_within_memory(operations, 2 * CHUNK_BYTES)
        self._source = source
        self._report = report
        self._feeder = feeder
        self._destination = destination
        self._write_zeroes = write_zeroes
        self._start = start
        self._checkpoints = checkpoints
        self._reads = Window(most)
        self._writes = Window(most)
        # Those that are read, and the holes between them.
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

    def add(self, piece: model.Extent) -> None:
        """The next one; they come in order."""
        if piece.exists:
            while self._reads.is_full:
                self._pass_on()
            self._report.check()
            self._reads.push(functools.partial(
                self._source.aio_read, piece.offset, piece.length))
        self._pieces.append(piece)
        while self._pieces and not self._pieces[0].exists:
            self._pass_on()

    def _pass_on(self) -> None:
        """Write what the oldest read gave, or leave the hole."""
        self._report.check()
        piece = self._pieces.popleft()
        if piece.exists:
            self._pass_on_data(piece)
        else:
            self._clear(piece)
            self._feeder.skip(piece.length)
            self._report.advance(0, piece.length)
        if (self._checkpoints is not None and piece.end > self._start
                and self._checkpoints.is_due):
            self._flush()
            self._checkpoints.save(piece.end)

    def _flush(self) -> None:
        while len(self._writes):
            self._writes.pop()
        self._destination.flush()

    def _pass_on_data(self, piece: model.Extent) -> None:
        data = self._reads.pop() or b''
        if len(data) != piece.length:
            raise exception.DataCorrupted(
                f'{len(data)} bytes came instead of the {piece.length} at '
                f'{piece.offset}.',
                remedy='The source changed while it was read; try again.')
        if piece.end > self._start:
            self._write(piece, data)
        else:
            self._report.advance(piece.length)
        self._feeder.pass_on(data)

    def _write(self, piece: model.Extent, data: bytes) -> None:
        done = 0
        at = piece.offset
        for start, part in inbound.runs(data):
            offset = piece.offset + start
            self._clear(model.Extent(at, offset - at, False))
            self._writes.push(functools.partial(
                self._destination.aio_write, part, offset))
            done += len(part)
            at = offset + len(part)
        self._clear(model.Extent(at, piece.end - at, False))
        self.written_bytes += done
        self._report.advance(done, piece.length - done)

    def _clear(self, piece: model.Extent) -> None:
        if self._write_zeroes is not None and piece.length:
            self._writes.push(functools.partial(
                self._write_zeroes, piece.offset, piece.length))


def pieces(extents: Iterable[model.Extent]) -> Iterator[model.Extent]:
    """Cut into chunks that end on their multiples; holes into larger ones.
    """
    for extent in extents:
        most = CHUNK_BYTES if extent.exists else _MOST_ZEROS
        at = extent.offset
        while at < extent.end:
            end = min(extent.end, (at // most + 1) * most)
            yield model.Extent(at, end - at, extent.exists)
            at = end
