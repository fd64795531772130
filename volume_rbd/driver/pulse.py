# SPDX-License-Identifier: Apache-2.0
"""Whether the cluster can bear work that nobody waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph.interface import Cluster, Health
from volume_rbd.driver.schedule import PURGE

LOG = logging.getLogger(__name__)

# An answer is believed so long.
_FRESH_S = 5.0
# A small read takes a millisecond or two; of three, the quickest counts.
_SLOW_S = 0.5
_PROBES = 3
#: It has enough to do with itself.
_BUSY = frozenset({'SLOW_OPS', 'PG_DEGRADED', 'PG_AVAILABILITY'})
#: What a purge helps against.
_FULL = frozenset({'OSD_FULL', 'OSD_BACKFILLFULL', 'OSD_NEARFULL',
                   'POOL_FULL', 'POOL_NEAR_FULL', 'POOL_BACKFILLFULL',
                   'PG_RECOVERY_FULL', 'PG_BACKFILL_FULL'})


class ClusterPulse:
    """Asks the monitors how they see the cluster (``mon 'profile rbd'`` may),
    and times a small read from the volumes' pool.

    :param pool: of the volumes.
    """

    def __init__(self, cluster: Cluster, pool: str, *,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._pool = cluster.pool(pool)
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._health = Health('HEALTH_OK')
        self._trouble = ''
        self._may_ask = True

    def problem(self, kind: str) -> str:
        """See :class:`~volume_rbd.driver.budget.Pulse`."""
        with self._lock:
            if (self._asked_at is None
                    or self._clock() - self._asked_at > _FRESH_S):
                self._trouble = self._ask()
                self._asked_at = self._clock()
            return self._trouble or _judge(self._health, kind)

    def _ask(self) -> str:
        """:returns: what speaks against all kinds."""
        try:
            self._ask_monitors()
            return self._probe()
        except exception.VolumeRBDError as error:
            return f'the cluster does not answer: {error.message}'

    def _ask_monitors(self) -> None:
        if not self._may_ask:
            return
        try:
            self._health = self._cluster.health()
        except exception.CephPermissionDenied as error:
            LOG.warning('How the cluster is cannot be asked, so only its '
                        'speed counts: %s', error)
            self._may_ask = False

    def _probe(self) -> str:
        quickest_s = 0.0
        for _ in range(_PROBES):
            begin = self._clock()
            self._pool.check()
            quickest_s = self._clock() - begin
            if quickest_s <= _SLOW_S:
                return ''
        return (f'the cluster is slow: a small read took {quickest_s:.1f} s')


def _judge(health: Health, kind: str) -> str:
    errors = health.errors
    if kind == PURGE:
        errors -= _FULL
    if errors:
        return f'the cluster is in HEALTH_ERR: {", ".join(sorted(errors))}'
    busy = health.checks & _BUSY
    if busy:
        return f'the cluster is busy: {", ".join(sorted(busy))}'
    return ''
