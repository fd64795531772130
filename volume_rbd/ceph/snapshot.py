# SPDX-License-Identifier: Apache-2.0
"""Snapshots of an open librbd image."""

from __future__ import annotations

from typing import Any

from volume_rbd.ceph import bindings
from volume_rbd.ceph.interface import GroupSnapshotInfo, SnapshotInfo


def snapshots(image: Any) -> list[SnapshotInfo]:
    """User snapshots and those in the trash namespace, oldest first.

    Those of groups and of mirroring belong to somebody else.
    """
    found = (_info(image, raw) for raw in image.list_snaps())
    return sorted((info for info in found if info is not None),
                  key=lambda info: info.id)


def _info(image: Any, raw: dict[str, Any]) -> SnapshotInfo | None:
    rbd = bindings.rbd()
    if raw['namespace'] == rbd.RBD_SNAP_NAMESPACE_TYPE_USER:
        return SnapshotInfo(
            raw['id'], raw['name'], raw['size'],
            is_protected=image.is_protected_snap(raw['name']))
    if raw['namespace'] == rbd.RBD_SNAP_NAMESPACE_TYPE_TRASH:
        # Its name is a random one now.
        return SnapshotInfo(raw['id'], raw['trash']['original_name'],
                            raw['size'], in_trash=True)
    return None


def group_snapshots(image: Any) -> list[GroupSnapshotInfo]:
    """An image's parts in snapshots of groups, oldest first."""
    group_namespace = bindings.rbd().RBD_SNAP_NAMESPACE_TYPE_GROUP
    found = (GroupSnapshotInfo(
        raw['id'], raw['size'], (raw.get('group') or {}).get('name', ''))
        for raw in image.list_snaps() if raw['namespace'] == group_namespace)
    return sorted(found, key=lambda info: info.id)


def protect(image: Any, name: str) -> None:
    # librbd says EBUSY for one that is protected already.
    if not image.is_protected_snap(name):
        image.protect_snap(name)


def unprotect(image: Any, name: str) -> None:
    if image.is_protected_snap(name):
        image.unprotect_snap(name)
