# SPDX-License-Identifier: Apache-2.0
"""Snapshots that nobody needs: looked for on one open rbd_image."""

from __future__ import annotations

import time
from collections.abc import Iterator

from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Image, Pool, SnapshotInfo
from volume_rbd.driver import debris
from volume_rbd.driver.reclaim import items
from volume_rbd.driver.reclaim.items import Reclaimable
from volume_rbd.driver.reclaim.proofs import Proofs

_UPLOAD = f'{debris.OWN_PREFIX}upload-'
_CLONE = f'{debris.OWN_PREFIX}clone-'


def find_removed(image: Image) -> Iterator[Reclaimable]:
    """Those in the trash *namespace*, where only removed snapshots are, that
    have lost their last clone."""
    for found in image.snapshots():
        if found.in_trash and not image.children(found.id):
            yield _describe(image, found, 'removed_snapshot',
                            'removed earlier, its last clone is gone',
                            _owner_of(found.name))


def find_stock(image: Image) -> Iterator[Reclaimable]:
    """What the stock driver took for a clone that is gone. It takes one a
    moment before it clones."""
    for found in image.snapshots():
        if debris.is_stale_clone_snapshot(image, found):
            yield _describe(image, found, 'stock_snapshot',
                            'taken by the stock driver for a clone that is '
                            'gone', items.STOCK, takes_two_looks=True)


def find_own(pool: Pool, image: Image, proofs: Proofs
             ) -> Iterator[Reclaimable]:
    """Those of operations of ours that are over."""
    for found in image.snapshots():
        why = _why_over(pool, found, proofs)
        if why and not image.children(found.id):
            yield _describe(image, found, 'own_snapshot', why, items.OURS,
                            takes_two_looks=True)


def is_own_over(pool: Pool, image: Image, proofs: Proofs, snapshot_id: int
                ) -> bool:
    return any(found.id == snapshot_id and _why_over(pool, found, proofs)
               and not image.children(found.id)
               for found in image.snapshots())


def _why_over(pool: Pool, found: SnapshotInfo, proofs: Proofs) -> str:
    """Why the operation that took it is over; '' where that is not proved."""
    if found.in_trash or not proofs.are_jobs_kept:
        return ''
    if found.name.startswith(_UPLOAD):
        image_id = found.name.removeprefix(_UPLOAD)
        if (not proofs.is_claimed(f'image/{image_id}')
                and proofs.is_settled_in_glance(image_id)):
            return 'taken for an upload that is over'
    if found.name.startswith(_CLONE):
        name = found.name.removeprefix(_CLONE)
        if (not proofs.is_claimed(f'volume/{name}')
                and not _is_being_made(pool, name)):
            return 'taken to make a volume of, and that is over'
    return ''


def _is_being_made(pool: Pool, name: str) -> bool:
    try:
        with pool.open(name, read_only=True) as image:
            mark = lineage.get_lineage(image)
            # Without a mark: cloned, and not yet marked.
            return mark is None or mark.state == lineage.PENDING
    except exception.ImageNotFound:
        return False


def _owner_of(name: str) -> str:
    if debris.is_own_snapshot(name):
        return items.OURS
    if debris.is_taken_by_stock(name):
        return items.STOCK
    return items.GLANCE if name == model.GLANCE_SNAPSHOT else items.USER


def _describe(image: Image, found: SnapshotInfo, what: str, why: str,
              owner: str, *, takes_two_looks: bool = False) -> Reclaimable:
    return Reclaimable(
        what=what, pool=image.spec.pool,
        name=f'{image.spec.name}@{found.name}', image_id=image.id,
        snapshot_id=found.id, size_bytes=found.size_bytes,
        age_s=time.time() - image.snapshot_time(found.id), why=why,
        owner=owner, takes_two_looks=takes_two_looks)
