# SPDX-License-Identifier: Apache-2.0
"""One job, while this process has it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from oslo_log import log as logging
from taskflow import exceptions as taskflow_exceptions
from taskflow import flow as taskflow_flow
from taskflow import states

from volume_rbd import exception, opts, progress
from volume_rbd.ceph.interface import Cluster
from volume_rbd.flows import engine, registration, settling
from volume_rbd.flows.base import Result, Tools
from volume_rbd.jobs import books, node, registry
from volume_rbd.jobs.job import Job, Note, State, refused
from volume_rbd.jobs.lease import Lease
from volume_rbd.jobs.records import Entry, JobRecords
from volume_rbd.jobs.report import JobReport
from volume_rbd.jobs.waits import Answer, Waits

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a job that was looked at.

    :param error: why it was undone, or is not over.
    """

    job: Job
    state: State
    result: Result | None = None
    error: exception.VolumeRBDError | None = None

    def get_result(self) -> Result:
        """:raises VolumeRBDError: there is none."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise exception.JobConflict(
                f'Job {self.job.id} was finished by another process.')
        return self.result


class Run:
    """:param client: the job's own connection.
    :param backend: taskflow's, where its flow is kept.
    :param shown: what whoever waits for it has given.
    """

    def __init__(self, config: opts.BackendConfig, client: Cluster,
                 backend: Any, job_id: str, shown: progress.Progress
                 ) -> None:
        self._client = client
        self._backend = backend
        self._id = job_id
        self.records = JobRecords(client, config.pool)
        self._waits = Waits(client, config.pool)
        self.report = JobReport(Note(), shown)
        self.lease = Lease(self.records, job_id, config.job_lease_s,
                           self._on_tick)
        self._entry: Entry | None = None
        #: An open record names this job's client: who takes the job up
        #: shuts that out.
        self.is_on_record = False

    @property
    def job(self) -> Job:
        if self._mine.job is None:
            raise RuntimeError(f'Job {self._id} is none of ours.')
        return self._mine.job

    @property
    def _mine(self) -> Entry:
        if self._entry is None:
            raise RuntimeError(f'Job {self._id} was not begun.')
        return self._entry

    # -- getting hold of it --------------------------------------------------
    def begin(self, job: Job) -> None:
        """Write a new job down.

        :raises JobConflict: another one is at work with the same.
        """
        job = dataclasses.replace(job, node=node.describe(),
                                  clients=(self._client.address,))
        self.records.announce(job.id)
        self.lease.take_first()
        try:
            self.records.open(job)
        except BaseException:
            self.lease.stop()
            self.records.remove(job.id)
            self.records.forget(job.id)
            raise
        self._found(job)

    def take_over(self) -> bool:
        """Become the owner of a job that nobody works at.

        :returns: False where it is over.
        :raises JobConflict: somebody does.
        :raises InvalidInput: its record is not what one of ours says.
        """
        if not self.lease.take_over():
            raise exception.JobConflict(
                f'Job {self._id} is at work elsewhere.')
        try:
            return self._take_over()
        except BaseException:
            self.lease.let_go()
            raise

    def _take_over(self) -> bool:
        entry = self.records.find(self._id)
        if entry is None:
            self.lease.let_go()
            self.records.remove(self._id)
            return False
        if entry.job is None:
            raise refused(self._id)
        note, is_cancelled = self.records.note(self._id)
        self.report.note = note
        if note.state == State.POSTED:
            note.state = State.RUNNING.value
            self.records.write_note(self._id, note)
        elif note.state != State.WAITING:
            note.attempts += 1
            self.records.write_note(self._id, note)
        if is_cancelled:
            self.report.cancel()
        registry.check(entry.job)
        for address in entry.job.clients:
            LOG.info('Shutting out %s, which had job %s', address, self._id)
            self._client.blocklist(address)
        job = dataclasses.replace(entry.job, node=node.describe(),
                                  clients=(self._client.address,))
        self._entry = self.records.replace(entry, job)
        self.is_on_record = True
        self.report.lease = self.lease
        return True

    def _found(self, job: Job) -> None:
        self._entry = Entry(job.id, job, job.dump(self._client.sign))
        self.is_on_record = True
        self.report.lease = self.lease

    def _on_tick(self) -> None:
        _, is_cancelled = self.records.note(self._id)
        if is_cancelled or self._is_given_up():
            self.report.cancel()
        self.records.write_note(self._id, self.report.update())

    # -- working at it -------------------------------------------------------
    def tools(self, tools: Tools, *, is_resumed: bool = False) -> Tools:
        """*tools*, for this job."""
        return dataclasses.replace(
            tools, cluster=self._client, report=self.report,
            lease=self.lease, is_resumed=is_resumed)

    def go(self, tools: Tools, check: Callable[[], None]) -> Outcome:
        """Run a new job.

        :param check: whether it may begin; called under its claims.
        """
        tools = self.tools(tools)
        with self._ending() as ended:
            check()
            flow = registry.get(self.job.operation).get_flow(
                tools, self.job.arguments)
            kept = books.begin(self._backend, self._id, self.job.operation)
            ended.has_begun = True
            ended.result = self._run(ended, flow, kept)
        return ended.outcome(self.job)

    def prepare(self, check: Callable[[], None]) -> Outcome:
        """Begin a new job, and leave it to whoever takes it up.

        :param check: see :meth:`go`.
        """
        with self._ending() as ended:
            check()
            books.begin(self._backend, self._id, self.job.operation)
            ended.has_begun = ended.is_posted = True
        return ended.outcome(self.job)

    def settle(self, make_tools: Callable[[Job], Tools], *,
               undo: bool = False) -> Outcome:
        """Go on with a job that was taken over, or undo it."""
        with self._ending() as ended:
            if self.report.note.state in (State.UNDOING, State.WAITING):
                ended.unsettled = State(self.report.note.state)
            ended.has_begun = True
            tools = self.tools(make_tools(self.job), is_resumed=True)
            kept = books.find(self._backend, self._id)
            self._settle(ended, tools, kept, undo)
        return ended.outcome(self.job)

    def _settle(self, ended: _Ended, tools: Tools, kept: engine.Kept | None,
                undo: bool) -> None:
        operation = registry.get(self.job.operation)
        note = self.report.note
        # Without a book: killed before there was one, or it was lost.
        state = kept.detail.state if kept else None
        must_undo = note.state == State.UNDOING or state == states.REVERTED
        is_over = state == states.SUCCESS
        is_waiting = is_over and note.state == State.WAITING
        if kept is None or must_undo or undo or (
                not is_waiting if is_over
                else self._is_to_undo(operation, tools, kept)):
            # One that is cancelled needs no secret, nor one that is over.
            self.report.cancel()
        flow = operation.get_flow(tools, self.job.arguments)
        if kept is None or must_undo:
            self._undo(ended, flow, kept)
        elif is_waiting:
            result = self._run(ended, flow, kept)  # which is over
            ended.flow = None
            try:
                ended.result = self._settle_registration(
                    result, tools, operation)
            except (exception.GlanceImageNotUsable,
                    exception.RegistrationRefused) as error:
                note.error = str(error)
                self._undo(ended, flow, kept)
        else:
            had_failed = _has_reverted(kept)
            try:
                ended.result = self._run(ended, flow, kept)
            except exception.VolumeRBDError:
                if had_failed and not engine.what_stayed(flow):
                    # What stayed then only that process knew.
                    engine.undo(flow, self.job.arguments, kept.detail)
                raise

    def _settle_registration(self, result: Result, tools: Tools,
                             operation: registry.Operation) -> Result:
        """:returns: *result*, as it is by now."""
        is_settled = operation.settle(tools, {
            **self.job.arguments, 'hashes': result.values.get('hashes')
            }) == settling.SETTLED
        return dataclasses.replace(result, values={
            **result.values, 'registration': registration.ACTIVE
            if is_settled else registration.PENDING})

    def _is_to_undo(self, operation: registry.Operation, tools: Tools,
                    kept: engine.Kept) -> bool:
        if self.job.is_posted and self.records.is_awaited(self._id):
            # Who may have it was found out there, as whoever asks.
            return False
        return operation.decide(tools, self.job,
                                _done(kept)) is registry.Rule.UNDO

    def _is_given_up(self) -> bool:
        """Whether the one is gone who waits, and nobody else wants it."""
        job = self._entry.job if self._entry else None
        return (job is not None and job.is_posted and job.is_undone_when_lost
                and not self.records.is_awaited(self._id))

    def _run(self, ended: _Ended, flow: taskflow_flow.Flow,
             kept: engine.Kept) -> Result:
        try:
            return engine.run(
                flow, self.job.arguments, job=self._id, kept=kept,
                watcher=self.report)
        finally:
            ended.flow = flow

    def _undo(self, ended: _Ended, flow: taskflow_flow.Flow,
              kept: engine.Kept | None) -> None:
        """:raises Cancelled: it is undone."""
        ended.flow = flow
        engine.undo(flow, self.job.arguments, kept.detail if kept else None)
        failed = self.report.note.error
        raise exception.Cancelled(
            'What was left of it was undone.'
            + (f' It had failed: {failed}' if failed else ''))

    # -- the end -------------------------------------------------------------
    @contextlib.contextmanager
    def _ending(self) -> Iterator[_Ended]:
        ended = _Ended()
        try:
            yield ended
        except taskflow_exceptions.TaskFlowException as error:
            ended.error = exception.Unavailable(
                f'The record of job {self._id} cannot be written: '
                f'{type(error).__name__}.',
                remedy='It is taken up again as soon as that is possible.')
            ended.is_interrupted = True
        except exception.VolumeRBDError as error:
            ended.error = error
        except BaseException:
            self.lease.let_go()
            raise
        if self.lease.is_lost:
            self.lease.give_up()
            ended.is_interrupted = True
            if not isinstance(ended.error, exception.JobLost):
                ended.error = exception.JobLost(
                    f'Job {self._id} was taken over by another process.')
        else:
            self._close(ended)

    def _close(self, ended: _Ended) -> None:
        """Write down what came of it."""
        state = ended.state
        note = self.report.update(
            state=state.value,
            error=str(ended.error) if ended.error else None)
        if ended.result is not None:
            note.bytes_moved = ended.result.bytes_moved
        if ended.is_unavailable and note.attempts:
            # A service that is away is no reason to give a job up: however
            # long it lasts, the job goes on when it is over.
            note.attempts -= 1
        try:
            if self.job.is_posted:
                self._tell(ended)
            if state in (State.DONE, State.UNDONE):
                self._forget(note, ended)
            else:
                self._leave(note)
        except (exception.VolumeRBDError,
                taskflow_exceptions.TaskFlowException) as error:
            # Whoever finds it open finds out again how it ended.
            LOG.warning('Job %s stays written down for now: %s', self._id,
                        error)
            self.lease.let_go()

    def _tell(self, ended: _Ended) -> None:
        """Whoever waits; before anybody can see that it is over."""
        if not self.records.is_awaited(self._id):
            self._waits.remove(self._id)
        elif ended.state is not State.ABANDONED and (
                ended.result is not None or ended.error is not None):
            self._waits.tell(self._id, Answer(ended.result, ended.error))

    def _forget(self, note: Note, ended: _Ended) -> None:
        note.ended_at = time.time()
        self.lease.stop()
        self.records.remember(self.job, note)
        self.records.close(self._mine)
        self.is_on_record = False
        # Whoever was killed while he began it left less than a book.
        books.remove(self._backend, self._id)
        self.records.remove(self._id)
        # Else it is who waits that still has something of it.
        if not (self.job.is_posted and self.records.is_awaited(self._id)):
            self.records.forget(self._id)

    def _leave(self, note: Note) -> None:
        """For whoever takes it up; this connection is another job's then."""
        self.lease.stop()
        self.records.write_note(self._id, note)
        self._entry = self.records.replace(
            self._mine, dataclasses.replace(self.job, clients=()))
        self.is_on_record = False
        self.lease.let_go()


