# SPDX-License-Identifier: Apache-2.0
"""An open rbd_image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from volume_rbd import exception, model
from volume_rbd.ceph import (
    aio,
    bindings,
    clone,
    errors,
    handle,
    header,
    interface,
    layouts,
    mon,
    object_map,
    snapshot,
)
from volume_rbd.ceph import extents as extents_
from volume_rbd.ceph.interface import (
    AioCompletion,
    ChildInfo,
    GroupSnapshotInfo,
    ParentInfo,
    SnapshotInfo,
)
from volume_rbd.ceph.session import Session

_FEATURES = (interface.CLONE_FEATURES | interface.STRIPINGV2
             | interface.JOURNALING | interface.DATA_POOL)

Progress = Callable[[int, int], None] | None


class RBDImage:
    """An :class:`~volume_rbd.ceph.interface.Image` over librbd."""

    def __init__(self, session: Session, ioctx: Any, raw: Any,
                 spec: model.ImageSpec, *, is_read_only: bool) -> None:
        self._session = session
        self._ioctx = ioctx
        self._raw = raw
        self._spec = spec
        self._is_read_only = is_read_only
        with self._doing('ask for the id of'):
            self._id: str = raw.id()

    def _doing(self, what: str, snapshot: str | None = None
               ) -> contextlib.AbstractContextManager[None]:
        on: errors.Subject = self._spec
        if snapshot is not None:
            on = model.SnapSpec(self._spec.pool, self._spec.name, snapshot)
        return self._session.translating(what, on)

    # -- facts -------------------------------------------------------------
    @property
    def spec(self) -> model.ImageSpec:
        return self._spec

    @property
    def id(self) -> str:
        return self._id

    @property
    def size_bytes(self) -> int:
        with self._doing('ask for the size of'):
            size: int = self._raw.size()
            return size

    @property
    def object_size_bytes(self) -> int:
        with self._doing('ask for the object size of'):
            size: int = self._raw.stat()['obj_size']
            return size

    @property
    def layout(self) -> model.Layout:
        with self._doing('ask for the layout of'):
            return layouts.of_image(self._session, self._ioctx, self._raw)

    @property
    def features(self) -> int:
        with self._doing('ask for the features of'):
            features: int = self._raw.features()
        # Those librbd sets itself (operations of clones and of trashed
        # snapshots, migration) cannot be asked for.
        return features & _FEATURES

    @property
    def has_valid_object_map(self) -> bool:
        with self._doing('ask for the flags of'):
            return object_map.is_valid(self._raw)

    @property
    def is_clone_v2(self) -> bool:
        with self._doing('ask for the clone format of'):
            return clone.is_format_2(self._raw)

    @property
    def parent(self) -> ParentInfo | None:
        with self._doing('ask for the parent of'):
            return clone.parent(self._session, self._ioctx, self._raw)

    # -- the whole ---------------------------------------------------------
    def resize(self, size_bytes: int, *, allow_shrink: bool = False) -> None:
        if size_bytes < 0:
            raise exception.InvalidSize(
                f'{self._spec} cannot have {size_bytes} bytes.')
        if size_bytes < self.size_bytes and not allow_shrink:
            raise exception.InvalidSize(
                f'{self._spec} has {self.size_bytes} bytes; to shrink it to '
                f'{size_bytes} would lose data.')
        with self._doing(f'resize to {size_bytes} bytes'):
            self._raw.resize(size_bytes, allow_shrink)

    def flatten(self, on_progress: Progress = None) -> None:
        if self.parent is None:
            return
        with errors.reporting(on_progress) as callback, self._doing(
                'flatten'):
            self._raw.flatten(on_progress=callback)

    def update_features(self, features: int, is_enabled: bool) -> None:
        # librbd refuses to do what is done already.
        has = self.features
        wanted = features & (~has if is_enabled else has)
        if wanted:
            turn = 'on' if is_enabled else 'off'
            with self._doing(f'turn the features {wanted} {turn} on'):
                self._raw.update_features(wanted, is_enabled)

    def rebuild_object_map(self) -> None:
        # A second handle: this one stays at where it is.
        with self._doing('rebuild the object map of'), handle.opened(
                self._ioctx, image_id=self._id) as raw:
            object_map.rebuild(raw)

    # -- metadata ----------------------------------------------------------
    def metadata(self) -> dict[str, str]:
        with self._doing('read the metadata of'):
            return header.metadata(self._ioctx, self._id)

    def set_metadata(self, key: str, value: str) -> None:
        with self._doing(f'set the metadata {key!r} of'):
            self._raw.metadata_set(key, value)

    def remove_metadata(self, key: str) -> None:
        # The bindings raise KeyError for a key that is not there.
        with self._doing(f'remove the metadata {key!r} of'), \
                contextlib.suppress(KeyError):
            self._raw.metadata_remove(key)

    # -- snapshots ---------------------------------------------------------
    def snapshots(self) -> list[SnapshotInfo]:
        with self._doing('list the snapshots of'):
            return snapshot.snapshots(self._raw)

    def find_snapshot(self, name: str) -> SnapshotInfo | None:
        for found in self.snapshots():
            if found.name == name and not found.in_trash:
                return found
        return None

    def snapshot_time(self, snapshot_id: int) -> float:
        with self._doing('ask for the time of', f'#{snapshot_id}'):
            return header.snapshot_time(self._ioctx, self._id, snapshot_id)

    def create_snapshot(self, name: str) -> None:
        with self._doing('create the snapshot', name):
            self._raw.create_snap(name)

    def remove_snapshot(self, name: str) -> None:
        with self._doing('remove the snapshot', name):
            self._raw.remove_snap(name)

    def remove_snapshot_by_id(self, snapshot_id: int) -> None:
        with self._doing('remove the snapshot', f'#{snapshot_id}'):
            self._raw.remove_snap_by_id(snapshot_id)

    def group_snapshots(self) -> list[GroupSnapshotInfo]:
        with self._doing('list the group snapshots of'):
            return snapshot.group_snapshots(self._raw)

    def rename_snapshot(self, name: str, new_name: str) -> None:
        with self._doing(f'give the name {new_name!r} to', name):
            self._raw.rename_snap(name, new_name)

    def protect_snapshot(self, name: str) -> None:
        with self._doing('protect the snapshot', name):
            snapshot.protect(self._raw, name)

    def unprotect_snapshot(self, name: str) -> None:
        with self._doing('unprotect the snapshot', name):
            snapshot.unprotect(self._raw, name)

    def rollback(self, name: str, on_progress: Progress = None) -> None:
        with errors.reporting(on_progress) as callback, self._doing(
                'roll back to', name):
            # librbd has it with progress, the bindings do not: two calls,
            # so that a caller is told, and can refuse before it begins.
            if callback is not None and callback(0, 1) < 0:
                return
            self._raw.rollback_to_snap(name)
            if callback is not None:
                callback(1, 1)

    def children(self, snapshot_id: int | None = None) -> list[ChildInfo]:
        what = 'list the children of'
        if snapshot_id is None:
            with self._doing(what):
                return clone.children(self._raw)
        # A second handle: this one may have operations in flight.
        with self._doing(what, f'#{snapshot_id}'), handle.opened(
                self._ioctx, image_id=self._id, read_only=True) as raw:
            raw.set_snap_by_id(snapshot_id)
            return clone.children(raw)

    def watchers(self) -> list[str]:
        with self._doing('list the watchers of'):
            found = list(self._raw.watchers_list())
            ours = self._session.handle.get_instance_id()
        if not self._is_read_only:
            # One watch is this handle's. Another one of this connection is
            # another thread's, and as much in the way as anybody's.
            for watcher in found:
                if watcher['id'] == ours:
                    found.remove(watcher)
                    break
        return [str(watcher['addr']) for watcher in found]

    def living_watchers(self) -> list[str]:
        # Who was killed and shut out just as it opened the rbd_image stays on
        # record as a watcher, for good (tried: 16.2, one in forty kills): its
        # watch has no end, as no OSD knows of it any more.
        addresses = self.watchers()
        if not addresses:
            return []
        try:
            with self._doing('look who is shut out from'):
                shut_out = mon.blocklisted(self._session)
        except exception.CephPermissionDenied:
            return addresses
        return [each for each in addresses if each not in shut_out]

    def fence_writer(self) -> bool:
        with self._doing('fence the writer of'):
            if self._raw.is_exclusive_lock_owner():
                return False
            owners = list(self._raw.lock_get_owners())
            for owner in owners:
                self._raw.lock_break(bindings.rbd().RBD_LOCK_MODE_EXCLUSIVE,
                                     owner['owner'])
            return bool(owners)

    # -- bytes -------------------------------------------------------------
    def _check_range(self, offset: int, length: int) -> None:
        size = self.size_bytes
        if offset < 0 or length < 0 or offset + length > size:
            raise exception.InvalidSize(
                f'{length} bytes at {offset} are not within the {size} bytes '
                f'of {self._spec}.')

    def read(self, offset: int, length: int) -> bytes:
        self._check_range(offset, length)
        with self._doing('read'):
            data: bytes = self._raw.read(offset, length)
        if len(data) != length:
            raise exception.VolumeRBDError(
                f'Cannot read {self._spec}: {len(data)} bytes came instead '
                f'of {length}.')
        return data

    def write(self, data: bytes, offset: int) -> None:
        self._check_range(offset, len(data))
        with self._doing('write to'):
            self._raw.write(data, offset)

    def aio_read(self, offset: int, length: int) -> AioCompletion:
        self._check_range(offset, length)
        return aio.Read(
            self._session, self._spec, self._raw, offset, length)

    def aio_write(self, data: bytes, offset: int) -> AioCompletion:
        self._check_range(offset, len(data))
        return aio.Write(
            self._session, self._spec, self._raw, data, offset)

    def aio_write_zeroes(self, offset: int, length: int) -> AioCompletion:
        self._check_range(offset, length)
        return aio.WriteZeroes(
            self._session, self._spec, self._raw, offset, length)

    def flush(self) -> None:
        with self._doing('flush'):
            self._raw.flush()

    def extents(self, offset: int = 0, length: int | None = None
                ) -> Iterator[model.Extent]:
        if length is None:
            length = max(self.size_bytes - offset, 0)
        self._check_range(offset, length)
        return self._extents(offset, length)

    def changes(self, since: str) -> Iterator[model.Extent]:
        return self._listed(extents_.changes(self._raw, since), since)

    def _extents(self, offset: int, length: int) -> Iterator[model.Extent]:
        return self._listed(extents_.extents(self._raw, offset, length))

    def _listed(self, found: Iterator[model.Extent],
                since: str | None = None) -> Iterator[model.Extent]:
        while True:
            # Not around the yield: what the caller does is not translated.
            with self._doing('list the extents of', since):
                extent = next(found, None)
            if extent is None:
                return
            yield extent
