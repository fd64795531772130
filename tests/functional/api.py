# SPDX-License-Identifier: Apache-2.0
"""Glance's API over plain HTTP, as any client of it would use it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import IO, Any

import requests

from tests.functional import content

_PATCH = 'application/openstack-images-v2.1-json-patch'


class GlanceAPI:
    """Glance as one of the sandbox's users.

    :param env: of :meth:`volume_rbd.sandbox.Sandbox.env`.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env
        self._url = env['GLANCE']
        self._token: str | None = None

    @property
    def token(self) -> str:
        if self._token is None:
            env = self._env
            domain = {'name': env['OS_USER_DOMAIN_NAME']}
            body = {'auth': {
                'identity': {'methods': ['password'], 'password': {'user': {
                    'name': env['OS_USERNAME'], 'domain': domain,
                    'password': env['OS_PASSWORD']}}},
                'scope': {'project': {'name': env['OS_PROJECT_NAME'],
                                      'domain': domain}}}}
            answer = requests.post(env['OS_AUTH_URL'] + '/auth/tokens',
                                   json=body, timeout=60)
            answer.raise_for_status()
            self._token = str(answer.headers['X-Subject-Token'])
        return self._token

    def request(self, method: str, path: str, **options: Any
                ) -> requests.Response:
        headers = {'X-Auth-Token': self.token, 'Connection': 'close',
                   **options.pop('headers', {})}
        return requests.request(
            method, f'{self._url}/v2{path}', headers=headers, timeout=120,
            **options)

    def _do(self, method: str, path: str, **options: Any
            ) -> requests.Response:
        answer = self.request(method, path, **options)
        assert answer.ok, f'{method} {path}: {answer.status_code} ' \
                          f'{answer.text[:300]}'
        return answer

    # -- images ------------------------------------------------------------
    def create(self, **fields: Any) -> str:
        record = {'name': 'functional', 'disk_format': 'raw',
                  'container_format': 'bare', **fields}
        return str(self._do('POST', '/images', json=record).json()['id'])

    def upload(self, image_id: str, data: bytes | IO[bytes],
               store: str | None = None) -> None:
        headers = {'Content-Type': 'application/octet-stream'}
        if store:
            headers['x-image-meta-store'] = store
        self._do('PUT', f'/images/{image_id}/file', data=data,
                 headers=headers)

    def make(self, data: bytes, store: str | None = None, **fields: Any
             ) -> str:
        """An active image; :returns: its id."""
        image_id = self.create(**fields)
        self.upload(image_id, data, store)
        return image_id

    def get(self, image_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._do('GET', f'/images/{image_id}').json()
        return found

    def status(self, image_id: str) -> str | None:
        """None where Glance knows no such image."""
        answer = self.request('GET', f'/images/{image_id}')
        return answer.json()['status'] if answer.ok else None

    def delete(self, image_id: str) -> None:
        """Delete it; waits for a hash that Glance computes meanwhile."""
        deadline = time.monotonic() + 15
        while True:
            answer = self.request('DELETE', f'/images/{image_id}')
            if answer.status_code in (204, 404):
                return
            assert answer.status_code in (409, 500, 503), answer.text
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.5)

    def digest(self, image_id: str) -> str:
        """The hash of the image's bytes, read through Glance."""
        answer = self._do('GET', f'/images/{image_id}/file', stream=True)
        return content.digest_of_stream(_chunks(answer))

    def wait_for(self, image_id: str, key: str, timeout_s: float = 60
                 ) -> Any:
        """The field once it is there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            value = self.get(image_id).get(key)
            if value:
                return value
            time.sleep(0.2)
        raise AssertionError(f'{image_id} has no {key} after {timeout_s} s')

    def wait_for_status(self, image_id: str, wanted: str | None,
                        timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while (found := self.status(image_id)) != wanted:
            assert time.monotonic() < deadline, f'{image_id} is {found}'
            time.sleep(0.2)

    def set_location(self, image_id: str, url: str) -> None:
        """With PATCH, which needs show_multiple_locations."""
        self._do('PATCH', f'/images/{image_id}', json=[{
            'op': 'add', 'path': '/locations/-',
            'value': {'url': url, 'metadata': {}}}],
            headers={'Content-Type': _PATCH})

    def set_properties(self, image_id: str, values: dict[str, str]) -> None:
        self._do('PATCH', f'/images/{image_id}',
                 headers={'Content-Type': _PATCH},
                 json=[{'op': 'add', 'path': f'/{key}', 'value': value}
                       for key, value in values.items()])

    def locations(self, image_id: str) -> list[str]:
        """For admin and service only."""
        return [row['url'] for row in self._do(
            'GET', f'/images/{image_id}/locations').json()]


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    yield from answer.iter_content(1024 ** 2)
