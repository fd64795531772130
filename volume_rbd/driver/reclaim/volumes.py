# SPDX-License-Identifier: Apache-2.0
"""What is on and among the volumes: snapshots that nobody needs, volumes that
were never finished, and what the stock driver left, by its names
(:mod:`volume_rbd.driver.debris`): a volume ``NAME.deleted`` that has no clones
any more, a snapshot ``CLONE.clone_snap`` without a clone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Cluster, Image, Pool
from volume_rbd.driver import debris
from volume_rbd.driver.reclaim import snapshots
from volume_rbd.driver.reclaim.items import STOCK, Reclaimable, owner_of
from volume_rbd.driver.reclaim.proofs import Proofs
from volume_rbd.driver.reclaim.removing import Remover

LOG = logging.getLogger(__name__)


class Volumes:
    """A :class:`~volume_rbd.driver.reclaim.items.Source`. Opens every volume
    once, for reading."""

    kinds = ('stock_deleted', 'stock_snapshot', 'removed_snapshot',
             'own_snapshot', 'unfinished_volume')

    def __init__(self, cluster: Cluster, pool: str, proofs: Proofs,
                 remover: Remover) -> None:
        self._cluster = cluster
        self._pool = cluster.pool(pool)
        self._proofs = proofs
        self._remover = remover

    # -- finding -------------------------------------------------------------
    def find(self, pools: Sequence[Pool]) -> Iterator[Reclaimable]:
        for summary in self._pool.images():
            try:
                with self._pool.open(summary.name, read_only=True) as image:
                    yield from list(self._look_at(image))
            except (exception.ImageNotFound, exception.SnapshotNotFound,
                    exception.ImageBusy):
                continue
            except exception.AccessDenied as error:
                LOG.warning('%s/%s is left alone: %s', self._pool.name,
                            summary.name, error)

    def _look_at(self, image: Image) -> Iterator[Reclaimable]:
        if debris.is_deleted_by_stock(image) and not image.children():
            yield Reclaimable(
                what='stock_deleted', pool=image.spec.pool,
                name=image.spec.name, image_id=image.id,
                size_bytes=image.size_bytes, age_s=_age_s(image),
                owner=STOCK, takes_two_looks=True,
                why='renamed by the stock driver instead of deleted, its '
                    'last clone is gone')
        elif self._is_unfinished(image):
            mark = lineage.get_lineage(image)
            yield Reclaimable(
                what='unfinished_volume', pool=image.spec.pool,
                name=image.spec.name, image_id=image.id,
                size_bytes=image.size_bytes, owner=owner_of(mark),
                age_s=time.time() - mark.created_at if mark else None,
                takes_two_looks=True,
                why='its making was interrupted, nobody has it open, and '
                    'nobody goes on with it')
        else:
            yield from snapshots.find_removed(image)
            yield from snapshots.find_stock(image)
            yield from snapshots.find_own(self._pool, image, self._proofs)

    def _is_unfinished(self, image: Image) -> bool:
        """Nobody was ever handed a volume that says so. What is on the move
        from another pool says so too, and may be the only one by now."""
        mark = lineage.get_lineage(image)
        name = image.spec.name
        return (self._proofs.are_jobs_kept
                and mark is not None and mark.kind == lineage.VOLUME
                and mark.state == lineage.PENDING
                and not name.startswith(debris.OWN_PREFIX)
                and not debris.is_migrated(mark.origin)
                and self._proofs.is_job_over(mark)
                and not self._proofs.is_claimed(f'volume/{name}')
                and not image.watchers() and not image.group_snapshots()
                and not image.snapshots())

    # -- removing ------------------------------------------------------------
    def remove(self, item: Reclaimable) -> bool:
        if item.snapshot_id is not None:
            return self._remove_snapshot(item, item.snapshot_id)
        if item.what == 'unfinished_volume':
            self._remover.to_trash(item.name, check=self._check_unfinished)
        else:
            self._remover.to_trash(item.name, check=_check_stock)
        return self._remover.purge(self._pool, item.image_id)

    def _remove_snapshot(self, item: Reclaimable, snapshot_id: int) -> bool:
        pool = self._cluster.pool(item.pool)
        with pool.open_by_id(item.image_id) as image:
            if item.what == 'own_snapshot' and not snapshots.is_own_over(
                    pool, image, self._proofs, snapshot_id):
                return False
            return debris.drop_snapshot_of_a_clone(image, snapshot_id)

    def _check_unfinished(self, image: Image) -> None:
        if not self._is_unfinished(image):
            raise exception.ImageBusy(
                f'{image.spec.name} is being made after all.')


def _age_s(image: Image) -> float | None:
    """Since its last snapshot: it was renamed on account of one. None where
    that is gone; what the stock driver makes has no date of ours."""
    found = image.snapshots()
    if not found:
        return None
    return time.time() - image.snapshot_time(found[-1].id)


def _check_stock(image: Image) -> None:
    if (image.watchers() or not debris.is_deleted_by_stock(image)
            or not debris.drop_snapshots(image)):
        raise exception.ImageBusy(
            f'{image.spec.name} is in use after all.')
