# SPDX-License-Identifier: Apache-2.0
"""Finding what nobody needs any more, with the proof that it is nobody's.

Six kinds of things come to rest:

* a volume of ours in the trash: it bears our own mark;
* a Glance image that Glance deleted while it had clones: it is in the trash
  of a store's pool, named as an image that Glance no longer has;
* a removed snapshot that lost its last clone: it is in the trash *namespace*
  of its rbd_image, where only removed snapshots are;
* a clone of ours whose registration stayed pending: it bears our own mark,
  and Glance no longer has the image;
* a base of the base cache: it bears our own mark, has no clones, and Glance
  no longer has the image;
* what the stock driver left, by its names: a volume ``NAME.deleted`` that
  has no clones any more, a snapshot ``CLONE.clone_snap`` without a clone.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph import base, lineage
from volume_rbd.ceph.interface import (
    Cluster,
    Image,
    ImageSummary,
    Pool,
    SnapshotInfo,
    TrashEntry,
)
from volume_rbd.driver import debris
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reclaimable:
    """:param what: 'trashed_volume', 'trashed_image', 'removed_snapshot',
        'pending_clone', 'unused_base', 'stock_deleted' or
        'stock_snapshot'.
    :param name: the rbd_image's name, or ``name@snapshot``.
    :param why: why it is nobody's.
    """

    what: str
    pool: str
    name: str
    image_id: str
    size_bytes: int
    age_s: float | None
    why: str
    snapshot_id: int | None = None


@dataclasses.dataclass(frozen=True)
class Base:
    """One that can be cloned.

    :param name: of the rbd_image in the backend's own pool.
    """

    name: str
    note: base.Note
    has_clones: bool


class Finder:
    """Touches nothing."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance]) -> None:
        self._config = config
        self._cluster = cluster
        self._open_glance = open_glance

    # -- whose something is --------------------------------------------------
    def is_nobodys(self, pool: Pool, image: Image, name: str) -> bool:
        """Whether a trashed rbd_image may go, once it is childless."""
        mark = lineage.get_lineage(image)
        if pool.name == self._config.pool:
            return mark is not None and mark.state == lineage.TRASHED
        return self.is_deleted_in_glance(name)

    def is_deleted_in_glance(self, name: str) -> bool:
        try:
            uuid.UUID(name)
        except ValueError:
            return False
        try:
            return not self._open_glance().has_image(name)
        except exception.VolumeRBDError as error:
            LOG.warning('Glance cannot be asked for image %s: %s', name,
                        error)
            return False

    def is_nobodys_clone(self, image: Image, name: str) -> bool:
        """Whether its registration stayed pending for good."""
        mark = lineage.get_lineage(image)
        return (mark is not None and mark.kind == lineage.GLANCE_IMAGE
                and mark.state == lineage.PENDING
                and self.is_deleted_in_glance(name))

    def find_bases(self) -> Iterator[Base]:
        """One listing where there is none."""
        pool = self._cluster.pool(self._config.pool)
        for summary in pool.images():
            if not summary.name.startswith(base.PREFIX):
                continue
            try:
                with pool.open(summary.name, read_only=True) as image:
                    note = base.find_note(image)
                    if note is not None:
                        yield Base(summary.name, note,
                                   bool(image.children()))
            except exception.ImageNotFound:
                continue

    def find_unused_bases(self) -> Iterator[Reclaimable]:
        """Those of images that Glance no longer has."""
        for found in self.find_bases():
            if not found.has_clones and self.is_deleted_in_glance(
                    found.note.image_id):
                yield Reclaimable(
                    what='unused_base', pool=self._config.pool,
                    name=found.name, image_id=found.note.base_id,
                    size_bytes=found.note.size_bytes,
                    age_s=time.time() - found.note.used_at,
                    why='the base of an image that Glance no longer has, '
                        'and no clone needs it')

    # -- everything ----------------------------------------------------------
    def find(self) -> Iterator[Reclaimable]:
        """Opens every volume once."""
        for pool in self._pools():
            for entry in pool.trash():
                found = self.look_at_trashed(pool, entry)
                if found is not None:
                    yield found
            if pool.name != self._config.pool:
                yield from self._find_pending(pool)
        yield from self.find_unused_bases()
        pool = self._cluster.pool(self._config.pool)
        for summary in pool.images():
            try:
                with pool.open(summary.name, read_only=True) as image:
                    yield from _find_on_volume(image)
            except (exception.ImageNotFound, exception.ImageBusy):
                continue

    def _pools(self) -> list[Pool]:
        names = [self._config.pool, *self._config.image_pools]
        try:
            names += [store.pool for store in self._open_glance().get_stores()
                      if store.type == 'rbd' and store.pool
                      and store.fsid in (None, self._cluster.fsid)]
        except exception.VolumeRBDError as error:
            LOG.warning("The pools of Glance's stores are not known: %s",
                        error)
        own, *others = (self._cluster.pool(name)
                        for name in dict.fromkeys(names))
        return [own, *(pool for pool in others if _is_ours_to_read(pool))]

    def look_at_trashed(self, pool: Pool, entry: TrashEntry
                        ) -> Reclaimable | None:
        """What an entry of the trash is, if it may go now."""
        now = time.time()
        if entry.deferred_until > now:
            return None
        try:
            with pool.open_by_id(entry.id, read_only=True) as image:
                if (not self.is_nobodys(pool, image, entry.name)
                        or image.children()):
                    return None
                size_bytes = image.size_bytes
        except exception.ImageNotFound:
            return None
        except exception.AccessDenied as error:
            LOG.warning('%s/%s is left alone: %s', pool.name, entry.name,
                        error)
            return None
        is_volume = pool.name == self._config.pool
        return Reclaimable(
            what='trashed_volume' if is_volume else 'trashed_image',
            pool=pool.name, name=entry.name, image_id=entry.id,
            size_bytes=size_bytes, age_s=now - entry.deletion_time,
            why=('deleted by this driver, and no clone needs it'
                 if is_volume else
                 'deleted by Glance, its last clone is gone'))

    def _find_pending(self, pool: Pool) -> Iterator[Reclaimable]:
        for summary in pool.images():
            try:
                found = self._look_at_pending(pool, summary)
            except exception.ImageNotFound:
                continue
            except exception.AccessDenied as error:
                LOG.warning('%s/%s is left alone: %s', pool.name,
                            summary.name, error)
                continue
            if found is not None:
                yield found

    def _look_at_pending(self, pool: Pool, summary: ImageSummary
                         ) -> Reclaimable | None:
        with pool.open(summary.name, read_only=True) as image:
            if not self.is_nobodys_clone(image, summary.name):
                return None
            mark = lineage.get_lineage(image)
            return Reclaimable(
                what='pending_clone', pool=pool.name, name=summary.name,
                image_id=summary.id, size_bytes=image.size_bytes,
                age_s=time.time() - mark.created_at if mark else None,
                why='Glance never finished its registration and no longer '
                    'has the image')


