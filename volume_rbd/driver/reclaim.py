# SPDX-License-Identifier: Apache-2.0
"""Removing what nobody needs any more, and only that.

An rbd_image with clones cannot go; it is marked, moved to the trash, and
removed with its last clone. Nothing is ever renamed. Three things come to
rest that way, and one more where Glance did not finish; each is removed only
where it can be proved to be nobody's:

* a volume of ours in the trash: it bears our own mark;
* a Glance image that Glance deleted while it had clones: it is in the trash
  of a store's pool, named as an image that Glance no longer has;
* a removed snapshot that lost its last clone: it is in the trash *namespace*
  of its rbd_image, where only removed snapshots are;
* a clone of ours whose registration stayed pending: it bears our own mark,
  and Glance no longer has the image.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Cluster, Image, ParentInfo, Pool
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)

OWN_SNAPSHOT_PREFIX = 'volume_rbd.'


@dataclasses.dataclass(frozen=True)
class Deletion:
    """:param is_trashed: True where clones still need it: it is out of sight
        and goes when the last of them does."""

    name: str
    is_trashed: bool
    reason: str = ''


@dataclasses.dataclass(frozen=True)
class Reclaimable:
    """:param what: 'trashed_volume', 'trashed_image', 'removed_snapshot' or
        'pending_clone'.
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


class Reclaimer:
    """Removes volumes, and what their removal sets free."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance]) -> None:
        self._config = config
        self._cluster = cluster
        self._open_glance = open_glance

    # -- removing a volume ---------------------------------------------------
    def remove_volume(self, name: str) -> Deletion:
        """Remove it, or trash it where clones need it; then remove of its
        ancestors what it alone had kept alive.

        :raises ImageNotFound, ImageBusy:
        """
        pool = self._cluster.pool(self._config.pool)
        with pool.open(name) as image:
            parent = image.parent
            is_free = _drop_snapshots(image)
            if not is_free:
                lineage.set_state(image, lineage.TRASHED)
        if is_free:
            pool.remove(name)
            self._release(parent)
            return Deletion(name, False)
        pool.trash_move(name)
        return Deletion(name, True, 'clones still share its data')

    def _release(self, parent: ParentInfo | None) -> None:
        """A child of *parent* is gone: remove what that has set free."""
        ancestor = parent
        while ancestor is not None:
            try:
                ancestor = self._release_one(ancestor)
            except exception.VolumeRBDError as error:
                # The volume is gone, as was asked; the rest is found again.
                LOG.warning('An ancestor is not reclaimed now: %s', error)
                return

    def _release_one(self, parent: ParentInfo) -> ParentInfo | None:
        """:returns: the next ancestor that may be free now."""
        pool = self._cluster.pool(parent.pool)
        with pool.open_by_id(parent.image_id) as image:
            _drop_removed_snapshot(image, parent.snapshot_id)
            if not parent.in_trash or not self._is_nobodys(pool, image,
                                                           parent.image):
                return None
            if not _drop_snapshots(image):
                return None
            grandparent = image.parent
        pool.trash_remove(parent.image_id)
        LOG.info('Removed %s/%s from the trash: its last clone is gone',
                 parent.pool, parent.image)
        return grandparent

    def _is_nobodys(self, pool: Pool, image: Image, name: str) -> bool:
        """Whether a trashed rbd_image may go, once it is childless."""
        mark = lineage.get_lineage(image)
        if pool.name == self._config.pool:
            return mark is not None and mark.state == lineage.TRASHED
        return self._is_deleted_in_glance(name)

    def _is_deleted_in_glance(self, name: str) -> bool:
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

    # -- finding what is left ------------------------------------------------
    def find(self) -> Iterator[Reclaimable]:
        """What :meth:`reclaim` would remove. Opens every volume once."""
        for pool in self._pools():
            yield from self._find_trashed(pool)
            if pool.name != self._config.pool:
                yield from self._find_pending(pool)
        pool = self._cluster.pool(self._config.pool)
        for summary in pool.images():
            try:
                with pool.open(summary.name, read_only=True) as image:
                    yield from _find_removed_snapshots(image)
            except (exception.ImageNotFound, exception.ImageBusy):
                continue

    def reclaim(self, item: Reclaimable) -> bool:
        """Remove one, if it is still nobody's.

        :returns: whether it is gone.
        """
        pool = self._cluster.pool(item.pool)
        try:
            if item.snapshot_id is not None:
                with pool.open_by_id(item.image_id) as image:
                    return _drop_removed_snapshot(image, item.snapshot_id)
            if item.what == 'pending_clone':
                return self._reclaim_pending(pool, item)
            with pool.open_by_id(item.image_id) as image:
                # It may have been restored since it was found.
                if (not _is_in_trash(pool, item.image_id)
                        or not self._is_nobodys(pool, image, item.name)
                        or not _drop_snapshots(image)):
                    return False
                parent = image.parent
            pool.trash_remove(item.image_id)
        except exception.ImageNotFound:
            return True
        except (exception.ImageBusy, exception.AccessDenied) as error:
            LOG.warning('%s/%s stays: %s', item.pool, item.name, error)
            return False
        self._release(parent)
        return True

    def _find_pending(self, pool: Pool) -> Iterator[Reclaimable]:
        for summary in pool.images():
            try:
                with pool.open(summary.name, read_only=True) as image:
                    if not (_is_pending_clone(image)
                            and self._is_deleted_in_glance(summary.name)):
                        continue
                    mark = lineage.get_lineage(image)
                    size_bytes = image.size_bytes
            except exception.ImageNotFound:
                continue
            except exception.AccessDenied as error:
                LOG.warning('%s/%s is left alone: %s', pool.name,
                            summary.name, error)
                continue
            yield Reclaimable(
                what='pending_clone', pool=pool.name, name=summary.name,
                image_id=summary.id, size_bytes=size_bytes,
                age_s=time.time() - mark.created_at if mark else None,
                why='Glance never finished its registration and no longer '
                    'has the image')

    def _reclaim_pending(self, pool: Pool, item: Reclaimable) -> bool:
        with pool.open_by_id(item.image_id) as image:
            if not (_is_pending_clone(image)
                    and self._is_deleted_in_glance(item.name)):
                return False
            parent = image.parent
            if not _drop_snapshots(image):
                return False
        pool.remove(item.name)
        self._release(parent)
        return True

    def purge(self) -> list[Reclaimable]:
        """Remove everything that :meth:`find` finds, until nothing more
        comes free.

        :returns: what went.
        """
        gone: list[Reclaimable] = []
        while True:
            step = [item for item in list(self.find()) if self.reclaim(item)]
            if not step:
                return gone
            gone += step

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

    def _find_trashed(self, pool: Pool) -> Iterator[Reclaimable]:
        now = time.time()
        for entry in pool.trash():
            if entry.deferred_until > now:
                continue
            try:
                with pool.open_by_id(entry.id, read_only=True) as image:
                    if (image.children()
                            or not self._is_nobodys(pool, image, entry.name)):
                        continue
                    size_bytes = image.size_bytes
            except exception.ImageNotFound:
                continue
            except exception.AccessDenied as error:
                LOG.warning('%s/%s is left alone: %s', pool.name, entry.name,
                            error)
                continue
            is_volume = pool.name == self._config.pool
            yield Reclaimable(
                what='trashed_volume' if is_volume else 'trashed_image',
                pool=pool.name, name=entry.name, image_id=entry.id,
                size_bytes=size_bytes, age_s=now - entry.deletion_time,
                why=('deleted by this driver, its last clone is gone'
                     if is_volume else
                     'deleted by Glance, its last clone is gone'))


def _is_ours_to_read(pool: Pool) -> bool:
    """A store may be in another cluster, or not for the volumes' user."""
    try:
        pool.check()
    except (exception.PoolNotFound, exception.AccessDenied) as error:
        LOG.warning('Pool %s is left alone: %s', pool.name, error)
        return False
    return True


