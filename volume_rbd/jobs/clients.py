# SPDX-License-Identifier: Apache-2.0
"""The rados clients of jobs: one for each that runs, so that it can be shut
out without harm to anybody else. To connect takes a while, so those of jobs
that are over wait for the next ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph.interface import Cluster

LOG = logging.getLogger(__name__)

_MOST_IDLE = 4


class Clients:
    """:param open_client: a connection that does not come back once it is
        lost."""

    def __init__(self, open_client: Callable[[], Cluster]) -> None:
        self._open = open_client
        self._idle: list[Cluster] = []
        self._retired: list[Cluster] = []
        self._lock = threading.Lock()
        self._is_closed = False

    @contextlib.contextmanager
    def use(self) -> Iterator[Cluster]:
        """One that nobody else has. After an error it is closed: whether it
        still works, or was shut out, is not known then."""
        client = self._find_idle() or self._open()
        is_kept = False
        try:
            yield client
            is_kept = True
        finally:
            self._give_back(client, is_kept=is_kept)

    def _find_idle(self) -> Cluster | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                client = self._idle.pop()
            try:
                # Its connection may have been lost meanwhile.
                client.monitors()
                return client
            except exception.VolumeRBDError as error:
                LOG.debug('An idle connection is gone: %s', error)
                client.close()

    def retire(self, client: Cluster) -> None:
        """One in use that no other job may have: whoever takes up the one
        that has it shuts it out."""
        with self._lock:
            self._retired.append(client)

    def _give_back(self, client: Cluster, *, is_kept: bool) -> None:
        with self._lock:
            if client in self._retired:
                self._retired.remove(client)
                is_kept = False
            if (is_kept and not self._is_closed
                    and len(self._idle) < _MOST_IDLE):
                self._idle.append(client)
                return
        client.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()
