# SPDX-License-Identifier: Apache-2.0
"""Clones: how one is made, and who descends from whom."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from volume_rbd import exception, model
from volume_rbd.ceph import bindings, handle, header, snapshot, trash
from volume_rbd.ceph.interface import ChildInfo, ParentInfo
from volume_rbd.ceph.session import Session

if TYPE_CHECKING:
    from volume_rbd.ceph.connection import RadosCluster

_DETACHED_WITHIN_S = 5.0
_PAUSE_S = 0.05
_REFUSALS = (exception.InvalidInput, exception.NotSupported)


def clone(cluster: RadosCluster, parent: model.SnapSpec,
          child: model.ImageSpec, options: Mapping[str, Any]) -> None:
    """Clone, in format 2 if it can be.

    :param options: features and layout, as librbd takes them.
    """
    try:
        _clone(cluster, parent, child, options)
    except _REFUSALS:
        # "auto" of an old cluster, or the pool's own setting, chose format
        # 1, which wants protection; or the OSDs do not know format 2.
        _clone_format_1(cluster, parent, child, options)


def _clone(cluster: RadosCluster, parent: model.SnapSpec,
           child: model.ImageSpec, options: Mapping[str, Any]) -> None:
    with cluster.use(child.pool) as (session, ioctx):
        parent_ioctx = session.ioctx(parent.pool)
        with session.translating(f'make the clone {child} of', parent):
            try:
                bindings.rbd().RBD().clone(
                    parent_ioctx, parent.image, parent.snapshot,
                    ioctx, child.name, **options)
            except bindings.rbd().ImageExists:
                raise exception.ImageExists(
                    f'Cannot clone {parent}: {child} exists.') from None
            except bindings.rbd().ImageNotFound:
                _require_image(parent_ioctx, parent)
                raise


def _require_image(ioctx: Any, parent: model.SnapSpec) -> None:
    try:
        with handle.opened(ioctx, parent.image, read_only=True):
            pass
    except bindings.rbd().ImageNotFound:
        raise exception.ImageNotFound(
            f'Cannot clone {parent}: there is no rbd_image '
            f'{parent.image_spec}.') from None


def _clone_format_1(cluster: RadosCluster, parent: model.SnapSpec,
                    child: model.ImageSpec, options: Mapping[str, Any]
                    ) -> None:
    pool = cluster.pool(parent.pool)
    with pool.open(parent.image) as image:
        found = image.find_snapshot(parent.snapshot)
        if found is None:
            raise exception.SnapshotNotFound(
                f'Cannot clone {parent}: there is no such snapshot.')
        try:
            image.protect_snapshot(parent.snapshot)
            with cluster.in_clone_format_1() as other:
                _clone(other, parent, child, options)
        except exception.VolumeRBDError as error:
            if not found.is_protected:
                image.unprotect_snapshot(parent.snapshot)
            if isinstance(error, _REFUSALS):
                raise exception.NotCloneable(
                    f'{parent} cannot be cloned to {child}, in no format: '
                    f'{error.message}', reason='clone_failed') from error
            raise


def is_format_2(image: Any) -> bool:
    """Whether the open librbd *image* is a clone of format 2."""
    child = bindings.rbd().RBD_OPERATION_FEATURE_CLONE_CHILD
    return bool(image.op_features() & child)


# -- who descends from whom ------------------------------------------------
def parent(session: Session, ioctx: Any, image: Any) -> ParentInfo | None:
    """The parent of the open librbd *image*.

    Inside ``translating``.
    """
    rbd = bindings.rbd()
    try:
        names = image.get_parent_image_spec()
    except rbd.ImageNotFound:
        return None
    pool = names['pool_name']
    parent_ioctx = session.ioctx(pool)
    found = header.parent(ioctx, image.id())
    if found is None:  # flattened in this moment
        return None
    image_id, snapshot_id = found.image_id, found.snapshot_id
    try:
        snapshot_name = _snapshot_name(parent_ioctx, image_id, snapshot_id)
    except rbd.ImageNotFound:
        if _is_flattened_soon(ioctx, image.id()):
            return None
        raise
    entry = trash.find(
        session, parent_ioctx, model.ImageSpec(pool, image_id))
    return ParentInfo(
        pool=pool, image=names['image_name'], image_id=image_id,
        snapshot=snapshot_name, snapshot_id=snapshot_id,
        in_trash=entry is not None)


def _is_flattened_soon(ioctx: Any, image_id: str) -> bool:
    """A flatten lets the parent's snapshot go before the clone's own header
    forgets it; the monitors are asked in between (librbd 16.2)."""
    deadline = time.monotonic() + _DETACHED_WITHIN_S
    while header.parent(ioctx, image_id) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _snapshot_name(ioctx: Any, image_id: str, snapshot_id: int) -> str:
    # What the child knows is the random name of the trash namespace, or the
    # first one, depending on when it was opened.
    with handle.opened(
            ioctx, image_id=image_id, read_only=True) as image:
        for found in snapshot.snapshots(image):
            if found.id == snapshot_id:
                return found.name
        name: str = image.snap_get_name(snapshot_id)
        return name


def children(image: Any) -> list[ChildInfo]:
    """Of the snapshot *image* is at, or of all of them."""
    return [ChildInfo(pool=child['pool'], image=child['image'],
                      image_id=child['id'], in_trash=child['trash'])
            for child in image.list_children2()]
