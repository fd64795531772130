# SPDX-License-Identifier: Apache-2.0
"""A ceph_pool, and the rbd_images in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from volume_rbd import exception, model
from volume_rbd.ceph import (
    access,
    bindings,
    clone,
    errors,
    group,
    handle,
    header,
    layouts,
    mon,
    trash,
)
from volume_rbd.ceph.image import RBDImage
from volume_rbd.ceph.interface import (
    CLONE_FEATURES,
    CLUSTERS_LAYOUT,
    ImageSummary,
    PoolUsage,
    TrashEntry,
)
from volume_rbd.ceph.session import Session

if TYPE_CHECKING:
    from volume_rbd.ceph.connection import RadosCluster


class RBDPool:
    """A :class:`~volume_rbd.ceph.interface.Pool` over librbd."""

    def __init__(self, cluster: RadosCluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def _spec(self, image: str) -> model.ImageSpec:
        return model.ImageSpec(self._name, image)

    def _use(self) -> contextlib.AbstractContextManager[
            tuple[Session, Any]]:
        return self._cluster.use(self._name)

    @contextlib.contextmanager
    def _doing(self, what: str, image: str | None = None) -> Iterator[Any]:
        """The I/O context, with errors about *image* or the pool."""
        on = self._name if image is None else self._spec(image)
        with self._use() as (session, ioctx), session.translating(what, on):
            yield ioctx

    # -- the pool ----------------------------------------------------------
    def check(self) -> None:
        # A stat, for a real answer of an OSD: opening the pool is done by
        # the client alone and never denied.
        with self._doing('use the pool') as ioctx, contextlib.suppress(
                bindings.rados().ObjectNotFound):
            ioctx.stat('rbd_directory')

    def may_write(self) -> bool:
        # To remove what is not there takes the cap, and changes nothing.
        try:
            with self._doing('write to') as ioctx, contextlib.suppress(
                    bindings.rados().ObjectNotFound):
                ioctx.remove_object('volume_rbd.may-this-be-written')
        except exception.CephPermissionDenied:
            return False
        return True

    def images(self) -> list[ImageSummary]:
        with self._doing('list the rbd_images of') as ioctx:
            return [ImageSummary(name=found['name'], id=found['id'])
                    for found in bindings.rbd().RBD().list2(ioctx)]

    def has_image(self, name: str) -> bool:
        # librbd finds an image's id in this object: one round trip.
        with self._doing('look for', name) as ioctx:
            try:
                ioctx.stat(f'rbd_id.{name}')
            except bindings.rados().ObjectNotFound:
                return False
            return True

    def find_denied_pool(self, name: str) -> str | None:
        with self._cluster.session() as session:
            return access.find_denied_pool(session, self._spec(name))

    def sizes(self, image_ids: Iterable[str]) -> dict[str, int]:
        with self._doing('ask for the sizes of the rbd_images of') as ioctx:
            return header.sizes(ioctx, image_ids, self._name)

    def metadata(self) -> dict[str, str]:
        with self._doing('read the metadata of') as ioctx:
            try:
                return header.pool_metadata(ioctx)
            except bindings.rados().ObjectNotFound:
                return {}

    def set_metadata(self, key: str, value: str) -> None:
        with self._doing(f'set the metadata {key!r} of') as ioctx:
            bindings.rbd().RBD().pool_metadata_set(ioctx, key, value)

    def remove_metadata(self, key: str) -> None:
        # The bindings raise KeyError for a key that is not there.
        with self._doing(f'remove the metadata {key!r} of') as ioctx, \
                contextlib.suppress(KeyError):
            bindings.rbd().RBD().pool_metadata_remove(ioctx, key)

    def usage(self) -> PoolUsage:
        with self._cluster.session() as session:
            return mon.usage(session, self._name)

    # -- open --------------------------------------------------------------
    @contextlib.contextmanager
    def open(self, name: str, *, snapshot: str | None = None,
             read_only: bool = False) -> Iterator[RBDImage]:
        spec = self._spec(name)
        with self._use() as (session, ioctx):
            is_read_only = read_only or snapshot is not None
            with session.translating('open', spec):
                raw = bindings.rbd().Image(
                    ioctx, name, read_only=is_read_only)
            with _closing(session, ioctx, raw, spec):
                if snapshot is not None:
                    on = model.SnapSpec(self._name, name, snapshot)
                    with session.translating('open', on):
                        raw.set_snap(snapshot)
                yield RBDImage(
                    session, ioctx, raw, spec, is_read_only=is_read_only)

    @contextlib.contextmanager
    def open_by_id(self, image_id: str, *, snapshot_id: int | None = None,
                   read_only: bool = False) -> Iterator[RBDImage]:
        with self._use() as (session, ioctx):
            is_read_only = read_only or snapshot_id is not None
            with session.translating('open by id', self._spec(image_id)):
                raw = bindings.rbd().Image(
                    ioctx, image_id=image_id, read_only=is_read_only)
            with _closing(session, ioctx, raw, self._spec(image_id)):
                spec = self._spec(raw.get_name())
                if snapshot_id is not None:
                    on = model.SnapSpec(
                        self._name, spec.name, f'#{snapshot_id}')
                    with session.translating('open', on):
                        raw.set_snap_by_id(snapshot_id)
                yield RBDImage(
                    session, ioctx, raw, spec, is_read_only=is_read_only)

    # -- make and remove ---------------------------------------------------
    def create(self, name: str, size_bytes: int, *,
               features: int | None = None,
               layout: model.Layout = CLUSTERS_LAYOUT) -> None:
        if size_bytes < 0:
            raise exception.InvalidSize(
                f'{self._spec(name)} cannot have {size_bytes} bytes.')
        options = layouts.get_options(self._cluster, layout)
        with self._doing('create', name) as ioctx:
            bindings.rbd().RBD().create(
                ioctx, name, size_bytes, old_format=False, features=features,
                **options)

    def clone(self, parent: model.SnapSpec, name: str, *,
              features: int = CLONE_FEATURES,
              layout: model.Layout = CLUSTERS_LAYOUT) -> None:
        clone.clone(self._cluster, parent, self._spec(name), {
            'features': features,
            **layouts.get_options(self._cluster, layout)})

    def remove(self, name: str,
               on_progress: Callable[[int, int], None] | None = None
               ) -> None:
        with errors.reporting(on_progress) as callback, self._doing(
                'remove', name) as ioctx:
            bindings.rbd().RBD().remove(ioctx, name, on_progress=callback)

    def rename(self, name: str, new_name: str) -> None:
        with self._doing(f'give the name {new_name!r} to', name) as ioctx:
            bindings.rbd().RBD().rename(ioctx, name, new_name)

    # -- trash -------------------------------------------------------------
    def trash(self) -> list[TrashEntry]:
        with self._use() as (session, ioctx):
            return trash.entries(session, ioctx, self._name)

    def find_trashed(self, image_id: str) -> TrashEntry | None:
        with self._use() as (session, ioctx):
            return trash.find(session, ioctx, self._spec(image_id))

    def trash_move(self, name: str, delay_s: int = 0) -> None:
        with self._doing('move to the trash', name) as ioctx:
            bindings.rbd().RBD().trash_move(ioctx, name, delay_s)

    def trash_remove(self, image_id: str, *, force: bool = False,
                     on_progress: Callable[[int, int], None] | None = None
                     ) -> None:
        with self._use() as (session, ioctx), errors.reporting(
                on_progress) as callback:
            trash.remove(session, ioctx, self._spec(image_id), force=force,
                         callback=callback)

    def trash_restore(self, image_id: str, name: str) -> None:
        with self._doing(f'restore as {name!r} from the trash', image_id
                         ) as ioctx:
            bindings.rbd().RBD().trash_restore(ioctx, image_id, name)

    # -- groups ------------------------------------------------------------
    def groups(self) -> list[str]:
        with self._doing('list the groups of') as ioctx:
            return list(bindings.rbd().RBD().group_list(ioctx))

    def snapshot_group(self, group_name: str, images: Sequence[str]) -> None:
        with self._use() as (session, ioctx):
            group.snapshot(session, ioctx, model.ImageSpec(
                self._name, group_name), images)

    def remove_group(self, group_name: str) -> None:
        with self._use() as (session, ioctx):
            group.remove(session, ioctx, model.ImageSpec(
                self._name, group_name))


@contextlib.contextmanager
def _closing(session: Session, ioctx: Any, raw: Any, spec: model.ImageSpec
             ) -> Iterator[None]:
    try:
        yield
    except BaseException:
        # The first error says more than one of closing.
        with contextlib.suppress(exception.VolumeRBDError), \
                session.translating('close', spec):
            handle.close(ioctx, raw)
        raise
    with session.translating('close', spec):
        handle.close(ioctx, raw)
