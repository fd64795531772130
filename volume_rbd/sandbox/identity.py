# SPDX-License-Identifier: Apache-2.0
"""Keystone's users, projects, roles and catalogue, all by ``ensure_``."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Sequence

from volume_rbd.sandbox.http_json import JSONClient

REGION = 'RegionOne'
DOMAIN_ID = 'default'
DOMAIN_NAME = 'Default'


@dataclasses.dataclass(frozen=True)
class User:
    """A user of the sandbox and what it may be in its project."""

    name: str
    project: str
    roles: Sequence[str]


# admin itself comes from keystone-manage bootstrap.
ADMIN = User('admin', 'admin', ['admin'])
USERS = (
    # Locations: POST needs service; listing stores, admin or service.
    User('cinder', 'service', ['admin', 'service']),
    User('glance', 'service', ['admin', 'service']),
    User('nova', 'service', ['service']),
    User('member', 'demo', ['member']),
    User('other', 'other', ['member']),
)
EVERYBODY = {user.name: user for user in (ADMIN, *USERS)}

# What people ask for instead of a user's name.
ROLE_NAMES = {'service': 'cinder'}


def get_user(role: str) -> User:
    """The user who stands for a role, or of that name.

    :raises KeyError: there is none.
    """
    return EVERYBODY[ROLE_NAMES.get(role, role)]


class Identity:
    """Keystone's API as its administrator; close it after use."""

    def __init__(self, port: int, password: str) -> None:
        self._client = JSONClient(port)
        self._authenticate(password)

    def close(self) -> None:
        self._client.close()

    @property
    def token(self) -> str:
        """The administrator's token."""
        return self._client.headers['X-Auth-Token']

    def _authenticate(self, password: str) -> None:
        domain = {'id': DOMAIN_ID}
        user = {'name': ADMIN.name, 'domain': domain, 'password': password}
        answer = self._client.request('POST', '/v3/auth/tokens', {'auth': {
            'identity': {'methods': ['password'], 'password': {'user': user}},
            'scope': {'project': {'name': ADMIN.project, 'domain': domain}},
        }})
        token = {k.lower(): v for k, v in answer.headers.items()}
        self._client.headers['X-Auth-Token'] = token['x-subject-token']

    def ensure_user(self, user: User, password: str) -> None:
        """The user exists, with this password and these roles."""
        project = self._ensure('project', user.project,
                               {'domain_id': DOMAIN_ID})
        user_id = self._ensure('user', user.name, {
            'domain_id': DOMAIN_ID, 'password': password})
        for name in user.roles:
            role = self._ensure('role', name, {})
            self._client.request(
                'PUT', f'/v3/projects/{project}/users/{user_id}/roles/{role}')

    def ensure_service(self, kind: str, name: str, url: str) -> None:
        """The catalogue names the service, public and internal."""
        service = self._ensure('service', name, {'type': kind})
        query = urllib.parse.urlencode({'service_id': service})
        answer = self._client.request('GET', f'/v3/endpoints?{query}')
        present = {e['interface'] for e in answer.body['endpoints']}
        for interface in ('public', 'internal'):
            if interface not in present:
                self._client.request('POST', '/v3/endpoints', {'endpoint': {
                    'service_id': service, 'region_id': REGION,
                    'interface': interface, 'url': url}})

    def _ensure(self, kind: str, name: str, values: dict[str, str]) -> str:
        """The id of a resource of that name, made if need be."""
        path = f'/v3/{kind}s'
        query = urllib.parse.urlencode({'name': name})
        answer = self._client.request('GET', f'{path}?{query}')
        for found in answer.body[f'{kind}s']:
            return str(found['id'])
        made = self._client.request(
            'POST', path, {kind: {'name': name} | values})
        return str(made.body[kind]['id'])
