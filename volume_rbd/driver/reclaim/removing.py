# SPDX-License-Identifier: Apache-2.0
"""How an rbd_image goes: into the trash, out of it, and with it the ancestors
that it alone had kept alive."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Cluster, Image, ParentInfo, Pool
from volume_rbd.driver import debris
from volume_rbd.driver.budget import OnProgress
from volume_rbd.driver.reclaim.proofs import Proofs, find_due
from volume_rbd.flows import delete_volume

LOG = logging.getLogger(__name__)

# What no look through the volumes' trash would find again: ids whose removal
# has begun, for without a header there is no mark left to read, and those in
# other pools.
_PURGING = 'volume_rbd.purging.'
# Who waits for another of this process looks up so often.
_PAUSE_S = 0.5

#: Removes the data of an entry of a trash.
RemoveData = Callable[[Pool, str, OnProgress | None], None]
#: Lets an entry of a trash be purged in the background.
Submit = Callable[[Pool, str], object]


@dataclasses.dataclass(frozen=True)
class Trashed:
    """:param has_clones: they still share its data."""

    image_id: str
    has_clones: bool


def _anything(_: Image) -> None:
    """No objection."""


class Remover:
    """:param pool: of the volumes; what was begun is written down there.
    :param submit: is given what a removal has set free.
    """

    def __init__(self, cluster: Cluster, pool: Pool, proofs: Proofs,
                 remove_data: RemoveData, submit: Submit) -> None:
        self._cluster = cluster
        self._pool = pool
        self._proofs = proofs
        self._remove_data = remove_data
        self._submit = submit
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    # -- into the trash ------------------------------------------------------
    def to_trash(self, name: str, *, delay_s: int = 0,
                 check: Callable[[Image], None] = _anything) -> Trashed:
        """Mark a volume and move it.

        :param check: is handed the volume, and may refuse.
        :raises ImageNotFound, ImageBusy:
        """
        with self._pool.open(name) as image:
            check(image)
            moved = Trashed(image.id, bool(image.snapshots())
                            and bool(image.children()))
            mark = lineage.get_lineage(image)
            delete_volume.mark_trashed(image)
        try:
            self._pool.trash_move(name, delay_s)
        except exception.VolumeRBDError:
            with contextlib.suppress(exception.VolumeRBDError):
                delete_volume.restore_mark(self._pool, name, moved.image_id,
                                           mark.state if mark else None)
            raise
        return moved

    # -- out of it -----------------------------------------------------------
    def purge(self, pool: Pool, image_id: str,
              progress: OnProgress | None = None) -> bool:
        """Remove an entry of the trash that is nobody's.

        :returns: whether it is gone.
        :raises ImageNotFound: it was gone already.
        """
        with self._alone(image_id, progress):
            entry = find_due(pool, image_id)
            if entry is None:
                with pool.open_by_id(image_id, read_only=True):
                    return self._leave(pool, image_id)  # kept, or restored
            with pool.open_by_id(image_id) as image:
                # It may have been restored and trashed by another meanwhile.
                if (not self._proofs.is_nobodys(pool, image, entry.name)
                        or not debris.drop_snapshots(image)):
                    return self._leave(pool, image_id)
                parent = image.parent
            self._remove_entry(pool, image_id, progress)
        LOG.info('Removed %s/%s from the trash', pool.name, entry.name)
        self.release(parent)
        return True

    def _leave(self, pool: Pool, image_id: str) -> bool:
        """:returns: False: it is not gone."""
        if pool.name != self._pool.name:
            self._pool.remove_metadata(_PURGING + image_id)
        return False

    @contextlib.contextmanager
    def _alone(self, image_id: str, progress: OnProgress | None
               ) -> Iterator[None]:
        """Who waits for a removal, and the background: one after the
        other."""
        with self._changed:
            while image_id in self._busy:
                self._changed.wait(_PAUSE_S)
                if progress is not None:
                    progress(0, 1)
            self._busy.add(image_id)
        try:
            yield
        finally:
            with self._changed:
                self._busy.remove(image_id)
                self._changed.notify_all()

    def _remove_entry(self, pool: Pool, image_id: str,
                      progress: OnProgress | None) -> None:
        self._pool.set_metadata(_PURGING + image_id, pool.name)
        try:
            self._remove_data(pool, image_id, progress)
        except exception.ImageNotFound:
            pass
        except exception.VolumeRBDError:
            with contextlib.suppress(exception.VolumeRBDError):
                if self._is_found_again(pool, image_id):
                    self._pool.remove_metadata(_PURGING + image_id)
            raise
        self._pool.remove_metadata(_PURGING + image_id)

    def _is_found_again(self, pool: Pool, image_id: str) -> bool:
        """By a look through the volumes' trash.

        :raises ImageNotFound: it has no header any more.
        """
        with pool.open_by_id(image_id, read_only=True):
            return pool.name == self._pool.name

    def finish_interrupted(self, is_running: Callable[[str], bool]) -> None:
        """Those removals that stopped when there was no header left, or in
        another pool. One that cannot be finished now keeps none of the others
        from it."""
        for key, name in self._pool.metadata().items():
            image_id = key.removeprefix(_PURGING)
            if not key.startswith(_PURGING) or is_running(image_id):
                continue
            try:
                self._finish(self._cluster.pool(name), image_id)
            except exception.VolumeRBDError as error:
                LOG.warning('The removal of %s in pool %s cannot be finished '
                            'now: %s', image_id, name, error)

    def _finish(self, pool: Pool, image_id: str) -> None:
        try:
            if not self._is_found_again(pool, image_id):
                self._submit(pool, image_id)
        except exception.ImageNotFound:
            # Its header goes after its data: there is little left to do.
            self._remove_entry(pool, image_id, None)
        except exception.PoolNotFound:
            LOG.warning('Pool %s is gone, and with it what was to be removed '
                        'there: %s', pool.name, image_id)
            self._pool.remove_metadata(_PURGING + image_id)

    # -- and its ancestors ---------------------------------------------------
    def release(self, parent: ParentInfo | None) -> None:
        """A child of *parent* is gone: what that has set free is removed in
        the background, and then its own parent is released."""
        if parent is None:
            return
        try:
            self._release(parent)
        except exception.VolumeRBDError as error:
            # The volume is gone, as was asked; the rest is found again.
            LOG.warning('An ancestor is not reclaimed now: %s', error)

    def _release(self, parent: ParentInfo) -> None:
        pool = self._cluster.pool(parent.pool)
        with pool.open_by_id(parent.image_id) as image:
            debris.drop_snapshot_of_a_clone(image, parent.snapshot_id)
            # Asked now: it may have been deleted since its child was.
            is_in_trash = pool.find_trashed(parent.image_id) is not None
            if is_in_trash:
                if (not find_due(pool, parent.image_id)
                        or not self._proofs.is_nobodys(
                            pool, image, parent.image)):
                    return
            elif (pool.name != self._pool.name
                    or not debris.is_deleted_by_stock(image)):
                return
            if not debris.drop_snapshots(image):
                return
            if not is_in_trash:
                delete_volume.mark_trashed(image)
                name = image.spec.name
        if not is_in_trash:
            pool.trash_move(name)
        if pool.name != self._pool.name:
            self._pool.set_metadata(_PURGING + parent.image_id, pool.name)
        LOG.info('%s/%s goes too: its last clone is gone', parent.pool,
                 parent.image)
        self._submit(pool, parent.image_id)
