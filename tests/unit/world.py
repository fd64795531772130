# SPDX-License-Identifier: Apache-2.0
"""A whole cloud in memory: a cluster, a Glance that keeps its images in it,
and a backend; with everything that can be seen of it in one value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from tests.fakes import ceph_disk
from tests.fakes.ceph import FakeCeph
from tests.fakes.glance import FILE, FakeGlance, GlanceServer
from tests.fakes.glance_server import Record
from tests.fakes.qemu_img import FakeQemuImg
from volume_rbd import exception, model, opts, progress
from volume_rbd.ceph import lineage
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest

MIB = model.MIB
SIZE = MIB
SOON_S = 0.05
VOLUME = 'volume-1'
SOURCE = model.VolumeSpec(VOLUME)


class TracedCeph(FakeCeph):
    """Remembers what the driver's user calls, and can break one call.

    :ivar calls: the methods, in order.
    :ivar break_at: number of the call that raises *error*.
    :ivar hooks: address of a client to what is told of its calls before they
        are done.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[str] = []
        self.traced: set[str] = set()
        self.breaks: dict[int, BaseException] = {}
        self.hooks: dict[str, Callable[[str], None]] = {}

    def begin(self, method: str, address: str) -> None:
        if address in self.hooks:
            self.hooks[address](method)
        super().begin(method, address)
        if address in self.traced:
            number = len(self.calls)
            self.calls.append(method)
            if number in self.breaks:
                raise self.breaks[number]


class StoringServer(GlanceServer):
    """Keeps its images in the cluster, as client.glance.

    :ivar calls: what was asked of it, in order.
    :ivar hook: is told of each call before it is done.
    :ivar deletes_refused: what it removes of a location that it cannot
        open: '' (nothing), 'snapshot' or 'image'.
    """

    def __init__(self, ceph: FakeCeph, **knobs: Any) -> None:
        self.ceph = ceph
        self.cluster = ceph.cluster('glance')
        store = model.StoreInfo('rbd', 'rbd', is_default=True, pool='images',
                                fsid=ceph.fsid, chunk_size_bytes=8 * MIB)
        knobs.setdefault('stores', (store, FILE))
        super().__init__(can_open=self._size_of, read_url=self._read,
                         **knobs)
        self.calls: list[str] = []
        self.breaks: dict[int, BaseException] = {}
        self.deletes_refused = ''
        self.hook: Callable[[str], None] = lambda method: None

    def find_store(self, store_id: str | None) -> model.StoreInfo:
        """Glance knows its default store also where it does not tell."""
        if store_id is None and not any(
                store.is_default for store in self.stores.values()):
            return next(iter(self.stores.values()))
        return super().find_store(store_id)

    def activate(self, record: Record, url: str) -> bool:
        is_active = super().activate(record, url)
        if not is_active and self.deletes_refused:
            place = model.RBDLocation.from_url(url)
            pool = self.ceph.cluster('admin').pool(place.pool)
            with pool.open(place.image) as image:
                image.unprotect_snapshot(place.snapshot)
                image.remove_snapshot(place.snapshot)
            if self.deletes_refused == 'image':
                pool.remove(place.image)
        return is_active

    def check(self, method: str) -> None:
        self.hook(method)
        with self.lock:
            number = len(self.calls)
            self.calls.append(method)
        super().check(method)
        if number in self.breaks:
            raise self.breaks[number]

    def _size_of(self, url: str) -> int | None:
        try:
            with self._open(url) as image:
                return image.size_bytes
        except exception.VolumeRBDError:
            return None

    def _read(self, url: str) -> bytes:
        with self._open(url) as image:
            return image.read(0, image.size_bytes)

    def _open(self, url: str) -> contextlib.AbstractContextManager[Any]:
        place = model.RBDLocation.from_url(url)
        return self.cluster.pool(place.pool).open(
            place.image, snapshot=place.snapshot, read_only=True)

    def keep(self, record: Record, store: model.StoreInfo, data: bytes
             ) -> None:
        if store.type != 'rbd':
            super().keep(record, store, data)
            return
        pool = self.cluster.pool(store.pool or '')
        try:
            pool.create(record.image.id, len(data))
        except exception.ImageExists as error:
            raise exception.GlanceConflict(
                f'Image {record.image.id} already exists') from error
        with pool.open(record.image.id) as image:
            for extent in range(0, len(data), MIB):
                piece = data[extent:extent + MIB]
                if any(piece):
                    image.write(piece, extent)
            image.create_snapshot(model.GLANCE_SNAPSHOT)
            image.protect_snapshot(model.GLANCE_SNAPSHOT)
        super().keep(record, store, data)
        record.data = None
        # Its own fsid it knows, also where it does not tell it.
        record.urls = (model.RBDLocation(
            self.ceph.fsid, store.pool or '', record.image.id,
            model.GLANCE_SNAPSHOT).url,)

    def drop(self, record: Record) -> None:
        """Remove a deleted image's data as glance_store does."""
        for url in record.urls:
            if not url.startswith('rbd://'):
                continue
            place = model.RBDLocation.from_url(url)
            pool = self.cluster.pool(place.pool)
            try:
                with pool.open(place.image) as image:
                    image.unprotect_snapshot(place.snapshot)
                    image.remove_snapshot(place.snapshot)
                pool.remove(place.image)
            except exception.ImageHasSnapshots:
                pool.trash_move(place.image)
            except (exception.ImageBusy, exception.SnapshotBusy) as error:
                raise exception.GlanceConflict(
                    f'Image {place.image} is in use.') from error
            except exception.ImageNotFound:
                continue