def _done(kept: engine.Kept) -> set[str]:
    """The names of the tasks that are done."""
    return {atom.name for atom in kept.detail
            if atom.state == states.SUCCESS}


def _has_reverted(kept: engine.Kept) -> bool:
    return any(atom.state == states.REVERTED for atom in kept.detail)


@dataclasses.dataclass
class _Ended:
    """How a run has ended, as far as that is known.

    :param unsettled: what the job is where nothing came of the run.
    :param flow: that was run, or undone.
    :param has_begun: something may have been made, by this process or the
        one before.
    :param is_posted: it was only begun, for others.
    """

    unsettled: State = State.ABANDONED
    flow: taskflow_flow.Flow | None = None
    result: Result | None = None
    error: exception.VolumeRBDError | None = None
    has_begun: bool = False
    is_posted: bool = False
    is_interrupted: bool = False

    @property
    def state(self) -> State:
        if self.is_interrupted:
            return State.ABANDONED
        if self.error is not None:
            return self._state_of_failure()
        if self.is_posted:
            return State.POSTED
        if (self.result is not None
                and self.result.values.get('registration')
                == registration.PENDING):
            return State.WAITING
        return State.DONE

    def _state_of_failure(self) -> State:
        if self.flow is not None:
            return (State.UNDOING if engine.what_stayed(self.flow)
                    else State.UNDONE)
        # Before anything was run: what there is, is as it was.
        return self.unsettled if self.has_begun else State.UNDONE

    @property
    def is_unavailable(self) -> bool:
        """Whether who is needed for it was away."""
        if self.flow is not None and engine.what_stayed(self.flow):
            return engine.is_unavailable(self.flow)
        return isinstance(self.error, exception.Unavailable)

    def outcome(self, job: Job) -> Outcome:
        return Outcome(job, self.state, self.result, self.error)
