# SPDX-License-Identifier: Apache-2.0
"""Who waits for a job that another process runs, and what it is told.

The record ``wait.ID`` bears a lock as long as somebody waits, and then the
answer: the result or the error, signed as a job is.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from volume_rbd import exception
from volume_rbd.ceph.interface import Cluster, LockHolder
from volume_rbd.flows.base import Result
from volume_rbd.jobs.job import UNREADABLE, is_id, load_signed
from volume_rbd.jobs.records import NAMESPACE, wait_key

_ANSWER = 'answer'


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a job: one of the two."""

    result: Result | None = None
    error: exception.VolumeRBDError | None = None

    def get_result(self) -> Result:
        """:raises VolumeRBDError: there is none."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise exception.JobLost('Nobody has said what came of the job.')
        return self.result

    def dump(self, job_id: str) -> str:
        fields: dict[str, Any] = {'job': job_id}
        if self.error is not None:
            fields['error'] = exception.describe(self.error)
        elif self.result is not None:
            fields['result'] = dataclasses.asdict(self.result)
        return json.dumps(fields)

    @classmethod
    def load(cls, job_id: str, text: str) -> Answer | None:
        """:returns: None where it is another job's."""
        fields = json.loads(text)
        if fields['job'] != job_id:
            return None
        if 'error' in fields:
            name, args = fields['error']
            return cls(error=exception.from_name(name, tuple(args))
                       or exception.VolumeRBDError(str(args[0])))
        found = fields['result']
        return cls(Result(**{**found, 'attempts': tuple(found['attempts'])}))


class Waits:
    """The records of those who wait, through one connection."""

    def __init__(self, cluster: Cluster, pool: str) -> None:
        self._sign = cluster.sign
        self._records = cluster.records(pool, NAMESPACE)

    # -- the lock, as a Lease wants it ---------------------------------------
    def lock(self, job_id: str, node: str, duration_s: int) -> bool:
        return self._records.lock(wait_key(job_id), node,
                                  duration_s=duration_s)

    def unlock(self, job_id: str, node: str) -> None:
        self._records.unlock(wait_key(job_id), node)

    def find_lock(self, job_id: str) -> LockHolder | None:
        return self._records.find_lock(wait_key(job_id))

    def break_lock(self, job_id: str, holder: LockHolder) -> None:
        self._records.break_lock(wait_key(job_id), holder)

    # -- the answer ----------------------------------------------------------
    def tell(self, job_id: str, answer: Answer) -> None:
        text = answer.dump(job_id)
        self._records.write(wait_key(job_id), {_ANSWER: json.dumps(
            {'answer': text, 'signature': self._sign(text)})})

    def find_answer(self, job_id: str) -> Answer | None:
        """:returns: None where there is none, or nobody of us gave it."""
        try:
            text = self._records.read(wait_key(job_id))[_ANSWER]
            answer = load_signed(text, 'answer', self._sign)
            return None if answer is None else Answer.load(job_id, answer)
        except (exception.RecordNotFound, *UNREADABLE):
            return None

    def remove(self, job_id: str) -> None:
        if not is_id(job_id):
            return
        try:
            self._records.remove(wait_key(job_id))
        except exception.RecordNotFound:
            return
