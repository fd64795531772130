# SPDX-License-Identifier: Apache-2.0
"""An open rbd_image of the in-memory cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from tests.fakes import ceph_disk
from volume_rbd import exception, model
from volume_rbd.ceph import interface

if TYPE_CHECKING:
    from tests.fakes.ceph import FakeCluster

Progress = Callable[[int, int], None] | None

_NEED_LOCK = (interface.OBJECT_MAP | interface.FAST_DIFF
              | interface.JOURNALING)


class FakeCompletion:
    """Done when it is made; says so only when it is waited for."""

    def __init__(self, data: bytes | None,
                 error: exception.VolumeRBDError | None) -> None:
        self._data = data
        self._error = error

    def wait(self) -> bytes | None:
        if self._error is not None:
            raise self._error
        return self._data


class FakeImage:
    """Implements :class:`volume_rbd.ceph.interface.Image`."""

    def __init__(self, cluster: FakeCluster, disk: ceph_disk.Disk,
                 snap: ceph_disk.Snap | None, read_only: bool) -> None:
        self._cluster = cluster
        self._server = cluster.server
        self._lock = cluster.server.lock
        self._address = cluster.address
        self._disk = disk
        self._snap = snap
        self._read_only = read_only
        self._is_open = True
        if not read_only:
            disk.watchers.append(self._address)

    def close(self) -> None:
        with self._lock:
            self._is_open = False
            if not self._read_only and self._address in self._disk.watchers:
                self._disk.watchers.remove(self._address)

    # -- helpers -----------------------------------------------------------
    @property
    def _view(self) -> ceph_disk.View:
        return self._snap or self._disk

    def _begin(self, method: str, *, writes: bool = False) -> None:
        if not self._is_open:
            raise exception.InvalidInput(f'{self.spec} is closed.')
        self._server.begin(method, self._address)
        if writes and self._read_only:
            raise exception.NotSupported(
                f'Cannot {method} {self.spec}: it is read-only.')

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self._view.size:
            raise exception.InvalidSize(
                f'{length} bytes at {offset} are not within {self.spec}.')

    # -- facts -------------------------------------------------------------
    @property
    def spec(self) -> model.ImageSpec:
        return model.ImageSpec(self._disk.pool, self._name)

    @property
    def _name(self) -> str:
        trash = self._disk.trash
        return trash.name if trash else self._disk.name

    @property
    def id(self) -> str:
        return self._disk.id

    @property
    def size_bytes(self) -> int:
        return self._view.size

    @property
    def object_size_bytes(self) -> int:
        return self._disk.object_size

    @property
    def layout(self) -> model.Layout:
        return self._disk.layout

    @property
    def features(self) -> int:
        return self._disk.features

    @property
    def has_valid_object_map(self) -> bool:
        return bool(self._disk.features & interface.OBJECT_MAP
                    and not self._disk.has_invalid_object_map)

    @property
    def is_clone_v2(self) -> bool:
        return any(link.is_format_2 for link in self._disk.links())

    @property
    def parent(self) -> interface.ParentInfo | None:
        with self._lock:
            self._begin('parent')
            link = self._view.link
            if link is None:
                return None
            parent = link.parent
            return interface.ParentInfo(
                pool=parent.pool, image=parent.name, image_id=parent.id,
                snapshot=link.snapshot.name, snapshot_id=link.snapshot.id,
                in_trash=parent.trash is not None)

    # -- the whole ---------------------------------------------------------
    def resize(self, size_bytes: int, *, allow_shrink: bool = False) -> None:
        with self._lock:
            if size_bytes < 0 or (size_bytes < self._disk.size
                                  and not allow_shrink):
                raise exception.InvalidSize(
                    f'{self.spec} cannot be resized to {size_bytes} bytes.')
            self._begin('resize', writes=True)
            self._disk.resize(size_bytes)

    def flatten(self, on_progress: Progress = None) -> None:
        if self.parent is None:
            return
        with self._lock:
            self._begin('flatten', writes=True)
        if on_progress is not None:
            on_progress(0, 1)
        with self._lock:
            links = list(self._disk.links())
            ceph_disk.flatten(self._disk)
            if self._disk.features & interface.DEEP_FLATTEN:
                for snap in self._disk.snaps:
                    ceph_disk.flatten(snap)
            self._server.detached(self._cluster.user, links)

    def update_features(self, features: int, is_enabled: bool) -> None:
        with self._lock:
            self._begin('update_features', writes=True)
            disk = self._disk
            wanted = (disk.features | features if is_enabled
                      else disk.features & ~features)
            lacks_lock = not wanted & interface.EXCLUSIVE_LOCK
            new = wanted & ~disk.features
            if (lacks_lock and wanted & _NEED_LOCK) or (
                    new & interface.DEEP_FLATTEN):
                raise exception.InvalidInput(
                    f'{self.spec} cannot have the features {wanted}.')
            if new & interface.OBJECT_MAP:
                disk.has_invalid_object_map = True
            disk.features = wanted

    def rebuild_object_map(self) -> None:
        with self._lock:
            self._begin('rebuild_object_map', writes=True)
            self._disk.has_invalid_object_map = False

    # -- metadata ----------------------------------------------------------
    def metadata(self) -> Mapping[str, str]:
        with self._lock:
            self._begin('metadata')
            return dict(self._disk.metadata)

    def set_metadata(self, key: str, value: str) -> None:
        with self._lock:
            self._begin('set_metadata', writes=True)
            self._disk.metadata[key] = value

    def remove_metadata(self, key: str) -> None:
        with self._lock:
            self._begin('remove_metadata', writes=True)
            self._disk.metadata.pop(key, None)

    # -- snapshots ---------------------------------------------------------
    def snapshots(self) -> list[interface.SnapshotInfo]:
        with self._lock:
            self._begin('snapshots')
            return [interface.SnapshotInfo(
                snap.id, snap.name, snap.size, snap.is_protected,
                snap.in_trash) for snap in self._disk.user_snaps()]

    def group_snapshots(self) -> list[interface.GroupSnapshotInfo]:
        with self._lock:
            self._begin('group_snapshots')
            return [interface.GroupSnapshotInfo(
                snap.id, snap.size,
                snap.group if snap.group in self._server.groups else '')
                for snap in self._disk.snaps if snap.group is not None]

    def find_snapshot(self, name: str) -> interface.SnapshotInfo | None:
        return next((snap for snap in self.snapshots()
                     if snap.name == name and not snap.in_trash), None)

    def snapshot_time(self, snapshot_id: int) -> float:
        with self._lock:
            self._begin('snapshot_time')
            return self._disk.get_snap_by_id(snapshot_id).taken_at

    def create_snapshot(self, name: str) -> None:
        with self._lock:
            self._begin('create_snapshot', writes=True)
            if self.find_snapshot(name):
                raise exception.SnapshotExists(
                    f'{self.spec}@{name} exists.')
            disk = self._disk
            disk.snaps.append(ceph_disk.Snap(
                self._server.next_number(), name, disk.size,
                dict(disk.blocks), disk.link))

    def remove_snapshot(self, name: str) -> None:
        with self._lock:
            self._begin('remove_snapshot', writes=True)
            snap = self._disk.get_snap(name)
            links = self._server.links_to(snap)
            if snap.is_protected or any(
                    not link.is_format_2 for _, link in links):
                raise exception.SnapshotBusy(f'{self.spec}@{name} is busy.')
            if links:
                snap.in_trash = True
            else:
                self._drop(snap)

    def remove_snapshot_by_id(self, snapshot_id: int) -> None:
        with self._lock:
            self._begin('remove_snapshot_by_id', writes=True)
            snap = self._disk.get_snap_by_id(snapshot_id)
            if snap.is_protected or (
                    snap.in_trash and self._server.links_to(snap)):
                raise exception.SnapshotBusy(
                    f'{self.spec}@#{snapshot_id} is busy.')
            if self._server.links_to(snap):
                snap.in_trash = True
            else:
                self._drop(snap)

    def _drop(self, snap: ceph_disk.Snap) -> None:
        self._disk.snaps.remove(snap)
        if snap.link is not None:
            self._server.detached(self._cluster.user, [snap.link])

    def rename_snapshot(self, name: str, new_name: str) -> None:
        with self._lock:
            self._begin('rename_snapshot', writes=True)
            snap = self._disk.get_snap(name)
            if any(other.name == new_name and not other.in_trash
                   for other in self._disk.snaps):
                raise exception.SnapshotExists(
                    f'{self.spec}@{new_name} exists.')
            snap.name = new_name

    def protect_snapshot(self, name: str) -> None:
        with self._lock:
            self._begin('protect_snapshot', writes=True)
            self._disk.get_snap(name).is_protected = True

    def unprotect_snapshot(self, name: str) -> None:
        with self._lock:
            self._begin('unprotect_snapshot', writes=True)
            snap = self._disk.get_snap(name)
            if any(not link.is_format_2
                   for _, link in self._server.links_to(snap)):
                raise exception.SnapshotBusy(f'{self.spec}@{name} is busy.')
            snap.is_protected = False

    def rollback(self, name: str, on_progress: Progress = None) -> None:
        with self._lock:
            self._begin('rollback', writes=True)
            snap = self._disk.get_snap(name)
        if on_progress is not None:
            on_progress(0, 1)
        with self._lock:
            self._disk.size = snap.size
            self._disk.blocks = {
                number: ceph_disk.read_block(snap, number)
                for number in ceph_disk.block_numbers(snap)}
        if on_progress is not None:
            on_progress(1, 1)

    def children(self, snapshot_id: int | None = None
                 ) -> list[interface.ChildInfo]:
        with self._lock:
            self._begin('children')
            snaps = self._disk.snaps
            if snapshot_id is not None:
                snaps = [self._disk.get_snap_by_id(snapshot_id)]
            found = {disk.id: disk for snap in snaps
                     for disk, _ in self._server.links_to(snap)}
            for disk in found.values():
                self._cluster.check_caps(disk.pool, 'r')
            return [interface.ChildInfo(
                disk.pool, disk.name, disk.id, disk.trash is not None)
                for disk in found.values()]

    def watchers(self) -> list[str]:
        with self._lock:
            self._begin('watchers')
            found = list(self._disk.watchers)
            if not self._read_only:
                found.remove(self._address)
            return found

    def living_watchers(self) -> list[str]:
        return [each for each in self.watchers()
                if each not in self._server.blocklist]

    def fence_writer(self) -> bool:
        with self._lock:
            self._begin('fence_writer', writes=True)
            others = {address for address in self._disk.watchers
                      if address != self._address}
            self._server.blocklist |= others
            self._disk.watchers = [self._address]
            return bool(others)

    # -- bytes -------------------------------------------------------------
    def read(self, offset: int, length: int) -> bytes:
        with self._lock:
            self._check_range(offset, length)
            self._begin('read')
            return ceph_disk.read(self._view, offset, length)

    def write(self, data: bytes, offset: int) -> None:
        with self._lock:
            self._check_range(offset, len(data))
            self._begin('write', writes=True)
            self._disk.write(bytes(data), offset)

    def aio_read(self, offset: int, length: int) -> FakeCompletion:
        self._check_range(offset, length)
        return self._complete(lambda: self.read(offset, length))

    def aio_write(self, data: bytes, offset: int) -> FakeCompletion:
        self._check_range(offset, len(data))
        return self._complete(lambda: self.write(data, offset))

    def _complete(self, action: Callable[[], bytes | None]
                  ) -> FakeCompletion:
        try:
            return FakeCompletion(action(), None)
        except exception.VolumeRBDError as error:
            return FakeCompletion(None, error)

    def aio_write_zeroes(self, offset: int, length: int) -> FakeCompletion:
        self._check_range(offset, length)

        def write_zeroes() -> None:
            with self._lock:
                self._begin('write_zeroes', writes=True)
                self._disk.write_zeroes(offset, length)
        return self._complete(write_zeroes)

    def flush(self) -> None:
        with self._lock:
            self._begin('flush')

    def extents(self, offset: int = 0, length: int | None = None
                ) -> Iterator[model.Extent]:
        with self._lock:
            if length is None:
                length = max(self._view.size - offset, 0)
            self._check_range(offset, length)
            self._begin('extents')
            has_map = self._disk.features & interface.FAST_DIFF
            unit = self._disk.object_size if has_map else ceph_disk.BLOCK
            return iter(list(ceph_disk.extents(
                self._view, unit, offset, offset + length)))

    def changes(self, since: str) -> Iterator[model.Extent]:
        with self._lock:
            self._begin('changes')
            before = self._disk.get_snap(since)
            unit = self._disk.object_size
            numbers = {number * ceph_disk.BLOCK // unit for view in (
                before, self._view) for number in ceph_disk.block_numbers(
                    view) if ceph_disk.read_block(before, number)
                != ceph_disk.read_block(self._view, number)}
            has_data = {number * ceph_disk.BLOCK // unit
                        for number in ceph_disk.block_numbers(self._view)}
            size = self._view.size
            return iter([model.Extent(
                number * unit, min(unit, size - number * unit),
                number in has_data) for number in sorted(numbers)
                if number * unit < size])
