# SPDX-License-Identifier: Apache-2.0
"""The real Glance, through python-glanceclient: see :mod:`.interface`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from oslo_log import log as logging

from volume_rbd import exception, model, opts
from volume_rbd.glance import channel as channels
from volume_rbd.glance import creation, errors, images, stores
from volume_rbd.glance import download as downloads
from volume_rbd.glance import session as sessions
from volume_rbd.glance import upload as uploads
from volume_rbd.glance.interface import Readable

LOG = logging.getLogger(__name__)

_PATCH = 'application/openstack-images-v2.1-json-patch'
_USABLE = ('SUPPORTED', 'CURRENT', 'EXPERIMENTAL')
_LOCATIONS_VERSION = 'v2.17'

_NEED_SERVICE: channels.Remedies = {exception.GlanceForbidden: (
    'It takes the role service or admin: give the credentials of such a '
    'user in [glance] or [service_user].')}
_NEED_PAIR: channels.Remedies = {exception.GlanceForbidden: (
    'Glance takes an rbd:// location only with a token that has the role '
    'service: give the credentials of such a user in [glance] or '
    '[service_user].')}
_NEED_LOCATIONS: channels.Remedies = {exception.GlanceForbidden: (
    'This Glance does not let clients set locations '
    '(show_multiple_locations). Leave it so.')}

_NEED_COPY: channels.Remedies = {
    exception.GlanceForbidden: (
        'Allow it in Glance\'s policy "copy_image", which by default is for '
        'the role admin only, or have an admin copy the image ("glance '
        'image-import --import-method copy-image").'),
    exception.InvalidInput: (
        "See that Glance's enabled_import_methods has copy-image.")}


class GlanceClient:
    """Glance as one user with, perhaps, one service behind them.

    :param user: the keystoneauth session of whoever asked.
    :param service: the service's, or None: then the user's does it all.
    :param pair: what registers locations; None: made of the two.
    :param interface: which endpoint of the catalog: public, internal, admin.
    :param shared: answers about the stores, shared with other clients.
    :param channel: options of the channels.

    May be shared between threads.
    """

    def __init__(self, config: opts.GlanceConfig, user: sessions.Session,
                 service: sessions.Session | None = None, *,
                 pair: sessions.Session | None = None,
                 interface: str = 'public',
                 shared: stores.SharedStores | None = None,
                 sleep: Callable[[float], None] = time.sleep,
                 **channel: Any) -> None:
        def open_channel(session: sessions.Session) -> channels.Channel:
            return channels.Channel(session, config, interface=interface,
                                    sleep=sleep, **channel)

        self._stores = shared or stores.SharedStores(self.fetch_stores)
        self._user = open_channel(user)
        self._service = self._pair = self._user
        if service is not None:
            self._service = open_channel(service)
            self._pair = open_channel(
                pair or sessions.paired_session(user, service))

    # -- the user's session -------------------------------------------------
    def who(self) -> tuple[str | None, str | None]:
        return self._user.who()

    def get_image(self, image_id: str) -> model.GlanceImage:
        return self._user.get_image(image_id)

    def create_image(self, *, image_id: str, name: str, disk_format: str,
                     container_format: str,
                     properties: Mapping[str, str] | None = None,
                     min_disk_gib: int = 0,
                     visibility: str | None = None) -> model.GlanceImage:
        record: dict[str, Any] = dict(
            id=image_id, name=name, disk_format=disk_format,
            container_format=container_format, min_disk=min_disk_gib)
        if visibility is not None:
            record['visibility'] = visibility
        return creation.create(self._user, record, properties or {})

    def delete_image(self, image_id: str) -> None:
        channels.image_url(image_id)
        attempts = 0

        def delete() -> None:
            nonlocal attempts
            attempts += 1
            self._user.images.delete(image_id)

        try:
            # Glance 33 answers 500 when its background hash of a registered
            # location ends just as it wants to cancel it.
            self._user.call(f'Deleting Glance image {image_id}', delete,
                            is_transient=errors.is_transient_or_500)
        except exception.GlanceImageNotFound:
            # The answer to an earlier attempt got lost: it is gone.
            if attempts == 1:
                raise

    def upload(self, image_id: str, data: Readable, *, size_bytes: int,
               store_id: str | None = None) -> None:
        # The bytes cannot be sent twice, so find out first, by a call that
        # can be repeated, whether the connection and the token still hold.
        image = self.get_image(image_id)
        if image.status != 'queued':
            raise exception.GlanceConflict(
                f'Glance image {image_id} takes no data: it is '
                f'{image.status}, not queued.')
        try:
            uploads.upload(self._user, image_id, data, size_bytes=size_bytes,
                           store_id=store_id)
        except exception.InvalidInput as error:
            self._need_store(store_id, error)
            raise

    def download(self, image_id: str, chunk_bytes: int = 4 * model.MIB
                 ) -> Generator[bytes, None, None]:
        image = self.get_image(image_id)
        yield from downloads.download(self._user, image, chunk_bytes)

    def register_location(self, image_id: str, url: str,
                          hashes: model.Hashes | None = None) -> None:
        url_of_locations = channels.image_url(image_id, '/locations')
        try:
            self._need_locations_api()
        except exception.GlanceUnavailable as error:
            error.was_sent = False
            raise
        body = {'url': url, 'validation_data': _validation_data(hashes)}
        # Not images.add_image_location(): it reads the image afterwards, and
        # a failure of that would look like one of the registration.
        self._pair.call_once(
            _registering(image_id), lambda: self._pair.http.post(
                url_of_locations, data=body),
            remedies=_NEED_PAIR)

    def register_location_legacy(self, image_id: str, url: str,
                                 hashes: model.Hashes | None = None
                                 ) -> None:
        url_of_image = channels.image_url(image_id)
        value: dict[str, Any] = {'url': url, 'metadata': {}}
        if hashes is not None:
            value['validation_data'] = _validation_data(hashes)
            if hashes.checksum is not None:
                value['validation_data']['checksum'] = hashes.checksum
        patch = [{'op': 'add', 'path': '/locations/-', 'value': value}]
        self._pair.call_once(
            _registering(image_id),
            lambda: self._pair.http.patch(
                url_of_image, headers={'Content-Type': _PATCH},
                data=json.dumps(patch)),
            remedies=_NEED_LOCATIONS)

    def copy_image(self, image_id: str, store_ids: Sequence[str]) -> None:
        channels.image_url(image_id)
        self._user.call_once(
            f'Having Glance image {image_id} copied into '
            f'{", ".join(store_ids)}',
            lambda: self._user.images.image_import(
                image_id, method='copy-image', stores=list(store_ids),
                allow_failure=False),
            remedies=_NEED_COPY)

    # -- the service's session ----------------------------------------------
    def get_stores(self) -> list[model.StoreInfo]:
        return self._stores.get()

    def fetch_stores(self) -> list[model.StoreInfo]:
        """The stores, asked for anew."""
        answer = self._service.call(
            "Asking for the stores' details",
            self._service.images.get_stores_info_detail,
            missing=exception.ApiNotImplemented, remedies=_NEED_SERVICE)
        return [images.store_from_json(row) for row in answer['stores']]

    def get_locations(self, image_id: str) -> tuple[str, ...]:
        channels.image_url(image_id)
        try:
            rows = self._service.call(
                f'Asking for the locations of Glance image {image_id}',
                lambda: self._service.images.get_image_locations(image_id))
        except (exception.GlanceForbidden, exception.GlanceImageNotFound,
                exception.ApiNotImplemented) as error:
            LOG.debug('Taking the locations that the image shows: %s', error)
            return self.get_image(image_id).locations
        return images.location_urls(rows)

    def get_tasks(self, image_id: str) -> list[Mapping[str, str]]:
        channels.image_url(image_id)
        for channel in self._who_may_see():
            rows = _get_tasks(channel, image_id)
            if rows:
                return rows
        return []

    def has_image(self, image_id: str) -> bool:
        for channel in self._who_may_see():
            try:
                channel.get_image(image_id)
            except exception.GlanceImageNotFound:
                continue
            return True
        if not any(channel.is_admin() for channel in self._who_may_see()):
            raise exception.GlanceForbidden(
                f'Whether Glance still has image {image_id} cannot be told '
                'with these credentials.',
                remedy='Other projects\' images are shown to the role admin '
                       'only: give it to the service user.')
        return False

    def _who_may_see(self) -> Iterator[channels.Channel]:
        """The service; then the user, who may see more of what is theirs
        than a service that is not admin."""
        yield self._service
        if self._user is not self._service:
            yield self._user

    def _need_store(self, store_id: str | None,
                    error: exception.VolumeRBDError) -> None:
        """:raises StoreNotFound: that is why Glance did not like it."""
        if store_id is None:
            return
        answer = self._user.call("Asking for Glance's stores",
                                 self._user.images.get_stores_info)
        ids = [row['id'] for row in answer['stores']]
        if store_id not in ids:
            raise exception.StoreNotFound(
                f'Glance has no store {store_id!r}.',
                remedy=f'It has: {", ".join(ids)}.') from error

    def _need_locations_api(self) -> None:
        """:raises ApiNotImplemented: Glance before 2.17.

        Also sees to it that the connection that the registration is sent on
        is alive: that call is not repeated.
        """
        what = "Asking for Glance's versions"
        versions = self._pair.call(
            what, self._pair.client.versions.list,
            missing=exception.ApiNotImplemented)
        for version in versions or ():
            if (version['id'] == _LOCATIONS_VERSION
                    and version['status'] in _USABLE):
                return
        raise exception.ApiNotImplemented(
            'This Glance is older than 2.17 and cannot register a location '
            'by its new API.')


def _get_tasks(channel: channels.Channel, image_id: str
               ) -> list[Mapping[str, str]]:
    try:
        answer = channel.call(
            f'Asking for the tasks of Glance image {image_id}',
            lambda: channel.images.get_associated_image_tasks(image_id))
    except (exception.GlanceForbidden, exception.GlanceImageNotFound,
            exception.ApiNotImplemented) as error:
        LOG.debug('Glance does not tell its tasks: %s', error)
        return []
    # Glance gives them in no order, and its clock counts seconds.
    rows = sorted(answer.get('tasks') or (), key=lambda row: (
        str(row.get('created_at')), str(row.get('updated_at'))))
    return [images.task_from_json(row) for row in rows]


def _validation_data(hashes: model.Hashes | None) -> dict[str, str]:
    """What both APIs take of it."""
    if hashes is None:
        return {}
    return {'os_hash_algo': hashes.algorithm, 'os_hash_value': hashes.value}


def _registering(image_id: str) -> str:
    return f'Registering a location of Glance image {image_id}'
