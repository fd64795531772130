# SPDX-License-Identifier: Apache-2.0
"""How an rbd_image goes: into the trash, out of it, and with it the ancestors
that it alone had kept alive."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Cluster, Image, ParentInfo, Pool
from volume_rbd.driver import debris
from volume_rbd.driver.budget import OnProgress
from volume_rbd.driver.reclaim.proofs import Proofs, find_due
from volume_rbd.flows import delete_volume

LOG = logging.getLogger(__name__)

# Ids whose removal has begun: without a header there is no mark left to read.
_PURGING = 'volume_rbd.purging.'

#: Removes the data of an entry of a trash.
RemoveData = Callable[[Pool, str, OnProgress | None], None]


@dataclasses.dataclass(frozen=True)
class Trashed:
    """:param has_clones: they still share its data."""

    image_id: str
    has_clones: bool


def _anything(_: Image) -> None:
    """No objection."""


class Remover:
    """:param pool: of the volumes; what was begun is written down there."""

    def __init__(self, cluster: Cluster, pool: Pool, proofs: Proofs,
                 remove_data: RemoveData) -> None:
        self._cluster = cluster
        self._pool = pool
        self._proofs = proofs
        self._remove_data = remove_data

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
        entry = find_due(pool, image_id)
        if entry is None:
            with pool.open_by_id(image_id, read_only=True):
                return False  # it is kept, or was restored
        with pool.open_by_id(image_id) as image:
            # It may have been restored and trashed by another meanwhile.
            if (not self._proofs.is_nobodys(pool, image, entry.name)
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
            self._remove_data(pool, image_id, progress)
        except exception.ImageNotFound:
            pass
        except exception.VolumeRBDError:
            with contextlib.suppress(exception.VolumeRBDError):
                self._pool.remove_metadata(_PURGING + image_id)
            raise
        self._pool.remove_metadata(_PURGING + image_id)

    def finish_interrupted(self, is_running: Callable[[str], bool]) -> None:
        """Those removals that stopped when there was no header left."""
        for key, name in self._pool.metadata().items():
            if not key.startswith(_PURGING):
                continue
            image_id = key.removeprefix(_PURGING)
            if is_running(image_id):
                continue
            pool = self._cluster.pool(name)
            try:
                with pool.open_by_id(image_id, read_only=True):
                    continue  # its mark is still there to be read
            except exception.ImageNotFound:
                self._remove_entry(pool, image_id, None)

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
                if (not find_due(pool, parent.image_id)
                        or not self._proofs.is_nobodys(
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
