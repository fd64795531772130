# SPDX-License-Identifier: Apache-2.0
"""The snapshots that flows take of the volumes they read."""

from __future__ import annotations

import contextlib

from volume_rbd import exception
from volume_rbd.ceph.interface import Image, Pool


def drop(pool: Pool, volume_name: str, name: str) -> None:
    """As :func:`drop_of`, also where the volume itself is gone."""
    with contextlib.suppress(exception.ImageNotFound,
                             exception.SnapshotNotFound), \
            pool.open(volume_name) as volume:
        drop_of(volume, name)


def drop_of(volume: Image, name: str) -> None:
    """Remove it if it is there; with a clone of format 1 it stays, protected,
    until that clone is flattened or gone."""
    found = volume.find_snapshot(name)
    if found is None:
        finish_removal(volume, name)
        return
    if found.is_protected:
        if volume.children(found.id):
            return
        volume.unprotect_snapshot(name)
    volume.remove_snapshot(name)


def finish_removal(volume: Image, name: str) -> None:
    """Remove what is left of a removal that was interrupted: librbd moves a
    snapshot to the trash namespace first, and then out of it."""
    for found in volume.snapshots():
        if (found.in_trash and found.name == name
                and not volume.children(found.id)):
            volume.remove_snapshot_by_id(found.id)
