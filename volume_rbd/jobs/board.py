# SPDX-License-Identifier: Apache-2.0
"""taskflow's jobboard: by which jobs find workers on other hosts.

What is posted is the id of a job and the name of its backend, and nothing
else. What the job is stands in RADOS, signed; who runs it is said by its lease
there. So the board may lose what it has, or be written to by anybody: the
worst that comes of it is that a job is run where it was asked for.
"""

from __future__ import annotations

import contextlib
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from taskflow import exceptions as taskflow_exceptions
from taskflow.jobs import backends

from volume_rbd import exception, opts, plan
from volume_rbd.flows.base import Tools
from volume_rbd.flows.create_volume import Flatten, Way
from volume_rbd.jobs import registry
from volume_rbd.jobs.job import Job

# A claim on the board ends so long after the worker was killed; it is
# prolonged at a third. ZooKeeper ends it with the worker's session.
CLAIM_S = 30
# Of a server that does not answer.
_TIMEOUT_S = 10
_DEFAULT_PORTS = {'redis': 6379, 'etcd': 2379}


def is_posted(job: Job, tools: Tools) -> bool:
    """Whether a worker is to do it: it moves bytes, and with what is written
    down and the credentials of the service it can be done."""
    config = tools.config
    if (not config.jobboard or job.operation == registry.REPLACE_CONTENT
            # The one has a secret; the other the caller's key manager.
            or job.has_secret or tools.checker is not None
            # The record would be the service's.
            or not job.arguments.get('record_exists', True)):
        return False
    return moves_bytes(job.arguments, config)


def moves_bytes(arguments: Mapping[str, Any], config: opts.BackendConfig
                ) -> bool:
    """Whether the way that is tried first does; others take milliseconds."""
    if 'choices' not in arguments:
        return bool(arguments['choice']['strategy'] == Way.COPY
                    or arguments.get('flatten') == Flatten.NOW)
    if arguments['choices'][0]['strategy'] != plan.Strategy.CLONE:
        return True
    return ('record_exists' in arguments
            and config.clone_upload_flatten == 'before_register')


class Board:
    """The board of one backend, as a conductor uses it, and as who posts.

    Connected when it is first used, and again when its server is back.
    Whatever a client of a server raises is a JobFailure here, which a
    conductor knows to wait for.

    :param fsid: of the cluster: others may use the same server.
    :raises ConfigurationError: there is no such board, or no client for it.
    """

    def __init__(self, config: opts.BackendConfig, fsid: str) -> None:
        self._backend = config.name
        self._scheme, conf = _configure(config, fsid)
        try:
            self._board = backends.fetch(config.jobboard_namespace, conf)
        except Exception as error:
            # Not the setting itself: it may hold a password.
            raise exception.ConfigurationError(
                f'jobboard ({self._scheme}) of backend {config.name!r} '
                f'cannot be opened: {type(error).__name__}.',
                remedy=f"Run: pip install 'volume-rbd[{self._scheme}]'"
                ) from error

    # -- who posts -----------------------------------------------------------
    def post(self, job_id: str) -> None:
        """:raises taskflow.exceptions.JobFailure: it is not there."""
        with self._speaking() as board:
            board.post(job_id, details=self._details(job_id))

    def withdraw(self, job_id: str) -> None:
        """Take it off the board, unless a worker has it."""
        who = f'withdrawn by {uuid.uuid4()}'
        for job in self.iterjobs():
            if job.details == self._details(job_id):
                self.claim(job, who)
                self.consume(job, who)

    def _details(self, job_id: str) -> dict[str, str]:
        return {'job': job_id, 'backend': self._backend}

    def find_job(self, details: object) -> str | None:
        """The id of the job that a posting names; None: it is none of ours.
        """
        if not isinstance(details, dict):
            return None
        try:
            job_id = str(uuid.UUID(details.get('job')))
        except (ValueError, TypeError, AttributeError):
            return None
        return job_id if details == self._details(job_id) else None

    # -- a conductor ---------------------------------------------------------
    @property
    def connected(self) -> bool:
        return bool(self._board.connected)

    def connect(self) -> None:
        with self._speaking():
            pass

    def close(self) -> None:
        self._board.close()

    def register_entity(self, entity: Any) -> None:
        """Only ZooKeeper's board does anything with it; nobody asks."""

    def iterjobs(self, *, ensure_fresh: bool = True) -> Iterator[Any]:
        """Those that nobody has, as they are on the server now."""
        with self._speaking() as board:
            return iter(list(board.iterjobs(only_unclaimed=True,
                                            ensure_fresh=True)))

    def claim(self, job: Any, who: str) -> None:
        with self._speaking() as board:
            if self._scheme == 'zookeeper':
                board.claim(job, who)
            else:
                board.claim(job, who, expiry=CLAIM_S)

    def prolong(self, job: Any) -> None:
        """The claim on a job, for :data:`CLAIM_S` from now."""
        if self._scheme != 'zookeeper':
            with self._speaking():
                job.extend_expiry(CLAIM_S)

    def consume(self, job: Any, who: str) -> None:
        with self._speaking() as board:
            board.consume(job, who)

    def abandon(self, job: Any, who: str) -> None:
        with self._speaking() as board:
            board.abandon(job, who)

    def trash(self, job: Any, who: str) -> None:
        """Nobody would look at it there."""
        self.consume(job, who)

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[Any]:
        try:
            if not self._board.connected:
                self._board.connect()
            yield self._board
        except (taskflow_exceptions.JobFailure,
                taskflow_exceptions.NotFound):
            raise
        except Exception as error:
            raise taskflow_exceptions.JobFailure(
                f'The jobboard does not answer: {type(error).__name__}'
                ) from error


def _configure(config: opts.BackendConfig, fsid: str
               ) -> tuple[str, dict[str, Any]]:
    """The setting in taskflow's words: what a board takes differs."""
    url = urllib.parse.urlsplit(config.jobboard)
    place = f'{config.jobboard_namespace}/{fsid}/{config.name}'
    conf: dict[str, Any] = dict(urllib.parse.parse_qsl(url.query))
    conf['board'] = url.scheme
    if url.scheme == 'zookeeper':
        return url.scheme, {**conf, 'hosts': url.netloc, 'path': f'/{place}'}
    conf |= {'host': url.hostname or '127.0.0.1',
             'port': url.port or _DEFAULT_PORTS.get(url.scheme, 0)}
    if url.scheme == 'etcd':
        return url.scheme, {'timeout': _TIMEOUT_S, **conf, 'path': place}
    for key, value in (('username', url.username),
                       ('password', url.password),
                       ('db', url.path.strip('/'))):
        if value:
            conf[key] = urllib.parse.unquote(value)
    return url.scheme, {
        'socket_timeout': _TIMEOUT_S, 'socket_connect_timeout': _TIMEOUT_S,
        **conf, 'namespace': place}
