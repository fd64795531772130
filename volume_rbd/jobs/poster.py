# SPDX-License-Identifier: Apache-2.0
"""A job that is done by a worker, seen from where it was asked for.

It is written down and begun, posted, and waited for. Where nobody has it for
too long it is done here, so a jobboard that is away costs time, and no more.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from oslo_log import log as logging
from taskflow import exceptions as taskflow_exceptions

from volume_rbd import exception, opts, progress
from volume_rbd.ceph.interface import Cluster
from volume_rbd.flows.base import Result, Tools, is_cancelled
from volume_rbd.jobs.board import Board
from volume_rbd.jobs.job import Job, Note, State
from volume_rbd.jobs.lease import Lease
from volume_rbd.jobs.records import JobRecords
from volume_rbd.jobs.run import Outcome
from volume_rbd.jobs.waits import Answer, Waits

LOG = logging.getLogger(__name__)

_PAUSE_S = 0.5


class Settle(Protocol):
    """:meth:`Jobs.settle`"""

    def __call__(self, job_id: str, *, undo: bool, tools: Tools
                 ) -> Outcome | None: ...


class Poster:
    """Has jobs done by workers, and waits for them.

    :param settle: does one here.
    """

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 settle: Settle) -> None:
        self._config = config
        self._cluster = cluster
        self._settle = settle
        self._records = JobRecords(cluster, config.pool)
        self._waits = Waits(cluster, config.pool)

    def run(self, job: Job, tools: Tools, begin: Callable[[], Outcome]
            ) -> Result:
        """:param begin: writes it down, and begins it.
        :raises VolumeRBDError: as if it had been done here.
        """
        with self._waiting(job.id) as wait:
            begun = begin()
            if begun.state is not State.POSTED:
                return begun.get_result()
            posting = _Posting(self._config, self._cluster, job.id)
            try:
                return self._wait(job.id, tools, wait, posting)
            finally:
                posting.withdraw()

    @contextlib.contextmanager
    def _waiting(self, job_id: str) -> Iterator[Lease]:
        wait = Lease(self._waits, job_id, self._config.job_lease_s,
                     comes_back=True)
        self._records.announce(job_id)
        wait.take_first()
        try:
            yield wait
        finally:
            wait.let_go()
            try:
                self._waits.remove(job_id)
                if self._records.is_nobodys(job_id):
                    self._records.forget(job_id)
            except exception.VolumeRBDError as error:
                LOG.warning('What job %s has answered is removed later: %s',
                            job_id, error)

    def _wait(self, job_id: str, tools: Tools, wait: Lease,
              posting: _Posting) -> Result:
        shown = _Shown(tools.report)
        had_at = time.monotonic()
        was_cancelled = False
        while True:
            try:
                found = self._look(job_id, shown)
            except exception.Unavailable as error:
                if wait.is_lost:
                    raise
                LOG.warning('Job %s is not looked at now: %s', job_id, error)
                found = True
            if isinstance(found, Answer):
                return found.get_result()
            if not was_cancelled and is_cancelled(tools.report):
                was_cancelled = True
                self._cancel(job_id)
            now = time.monotonic()
            if found:
                had_at = now
            elif (was_cancelled or posting.has_failed
                  or now - had_at > self._config.jobboard_timeout_s):
                outcome = self._do_here(job_id, tools, undo=was_cancelled)
                if outcome is not None:
                    return outcome.get_result()
            time.sleep(_PAUSE_S)

    def _look(self, job_id: str, shown: _Shown) -> Answer | bool:
        """:returns: what came of it, or else whether somebody has it."""
        entry = self._records.find(job_id)
        holder = self._records.find_lock(job_id) if entry else None
        if holder is not None:
            shown.show(self._records.note(job_id)[0])
            return True
        answer = self._waits.find_answer(job_id)
        if answer is not None:
            return answer
        # Without an entry it is over, and somebody has let it be forgotten.
        return False if entry else Answer()

    def _cancel(self, job_id: str) -> None:
        with contextlib.suppress(exception.RecordNotFound):
            self._records.cancel(job_id)

    def _do_here(self, job_id: str, tools: Tools, *, undo: bool
                 ) -> Outcome | None:
        """:returns: None where somebody else has it now, or it is over."""
        if not undo:
            LOG.warning('No worker has job %s; it is done here', job_id)
        try:
            return self._settle(job_id, undo=undo, tools=tools)
        except exception.JobConflict:
            return None


class _Posting:
    """A job on the board. In a thread of its own: a server that hangs keeps
    nobody from doing the job here.

    :ivar has_failed: it is not on the board.
    """

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 job_id: str) -> None:
        self._config = config
        self._cluster = cluster
        self._job_id = job_id
        self.has_failed = False
        self._is_over = threading.Event()
        threading.Thread(target=self._post, name=f'post-{job_id}',
                         daemon=True).start()

    def withdraw(self) -> None:
        """It is needed on the board no more."""
        self._is_over.set()

    def _post(self) -> None:
        try:
            board = Board(self._config, self._cluster.fsid)
            with contextlib.closing(board):
                board.post(self._job_id)
                self._is_over.wait()
                # A worker has taken it off, or finds that it is over.
                with contextlib.suppress(
                        taskflow_exceptions.TaskFlowException):
                    board.withdraw(self._job_id)
        except (exception.VolumeRBDError,
                taskflow_exceptions.TaskFlowException) as error:
            LOG.warning('Job %s is not posted: %s', self._job_id, error)
            self.has_failed = True


class _Shown:
    """What the note of a job says, to who waits for it."""

    def __init__(self, report: progress.Progress) -> None:
        self._report = report
        self._last = Note()

    def show(self, note: Note) -> None:
        last, self._last = self._last, note
        if note.step and note.step != last.step:
            self._report.step(note.step)
        done, skipped = last.done_bytes, last.skipped_bytes
        if note.total_bytes != last.total_bytes or note.done_bytes < done:
            self._report.start(note.total_bytes)
            done = skipped = 0
        if (note.done_bytes, note.skipped_bytes) != (done, skipped):
            self._report.advance(note.done_bytes - done,
                                 note.skipped_bytes - skipped)
