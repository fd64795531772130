# SPDX-License-Identifier: Apache-2.0
"""Clones and copies of ours in the images' pools that no record of Glance's
knows: their registration stayed pending for good, or Glance forgot the image
and left its data. And the removed snapshots of those that it does know."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Cluster, ImageSummary, Pool
from volume_rbd.driver import debris
from volume_rbd.driver.reclaim import snapshots
from volume_rbd.driver.reclaim.items import Reclaimable, owner_of
from volume_rbd.driver.reclaim.proofs import Proofs
from volume_rbd.driver.reclaim.removing import Remover

LOG = logging.getLogger(__name__)

_WHY = {
    'pending_clone': 'Glance never finished its registration and no longer '
                     'has the image',
    'unknown_clone': 'Glance no longer has the image that it was made for, '
                     'and no clone needs it',
}


class Images:
    """A :class:`~volume_rbd.driver.reclaim.items.Source`. Opens every
    rbd_image of the pools once, for reading."""

    kinds = tuple(_WHY)

    def __init__(self, cluster: Cluster, proofs: Proofs, remover: Remover
                 ) -> None:
        self._cluster = cluster
        self._proofs = proofs
        self._remover = remover

    def find(self, pools: Sequence[Pool]) -> Iterator[Reclaimable]:
        for pool in pools[1:]:
            for summary in pool.images():
                try:
                    yield from list(self._look_at(pool, summary))
                except (exception.ImageNotFound, exception.SnapshotNotFound,
                        exception.ImageBusy):
                    continue
                except exception.AccessDenied as error:
                    LOG.warning('%s/%s is left alone: %s', pool.name,
                                summary.name, error)

    def _look_at(self, pool: Pool, summary: ImageSummary
                 ) -> Iterator[Reclaimable]:
        with pool.open(summary.name, read_only=True) as image:
            mark = lineage.get_lineage(image)
            if mark is None or mark.kind != lineage.GLANCE_IMAGE:
                return
            if not self._proofs.is_nobodys_clone(image, summary.name):
                if self._proofs.is_job_over(mark):
                    yield from snapshots.find_removed(image)
                return
            if image.children() or image.watchers():
                return
            what = ('pending_clone' if mark.state == lineage.PENDING
                    else 'unknown_clone')
            yield Reclaimable(
                what=what, pool=pool.name, name=summary.name,
                image_id=summary.id, size_bytes=image.size_bytes,
                age_s=time.time() - mark.created_at, owner=owner_of(mark),
                why=_WHY[what])

    def remove(self, item: Reclaimable) -> bool:
        pool = self._cluster.pool(item.pool)
        with pool.open_by_id(item.image_id) as image:
            if (image.spec.name != item.name
                    or not self._proofs.is_nobodys_clone(image, item.name)
                    or image.watchers() or image.children()):
                return False
            parent = image.parent
            if not debris.drop_snapshots(image):
                return False
        pool.remove(item.name)
        self._remover.release(parent)
        return True
