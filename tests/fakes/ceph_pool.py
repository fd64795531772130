# SPDX-License-Identifier: Apache-2.0
"""A ceph_pool of the in-memory cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tests.fakes.ceph_disk import Disk, Link, Snap
from tests.fakes.ceph_image import FakeImage
from volume_rbd import exception, model
from volume_rbd.ceph import interface

if TYPE_CHECKING:
    from tests.fakes.ceph import FakeCluster


class FakePool:
    """Implements :class:`volume_rbd.ceph.interface.Pool`."""

    def __init__(self, cluster: FakeCluster, name: str) -> None:
        self._cluster = cluster
        self._server = cluster.server
        self._lock = cluster.server.lock
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    # -- helpers -----------------------------------------------------------
    @contextlib.contextmanager
    def _doing(self, method: str, wanted: str = 'r') -> Iterator[None]:
        with self._lock:
            self._cluster.begin(method)
            self._cluster.check_caps(self._name, 'r')
            self._cluster.check_caps(self._name, wanted)
            yield

    def _disks(self, *, trashed: bool) -> list[Disk]:
        return [disk for disk in self._server.disks.values()
                if disk.pool == self._name
                and (disk.trash is not None) == trashed
                and not disk.is_half_removed]

    def _half_removed(self) -> list[Disk]:
        return [disk for disk in self._server.disks.values()
                if disk.pool == self._name and disk.is_half_removed]

    def _get(self, name: str) -> Disk:
        for disk in self._disks(trashed=False):
            if disk.name == name:
                return disk
        raise exception.ImageNotFound(
            f'There is no rbd_image {self._name}/{name}.')

    def _get_trashed(self, image_id: str) -> Disk:
        for disk in self._disks(trashed=True):
            if disk.id == image_id:
                return disk
        raise exception.ImageNotFound(
            f'There is no rbd_image {image_id} in the trash.')

    def _check_free(self, name: str) -> None:
        if self._has(name):
            raise exception.ImageExists(f'{self._name}/{name} exists.')

    # -- the pool ----------------------------------------------------------
    def check(self) -> None:
        with self._doing('check'):
            pass

    def may_write(self) -> bool:
        with self._doing('may_write'):
            return 'w' in self._server.caps[self._cluster.user][self._name]

    def images(self) -> list[interface.ImageSummary]:
        with self._doing('images'):
            return [interface.ImageSummary(disk.name, disk.id)
                    for disk in sorted(
                        self._disks(trashed=False) + self._half_removed(),
                        key=lambda disk: disk.name)]

    def has_image(self, name: str) -> bool:
        with self._doing('has_image'):
            return self._has(name)

    def _has(self, name: str) -> bool:
        return any(disk.name == name
                   for disk in self._disks(trashed=False))

    def find_denied_pool(self, name: str) -> str | None:
        with self._lock:
            self._cluster.begin('find_denied_pool')
            pool = self._name
            try:
                self._cluster.check_caps(pool, 'r')
                link = self._get(name).link
                while link is not None:
                    pool = link.parent.pool
                    self._cluster.check_caps(pool, 'r')
                    link = link.snapshot.link
            except exception.CephPermissionDenied:
                return pool
            return None

    def sizes(self, image_ids: Iterable[str]) -> dict[str, int]:
        with self._doing('sizes'):
            known = self._server.disks
            return {number: known[number].size for number in image_ids
                    if number in known
                    and known[number].pool == self._name}

    def metadata(self) -> dict[str, str]:
        with self._doing('pool_metadata'):
            return dict(self._server.pool_metadata.get(self._name, {}))

    def set_metadata(self, key: str, value: str) -> None:
        with self._doing('set_pool_metadata', 'w'):
            self._server.pool_metadata.setdefault(
                self._name, {})[key] = value

    def remove_metadata(self, key: str) -> None:
        with self._doing('remove_pool_metadata', 'w'):
            self._server.pool_metadata.get(self._name, {}).pop(key, None)

    def usage(self) -> interface.PoolUsage:
        # df is the monitors' to give; no caps on the pool are needed.
        with self._lock:
            self._cluster.begin('usage')
            if self._name not in self._server.pools:
                raise exception.PoolNotFound(
                    f'There is no pool {self._name}.')
            stored = {pool: 0 for pool in self._server.pools}
            for disk in self._server.disks.values():
                stored[disk.pool] += sum(map(len, disk.blocks.values()))
            free = self._server.capacity_bytes - sum(stored.values())
            quota = self._server.quotas.get(self._name)
            if quota is not None:
                free = min(free, max(quota - stored[self._name], 0))
            return interface.PoolUsage(stored[self._name], free, quota,
                                       self._server.capacity_bytes)

    # -- open --------------------------------------------------------------
    @contextlib.contextmanager
    def open(self, name: str, *, snapshot: str | None = None,
             read_only: bool = False) -> Iterator[FakeImage]:
        with self._doing('open'):
            disk = self._get(name)
            snap = None
            if snapshot is not None:
                snap = disk.get_snap(snapshot)
            image = self._open(disk, snap, read_only)
        with contextlib.closing(image):
            yield image

    @contextlib.contextmanager
    def open_by_id(self, image_id: str, *, snapshot_id: int | None = None,
                   read_only: bool = False) -> Iterator[FakeImage]:
        with self._doing('open'):
            disk = self._server.disks.get(image_id)
            if disk is None or disk.pool != self._name:
                raise exception.ImageNotFound(
                    f'There is no rbd_image {image_id} in {self._name}.')
            snap = None
            if snapshot_id is not None:
                snap = disk.get_snap_by_id(snapshot_id)
            image = self._open(disk, snap, read_only)
        with contextlib.closing(image):
            yield image

    def _open(self, disk: Disk, snap: Snap | None, read_only: bool
              ) -> FakeImage:
        read_only = read_only or snap is not None
        self._cluster.check_caps(self._name, 'r' if read_only else 'w')
        link = disk.link
        while link is not None:
            self._cluster.check_caps(link.parent.pool, 'r')
            link = link.snapshot.link
        return FakeImage(self._cluster, disk, snap, read_only)

    # -- make and remove ---------------------------------------------------
    def create(self, name: str, size_bytes: int, *,
               features: int | None = None,
               layout: model.Layout = interface.CLUSTERS_LAYOUT) -> None:
        if size_bytes < 0:
            raise exception.InvalidSize(
                f'{self._name}/{name} cannot have that size.')
        layout, special = self._settle(layout, model.DEFAULT_LAYOUT)
        with self._doing('create', 'w'):
            self._check_free(name)
            self._add(Disk(
                self._name, name, '', size_bytes, layout, special | (
                    interface.CLONE_FEATURES if features is None
                    else features)))

    def _settle(self, layout: model.Layout, otherwise: model.Layout
                ) -> tuple[model.Layout, int]:
        """:returns: the layout that comes of it, and the features that it
            brings along."""
        layout.check()
        if layout.object_size_bytes is None and not layout.stripe_count:
            layout = dataclasses.replace(otherwise,
                                         data_pool=layout.data_pool)
        size = layout.object_size_bytes or otherwise.object_size_bytes
        data_pool = layout.data_pool
        if data_pool and data_pool not in self._server.pools:
            raise exception.PoolNotFound(f'There is no pool {data_pool}.')
        if data_pool in (None, self._name):
            data_pool = None
        else:
            self._cluster.check_caps(data_pool, 'w')
        unit, count = layout.stripe_unit_bytes, layout.stripe_count
        if (unit, count) == (size, 1):
            unit = count = None
        return (model.Layout(size, unit, count, data_pool),
                (interface.STRIPINGV2 if unit else 0)
                | (interface.DATA_POOL if data_pool else 0))

    def _add(self, disk: Disk) -> None:
        disk.id = f'{self._server.next_number():012x}'
        self._server.disks[disk.id] = disk

    def clone(self, parent: model.SnapSpec, name: str, *,
              features: int = interface.CLONE_FEATURES,
              layout: model.Layout = interface.CLUSTERS_LAYOUT) -> None:
        with self._doing('clone', 'w'):
            self._cluster.check_caps(parent.pool, 'r')
            pool = FakePool(self._cluster, parent.pool)
            source = pool._get(parent.image)
            snap = source.get_snap(parent.snapshot)
            self._check_free(name)
            if not features & source.features & interface.LAYERING:
                raise exception.NotCloneable(
                    f'{parent} cannot be cloned.', reason='clone_failed')
            is_format_2 = self._cluster.clone_format == 2
            if not is_format_2:
                self._cluster.check_caps(parent.pool, 'w')
                snap.is_protected = True
            layout, special = self._settle(layout, source.layout)
            self._add(Disk(
                self._name, name, '', snap.size, layout,
                features | special, metadata=dict(source.metadata),
                link=Link(source, snap, snap.size, is_format_2)))

    def remove(self, name: str,
               on_progress: Callable[[int, int], None] | None = None
               ) -> None:
        with self._doing('remove', 'w'):
            disk = self._get_removable(name)
            disk.is_half_removed = True
        if on_progress is not None:
            on_progress(0, 1)
        with self._lock:
            self._drop(disk)

    def _get_removable(self, name: str) -> Disk:
        half_removed = [disk for disk in self._half_removed()
                        if disk.name == name]
        if half_removed and not self._has(name):
            return half_removed[0]
        disk = self._get(name)
        self._check_removable(disk)
        return disk

    def _check_removable(self, disk: Disk) -> None:
        if disk.snaps:
            raise exception.ImageHasSnapshots(f'{disk.name} has snapshots.')
        if disk.watchers:
            raise exception.ImageBusy(f'{disk.name} is open elsewhere.')

    def _drop(self, disk: Disk) -> None:
        del self._server.disks[disk.id]
        self._server.detached(self._cluster.user, list(disk.links()))

    def rename(self, name: str, new_name: str) -> None:
        with self._doing('rename', 'w'):
            disk = self._get(name)
            self._check_free(new_name)
            disk.name = new_name

    # -- trash -------------------------------------------------------------
    def trash(self) -> list[interface.TrashEntry]:
        with self._doing('trash'):
            return [disk.trash for disk in self._disks(trashed=True)
                    if disk.trash is not None]

    def find_trashed(self, image_id: str) -> interface.TrashEntry | None:
        with self._doing('find_trashed'):
            return next((disk.trash for disk in self._disks(trashed=True)
                         if disk.id == image_id), None)

    def trash_move(self, name: str, delay_s: int = 0) -> None:
        with self._doing('trash_move', 'w'):
            disk = self._get(name)
            now = time.time()
            disk.trash = interface.TrashEntry(
                disk.id, name, now, now + delay_s)

    def trash_remove(self, image_id: str, *, force: bool = False,
                     on_progress: Callable[[int, int], None] | None = None
                     ) -> None:
        with self._doing('trash_remove', 'w'):
            self._get_trashed(image_id)
        if on_progress is not None:
            on_progress(0, 1)
        with self._lock:
            disk = self._get_trashed(image_id)
            assert disk.trash is not None
            if disk.trash.deferred_until > time.time() and not force:
                raise exception.Conflict(f'{image_id} is kept for a while.')
            self._check_removable(disk)
            self._drop(disk)

    def trash_restore(self, image_id: str, name: str) -> None:
        with self._doing('trash_restore', 'w'):
            disk = self._get_trashed(image_id)
            self._check_free(name)
            disk.name, disk.trash = name, None

    # -- groups ------------------------------------------------------------
    def groups(self) -> list[str]:
        with self._doing('groups'):
            return sorted(group for group, pool in self._server.groups.items()
                          if pool == self._name)

    def snapshot_group(self, group_name: str, images: Sequence[str]) -> None:
        with self._doing('snapshot_group', 'w'):
            if group_name in self._server.groups:
                raise exception.Conflict(
                    f'There is an RBD group {group_name} already.')
            disks = [self._get(name) for name in images]
            self._server.groups[group_name] = self._name
            for disk in disks:
                number = self._server.next_number()
                disk.snaps.append(Snap(
                    number, f'.group.{number}', disk.size, dict(disk.blocks),
                    disk.link, group=group_name))

    def remove_group(self, group_name: str) -> None:
        with self._doing('remove_group', 'w'):
            self._server.groups.pop(group_name, None)
