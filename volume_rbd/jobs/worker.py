# SPDX-License-Identifier: Apache-2.0
"""Does what is posted on a jobboard: taskflow's conductor, and what it makes
of a posting.

taskflow's own way is to call the factory that a record names. Here a posting
gives the id of a job, and nothing else of it is believed: the job is the one
that stands in RADOS under that id, signed, of an operation of our own list.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

from oslo_log import log as logging
from taskflow import exceptions as taskflow_exceptions
from taskflow.conductors.backends import impl_nonblocking

from volume_rbd import exception
from volume_rbd.jobs.board import CLAIM_S, Board
from volume_rbd.jobs.jobs import Jobs

LOG = logging.getLogger(__name__)

# A server of a board that is away is asked again after so long.
_TRIED_AGAIN_S = 5.0


class Conductor(impl_nonblocking.NonBlockingConductor):
    """Takes jobs from the board, and has them run by :class:`Jobs`.

    Whatever comes of one, it is off the board then: in RADOS it is found by
    those who look for jobs without an owner.

    :param most: how many run at once.
    """

    def __init__(self, jobs: Jobs, board: Board, most: int) -> None:
        super().__init__(f'{socket.gethostname()}/{uuid.uuid4()}', board,
                         max_simultaneous_jobs=most)
        self._jobs = jobs
        self._board = board
        self._is_ending = threading.Event()

    def stop(self) -> None:
        self._is_ending.set()
        super().stop()

    def _engine_from_job(self, job: Any) -> NoReturn:
        """Of what a posting names nothing is ever loaded."""
        raise NotImplementedError(
            'An engine is made by volume_rbd.jobs only.')

    def _dispatch_job(self, job: Any) -> bool:
        """:returns: whether it is taken off the board."""
        if self._is_ending.is_set():
            return False
        with self._claiming(job):
            self._settle(job.details)
        return True

    def _settle(self, details: object) -> None:
        job_id = self._board.find_job(details)
        if job_id is None:
            LOG.warning('What is on the jobboard is no job of this backend; '
                        'it is removed')
            return
        try:
            if self._jobs.is_ours_to_do(job_id):
                self._jobs.settle(job_id)
        except exception.JobConflict:
            LOG.debug('Job %s is at work elsewhere', job_id)
        except exception.VolumeRBDError as error:
            LOG.warning('Job %s is not done here: %s', job_id, error)

    @contextlib.contextmanager
    def _claiming(self, job: Any) -> Iterator[None]:
        """Prolong the claim on the board."""
        is_over = threading.Event()

        def prolong() -> None:
            while not is_over.wait(CLAIM_S / 3):
                # Without it others find that the job has an owner in RADOS.
                with contextlib.suppress(taskflow_exceptions.JobFailure):
                    self._board.prolong(job)

        thread = threading.Thread(target=prolong, name='claim', daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


class Worker:
    """Works for one backend, until it is stopped.

    :raises ConfigurationError: see :class:`Board`.
    """

    def __init__(self, jobs: Jobs, board: Board, most: int) -> None:
        self._board = board
        self._conductor = Conductor(jobs, board, most)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name='worker',
                                        daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._is_ending.is_set():
            try:
                self._conductor.run()
            except taskflow_exceptions.JobFailure as error:
                LOG.warning('%s; it is tried again', error)
            self._is_ending.wait(_TRIED_AGAIN_S)

    def stop(self) -> None:
        """Take no more jobs."""
        self._is_ending.set()
        self._conductor.stop()

    def wait(self) -> None:
        """For what still runs, after :meth:`stop`."""
        self._thread.join()
        self._board.close()
