# SPDX-License-Identifier: Apache-2.0
"""Cinder's API as its administrator: volume types, and who serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from volume_rbd.sandbox.http_json import JSONClient

# The first one with group types is 3.11.
_MICROVERSION = 'volume 3.70'
GROUP_TYPE = 'consistent'
_LUKS = {'provider': 'luks', 'cipher': 'aes-xts-plain64', 'key_size': 256,
         'control_location': 'front-end'}


class BlockStorage:
    """Close it after use."""

    def __init__(self, port: int, token: str) -> None:
        self._client = JSONClient(port)
        self._client.headers |= {'X-Auth-Token': token,
                                 'OpenStack-API-Version': _MICROVERSION}

    def close(self) -> None:
        self._client.close()

    def get_serving(self) -> set[str]:
        """Hosts (``host@backend``) that the scheduler would choose now.

        :raises SandboxError: the API or the scheduler does not answer.
        """
        answer = self._client.request('GET', '/v3/scheduler-stats/get_pools')
        return {pool['name'].partition('#')[0]
                for pool in answer.body['pools']}

    def ensure_types(self, backends: Iterable[str]) -> None:
        """Each backend has a type, a multiattach one and an encrypted one.

        They are named ``B``, ``B-multiattach`` and ``B-encrypted``. There is
        a group type for consistent group snapshots, too.
        """
        answer = self._client.request('GET', '/v3/types?is_public=None')
        present = {item['name'] for item in answer.body['volume_types']}
        for backend in backends:
            specs = {'volume_backend_name': backend}
            for name, more in ((backend, {}),
                               (f'{backend}-multiattach',
                                {'multiattach': '<is> True'}),
                               (f'{backend}-encrypted', {})):
                if name not in present:
                    self._make_type(name, specs | more)
        self._ensure_group_type()

    def _make_type(self, name: str, specs: Mapping[str, str]) -> None:
        made = self._client.request('POST', '/v3/types', {'volume_type': {
            'name': name, 'extra_specs': dict(specs)}})
        if name.endswith('-encrypted'):
            type_id = made.body['volume_type']['id']
            self._client.request('POST', f'/v3/types/{type_id}/encryption',
                                 {'encryption': _LUKS})

    def _ensure_group_type(self) -> None:
        answer = self._client.request('GET', '/v3/group_types')
        present = {item['name'] for item in answer.body['group_types']}
        if GROUP_TYPE not in present:
            self._client.request('POST', '/v3/group_types', {'group_type': {
                'name': GROUP_TYPE, 'group_specs': {
                    'consistent_group_snapshot_enabled': '<is> True'}}})
