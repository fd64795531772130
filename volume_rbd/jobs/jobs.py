# SPDX-License-Identifier: Apache-2.0
"""The jobs of one backend: run them, find those whose owner is gone, settle
those, tell of all."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oslo_log import log as logging

from volume_rbd import exception, opts, progress
from volume_rbd.ceph.interface import Cluster
from volume_rbd.flows import engine
from volume_rbd.flows.base import Result, Tools
from volume_rbd.jobs import board, books, info, node, registry
from volume_rbd.jobs.clients import Clients
from volume_rbd.jobs.info import JobInfo
from volume_rbd.jobs.job import Job, State
from volume_rbd.jobs.poster import Poster
from volume_rbd.jobs.records import JobRecords
from volume_rbd.jobs.recovery import Recovery
from volume_rbd.jobs.run import Outcome, Run
from volume_rbd.jobs.waits import Waits

LOG = logging.getLogger(__name__)

_PAUSE_S = 0.2
_LEFT_ALONE = frozenset({State.REFUSED, State.STUCK})


MakeTools = Callable[[Job], Tools]


class Jobs:
    """:param make_tools: for a job that is taken up: as the service, for
        nobody who waits."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 make_tools: MakeTools) -> None:
        self._config = config
        self._cluster = cluster
        self._make_tools = make_tools
        self._clients = Clients(cluster.private)
        self._running: dict[str, object] = {}
        self._lock = threading.Lock()
        self._recovery = Recovery(config, cluster, self.settle,
                                  self._is_running)

    @property
    def _are_kept(self) -> bool:
        return self._config.flow_connection != books.MEMORY

    @property
    def _records(self) -> JobRecords:
        return JobRecords(self._cluster, self._config.pool)

    # -- running -------------------------------------------------------------
    def run(self, operation: str, arguments: Mapping[str, Any],
            tools: Tools, *, check: Callable[[], None] = lambda: None,
            is_undone_when_lost: bool = False) -> Result:
        """Do it now, and wait for it.

        What was begun before by a process that is gone is settled first; if
        it is the very same, it is gone on with instead.

        :param tools: those of whoever asks; the job has a cluster of its
            own.
        :param check: whether it may be done at all, asked when nobody else
            of ours can begin it any more.
        :raises JobConflict: another job is at work with the same.
        :raises VolumeRBDError: nothing was left behind, or the message says
            what; the job is tried again then.
        """
        if not self._are_kept:
            flow = registry.get(operation).get_flow(tools, arguments)
            return engine.run(flow, arguments, job=arguments['job'])
        # Who only handles volumes has no Glance.
        project_id, user_id = (tools.glance.who() if tools.glance
                               else (None, None))
        job = Job(
            id=arguments['job'], operation=operation, arguments=arguments,
            claims=(registry.get(operation).get_claim(arguments),), node='',
            clients=(), created_at=time.time(), project_id=project_id,
            user_id=user_id, is_undone_when_lost=is_undone_when_lost,
            has_secret=tools.encryption is not None)
        if not board.is_posted(job, tools):
            return self._begin(job, tools, check).get_result()
        job = dataclasses.replace(job, is_posted=True)
        poster = Poster(self._config, self._cluster, self.settle)
        with self._noting(job.id, poster):
            return poster.run(job, tools,
                              lambda: self._begin(job, tools, check))

    def _begin(self, job: Job, tools: Tools, check: Callable[[], None]
               ) -> Outcome:
        met: set[str] = set()
        while True:
            with self._having(job.id, tools.report) as run:
                try:
                    run.begin(job)
                except exception.JobConflict as error:
                    conflict = error
                else:
                    return (run.prepare(check) if job.is_posted
                            else run.go(tools, check))
            if conflict.job in met:
                raise conflict  # a claim that no job of ours has made
            met.add(conflict.job)
            outcome = self._settle_like(conflict, job, tools)
            if outcome is not None and outcome.state is State.DONE:
                return outcome

    def _settle_like(self, conflict: exception.JobConflict, job: Job,
                     tools: Tools) -> Outcome | None:
        """Settle the job that is in the way of *job*.

        :returns: what came of it, where it was the same.
        :raises JobConflict: its owner is alive, or it cannot be settled.
        """
        entry = self._records.find(conflict.job)
        if entry is None:
            return None
        if entry.job is None or not self._records.is_nobodys(entry.id) or (
                entry.job.is_posted and self._records.is_awaited(entry.id)):
            raise conflict
        is_same = _is_same(entry.job, job)
        LOG.info('Job %s was left by %s; it is %s', entry.id,
                 node.host(entry.job.node),
                 'gone on with' if is_same else 'undone')
        outcome = self.settle(entry.id, undo=not is_same, tools=tools)
        if outcome is not None and outcome.state not in (
                State.DONE, State.UNDONE):
            raise conflict
        return outcome if is_same else None

    @contextlib.contextmanager
    def _having(self, job_id: str, shown: progress.Progress
                ) -> Iterator[Run]:
        with self._clients.use() as client, books.opened(
                self._config, client) as backend:
            run = Run(self._config, client, backend, job_id, shown)
            with self._noting(job_id, run):
                yield run
            if run.is_on_record:
                self._clients.retire(client)

    @contextlib.contextmanager
    def _noting(self, job_id: str, work: object) -> Iterator[None]:
        """That this process is at work with a job."""
        with self._lock:
            self._running[job_id] = work
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(job_id, None)

    def _is_running(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._running

    # -- settling ------------------------------------------------------------
    def settle(self, job_id: str, *, undo: bool = False,
               tools: Tools | None = None,
               report: progress.Progress | None = None) -> Outcome | None:
        """Go on with a job that nobody works at, or undo it.

        :param tools: None: those of the service.
        :returns: None where it was over already.
        :raises JobConflict: somebody works at it.
        :raises InvalidInput: its record is not what one of ours says.
        """
        shown = tools.report if tools else report or progress.Silent()
        with self._having(job_id, shown) as run:
            if not run.take_over():
                return None
            outcome = run.settle(
                lambda job: tools or self._make_tools(job), undo=undo)
        LOG.info('Job %s (%s of %s) is %s%s', job_id, outcome.job.operation,
                 outcome.job.target, outcome.state.value,
                 f': {outcome.error}' if outcome.error else '')
        return outcome

    def is_ours_to_do(self, job_id: str) -> bool:
        """Whether a worker may take up what was posted: it is one of ours,
        and the service may see its image. If not, it is done where it was
        asked for."""
        entry = self._records.find(job_id)
        if entry is None or entry.job is None or not entry.job.is_posted:
            LOG.info('Job %s is over, or was never posted', job_id)
            return False
        registry.check(entry.job)
        tools = self._make_tools(entry.job)
        if registry.get(entry.job.operation).asks_glance:
            tools.glance.get_image(entry.job.arguments['image_id'])
        return True

    # -- recovery ------------------------------------------------------------
    def recover_soon(self) -> None:
        """Take up the jobs whose owners are gone, without any wait here."""
        if self._are_kept:
            self._recovery.begin_soon()

    def count_settling(self) -> int:
        """How many jobs are being settled here."""
        return self._recovery.count_settling()

    def recover(self) -> Sequence[concurrent.futures.Future[Outcome | None]]:
        """Take up the jobs whose owners are gone, in the background.

        :returns: one for each.
        """
        return self._recovery.begin() if self._are_kept else []

    def recover_until_idle(self, timeout_s: float = 60.0) -> list[Outcome]:
        """Settle whatever is open and nobody's, until nothing of that is
        left, or *timeout_s* are over."""
        deadline = time.monotonic() + timeout_s
        outcomes: list[Outcome] = []
        while True:
            futures = self.recover()
            found = [future.result() for future in futures]
            outcomes += [outcome for outcome in found if outcome is not None]
            if not futures and not self._left():
                return outcomes
            if time.monotonic() > deadline:
                return outcomes
            time.sleep(_PAUSE_S)

    def _left(self) -> Sequence[JobInfo]:
        return [found for found in self.list()
                if found.state not in _LEFT_ALONE]

    def watch(self) -> None:
        """As long as a service runs: look for jobs to take up now, and every
        third of a lease."""
        if self._are_kept:
            self._recovery.watch()

    def close(self, *, wait: bool = True) -> None:
        """:param wait: for the jobs that are being settled; else they are
            left to the next process, as if this one had been killed."""
        self._recovery.close(wait=wait)
        self._clients.close()

    # -- telling -------------------------------------------------------------
    def list(self, *, is_over: bool = False) -> Sequence[JobInfo]:
        """The open jobs, oldest first.

        :param is_over: those that are over too, newest first, behind them.
        """
        records = self._records
        found = [info.describe(records, entry, self._config.job_lease_s)
                 for entry in records.entries()]
        if is_over:
            found += [info.describe_over(job, note)
                      for job, note in records.history()]
        return found

    def show(self, job_id: str) -> JobInfo:
        """:raises JobNotFound:"""
        entry = self._records.find(job_id)
        if entry is not None:
            return info.describe(self._records, entry,
                                 self._config.job_lease_s)
        for job, note in self._records.history():
            if job.id == job_id:
                return info.describe_over(job, note)
        raise exception.JobNotFound(f'There is no job {job_id}.')

    def is_open(self, job_id: str) -> bool:
        """Whether what bears its id is still its own."""
        return self._records.find(job_id) is not None

    def is_claimed(self, claim: str) -> bool:
        """:param claim: ``volume/NAME`` or ``image/ID``."""
        return self._records.is_claimed(claim)

    def cancel(self, job_id: str, *,
               report: progress.Progress | None = None) -> Outcome | None:
        """Undo a job. Whoever works at it is told to, and does so within a
        third of a lease; otherwise it is done here.

        :returns: None where somebody else does it, or it is over.
        :raises JobNotFound: there is no open job of that id.
        """
        entry = self._records.find(job_id)
        if entry is None:
            raise exception.JobNotFound(f'There is no open job {job_id}.')
        with contextlib.suppress(exception.RecordNotFound):
            self._records.cancel(job_id)  # also for who takes it up later
        if not self._records.is_nobodys(entry.id):
            return None
        return self.settle(job_id, undo=True, report=report)

    def forget(self, job_id: str) -> None:
        """Let go of the record of a job that cannot be settled, and of
        nothing else: what it has left is then found by ``reclaim``.

        :raises JobConflict: somebody works at it.
        """
        entry = self._records.find(job_id)
        if entry is None:
            self._records.drop_claims(job_id)
            return
        if not self._records.is_nobodys(entry.id):
            raise exception.JobConflict(f'Job {job_id} is being worked at.')
        self._records.close(entry)
        with books.opened(self._config, self._cluster) as backend:
            books.remove(backend, job_id)
        self._records.remove(job_id)
        if not self._records.is_awaited(job_id):
            Waits(self._cluster, self._config.pool).remove(job_id)
        self._records.forget(job_id)


# What an upload is told of a record that it is to make.
_OF_NEW_RECORDS = {'record_exists', 'gives_up_record', 'image_name',
                   'properties', 'min_disk_gib'}


def _is_same(one: Job, other: Job) -> bool:
    """Whether they ask for the same thing of the same state of things."""
    left_out = {'job', 'choices'}
    if other.arguments.get('record_exists'):
        left_out |= _OF_NEW_RECORDS  # whoever had made it
    return (one.operation, one.project_id, one.has_secret) == (
        other.operation, other.project_id, other.has_secret) and {
            key: value for key, value in one.arguments.items()
            if key not in left_out} == {
                key: value for key, value in other.arguments.items()
                if key not in left_out}
