# SPDX-License-Identifier: Apache-2.0
"""What is in the trash, due, and without a clone.

A volume of ours bears our own mark. A glance_image that Glance deleted while
it had clones is in the trash of a store's pool, named as an image that Glance
no longer has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Cluster, Pool, TrashEntry
from volume_rbd.driver.reclaim.items import GLANCE, Reclaimable, owner_of
from volume_rbd.driver.reclaim.proofs import Proofs
from volume_rbd.driver.reclaim.removing import Remover

LOG = logging.getLogger(__name__)


class Trash:
    """A :class:`~volume_rbd.driver.reclaim.items.Source`.

    :param own_pool: the volumes' pool.
    """

    kinds = ('trashed_volume', 'trashed_image')

    def __init__(self, cluster: Cluster, own_pool: str, proofs: Proofs,
                 remover: Remover) -> None:
        self._cluster = cluster
        self._own_pool = own_pool
        self._proofs = proofs
        self._remover = remover

    def find(self, pools: Sequence[Pool]) -> Iterator[Reclaimable]:
        for pool in pools:
            for entry in pool.trash():
                found = self.look_at(pool, entry)
                if found is not None:
                    yield found

    def look_at(self, pool: Pool, entry: TrashEntry) -> Reclaimable | None:
        """What an entry of the trash is, if it may go now."""
        now = time.time()
        if entry.deferred_until > now:
            return None
        try:
            with pool.open_by_id(entry.id, read_only=True) as image:
                if (not self._proofs.is_nobodys(pool, image, entry.name)
                        or image.children()):
                    return None
                size_bytes = image.size_bytes
                mark = lineage.get_lineage(image)
        except exception.ImageNotFound:
            return None
        except exception.AccessDenied as error:
            LOG.warning('%s/%s is left alone: %s', pool.name, entry.name,
                        error)
            return None
        is_volume = pool.name == self._own_pool
        return Reclaimable(
            what='trashed_volume' if is_volume else 'trashed_image',
            pool=pool.name, name=entry.name, image_id=entry.id,
            size_bytes=size_bytes, age_s=now - entry.deletion_time,
            owner=owner_of(mark) if is_volume else GLANCE,
            why=('deleted by this driver, and no clone needs it'
                 if is_volume else
                 'deleted by Glance, its last clone is gone'))

    def remove(self, item: Reclaimable) -> bool:
        return self._remover.purge(self._cluster.pool(item.pool),
                                   item.image_id)