def _is_pending_clone(image: Image) -> bool:
    mark = lineage.get_lineage(image)
    return (mark is not None and mark.kind == lineage.GLANCE_IMAGE
            and mark.state == lineage.PENDING)


def is_own_snapshot(name: str) -> bool:
    """Whether an operation of ours took it; no user's name looks so."""
    return name.startswith(OWN_SNAPSHOT_PREFIX)


def _is_in_trash(pool: Pool, image_id: str) -> bool:
    return any(entry.id == image_id for entry in pool.trash())


def _drop_snapshots(image: Image) -> bool:
    """Remove every snapshot of an rbd_image that is to go, where no clone
    needs it.

    :returns: False if a clone needs one.
    """
    is_free = True
    for snapshot in image.snapshots():
        if image.children(snapshot.id):
            is_free = False
            # Clone v2: the name goes at once, the data with the last clone.
            if not snapshot.in_trash and not snapshot.is_protected:
                image.remove_snapshot(snapshot.name)
            continue
        if snapshot.is_protected:
            image.unprotect_snapshot(snapshot.name)
        image.remove_snapshot_by_id(snapshot.id)
    return is_free


def _drop_removed_snapshot(image: Image, snapshot_id: int) -> bool:
    for snapshot in image.snapshots():
        if snapshot.id == snapshot_id:
            if not snapshot.in_trash or image.children(snapshot_id):
                return False
            image.remove_snapshot_by_id(snapshot_id)
    return True


def _find_removed_snapshots(image: Image) -> Iterator[Reclaimable]:
    for snapshot in image.snapshots():
        if snapshot.in_trash and not image.children(snapshot.id):
            yield Reclaimable(
                what='removed_snapshot', pool=image.spec.pool,
                name=f'{image.spec.name}@{snapshot.name}',
                image_id=image.id, snapshot_id=snapshot.id,
                size_bytes=snapshot.size_bytes, age_s=None,
                why='removed earlier, its last clone is gone')
