# SPDX-License-Identifier: Apache-2.0
"""Jobs that nobody could settle, however often it was tried."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from volume_rbd import exception
from volume_rbd.ceph.interface import Pool
from volume_rbd.driver.reclaim.items import Reclaimable
from volume_rbd.jobs.job import State
from volume_rbd.jobs.jobs import Jobs


class StuckJobs:
    """Their records only. What they have made is nobody's once the record is
    gone, and found as such."""

    kinds = frozenset({'stuck_job'})

    def __init__(self, jobs: Jobs, pool: str) -> None:
        self._jobs = jobs
        self._pool = pool

    def find(self, pools: Sequence[Pool]) -> Iterator[Reclaimable]:
        for info in self._jobs.list():
            if info.state is State.STUCK:
                yield Reclaimable(
                    what='stuck_job', pool=self._pool, name=info.id,
                    image_id='', size_bytes=0,
                    age_s=time.time() - info.created_at,
                    owner=f'project {info.project_id}'
                          if info.project_id else info.node,
                    why=f'{info.operation} of {info.target} was taken up '
                        f'{info.note.attempts} times and could not be '
                        f'settled: {info.note.error}')

    def remove(self, item: Reclaimable) -> bool:
        try:
            if self._jobs.show(item.name).state is not State.STUCK:
                return False
            self._jobs.forget(item.name)
        except exception.JobNotFound:
            return True
        except exception.JobConflict:
            return False
        return True
