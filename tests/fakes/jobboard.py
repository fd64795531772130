# SPDX-License-Identifier: Apache-2.0
"""A jobboard of taskflow's whose server is this process."""

from __future__ import annotations

import dataclasses
import datetime
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from taskflow import exceptions, states
from taskflow.jobs import backends, base


@dataclasses.dataclass
class _Posting:
    name: str
    details: Any
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    owner: str | None = None
    created_on: datetime.datetime = datetime.datetime.min


class MemoryServer:
    """:ivar is_away: it answers nobody.
    :ivar claims: how often something was claimed.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_away = False
        self.claims = 0
        self.places: dict[str, dict[str, _Posting]] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """In the place of every server; :returns: its URL."""
        monkeypatch.setattr(backends, 'fetch', self._fetch)
        return 'redis://memory'

    def _fetch(self, name: str, conf: Mapping[str, Any]) -> MemoryBoard:
        return MemoryBoard(name, conf, self)

    def all(self) -> list[_Posting]:
        with self.lock:
            return [posting for place in self.places.values()
                    for posting in place.values()]

    def forget(self) -> None:
        """As one does that was restarted and keeps nothing."""
        with self.lock:
            self.places.clear()


class MemoryJob(base.Job):
    def __init__(self, board: MemoryBoard, posting: _Posting) -> None:
        super().__init__(board, posting.name, posting.uuid, posting.details)
        self._created_on = posting.created_on

    @property
    def last_modified(self) -> datetime.datetime:
        return self._created_on

    @property
    def created_on(self) -> datetime.datetime:
        return self._created_on

    @property
    def priority(self) -> base.JobPriority:
        return base.JobPriority.NORMAL

    @property
    def state(self) -> str:
        found = self.board.postings().get(self.uuid)
        if found is None:
            return str(states.COMPLETE)
        return str(states.CLAIMED if found.owner else states.UNCLAIMED)

    def extend_expiry(self, expiry: float) -> bool:
        return self.uuid in self.board.postings()


class MemoryBoard(base.JobBoard):
    def __init__(self, name: str, conf: Mapping[str, Any],
                 server: MemoryServer) -> None:
        super().__init__(name, conf)
        self._server = server
        self._is_connected = False

    def postings(self) -> dict[str, _Posting]:
        if self._server.is_away:
            raise exceptions.JobFailure('Failed to connect')
        return self._server.places.setdefault(self._conf['namespace'], {})

    def iterjobs(self, only_unclaimed: bool = False,
                 ensure_fresh: bool = False) -> Iterator[MemoryJob]:
        with self._server.lock:
            return iter([MemoryJob(self, posting)
                         for posting in self.postings().values()
                         if not (only_unclaimed and posting.owner)])

    def post(self, name: str, book: Any = None, details: Any = None,
             priority: Any = None) -> MemoryJob:
        with self._server.lock:
            posting = _Posting(name, details)
            self.postings()[posting.uuid] = posting
            return MemoryJob(self, posting)

    def claim(self, job: Any, who: str, expiry: float | None = None) -> None:
        with self._server.lock:
            posting = self.postings().get(job.uuid)
            if posting is None:
                raise exceptions.NotFound('Job not found to be claimed')
            if posting.owner:
                raise exceptions.UnclaimableJob('Job already claimed')
            posting.owner = who
            self._server.claims += 1

    def _owned(self, job: Any, who: str) -> _Posting:
        posting = self.postings().get(job.uuid)
        if posting is None or posting.owner is None:
            raise exceptions.NotFound('Job not found')
        if posting.owner != who:
            raise exceptions.JobFailure('Job is not owned')
        return posting

    def consume(self, job: Any, who: str) -> None:
        with self._server.lock:
            del self.postings()[self._owned(job, who).uuid]

    def abandon(self, job: Any, who: str) -> None:
        with self._server.lock:
            self._owned(job, who).owner = None

    def trash(self, job: Any, who: str) -> None:
        self.consume(job, who)

    def find_owner(self, job: Any) -> str | None:
        return self.postings()[job.uuid].owner

    def wait(self, timeout: float | None = None) -> Any:
        raise NotImplementedError

    @property
    def job_count(self) -> int:
        return len(self.postings())

    def register_entity(self, entity: Any) -> None:
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        return self._is_connected

    def connect(self) -> None:
        self.postings()
        self._is_connected = True

    def close(self) -> None:
        self._is_connected = False