def _is_ours_to_read(pool: Pool) -> bool:
    """A store may be in another cluster, or not for the volumes' user."""
    try:
        pool.check()
    except (exception.PoolNotFound, exception.AccessDenied) as error:
        LOG.warning('Pool %s is left alone: %s', pool.name, error)
        return False
    return True


def _find_on_volume(image: Image) -> Iterator[Reclaimable]:
    if debris.is_deleted_by_stock(image) and not image.children():
        yield Reclaimable(
            what='stock_deleted', pool=image.spec.pool, name=image.spec.name,
            image_id=image.id, size_bytes=image.size_bytes, age_s=None,
            why='renamed by the stock driver instead of deleted, its last '
                'clone is gone')
        return
    for snapshot in image.snapshots():
        if snapshot.in_trash and not image.children(snapshot.id):
            yield _of_snapshot(image, snapshot, 'removed_snapshot',
                               'removed earlier, its last clone is gone')
        elif debris.is_stale_clone_snapshot(image, snapshot):
            yield _of_snapshot(image, snapshot, 'stock_snapshot',
                               'taken by the stock driver for a clone that '
                               'is gone')


def _of_snapshot(image: Image, snapshot: SnapshotInfo, what: str, why: str
                 ) -> Reclaimable:
    return Reclaimable(
        what=what, pool=image.spec.pool,
        name=f'{image.spec.name}@{snapshot.name}', image_id=image.id,
        snapshot_id=snapshot.id, size_bytes=snapshot.size_bytes, age_s=None,
        why=why)
