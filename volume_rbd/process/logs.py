# SPDX-License-Identifier: Apache-2.0
"""The child's log, in the service's.

What is logged on the thread of a call goes along with the call's answer, so
that it stands in the service's log under the request that caused it. What
other threads log waits for the next call.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

_MAX_WAITING = 1000

Send = Callable[[dict[str, Any]], None]


class Forwarder(logging.Handler):
    """The only handler of the child's root logger."""

    def __init__(self) -> None:
        super().__init__()
        self._current = threading.local()
        self._waiting: collections.deque[dict[str, Any]] = collections.deque(
            maxlen=_MAX_WAITING)

    def install(self, level: int) -> None:
        """:param level: of this project's loggers; all others only warn."""
        logging.basicConfig(handlers=[self], level=logging.WARNING, force=True)
        logging.getLogger('volume_rbd').setLevel(level)
        logging.captureWarnings(True)

    @contextlib.contextmanager
    def to(self, send: Send) -> Iterator[None]:
        """Send what this thread logs, and first what had been waiting."""
        self._current.send = send
        try:
            while self._waiting:
                send(self._waiting.popleft())
            yield
        finally:
            self._current.send = None

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += '\n' + (self.formatter or logging.Formatter()
                            ).formatException(record.exc_info)
        entry = {'log': [record.name, record.levelno, text]}
        send: Send | None = getattr(self._current, 'send', None)
        if send is None:
            self._waiting.append(entry)
        else:
            send(entry)


def replay(entry: list[Any]) -> None:
    """In the service: log what came from the child."""
    name, level, text = entry
    logging.getLogger(name).log(level, '%s', text)
