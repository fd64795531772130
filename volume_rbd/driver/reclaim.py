# SPDX-License-Identifier: Apache-2.0
"""Removing volumes, and what nobody needs any more; and only that.

A volume is marked and moved to the trash, out of sight at once, whatever its
size; its data goes in the background. What clones still need stays in the
trash and is removed with the last of them. Nothing is ever renamed. What may
go is told in :mod:`volume_rbd.driver.leftovers`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph import base, lineage
from volume_rbd.ceph.interface import (
    Cluster,
    Image,
    ParentInfo,
    Pool,
    TrashEntry,
)
from volume_rbd.driver import debris
from volume_rbd.driver.background import Flattener, OnProgress, Worker
from volume_rbd.driver.leftovers import Base, Finder, Reclaimable
from volume_rbd.driver.sweeping import Sweeper
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)

_PURGES_AT_ONCE = 2
# What one call of purge_due does at most: it runs every minute.
_OPENED_AT_ONCE = 64
_PURGED_WITHIN_S = 30.0
# What cannot go is looked at again so much later: whose clones we delete
# ourselves goes at once.
_KEPT_AGAIN_S = 600.0
_TRIED_AGAIN_S = 30.0
# Glance is asked for the images of bases no more often.
_BASES_AGAIN_S = 600.0
# Ids whose removal has begun: without a header there is no mark left to read.
_PURGING = 'volume_rbd.purging.'


@dataclasses.dataclass(frozen=True)
class Deletion:
    """:param is_trashed: True where clones still need it, or it is kept for
        a while: it is out of sight, and goes when that is over. Otherwise
        its data is being removed."""

    name: str
    is_trashed: bool
    reason: str = ''


class Reclaimer:
    """Removes volumes, and what their removal sets free."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance], flattener: Flattener
                 ) -> None:
        self._config = config
        self._cluster = cluster
        self._pool = cluster.pool(config.pool)
        self._finder = Finder(config, cluster, open_glance)
        self._sweeper = Sweeper(self._pool)
        self._flattener = flattener
        self._worker = Worker(_PURGES_AT_ONCE, 'purge')
        self._kept_until: dict[str, float] = {}
        self._bases_due_at = 0.0

    # -- removing a volume ---------------------------------------------------
    def remove_volume(self, name: str, *, delay_s: int = 0,
                      check: Callable[[Image], None] = lambda image: None
                      ) -> Deletion:
        """Move a volume to the trash; its data goes in the background, and
        with it what it alone had kept alive of its ancestors.

        :param check: is handed the volume, and may refuse.
        :raises ImageNotFound, ImageBusy:
        """
        with self._pool.open(name) as image:
            check(image)
            image_id = image.id
            has_clones = bool(image.snapshots()) and bool(image.children())
            mark = lineage.get_lineage(image)
            lineage.set_state(image, lineage.TRASHED)
        try:
            self._pool.trash_move(name, delay_s)
        except exception.VolumeRBDError:
            self._restore_mark(name, mark)
            raise
        if delay_s:
            return Deletion(name, True, f'it is kept for {delay_s} s')
        self._submit(self._pool, image_id)
        if has_clones:
            return Deletion(name, True, 'clones still share its data')
        return Deletion(name, False)

    def _restore_mark(self, name: str, mark: lineage.Lineage | None) -> None:
        with contextlib.suppress(exception.VolumeRBDError), \
                self._pool.open(name) as image:
            if mark is None:
                image.remove_metadata(lineage.KEY)
            else:
                lineage.set_state(image, mark.state)

    def _submit(self, pool: Pool, image_id: str
                ) -> concurrent.futures.Future[object]:
        return self._worker.submit(
            image_id, lambda progress: self._try_to_purge(
                pool, image_id, progress))

    def purge_now(self, image_id: str) -> bool:
        """Remove a volume in the trash and wait for it.

        :returns: whether it is gone; False where it may not go yet.
        """
        future = self._submit(self._pool, image_id)
        concurrent.futures.wait([future])
        return not future.cancelled() and bool(future.result())

    def _try_to_purge(self, pool: Pool, image_id: str, progress: OnProgress
                      ) -> bool:
        try:
            return self._purge(pool, image_id, progress)
        except exception.ImageNotFound:
            return True
        except exception.Cancelled:
            LOG.info('The removal of %s goes on after the next start',
                     image_id)
        except exception.VolumeRBDError as error:
            LOG.warning('%s stays in the trash of pool %s for now: %s',
                        image_id, pool.name, error)
        return False

    def _purge(self, pool: Pool, image_id: str,
               progress: OnProgress | None = None) -> bool:
        """Remove an entry of the trash that is nobody's.

        :returns: whether it is gone.
        :raises ImageNotFound: it was gone already.
        """
        entry = _find_due(pool, image_id)
        if entry is None:
            with pool.open_by_id(image_id, read_only=True):
                return False  # it is kept, or was restored
        with pool.open_by_id(image_id) as image:
            # It may have been restored and trashed by another meanwhile.
            if (not self._finder.is_nobodys(pool, image, entry.name)
                    or not debris.drop_snapshots(image)):
                return False
            parent = image.parent
        self._remove_entry(pool, image_id, progress)
        LOG.info('Removed %s/%s from the trash', pool.name, entry.name)
        self.release(parent)
        return True

    def _remove_entry(self, pool: Pool, image_id: str,
                      progress: OnProgress | None) -> None:
        self._pool.set_metadata(_PURGING + image_id, pool.name)
        try:
            pool.trash_remove(image_id, on_progress=progress)
        except exception.ImageNotFound:
            pass
        except exception.VolumeRBDError:
            with contextlib.suppress(exception.VolumeRBDError):
                self._pool.remove_metadata(_PURGING + image_id)
            raise
        self._pool.remove_metadata(_PURGING + image_id)

    # -- bases ---------------------------------------------------------------
    def find_bases(self) -> Iterator[Base]:
        """Those that can be cloned, and whether they have clones."""
        return self._finder.find_bases()

    def remove_base(self, name: str) -> bool:
        """Remove a base that has no clones.

        :returns: whether it is out of sight.
        """
        def check(image: Image) -> None:
            if (base.find_note(image) is None or image.children()
                    or image.watchers()):
                raise exception.ImageBusy(f'{name} is no unused base.')

        try:
            self.remove_volume(name, check=check)
        except exception.ImageNotFound:
            return True
        except exception.ImageBusy as error:
            LOG.info('Base %s stays: %s', name, error)
            return False
        return True

    def _purge_bases(self) -> list[Reclaimable]:
        now = time.monotonic()
        if not self._config.image_base_cache or now < self._bases_due_at:
            return []
        self._bases_due_at = now + _BASES_AGAIN_S
        return [item for item in self._finder.find_unused_bases()
                if self.remove_base(item.name)]

    # -- and its ancestors ---------------------------------------------------
    def release(self, parent: ParentInfo | None) -> None:
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
            debris.drop_snapshot_of_a_clone(image, parent.snapshot_id)
            # Asked now: it may have been deleted since its child was.
            is_in_trash = pool.find_trashed(parent.image_id) is not None
            if is_in_trash:
                if (not _find_due(pool, parent.image_id)
                        or not self._finder.is_nobodys(
                            pool, image, parent.image)):
                    return None
            elif (pool.name != self._pool.name
                    or not debris.is_deleted_by_stock(image)):
                return None
            if not debris.drop_snapshots(image):
                return None
            grandparent = image.parent
            if not is_in_trash:
                lineage.set_state(image, lineage.TRASHED)
                name = image.spec.name
        if not is_in_trash:
            pool.trash_move(name)
        self._remove_entry(pool, parent.image_id, None)
        LOG.info('Removed %s/%s: its last clone is gone', parent.pool,
                 parent.image)
        return grandparent

    # -- finding what is left ------------------------------------------------
    def find(self) -> Iterator[Reclaimable]:
        """What :meth:`reclaim` would remove. Opens every volume once."""
        return self._finder.find()

    def reclaim(self, item: Reclaimable) -> bool:
        """Remove one, if it is still nobody's.

        :returns: whether it is gone.
        """
        pool = self._cluster.pool(item.pool)
        try:
            if item.snapshot_id is not None:
                with pool.open_by_id(item.image_id) as image:
                    return debris.drop_snapshot_of_a_clone(
                        image, item.snapshot_id)
            if item.what == 'unused_base':
                return (self._finder.is_deleted_in_glance(
                    item.name.removeprefix(base.PREFIX))
                    and self.remove_base(item.name)
                    and self.purge_now(item.image_id))
            if item.what == 'pending_clone':
                return self._reclaim_pending(pool, item)
            if item.what == 'stock_deleted':
                return self._reclaim_stock(item)
            return self._purge(pool, item.image_id)
        except exception.ImageNotFound:
            return True
        except (exception.ImageBusy, exception.AccessDenied) as error:
            LOG.warning('%s/%s stays: %s', item.pool, item.name, error)
            return False

    def _reclaim_pending(self, pool: Pool, item: Reclaimable) -> bool:
        with pool.open_by_id(item.image_id) as image:
            if not self._finder.is_nobodys_clone(image, item.name):
                return False
            parent = image.parent
            if not debris.drop_snapshots(image):
                return False
        pool.remove(item.name)
        self.release(parent)
        return True

    def _reclaim_stock(self, item: Reclaimable) -> bool:
        with self._pool.open_by_id(item.image_id) as image:
            if (image.spec.name != item.name or image.watchers()
                    or not debris.is_deleted_by_stock(image)
                    or not debris.drop_snapshots(image)):
                return False
            lineage.set_state(image, lineage.TRASHED)
        self._pool.trash_move(item.name)
        return self._purge(self._pool, item.image_id)

    def purge(self) -> list[Reclaimable]:
        """Remove everything that :meth:`find` finds, until nothing more
        comes free.

        :returns: what went.
        """
        self.wait()
        gone: list[Reclaimable] = []
        while True:
            step = [item for item in list(self.find()) if self.reclaim(item)]
            if not step:
                return gone
            gone += step

    # -- now and then --------------------------------------------------------
    def purge_due(self) -> list[Reclaimable]:
        """Remove what is due in the trash of the volumes' pool, and take up
        what an earlier process left half done.

        Two listings where there is nothing to do; otherwise a bounded number
        of entries, and half a minute: what takes longer goes on in the
        background.

        :returns: what went.
        """
        self._flattener.resume_due()
        self._finish_removals()
        self._sweeper.sweep()
        bases = self._purge_bases()
        due = list(self._find_due())
        futures = [self._submit(self._pool, item.image_id) for item in due]
        concurrent.futures.wait(futures, timeout=_PURGED_WITHIN_S)
        return bases + [item for item, future in zip(due, futures, strict=True)
                if future.done() and not future.cancelled()
                and future.result()]

    def _find_due(self) -> Iterator[Reclaimable]:
        entries = self._pool.trash()
        now = time.monotonic()
        here = {entry.id for entry in entries}
        self._kept_until = {
            image_id: until for image_id, until in self._kept_until.items()
            if image_id in here and until > now}
        waiting = [entry for entry in entries
                   if entry.deferred_until <= time.time()
                   and entry.id not in self._kept_until
                   and not self._worker.is_running(entry.id)]
        for entry in waiting[:_OPENED_AT_ONCE]:
            found = self._finder.look_at_trashed(self._pool, entry)
            self._kept_until[entry.id] = now + (
                _KEPT_AGAIN_S if found is None else _TRIED_AGAIN_S)
            if found is not None:
                yield found

    def _finish_removals(self) -> None:
        """Those that were interrupted when there was no header left."""
        for key, name in self._pool.metadata().items():
            if not key.startswith(_PURGING):
                continue
            image_id = key.removeprefix(_PURGING)
            if self._worker.is_running(image_id):
                continue
            pool = self._cluster.pool(name)
            try:
                with pool.open_by_id(image_id, read_only=True):
                    continue  # its mark is still there to be read
            except exception.ImageNotFound:
                self._remove_entry(pool, image_id, None)

    def wait(self) -> None:
        """Until what is being removed is gone."""
        self._worker.wait()

    def close(self, *, wait: bool = True) -> None:
        """:param wait: for what is being removed; else it is stopped, and
            :meth:`purge_due` of another process finds it."""
        self._worker.close(wait=wait)


def _find_due(pool: Pool, image_id: str) -> TrashEntry | None:
    """The entry of the trash, if it is there and not kept any longer."""
    entry = pool.find_trashed(image_id)
    if entry is None or entry.deferred_until > time.time():
        return None
    return entry
