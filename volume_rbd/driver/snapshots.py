# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes."""

from __future__ import annotations

from volume_rbd import exception, model, opts
from volume_rbd.ceph.interface import Cluster, SnapshotInfo
from volume_rbd.driver.reclaim import is_own_snapshot


class Snapshots:
    """The snapshots of one backend's volumes."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster) -> None:
        self._pool = cluster.pool(config.pool)

    def create(self, volume: str, name: str) -> None:
        """:raises ImageNotFound, SnapshotExists, InvalidName:"""
        model.check_name(name, 'snapshot')
        if is_own_snapshot(name):
            raise exception.InvalidName(
                f'{name!r} begins like the snapshots that this driver takes '
                'itself.', remedy='Choose another name.')
        with self._pool.open(volume) as image:
            image.create_snapshot(name)

    def list(self, volume: str) -> list[SnapshotInfo]:
        """Those of the volume's owner; not what was removed and still has
        clones.

        :raises ImageNotFound:
        """
        with self._pool.open(volume, read_only=True) as image:
            return [found for found in image.snapshots()
                    if not found.in_trash]

    def delete(self, volume: str, name: str) -> None:
        """Clones of it go on living (clone v2).

        :raises ImageNotFound, SnapshotNotFound:
        :raises SnapshotBusy: it has clones of format 1.
        """
        with self._pool.open(volume) as image:
            found = image.find_snapshot(name)
            if found is None:
                raise exception.SnapshotNotFound(
                    f'Volume {volume!r} has no snapshot {name!r}.')
            if found.is_protected:
                image.unprotect_snapshot(name)
            image.remove_snapshot(name)

    def revert(self, volume: str, name: str) -> None:
        """Make the volume what it was at the snapshot, its size too.

        :raises ImageNotFound, SnapshotNotFound:
        :raises ImageBusy: somebody has the volume open.
        """
        with self._pool.open(volume) as image:
            if image.find_snapshot(name) is None:
                raise exception.SnapshotNotFound(
                    f'Volume {volume!r} has no snapshot {name!r}.')
            watchers = image.watchers()
            if watchers:
                raise exception.ImageBusy(
                    f'Volume {volume!r} is open at {", ".join(watchers)}; a '
                    'revert would change it under its user.')
            image.rollback(name)
