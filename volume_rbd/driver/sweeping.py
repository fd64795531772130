# SPDX-License-Identifier: Apache-2.0
"""Places for bytes on their way that a killed process left.

A stage, or a volume that was being migrated here, bears a name of ours and is
held open by whoever is at work with it. What nobody has open, twice in
succession, is nobody's: no operation lets go of one for as long as the time
between two looks. Those that repeat an operation under the same name remove
it at once; but Cinder never uses a volume's id again.

What is to become a base is not held open itself: who makes it holds
``volume_rbd.making-ID``. Where that is not there, it is nobody's either.
"""

from __future__ import annotations

import time
from collections.abc import Set
from typing import Protocol

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import base, lineage
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.driver import debris

LOG = logging.getLogger(__name__)

_PREFIXES = tuple(f'{debris.OWN_PREFIX}{kind}-'
                  for kind in ('stage', 'migrate', 'making', 'base'))
# Between download and conversion nobody has a stage open, for moments.
APART_S = 20.0


class Jobs(Protocol):
    def is_job_over(self, mark: lineage.Lineage | None) -> bool:
        """Whether nobody goes on with the job that made it."""


class NoJobs:
    """None leaves a record: none is taken up."""

    def is_job_over(self, mark: lineage.Lineage | None) -> bool:
        return True


class Sweeper:
    """:param pool: of the volumes of one backend."""

    def __init__(self, pool: Pool, jobs: Jobs | None = None) -> None:
        self._pool = pool
        self._jobs = jobs or NoJobs()
        self._seen: dict[str, float] = {}

    def sweep(self) -> list[str]:
        """One listing where there is nothing to do.

        :returns: the names of what went.
        """
        now = time.monotonic()
        seen, gone = {}, []
        here = self._pool.images()
        names = {summary.name for summary in here}
        for summary in here:
            if not is_temporary(summary.name):
                continue
            try:
                # For reading: nobody is to meet a watch of ours.
                with self._pool.open(summary.name, read_only=True) as image:
                    if not is_left(image, names, self._jobs):
                        continue
                seen[summary.id] = self._seen.get(summary.id, now)
                if now - seen[summary.id] < APART_S:
                    continue
                with self._pool.open_by_id(summary.id) as image:
                    debris.drop_snapshots(image)
                self._pool.remove(summary.name)
                gone.append(summary.name)
                LOG.info('Removed %s/%s, left by a process that was killed',
                         self._pool.name, summary.name)
            except exception.ImageNotFound:
                continue
            except exception.VolumeRBDError as error:
                LOG.warning('%s/%s stays for now: %s', self._pool.name,
                            summary.name, error)
        self._seen = seen
        return gone


def is_temporary(name: str) -> bool:
    """Whether an rbd_image is called as what may be swept."""
    return name.startswith(_PREFIXES)


def is_left(image: Image, names: Set[str], jobs: Jobs) -> bool:
    """Whether nobody is at work with it now.

    :param names: of all that is in the pool.
    """
    mark = lineage.get_lineage(image)
    if not jobs.is_job_over(mark):
        return False
    if image.spec.name.startswith(base.PREFIX):
        image_id = image.spec.name.removeprefix(base.PREFIX)
        return (base.making_name(image_id) not in names
                and (mark is None or mark.kind == lineage.VOLUME)
                and not image.children() and not image.watchers())
    # Without a mark: killed before it was written.
    return not image.watchers() and (
        mark is None or mark.state == lineage.PENDING)
