# SPDX-License-Identifier: Apache-2.0
"""What was verified once needs no second reading.

A snapshot does not change, so one whose bytes were hashed may be cloned again
without reading them. The key must name the very snapshot, by ids that are
never used again, and all that the verdict depends on (``Verifier.terms``,
the certificate's bytes among it); the certificate itself is fetched, and its
dates looked at, every time.

Kept in the memory of the process: what is written into the pool, or beside
it, can be written by everybody who may write there.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable

_LIMIT = 1024


class Verdicts:
    """Safe to share between threads; only good verdicts are kept."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._known: collections.OrderedDict[Hashable, None] = (
            collections.OrderedDict())
        self._running: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def ensure(self, key: Hashable, verify: Callable[[], None]) -> bool:
        """Call *verify*, unless it has succeeded for *key* before.

        Of several at once the first one does it; where it fails, so does
        each of the others for itself.

        :returns: whether it had to be called.
        """
        with self._lock:
            turn = self._running.setdefault(key, threading.Lock())
        with turn:
            if self._is_known(key):
                return False
            try:
                verify()
                self._remember(key)
                return True
            finally:
                with self._lock:
                    self._running.pop(key, None)

    def _is_known(self, key: Hashable) -> bool:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                self._running.pop(key, None)
                return True
            return False

    def _remember(self, key: Hashable) -> None:
        with self._lock:
            self._known[key] = None
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
