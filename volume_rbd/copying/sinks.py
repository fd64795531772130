# SPDX-License-Identifier: Apache-2.0
"""Who wants to see the bytes of a copy on their way: hashes, verifiers.

Each is handed every byte once and in order, the holes as zeros that nobody
has read, on a thread of its own: the reads and writes in flight go on
meanwhile, and several hashes share the work of several processors (hashlib
lets go of the interpreter lock).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from volume_rbd import model, progress

# The buffers that wait for a sink are those of the copy; a hole takes none.
_MOST_WAITING = 4
_ZEROS = bytes(model.MIB)
_POLL_S = 0.1


class Sink(Protocol):
    """What hashlib's objects and cursive's verifiers are."""

    def update(self, data: bytes, /) -> object: ...


class Feeder:
    """Feeds *sinks* what it is handed, in order.

    Leaving the ``with`` block waits until they have seen all of it; after an
    error it only stops them.

    :raises Cancelled: as *report* says, also while it waits.
    """

    def __init__(self, sinks: Sequence[Sink], report: progress.Progress
                 ) -> None:
        self._report = report
        self._feeds = [_Feed(sink) for sink in sinks]

    def __enter__(self) -> Self:
        for feed in self._feeds:
            feed.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        try:
            if error is None:
                self._put(None)
                for feed in self._feeds:
                    self._wait(feed)
        finally:
            for feed in self._feeds:
                feed.stop()

    def pass_on(self, data: bytes) -> None:
        """The next bytes."""
        if data:
            self._put(data)

    def skip(self, length: int) -> None:
        """The next *length* bytes are zeros."""
        if length:
            self._put(length)

    def _put(self, item: bytes | int | None) -> None:
        for feed in self._feeds:
            while not feed.put(item):
                self._report.check()

    def _wait(self, feed: _Feed) -> None:
        while feed.thread.is_alive():
            self._report.check()
            feed.thread.join(_POLL_S)
        feed.check()


class _Feed:
    """One sink and its thread."""

    def __init__(self, sink: Sink) -> None:
        self.thread = threading.Thread(
            target=self._run, name='copy-sink', daemon=True)
        self._sink = sink
        self._queue: queue.Queue[bytes | int | None] = queue.Queue(
            _MOST_WAITING)
        self._is_stopped = threading.Event()
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise what the sink has raised."""
        if self._error is not None:
            raise self._error

    def put(self, item: bytes | int | None) -> bool:
        """:param item: bytes, so many zeros, or None: the end.
        :returns: False where there was no room for a while."""
        self.check()
        try:
            self._queue.put(item, timeout=_POLL_S)
        except queue.Full:
            return False
        return True

    def stop(self) -> None:
        self._is_stopped.set()
        if self.thread.is_alive():
            # It looks again after each item, and at least that often.
            self.thread.join()

    def _run(self) -> None:
        try:
            while not self._is_stopped.is_set():
                try:
                    item = self._queue.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if item is None:
                    return
                self._update(item)
        except BaseException as error:  # noqa: BLE001, raised by check()
            self._error = error

    def _update(self, item: bytes | int) -> None:
        if isinstance(item, bytes):
            self._sink.update(item)
            return
        for offset in range(0, item, len(_ZEROS)):
            if self._is_stopped.is_set():
                return
            count = min(item - offset, len(_ZEROS))
            self._sink.update(
                _ZEROS if count == len(_ZEROS) else _ZEROS[:count])
