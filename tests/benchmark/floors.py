# SPDX-License-Identifier: Apache-2.0
"""The floors: the bare librbd and HTTP calls, with nothing of ours around.

Straight on the bindings and on requests, so that what this project adds shows.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator

import rados
import rbd
import requests
from keystoneauth1 import loading, session

FEATURES = 61


class Floors:
    """:param user, service: environments of the sandbox."""

    def __init__(self, user: dict[str, str], service: dict[str, str]) -> None:
        self.url = user['GLANCE'].rstrip('/')
        self._user = _session(user)
        self._service = _session(service)
        self._cluster = rados.Rados(
            name='client.cinder', conffile=user['CEPH_CONF'],
            conf={'rbd_default_clone_format': '2'})
        self._cluster.connect()
        self.fsid = self._cluster.get_fsid()
        self.volumes = self._cluster.open_ioctx('volumes')
        self.images = self._cluster.open_ioctx('images')
        self._sessions = threading.local()

    @property
    def _http(self) -> requests.Session:
        """One a thread: twenty at once must not share a connection."""
        if not hasattr(self._sessions, 'session'):
            self._sessions.session = requests.Session()
        found: requests.Session = self._sessions.session
        return found

    def close(self) -> None:
        self.volumes.close()
        self.images.close()
        self._cluster.shutdown()

    def headers(self, *, paired: bool = False) -> dict[str, str]:
        found = {'X-Auth-Token': self._user.get_token()}
        if paired:
            found['X-Service-Token'] = self._service.get_token()
        return found

    def create_record(self) -> str:
        answer = self._http.post(
            f'{self.url}/v2/images', headers=self.headers(), timeout=60,
            json={'name': 'floor', 'disk_format': 'raw',
                  'container_format': 'bare'})
        answer.raise_for_status()
        return str(answer.json()['id'])

    def delete_image(self, image_id: str) -> None:
        self._http.delete(f'{self.url}/v2/images/{image_id}', timeout=60,
                          headers=self.headers()).raise_for_status()

    def clone_upload(self, volume: str) -> tuple[float, str]:
        """Record, snapshot, clone, ``snap``, POST, active."""
        headers = self.headers(paired=True)
        started = time.monotonic()
        image_id = self.create_record()
        with rbd.Image(self.volumes, volume) as image:
            image.create_snap(f'floor-{image_id}')
        rbd.RBD().clone(self.volumes, volume, f'floor-{image_id}',
                        self.images, image_id, features=FEATURES)
        with rbd.Image(self.images, image_id) as image:
            image.create_snap('snap')
            image.protect_snap('snap')
        self._http.post(
            f'{self.url}/v2/images/{image_id}/locations', headers=headers,
            json={'url': f'rbd://{self.fsid}/images/{image_id}/snap',
                  'validation_data': {}}, timeout=60).raise_for_status()
        while self._status(image_id, headers) != 'active':
            time.sleep(0.03)
        seconds = time.monotonic() - started
        # Ours is timed with it, the floor without.
        with rbd.Image(self.volumes, volume) as image:
            image.remove_snap(f'floor-{image_id}')
        return seconds, image_id

    def _status(self, image_id: str, headers: dict[str, str]) -> str:
        answer = self._http.get(f'{self.url}/v2/images/{image_id}',
                                headers=headers, timeout=60)
        return str(answer.json()['status'])

    def clone_create(self, image_id: str, size_bytes: int) -> float:
        """The clone and its resize; nothing of Glance."""
        name = f'floor-{uuid.uuid4()}'
        started = time.monotonic()
        rbd.RBD().clone(self.images, image_id, 'snap', self.volumes, name,
                        features=FEATURES)
        with rbd.Image(self.volumes, name) as image:
            image.resize(size_bytes)
        seconds = time.monotonic() - started
        rbd.RBD().remove(self.volumes, name)
        return seconds

    def upload_from_memory(self, size_bytes: int) -> float:
        """What Glance takes in when nothing has to be read."""
        image_id = self.create_record()
        # What gunicorn takes in fastest (tried): chunks of 256 KiB.
        block = os.urandom(256 * 1024)

        def body() -> Iterator[bytes]:
            for _ in range(size_bytes // len(block)):
                yield block

        started = time.monotonic()
        self._http.put(
            f'{self.url}/v2/images/{image_id}/file', data=body(), timeout=900,
            headers={**self.headers(),
                     'Content-Type': 'application/octet-stream',
                     'x-openstack-image-size': str(size_bytes)}
        ).raise_for_status()
        seconds = time.monotonic() - started
        self.delete_image(image_id)
        return seconds


def _session(env: dict[str, str]) -> session.Session:
    auth = loading.get_plugin_loader('password').load_from_options(
        auth_url=env['OS_AUTH_URL'], username=env['OS_USERNAME'],
        password=env['OS_PASSWORD'], project_name=env['OS_PROJECT_NAME'],
        user_domain_name='Default', project_domain_name='Default')
    return session.Session(auth=auth)
