# SPDX-License-Identifier: Apache-2.0
"""Finding the jobs whose owners are gone, and taking them up in the
background."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph.interface import Cluster
from volume_rbd.jobs import books
from volume_rbd.jobs.info import MOST_ATTEMPTS
from volume_rbd.jobs.job import State
from volume_rbd.jobs.lease import Lease, Locks
from volume_rbd.jobs.records import Entry, JobRecords
from volume_rbd.jobs.run import Outcome
from volume_rbd.jobs.waits import Waits

LOG = logging.getLogger(__name__)

Settled = concurrent.futures.Future[Outcome | None]

_SETTLED_AT_ONCE = 4
# A job that cannot be settled is tried again after so long, and twice as long
# each time; not so where it waits for a service that is away.
_TRIED_AGAIN_S = 5.0
_MOST_AWAY_S = 60.0
_TRIMMED_AGAIN_S = 3600.0


class Recovery:
    """:param settle: one job; as the service, for nobody who waits.
    :param is_running: whether this process is at work with one.
    """

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 settle: Callable[[str], Outcome | None],
                 is_running: Callable[[str], bool]) -> None:
        self._config = config
        self._cluster = cluster
        self._settle = settle
        self._is_running = is_running
        self._executor = concurrent.futures.ThreadPoolExecutor(
            _SETTLED_AT_ONCE, thread_name_prefix='jobs')
        self._lock = threading.Lock()
        self._settling: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._trimmed_at: float | None = None
        self._is_closing = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def _records(self) -> JobRecords:
        return JobRecords(self._cluster, self._config.pool)

    # -- taking up -----------------------------------------------------------
    def begin(self) -> Sequence[Settled]:
        """:returns: one for each job that is taken up."""
        self._sweep()
        return self._take_up()

    def begin_soon(self) -> None:
        """The same in the background, without sweeping up."""
        def take_up() -> None:
            with contextlib.suppress(exception.VolumeRBDError):
                self._take_up()

        self._executor.submit(take_up)

    def count_settling(self) -> int:
        with self._lock:
            return len(self._settling)

    def _take_up(self) -> Sequence[Settled]:
        entries = self._records.entries()
        is_open = {entry.id for entry in entries}.__contains__
        self._tries = {job_id: tries for job_id, tries in self._tries.items()
                       if is_open(job_id)}
        self._not_before = {
            job_id: at for job_id, at in self._not_before.items()
            if is_open(job_id)}
        due = []
        for entry in entries:
            with _leaving_alone(entry.id):
                if self._is_due(entry):
                    due.append(entry.id)
        try:
            return [self._submit(job_id) for job_id in due]
        except RuntimeError:
            return []  # closed meanwhile; the next process finds them

    def _submit(self, job_id: str) -> Settled:
        with self._lock:
            self._settling.add(job_id)
        return self._executor.submit(self._try_to_settle, job_id)

    def _try_to_settle(self, job_id: str) -> Outcome | None:
        try:
            return self._settle(job_id)
        except exception.JobConflict:
            return None  # somebody was quicker
        except exception.VolumeRBDError as error:
            LOG.warning('Job %s is not settled now: %s', job_id, error)
            return None
        except Exception:
            LOG.exception('Job %s is not settled now', job_id)
            return None
        finally:
            with self._lock:
                self._settling.discard(job_id)

    def _is_due(self, entry: Entry) -> bool:
        with self._lock:
            is_settling = entry.id in self._settling
        now = time.monotonic()
        if (entry.job is None or is_settling or self._is_running(entry.id)
                or self._not_before.get(entry.id, 0.0) > now
                or not self._records.is_nobodys(entry.id)):
            return False
        note, _ = self._records.note(entry.id)
        if note.attempts >= MOST_ATTEMPTS:
            return False
        if note.state == State.POSTED and entry.id not in self._not_before:
            # First a worker, then who has posted it.
            self._not_before[entry.id] = (
                now + 2 * self._config.jobboard_timeout_s)
            return False
        # What was tried while a service was away is no attempt of the note.
        tries = self._tries.get(entry.id, 0)
        self._tries[entry.id] = tries + 1
        self._not_before[entry.id] = now + max(
            _TRIED_AGAIN_S * 2 ** note.attempts,
            min(_TRIED_AGAIN_S * 2 ** min(tries, 10), _MOST_AWAY_S))
        return True

    # -- sweeping up ---------------------------------------------------------
    def _sweep(self) -> None:
        """Finish what those began or ended who were killed meanwhile."""
        records = self._records
        for job_id in records.passing():
            with _leaving_alone(job_id):
                if (not self._is_running(job_id)
                        and records.is_nobodys(job_id)
                        and not records.is_awaited(job_id)):
                    self._sweep_up(job_id)
        now = time.monotonic()
        if (self._trimmed_at is None
                or now - self._trimmed_at > _TRIMMED_AGAIN_S):
            self._trimmed_at = now
            records.trim_history()

    def _sweep_up(self, job_id: str) -> None:
        """What is nobody's may be just about to get its lease: with the
        lease here nobody can begin it meanwhile, nor wait for it."""
        records = self._records
        waits = Waits(self._cluster, self._config.pool)
        places: tuple[Locks, Locks] = records, waits
        lease, wait = (Lease(place, job_id, self._config.job_lease_s)
                       for place in places)
        with contextlib.ExitStack() as taken:
            for each in (lease, wait):
                if records.find(job_id) is not None or not each.take_over():
                    return
                taken.callback(each.let_go)
            with books.opened(self._config, self._cluster) as backend:
                books.remove(backend, job_id)
            taken.pop_all()
            lease.stop()
            records.remove(job_id)
            wait.stop()
            waits.remove(job_id)
            records.forget(job_id)

    # -- as long as a service runs -------------------------------------------
    def watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, daemon=True,
                                             name='jobs-watch')
            self._watcher.start()

    def _watch(self) -> None:
        while True:
            try:
                self.begin()
            except exception.VolumeRBDError as error:
                LOG.warning('Jobs are not looked for now: %s', error)
            except Exception:
                LOG.exception('Looking for jobs failed')
            if self._is_closing.wait(self._config.job_lease_s / 3):
                return

    def close(self, *, wait: bool) -> None:
        self._is_closing.set()
        if self._watcher is not None:
            self._watcher.join()
        self._executor.shutdown(wait=wait, cancel_futures=True)


@contextlib.contextmanager
def _leaving_alone(job_id: str) -> Iterator[None]:
    """What somebody has written in the place of one job keeps nobody from
    the others.

    :raises ClusterUnavailable, OperationTimeout: nothing can be done with
        any of them now.
    """
    try:
        yield
    except (exception.ClusterUnavailable, exception.OperationTimeout):
        raise
    except Exception as error:  # noqa: BLE001, whatever was written there
        LOG.warning('Job %s is left alone: %s', job_id, error)
