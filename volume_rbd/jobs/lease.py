# SPDX-License-Identifier: Apache-2.0
"""To whom a job belongs: a lock that ends by itself unless it is prolonged.

It does not stop anybody's writes. So who takes a job over shuts out the
clients of those who had it before, and who had it asks :meth:`Lease.check`
before each step: with a lease that could not be prolonged in time nothing
more is touched, also before anybody has taken the job. What was lost does not
come back: a step may have been left out meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph.interface import LockHolder
from volume_rbd.jobs import node

LOG = logging.getLogger(__name__)

# It is given up so long before its end by our clock: what has been asked just
# before must have been answered.
_MARGIN_S = 1.0
# The first word of it comes soon: who looks at a job that takes its time
# wants to see how far it is.
_FIRST_TICK_S = 1.0
_PAUSE_S = 0.1


class Locks(Protocol):
    """Where the locks of jobs are."""

    def lock(self, job_id: str, node: str, duration_s: int) -> bool: ...

    def unlock(self, job_id: str, node: str) -> None: ...

    def find_lock(self, job_id: str) -> LockHolder | None: ...

    def break_lock(self, job_id: str, holder: LockHolder) -> None: ...


class Lease:
    """The lease of one job, for this process.

    :param on_tick: called with each prolongation, from the lease's thread.
    :param comes_back: it stops nobody from anything: prolonged too late it
        is as good as before.
    """

    def __init__(self, records: Locks, job_id: str, duration_s: int,
                 on_tick: Callable[[], None] = lambda: None, *,
                 comes_back: bool = False) -> None:
        self._records = records
        self._job_id = job_id
        self._node = node.describe()
        self._duration_s = duration_s
        self._on_tick = on_tick
        self._comes_back = comes_back
        self._until: float | None = None
        self._was_lost = False
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    # -- taking --------------------------------------------------------------
    def take(self) -> bool:
        """:returns: False where somebody else has it."""
        if not self._prolong():
            return False
        self._thread = threading.Thread(
            target=self._keep, name=f'lease-{self._job_id}', daemon=True)
        self._thread.start()
        return True

    def take_first(self) -> None:
        """That of what was just announced: who sweeps up may have it for a
        moment, and nobody else.

        :raises JobLost: somebody has it for longer.
        """
        deadline = time.monotonic() + self._duration_s
        while not self.take():
            if time.monotonic() > deadline:
                raise exception.JobLost(
                    f'Somebody else has the lease of job {self._job_id}.')
            time.sleep(_PAUSE_S)

    def take_over(self) -> bool:
        """As :meth:`take`; at once where nobody works under it, see
        :func:`.node.works`."""
        if self.take():
            return True
        holder = self._records.find_lock(self._job_id)
        if holder is not None and not node.works(holder):
            LOG.info('Nobody works at job %s: its lease of %s is broken',
                     self._job_id, holder.owner)
            self._records.break_lock(self._job_id, holder)
        return self.take()

    def _prolong(self) -> bool:
        asked = time.monotonic()
        if self._until is not None and self.is_lost and not self._comes_back:
            return False
        if not self._records.lock(self._job_id, self._node, self._duration_s):
            return False
        until = asked + self._duration_s - min(
            _MARGIN_S, self._duration_s / 4)
        with self._lock:
            if not self._was_lost or self._comes_back:
                self._until = until
                return True
        # Somebody was told so while it was asked for.
        self._records.unlock(self._job_id, self._node)
        return False

    # -- having --------------------------------------------------------------
    @property
    def is_lost(self) -> bool:
        with self._lock:
            if self._until is None:
                return True
            if self._comes_back:
                return self._was_lost or time.monotonic() > self._until
            self._was_lost |= time.monotonic() > self._until
            return self._was_lost

    def check(self) -> None:
        if self.is_lost:
            raise exception.JobLost(
                f'Job {self._job_id} is not ours any more: its lease could '
                'not be prolonged in time.')

    def _keep(self) -> None:
        pause_s = min(_FIRST_TICK_S, self._duration_s / 3)
        while not self._is_over.wait(pause_s):
            pause_s = self._duration_s / 3
            try:
                if not self._prolong():
                    LOG.error('The lease of job %s is lost', self._job_id)
                    self._was_lost = True
                    return
                self._on_tick()
            except exception.VolumeRBDError as error:
                # Until its time is up it is ours all the same.
                LOG.warning('The lease of job %s was not prolonged: %s',
                            self._job_id, error)
                if self.is_lost and not self._comes_back:
                    return

    def give_up(self) -> None:
        """It is lost: prolong it no more. A call that hangs is not waited
        for."""
        self._was_lost = True
        self._is_over.set()

    def stop(self) -> None:
        """Prolong it no more."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def let_go(self) -> None:
        """Another one may take it now."""
        self.stop()
        if not self.is_lost:
            try:
                self._records.unlock(self._job_id, self._node)
            except exception.VolumeRBDError as error:
                LOG.warning('The lease of job %s ends by itself: %s',
                            self._job_id, error)
        self._was_lost = True
