# SPDX-License-Identifier: Apache-2.0
"""libvirt is told that a storage_pool has changed, while nobody waits.

It can only be told of everything: a refresh opens each rbd_image, seconds
for a thousand, and until it is done libvirt answers no question about the
pool. So one refresh tells of all that was made before it, and for most of the
time there is none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from volume_rbd import exception
from volume_rbd.ceph import native

LOG = logging.getLogger(__name__)

# Of what a refresh took, before the next one: libvirt is busy for a fifth.
_REST = 4


class Teller:
    """:param refresh: what makes libvirt look."""

    def __init__(self, pool: str, refresh: Callable[[], None]) -> None:
        self._pool = pool
        self._refresh = refresh
        self._threads = native.threads()
        self._changed = self._threads.Condition()
        self._thread: Any = None
        self._is_wanted = False
        self._is_hurried = False

    def tell(self) -> None:
        """Returns at once."""
        with self._changed:
            self._is_wanted = True
            if self._thread is None:
                self._thread = self._threads.Thread(
                    target=self._run, name='refresh', daemon=True)
                self._thread.start()

    def settle(self) -> None:
        """Returns when libvirt has been told of all that was before, or did
        not listen."""
        with self._changed:
            self._is_hurried = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._is_hurried = False

    def _run(self) -> None:
        while self._take():
            began = time.monotonic()
            try:
                self._refresh()
            except exception.VolumeRBDError as error:
                LOG.warning('libvirt is not told of what is new in '
                            'storage_pool %s, which is of no matter to '
                            'guests: %s', self._pool, error)
            took = time.monotonic() - began
            with self._changed:
                if not self._is_hurried:
                    self._changed.wait(_REST * took)

    def _take(self) -> bool:
        with self._changed:
            if not self._is_wanted:
                self._thread = None
                return False
            self._is_wanted = False
            return True
