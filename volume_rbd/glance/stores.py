# SPDX-License-Identifier: Apache-2.0
"""One answer about the stores for all who ask at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from volume_rbd import exception, model

#: How long an answer is good: a burst of uploads asks once, and a change of
#: Glance's stores is seen by the next one.
FRESH_S = 1.0
_PAUSE_S = 0.3

Stores = list[model.StoreInfo]


class SharedStores:
    """Asks with *fetch*, once at a time; others wait for that answer.

    A 500 is asked about once more: Glance walks over its stores without a
    lock, and the first requests of a burst may trip over each other ("dict
    changed size during iteration", seen with Glance 33).
    """

    def __init__(self, fetch: Callable[[], Stores]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._answer: Stores = []
        self._answered_at: float | None = None

    def get(self) -> Stores:
        with self._lock:
            if (self._answered_at is None
                    or time.monotonic() - self._answered_at > FRESH_S):
                self._answer = self._ask()
                self._answered_at = time.monotonic()
            return list(self._answer)

    def _ask(self) -> Stores:
        try:
            return self._fetch()
        except exception.ApiNotImplemented:
            raise
        except exception.GlanceUnavailable:
            time.sleep(_PAUSE_S)
            return self._fetch()
