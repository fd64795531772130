# SPDX-License-Identifier: Apache-2.0
"""Places for bytes on their way that a killed process left.

A stage, or a volume that was being migrated here, bears a name of ours and is
held open by whoever is at work with it. What nobody has open, twice in
succession, is nobody's: no operation lets go of one for as long as the time
between two looks. Those that repeat an operation under the same name remove
it at once; but Cinder never uses a volume's id again.

But for a stage: nobody has it open while the volume is cleared or gets its
header. A job owns it then; where jobs leave no record, it is left alone.

What is to become a base is not held open itself: who makes it holds
``volume_rbd.making-ID``. Where that is not there, it is nobody's either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Set

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import base, lineage
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.driver import debris
from volume_rbd.driver.reclaim import items
from volume_rbd.driver.reclaim.items import Reclaimable, owner_of
from volume_rbd.driver.reclaim.proofs import Proofs
from volume_rbd.driver.reclaim.removing import Remover
from volume_rbd.flows import staging

LOG = logging.getLogger(__name__)

_PREFIXES = tuple(f'{debris.OWN_PREFIX}{kind}-'
                  for kind in ('stage', 'migrate', 'making', 'base'))


class Temporary:
    """A :class:`~volume_rbd.driver.reclaim.items.Source`.

    :param pool: of the volumes.
    """

    kinds = ('temporary_image',)

    def __init__(self, pool: Pool, proofs: Proofs, remover: Remover) -> None:
        self._pool = pool
        self._proofs = proofs
        self._remover = remover
        self._seen: dict[str, float] = {}

    def find(self, pools: Sequence[Pool] = ()) -> Iterator[Reclaimable]:
        """One listing where there is nothing."""
        here = self._pool.images()
        names = {summary.name for summary in here}
        for summary in here:
            if not summary.name.startswith(_PREFIXES):
                continue
            try:
                # For reading: nobody is to meet a watch of ours.
                with self._pool.open(summary.name, read_only=True) as image:
                    if self._is_left(image, names):
                        yield self._describe(image)
            except exception.ImageNotFound:
                continue
            except exception.VolumeRBDError as error:
                LOG.warning('%s/%s is left alone for now: %s',
                            self._pool.name, summary.name, error)

    def _describe(self, image: Image) -> Reclaimable:
        mark = lineage.get_lineage(image)
        return Reclaimable(
            what='temporary_image', pool=self._pool.name,
            name=image.spec.name, image_id=image.id,
            size_bytes=image.size_bytes,
            age_s=time.time() - mark.created_at if mark else None,
            owner=owner_of(mark), takes_two_looks=True,
            why='for bytes on their way; nobody has it open, and nobody goes '
                'on with it')

    def remove(self, item: Reclaimable) -> bool:
        self._to_trash(item)
        return self._remover.purge(self._pool, item.image_id)

    def _to_trash(self, item: Reclaimable) -> None:
        def check(image: Image) -> None:
            names = {summary.name for summary in self._pool.images()}
            if (image.id != item.image_id or image.children()
                    or not self._is_left(image, names)):
                raise exception.ImageBusy(
                    f'{item.name} is somebody\'s after all.')

        self._remover.to_trash(item.name, check=check)
        LOG.info('Moved %s/%s to the trash, left by a process that was '
                 'killed', self._pool.name, item.name)

    def sweep(self) -> list[Reclaimable]:
        """Move to the trash what looked the same a while ago.

        :returns: what is there now, its data still to be removed.
        """
        now = time.monotonic()
        found = list(self.find())
        self._seen = {item.image_id: self._seen.get(item.image_id, now)
                      for item in found}
        return [item for item in found
                if now - self._seen[item.image_id] >= items.APART_S
                and self._try_to_trash(item)]

    def _try_to_trash(self, item: Reclaimable) -> bool:
        try:
            self._to_trash(item)
        except exception.ImageNotFound:
            return False
        except exception.VolumeRBDError as error:
            LOG.warning('%s/%s stays for now: %s', self._pool.name,
                        item.name, error)
            return False
        return True

    def _is_left(self, image: Image, names: Set[str]) -> bool:
        """Whether nobody is at work with it now.

        :param names: of all that is in the pool.
        """
        mark = lineage.get_lineage(image)
        if not self._proofs.is_job_over(mark) or (
                not self._proofs.are_jobs_kept
                and image.spec.name.startswith(staging.PREFIX)):
            return False
        if image.spec.name.startswith(base.PREFIX):
            image_id = image.spec.name.removeprefix(base.PREFIX)
            return (base.making_name(image_id) not in names
                    and (mark is None or mark.kind == lineage.VOLUME)
                    and not image.children() and not image.watchers())
        # Without a mark: killed before it was written.
        return not image.watchers() and (
            mark is None or mark.state == lineage.PENDING)