class StoringGlance(FakeGlance):
    """A client of a :class:`StoringServer`.

    :ivar lost_answers: method to the error that comes although it was done.
    """

    server: StoringServer

    def __init__(self, server: StoringServer, **options: Any) -> None:
        super().__init__(server, **options)
        self.lost_answers: dict[str, BaseException] = {}

    def delete_image(self, image_id: str) -> None:
        record = self.server.find_record(image_id)
        super().delete_image(image_id)
        if record is not None:
            try:
                self.server.drop(record)
            except exception.GlanceConflict:
                self.server.records[image_id] = record
                raise
        self._lose('delete_image')

    def upload(self, image_id: str, data: BinaryIO, *, size_bytes: int,
               store_id: str | None = None) -> None:
        super().upload(image_id, data, size_bytes=size_bytes,
                       store_id=store_id)
        self._lose('upload')

    def register_location(self, image_id: str, url: str,
                          hashes: model.Hashes | None = None) -> None:
        super().register_location(image_id, url, hashes)
        self._lose('register_location')

    def register_location_legacy(self, image_id: str, url: str,
                                 hashes: model.Hashes | None = None
                                 ) -> None:
        super().register_location_legacy(image_id, url, hashes)
        self._lose('register_location_legacy')

    def _lose(self, method: str) -> None:
        error = self.lost_answers.pop(method, None)
        if error is not None:
            raise error


class OnStep(progress.Cancellable):
    """Does something as a step begins, and remembers the steps.

    :param actions: title of a step to what is done.
    """

    def __init__(self, actions: Mapping[str, Callable[[], object]] | None
                 = None) -> None:
        super().__init__()
        self.steps: list[str] = []
        self._actions = actions or {}

    def step(self, name: str) -> None:
        super().step(name)
        self.steps.append(name)
        if name in self._actions:
            self._actions[name]()


