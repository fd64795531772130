# SPDX-License-Identifier: Apache-2.0
"""Places for bytes on their way that a killed process left: what the sweeper
removes by itself, told and removed by command."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Pool
from volume_rbd.driver import debris, sweeping
from volume_rbd.driver.reclaim.items import Reclaimable, owner_of
from volume_rbd.driver.reclaim.proofs import Proofs


class Temporary:
    """A :class:`~volume_rbd.driver.reclaim.items.Source`.

    :param pool: of the volumes.
    """

    kinds = ('temporary_image',)

    def __init__(self, pool: Pool, proofs: Proofs) -> None:
        self._pool = pool
        self._proofs = proofs

    def find(self, pools: Sequence[Pool]) -> Iterator[Reclaimable]:
        here = self._pool.images()
        names = {summary.name for summary in here}
        for summary in here:
            if not sweeping.is_temporary(summary.name):
                continue
            try:
                with self._pool.open(summary.name, read_only=True) as image:
                    if not sweeping.is_left(image, names, self._proofs):
                        continue
                    mark = lineage.get_lineage(image)
                    yield Reclaimable(
                        what='temporary_image', pool=self._pool.name,
                        name=summary.name, image_id=summary.id,
                        size_bytes=image.size_bytes,
                        age_s=time.time() - mark.created_at if mark else None,
                        owner=owner_of(mark), takes_two_looks=True,
                        why='for bytes on their way; nobody has it open, and '
                            'nobody goes on with it')
            except exception.ImageNotFound:
                continue

    def remove(self, item: Reclaimable) -> bool:
        names = {summary.name for summary in self._pool.images()}
        with self._pool.open_by_id(item.image_id) as image:
            if (image.spec.name != item.name
                    or not sweeping.is_left(image, names, self._proofs)
                    or not debris.drop_snapshots(image)):
                return False
        self._pool.remove(item.name)
        return True
