# SPDX-License-Identifier: Apache-2.0
"""The contract of :mod:`volume_rbd.glance.interface`, in memory.

A :class:`FakeGlance` is one user of a :class:`GlanceServer`, with or without
a service behind them, as a GlanceClient is::

    server = GlanceServer(can_open=lambda url: 4096)
    glance = FakeGlance(server)
    glance.fail_next('register_location', exception.GlanceUnavailable('…'))

The same contract tests run on it and on a real Glance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence

from tests.fakes.glance_server import (
    FILE,
    FSID,
    RBD,
    GlanceServer,
    Record,
    now,
)
from volume_rbd import exception, model
from volume_rbd.glance.interface import Readable

__all__ = ['FILE', 'FSID', 'RBD', 'FakeGlance', 'GlanceServer']

_PIECE_BYTES = model.MIB


class FakeGlance:
    """:param roles: of the user, in *project*.
    :param has_service: credentials with the roles admin and service are
        there for what the user may not do.
    """

    def __init__(self, server: GlanceServer | None = None, *,
                 project: str = 'demo', roles: Iterable[str] = ('member',),
                 has_service: bool = True) -> None:
        self.server = server or GlanceServer()
        self.project = project
        self.roles = frozenset(roles)
        self.service_roles = (
            frozenset(('admin', 'service')) if has_service else self.roles)

    def fail_next(self, method: str, error: BaseException,
                  times: int = 1) -> None:
        self.server.fail_next(method, error, times)

    # -- the user's session -------------------------------------------------
    def who(self) -> tuple[str | None, str | None]:
        return self.project, f'user-of-{self.project}'

    def get_image(self, image_id: str) -> model.GlanceImage:
        self.server.check('get_image')
        return self._shown(self._visible(image_id))

    def create_image(self, *, image_id: str, name: str, disk_format: str,
                     container_format: str,
                     properties: Mapping[str, str] | None = None,
                     min_disk_gib: int = 0,
                     visibility: str | None = None) -> model.GlanceImage:
        self.server.check('create_image')
        if visibility == 'public' and 'admin' not in self.roles:
            raise exception.GlanceForbidden('You may not publish images.')
        image = model.GlanceImage(
            id=image_id, name=name, status='queued', disk_format=disk_format,
            container_format=container_format, min_disk_gib=min_disk_gib,
            owner=self.project, properties={
                **(properties or {}), 'visibility': visibility or 'shared',
                'protected': 'false', 'min_ram': '0', 'os_hidden': 'false',
                'tags': '[]', 'created_at': now(), 'updated_at': now()})
        with self.server.lock:
            if image_id in self.server.records:
                raise exception.GlanceConflict(
                    f'Image ID {image_id} already exists!')
            self.server.records[image_id] = Record(
                image, visibility or 'shared')
        return image

    def delete_image(self, image_id: str) -> None:
        self.server.check('delete_image')
        record = self._own(image_id)
        if record.is_in_use:
            raise exception.GlanceConflict(
                f'Image {image_id} could not be deleted because it is in '
                'use.')
        del self.server.records[image_id]

    def upload(self, image_id: str, data: Readable, *, size_bytes: int,
               store_id: str | None = None) -> None:
        self.server.check('upload')
        record = self._own(image_id)
        if record.image.status != 'queued':
            raise exception.GlanceConflict(
                f'Glance image {image_id} takes no data: it is '
                f'{record.image.status}, not queued.')
        store = self.server.find_store(store_id)
        if store.is_read_only:
            raise exception.GlanceConflict(
                'Adding images to the store is disabled.')
        self.server.check_quota(size_bytes)
        record.change(status='saving')
        try:
            content = _read_all(data, size_bytes)
            self.server.keep(record, store, content)
        finally:
            if record.image.status == 'saving':
                record.change(status='queued')

    def download(self, image_id: str, chunk_bytes: int = 4 * model.MIB
                 ) -> Generator[bytes, None, None]:
        self.server.check('download')
        record = self._visible(image_id)
        image = record.image
        if image.status == 'deactivated' and 'admin' not in self.roles:
            raise exception.GlanceForbidden(
                'The requested image has been deactivated.')
        data = self._content(record)
        for offset in range(0, len(data), chunk_bytes):
            yield data[offset:offset + chunk_bytes]
        if len(data) != image.size_bytes or not _is_intact(image, data):
            raise exception.DataCorrupted(
                f'Glance image {image_id} arrived damaged.')

    def register_location(self, image_id: str, url: str,
                          hashes: model.Hashes | None = None) -> None:
        self.server.check('register_location')
        if not self.server.has_locations_api:
            raise exception.ApiNotImplemented(
                'This Glance is older than 2.17.')
        record = self._own(image_id)
        if 'service' not in self.roles | self.service_roles:
            raise exception.GlanceForbidden(
                'http store must be enabled to use location API by normal '
                'user.')
        if hashes is not None:
            _check_hash(hashes)
        self._check_location(record, url)
        self.server.register(record, url, hashes)

    def register_location_legacy(self, image_id: str, url: str,
                                 hashes: model.Hashes | None = None
                                 ) -> None:
        self.server.check('register_location_legacy')
        record = self._own(image_id)
        if not self.server.show_locations:
            raise exception.GlanceForbidden(
                "It's not allowed to add locations if locations are "
                'invisible.')
        self._check_location(record, url)
        if not self.server.activate(record, url):
            raise exception.InvalidInput('Invalid location.')
        if hashes is not None:
            record.change(os_hash_algo=hashes.algorithm,
                          os_hash_value=hashes.value,
                          checksum=hashes.checksum)

    def copy_image(self, image_id: str, store_ids: Sequence[str]) -> None:
        self.server.check('copy_image')
        record = self._visible(image_id)
        if record.image.status != 'active':
            raise exception.GlanceConflict(
                'Only images with status active can be targeted for copying')
        if 'admin' not in self.roles:
            raise exception.GlanceForbidden(
                'You are not authorized to complete copy_image action.')
        for store_id in store_ids:
            if store_id not in self.server.stores:
                raise exception.GlanceConflict(
                    f'Backend {store_id} is not known.')
            if store_id in record.image.stores:
                raise exception.InvalidInput(
                    f"Image is already present at store '{store_id}'")
        self.server.begin_copy(record, store_ids)

    # -- the service's session ----------------------------------------------
    def get_stores(self) -> list[model.StoreInfo]:
        self.server.check('get_stores')
        if not self.server.has_stores:
            raise exception.ApiNotImplemented(
                'Multi backend is not supported at this site.')
        if not self.service_roles & {'admin', 'service'}:
            raise exception.GlanceForbidden(
                'You are not authorized to complete stores_info_detail '
                'action.')
        return list(self.server.stores.values())

    def get_locations(self, image_id: str) -> tuple[str, ...]:
        self.server.check('get_locations')
        if (self.server.has_locations_api
                and self.service_roles & {'admin', 'service'}):
            return self.server.get_record(image_id).urls
        return self.get_image(image_id).locations

    def get_tasks(self, image_id: str) -> list[Mapping[str, str]]:
        self.server.check('get_tasks')
        record = self.server.find_record(image_id)
        return [dict(task) for task in record.tasks] if record else []

    def has_image(self, image_id: str) -> bool:
        self.server.check('has_image')
        record = self.server.find_record(image_id)
        is_admin = 'admin' in {*self.service_roles, *self.roles}
        if record is not None and (is_admin or self._is_visible(record)):
            return True
        if not is_admin:
            raise exception.GlanceForbidden('That cannot be told.')
        return False

    # -- who may what -------------------------------------------------------
    def _is_visible(self, record: Record) -> bool:
        return ('admin' in self.roles
                or record.image.owner == self.project
                or record.visibility in ('public', 'community'))

    def _visible(self, image_id: str) -> Record:
        record = self.server.get_record(image_id)
        if not self._is_visible(record):
            raise exception.GlanceImageNotFound(
                f'No image found with ID {image_id}.')
        return record

    def _own(self, image_id: str) -> Record:
        record = self._visible(image_id)
        if 'admin' not in self.roles and record.image.owner != self.project:
            raise exception.GlanceForbidden(
                f'You may not change image {image_id}.')
        return record

    def _shown(self, record: Record) -> model.GlanceImage:
        if self.server.show_locations:
            record.change(locations=record.urls)
        return record.image

    def _content(self, record: Record) -> bytes:
        if record.data is not None:
            return record.data
        if record.urls and self.server.read_url is not None:
            return self.server.read_url(record.urls[0])
        raise exception.GlanceImageNotUsable(
            f'Glance image {record.image.id} has no data: it is '
            f'{record.image.status}.',
            remedy='Wait until it is active, or choose another.')

    def _check_location(self, record: Record, url: str) -> None:
        if url.startswith(('http://', 'https://')):
            raise exception.InvalidInput(
                f'URI for add location does not pass filtering: {url}.')
        if record.image.status != 'queued':
            raise exception.GlanceConflict(
                'Locations can only be added to a queued image.')


def _check_hash(hashes: model.Hashes) -> None:
    size = hashlib.new(hashes.algorithm).digest_size
    if len(bytes.fromhex(hashes.value)) != size:
        raise exception.InvalidInput(
            f'os_hash_value is not the correct size for {hashes.algorithm}.')


def _read_all(data: Readable, size_bytes: int) -> bytes:
    pieces = []
    left = size_bytes
    while left:
        piece = data.read(min(_PIECE_BYTES, left))
        if not piece or len(piece) > left:
            raise exception.DataCorrupted(
                f'The source of an upload was to give {size_bytes} bytes '
                f'and did not.')
        pieces.append(piece)
        left -= len(piece)
    return b''.join(pieces)


def _is_intact(image: model.GlanceImage, data: bytes) -> bool:
    if image.os_hash_algo is None or image.os_hash_value is None:
        return True
    computed = hashlib.new(image.os_hash_algo, data).hexdigest()
    return computed == image.os_hash_value