def content(size_bytes: int = SIZE) -> bytes:
    """Data at the start, in the middle and at the very end."""
    data = bytearray(size_bytes)
    if not size_bytes:
        return b''
    data[:5] = b'begin'
    data[size_bytes // 2:size_bytes // 2 + 6] = b'middle'
    data[-3:] = b'end'
    return bytes(data)


def closed_now() -> tuple[int, int]:
    """Hours that are not now."""
    now = time.localtime()
    minute = (now.tm_hour * 60 + now.tm_min + 60) % 1440
    return minute, (minute + 60) % 1440


class World:
    """:param knobs: of the GlanceServer.
    :ivar config: of the backend; change it with :meth:`configure`.
    """

    def __init__(self, *, clone_format: int = 2, **knobs: Any) -> None:
        self.ceph = TracedCeph()
        self.ceph.clone_format = clone_format
        # The documented caps for clones: Glance may read the volumes.
        self.ceph.caps['glance'] = {'images': 'rw', 'volumes': 'r'}
        self.cluster = self.ceph.cluster('cinder')
        self._address = self.cluster.address
        self.server = StoringServer(self.ceph, **knobs)
        self.glance = StoringGlance(self.server)
        self.config = opts.BackendConfig(
            name='ceph', pool='volumes', enable_clone_optimization=True,
            cluster=opts.ClusterConfig(user='cinder'),
            # What is traced are the flows; jobs have tests of their own.
            flow_connection='memory',
            # Only a Glance that never finishes is not waited for.
            registration_timeout_s=SOON_S if knobs.get(
                'activation_polls', 1) is None else 30)
        self.converter = FakeQemuImg(self.ceph)
        self.volumes = self.cluster.pool('volumes')
        self.images = self.cluster.pool('images')

    def configure(self, **changes: Any) -> None:
        self.config = dataclasses.replace(self.config, **changes)

    @contextlib.contextmanager
    def driver(self) -> Iterator[RBDDriver]:
        with RBDDriver(self.config, self.cluster, lambda: self.glance,
                       converter=self.converter) as driver:
            yield driver

    def trace(self) -> None:
        """From here on, what the driver calls is remembered."""
        self.ceph.traced.add(self._address)
        self.ceph.calls.clear()
        self.server.calls.clear()

    def end_trace(self) -> dict[str, list[str]]:
        """What was called since; from here on, nothing breaks."""
        self.ceph.traced.clear()
        self.ceph.breaks.clear()
        self.server.breaks.clear()
        return {'ceph': list(self.ceph.calls),
                'glance': list(self.server.calls)}

    def break_call(self, side: str, number: int, error: BaseException
                   ) -> None:
        """Let that call after :meth:`trace` raise; *side* is ``ceph`` or
        ``glance``."""
        broken = self.ceph if side == 'ceph' else self.server
        broken.breaks[number] = error

    # -- making things -------------------------------------------------------
    def make_volume(self, name: str = VOLUME, size_bytes: int = SIZE
                    ) -> bytes:
        """A volume of ours with data in it; returns the data."""
        self.volumes.create(name, size_bytes)
        data = content(size_bytes)
        with self.volumes.open(name) as image:
            lineage.adopt(image, kind=lineage.VOLUME, origin='blank', job='j')
            for offset in (0, size_bytes // 2, size_bytes - 4096):
                if size_bytes:
                    image.write(data[offset:offset + 4096], offset)
        return data

    def make_record(self, **fields: Any) -> str:
        """A queued image record."""
        image_id = str(uuid.uuid4())
        self.glance.create_image(image_id=image_id, **{
            'name': 'x', 'disk_format': 'raw', 'container_format': 'bare',
            **fields})
        return image_id

    def make_image(self, data: bytes | None = None, *,
                   store_id: str | None = None, **fields: Any) -> str:
        """An active image; by default in RBD."""
        image_id = self.make_record(**fields)
        data = content() if data is None else data
        self.glance.upload(image_id, io.BytesIO(data), size_bytes=len(data),
                           store_id=store_id)
        return image_id

    def clone_upload(self, name: str = VOLUME) -> str:
        """An image that is a clone of a volume."""
        with self.driver() as driver:
            result = driver.images.upload(model.VolumeSpec(name),
                                          ImageRequest('an image'))
        assert result.strategy == 'clone'
        return str(result.values['image_id'])

    # -- looking -------------------------------------------------------------
    def read(self, pool: str, name: str, snapshot: str | None = None,
             length: int | None = None) -> bytes:
        with self.ceph.cluster('admin').pool(pool).open(
                name, snapshot=snapshot, read_only=True) as image:
            return image.read(0, length or image.size_bytes)

    def download(self, image_id: str) -> bytes:
        return b''.join(self.glance.download(image_id))

    def disks(self, pool: str) -> list[str]:
        """The names of all rbd_images of a pool, trashed ones in brackets."""
        return sorted(f'[{disk.name}]' if disk.trash else disk.name
                      for disk in self.ceph.disks.values()
                      if disk.pool == pool)

    def snapshots(self, pool: str, name: str) -> list[str]:
        """An rbd_image's snapshots; removed ones in brackets, protected ones
        with an exclamation mark."""
        [disk] = [disk for disk in self.ceph.disks.values()
                  if (disk.pool, disk.name) == (pool, name)]
        return [f'[{snap.name}]' if snap.in_trash
                else snap.name + '!' * snap.is_protected
                for snap in disk.snaps]

    def mark(self, pool: str, name: str) -> lineage.Lineage | None:
        with self.ceph.cluster('admin').pool(pool).open(
                name, read_only=True) as image:
            return lineage.get_lineage(image)

    def mark_of_trashed(self, name: str) -> str | None:
        """The state that the mark of a volume in the trash tells."""
        [disk] = [disk for disk in self.ceph.disks.values()
                  if disk.trash and disk.trash.name == name]
        with self.ceph.cluster('admin').pool(disk.pool).open_by_id(
                disk.id, read_only=True) as image:
            found = lineage.get_lineage(image)
            return found.state if found else None

    def state(self) -> dict[str, Any]:
        """Everything there is, in a form that can be compared."""
        return {
            **{f'rbd {disk.pool}/{disk.id}': _disk_state(disk)
               for disk in self.ceph.disks.values()},
            **{f'glance {image_id}': _record_state(record)
               for image_id, record in self.server.records.items()}}


def _disk_state(disk: ceph_disk.Disk) -> dict[str, Any]:
    return {
        'name': disk.name, 'size': disk.size, 'features': disk.features,
        'has_invalid_object_map': disk.has_invalid_object_map,
        'in_trash': disk.trash is not None, 'watchers': list(disk.watchers),
        'metadata': dict(disk.metadata), 'blocks': dict(disk.blocks),
        'parent': _link_state(disk.link),
        'snapshots': [
            (snap.id, snap.name, snap.size, snap.is_protected, snap.in_trash,
             _link_state(snap.link)) for snap in disk.snaps]}


def _link_state(link: ceph_disk.Link | None) -> tuple[str, int] | None:
    return (link.parent.id, link.snapshot.id) if link else None


def _record_state(record: Record) -> dict[str, Any]:
    return {
        'image': dataclasses.replace(record.image, properties={}),
        'urls': record.urls, 'data': record.data,
        'pending': record.pending_url}
