# SPDX-License-Identifier: Apache-2.0
"""An in-memory Glance: the side that all its users share.

What it does, it does as Glance 33 does; what it does not model (schemas,
members, tags, imports) it does not have. Nothing is patched: tests make a
server, take clients of it (see :mod:`tests.fakes.glance`), and turn the
knobs below.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from volume_rbd import exception, model

FSID = '00000000-0000-4000-8000-000000000001'

RBD = model.StoreInfo('rbd', 'rbd', is_default=True, pool='images',
                      fsid=FSID, chunk_size_bytes=8 * model.MIB)
FILE = model.StoreInfo('file', 'file', chunk_size_bytes=65536)

#: Says how large what an rbd:// URL names is; None: it cannot be opened.
Opener = Callable[[str], int | None]


@dataclasses.dataclass
class Record:
    """One image, as Glance's database and its store have it.

    :param data: None where the bytes are elsewhere: a registered location.
    :param polls_left: how often it is still looked at before a registered
        location is opened; None: it stays queued for ever.
    """

    image: model.GlanceImage
    visibility: str
    data: bytes | None = None
    is_in_use: bool = False
    pending_url: str | None = None
    polls_left: int | None = 0
    urls: tuple[str, ...] = ()
    hashes: model.Hashes | None = None
    tasks: list[dict[str, str]] = dataclasses.field(default_factory=list)
    copying_to: tuple[str, ...] = ()
    copy_polls_left: int | None = 0

    def change(self, **fields: Any) -> None:
        self.image = dataclasses.replace(self.image, **fields)

    def tell(self, *, importing: Sequence[str] = (),
             failed: Sequence[str] = ()) -> None:
        """What Glance tells of a copy into other stores."""
        lock = ({'os_glance_import_task': self.tasks[-1]['id']}
                if self.copying_to else {})
        self.change(properties={
            **{key: value for key, value in self.image.properties.items()
               if key != 'os_glance_import_task'}, **lock,
            'os_glance_importing_to_stores': ','.join(importing),
            'os_glance_failed_import': ','.join(failed)})


class GlanceServer:
    """:param can_open: asked in the background for each registered URL.
    :param read_url: the bytes behind a registered URL, for downloads.
    :param activation_polls: a registered location is opened when the image
        has been looked at so often; None: never, as if Glance hung.
    :param show_locations: images carry their URLs (show_multiple_locations);
        it also allows the old way to register one.
    :param has_locations_api: False for a Glance before 2.17.
    :param hashes_locations: do_secure_hash: what a location names is hashed
        once it is registered, and compared where hashes came with it.
    :param has_stores: False for a Glance without enabled_backends.
    :param quota_bytes: of all images together.
    :param copy_polls: a copy into other stores is done when the image has
        been looked at so often; None: never.
    :param copies_fail: it fails then; 'told', or 'untold' where Glance does
        not come so far as to name the store.
    """

    def __init__(self, stores: Iterable[model.StoreInfo] = (RBD, FILE), *,
                 can_open: Opener = lambda url: None,
                 read_url: Callable[[str], bytes] | None = None,
                 activation_polls: int | None = 1,
                 show_locations: bool = False,
                 has_locations_api: bool = True,
                 hashes_locations: bool = False,
                 has_stores: bool = True,
                 quota_bytes: int | None = None,
                 copy_polls: int | None = 2,
                 copies_fail: str = '') -> None:
        self.stores = {store.id: store for store in stores}
        self.can_open = can_open
        self.read_url = read_url
        self.activation_polls = activation_polls
        self.show_locations = show_locations
        self.has_locations_api = has_locations_api
        self.hashes_locations = hashes_locations
        self.has_stores = has_stores
        self.quota_bytes = quota_bytes
        self.copy_polls = copy_polls
        self.copies_fail = copies_fail
        self.records: dict[str, Record] = {}
        self.lock = threading.RLock()
        self._failures: dict[str, list[BaseException]] = {}

    # -- knobs --------------------------------------------------------------
    def fail_next(self, method: str, error: BaseException,
                  times: int = 1) -> None:
        """The next call(s) of *method*, by anybody, raise *error*."""
        self._failures.setdefault(method, []).extend([error] * times)

    def deactivate(self, image_id: str) -> None:
        self.get_record(image_id).change(status='deactivated')

    def tamper(self, image_id: str, data: bytes) -> None:
        """Change the bytes in the store behind Glance's back."""
        self.get_record(image_id).data = data

    def set_in_use(self, image_id: str, is_in_use: bool = True) -> None:
        self.get_record(image_id).is_in_use = is_in_use

    # -- what the clients use -----------------------------------------------
    def check(self, method: str) -> None:
        """Raise what was asked for by :meth:`fail_next`."""
        with self.lock:
            errors = self._failures.get(method)
            if errors:
                raise errors.pop(0)

    def find_record(self, image_id: str) -> Record | None:
        """The record; looking at it lets the background work go on."""
        record = self.records.get(image_id)
        if record is not None:
            self._work(record)
        return record

    def get_record(self, image_id: str) -> Record:
        record = self.find_record(image_id)
        if record is None:
            raise exception.GlanceImageNotFound(
                f'No image found with ID {image_id}.')
        return record

    def find_store(self, store_id: str | None) -> model.StoreInfo:
        """The store of that id; None: the default one."""
        for store in self.stores.values():
            if store.id == store_id or (store_id is None
                                        and store.is_default):
                return store
        raise exception.StoreNotFound(
            f'Glance has no store {store_id!r}.',
            remedy=f'It has: {", ".join(self.stores)}.')

    def check_quota(self, more_bytes: int) -> None:
        used = sum(record.image.size_bytes or 0
                   for record in self.records.values())
        if (self.quota_bytes is not None
                and used + more_bytes > self.quota_bytes):
            raise exception.QuotaExceeded(
                'Image exceeds the storage quota.')

    def keep(self, record: Record, store: model.StoreInfo,
             data: bytes) -> None:
        """What was uploaded becomes the image."""
        record.data = data
        url = f'file:///var/lib/glance/{store.id}/{record.image.id}'
        if store.type == 'rbd':
            url = model.RBDLocation(
                store.fsid or '', store.pool or '', record.image.id,
                model.GLANCE_SNAPSHOT).url
        record.urls = (url,)
        record.change(
            status='active', size_bytes=len(data), stores=(store.id,),
            checksum=hashlib.md5(data).hexdigest(), os_hash_algo='sha512',
            os_hash_value=hashlib.sha512(data).hexdigest())

    def register(self, record: Record, url: str,
                 hashes: model.Hashes | None = None) -> None:
        """Accept *url*; it is opened in the background."""
        record.pending_url = url
        record.hashes = hashes
        record.polls_left = self.activation_polls
        record.tasks.append({
            'id': f'task-{len(record.tasks) + 1}', 'type': 'location_import',
            'status': 'processing', 'message': '', 'url': url,
            'request_id': f'req-{len(record.tasks) + 1}'})

    def activate(self, record: Record, url: str) -> bool:
        """Open *url* and make the image active; False if it cannot be."""
        size_bytes = self.can_open(url)
        if size_bytes is None:
            return False
        record.urls = (url,)
        record.change(status='active', size_bytes=size_bytes,
                      stores=(self._store_of(url),))
        return True

    def _store_of(self, url: str) -> str:
        for store in self.stores.values():
            if store.type == 'rbd' and f'/{store.pool}/' in url:
                return store.id
        return self.find_store(None).id

    def begin_copy(self, record: Record, store_ids: Sequence[str]) -> None:
        """Glance tells of it a moment later, with the first look."""
        if record.copying_to:
            raise exception.GlanceConflict(
                f"New operation on image '{record.image.id}' is not "
                'permitted as prior operation is still in progress')
        record.copying_to = tuple(store_ids)
        record.copy_polls_left = self.copy_polls
        record.tasks.append({
            'id': f'task-{len(record.tasks) + 1}', 'type': 'api_image_import',
            'status': 'processing', 'message': '', 'url': '',
            'request_id': f'req-{len(record.tasks) + 1}'})
        record.tell()

    def _copy(self, record: Record) -> None:
        left = record.copy_polls_left
        if left is None or left > 0:
            record.copy_polls_left = None if left is None else left - 1
            record.tell(importing=record.copying_to)
            return
        stores, record.copying_to = record.copying_to, ()
        if self.copies_fail:
            record.tasks[-1].update(status='failure', message='No room')
            if self.copies_fail == 'told':
                record.tell(failed=stores)
            else:
                record.tell(importing=stores)
            return
        record.tasks[-1]['status'] = 'success'
        data = record.data
        if data is None and self.read_url is not None:
            data = self.read_url(record.urls[0])
        for store_id in stores:
            earlier = record.urls, record.image.stores, record.data
            self.keep(record, self.stores[store_id], data or b'')
            record.data = record.data if earlier[2] is None else earlier[2]
            record.urls = earlier[0] + record.urls
            record.change(stores=earlier[1] + (store_id,))
        record.tell()

    def _work(self, record: Record) -> None:
        if record.copying_to:
            self._copy(record)
        if record.pending_url is None or record.polls_left is None:
            return
        if record.polls_left > 0:
            record.polls_left -= 1
            return
        url, record.pending_url = record.pending_url, None
        if self.activate(record, url) and self._hash(record, url):
            record.tasks[-1]['status'] = 'success'
        else:
            record.tasks[-1]['status'] = 'failure'
            # Glance says no more, not even to the service.
            record.tasks[-1]['message'] = 'Task failed due to Internal Error'


    def _hash(self, record: Record, url: str) -> bool:
        """False where the hash that was given is another."""
        hashes, data = record.hashes, None
        if self.hashes_locations and self.read_url is not None:
            data = self.read_url(url)
            known = model.Hashes(
                'sha512', hashlib.sha512(data).hexdigest())
            if hashes is not None:
                known = model.Hashes(hashes.algorithm, hashlib.new(
                    hashes.algorithm, data).hexdigest())
                if known.value != hashes.value:
                    record.urls = ()
                    record.change(status='queued', size_bytes=None,
                                  stores=())
                    return False
            hashes = known
        if hashes is not None:
            record.change(
                os_hash_algo=hashes.algorithm, os_hash_value=hashes.value,
                checksum=data and hashlib.md5(data).hexdigest())
        return True


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
