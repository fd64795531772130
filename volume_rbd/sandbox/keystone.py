# SPDX-License-Identifier: Apache-2.0
"""Keystone on the sandbox's MariaDB."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import os

from volume_rbd.sandbox import command, files, http_json, mariadb, wsgi
from volume_rbd.sandbox import layout as layouts
from volume_rbd.sandbox.identity import (
    ADMIN,
    DOMAIN_NAME,
    REGION,
    USERS,
    Identity,
)
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

_MANAGE_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 60.0


def get_url(state: State) -> str:
    """Keystone's URL, version included."""
    return f'http://127.0.0.1:{state.ports["keystone"]}/v3'


def get_credentials(state: State, user: str, project: str
                    ) -> dict[str, object]:
    """Options of keystoneauth's password plugin, for a config section."""
    return {
        'auth_type': 'password',
        'auth_url': get_url(state),
        'username': user,
        'password': state.passwords[user],
        'project_name': project,
        'user_domain_name': DOMAIN_NAME,
        'project_domain_name': DOMAIN_NAME,
        'region_name': REGION,
    }


def open_identity(state: State) -> contextlib.closing[Identity]:
    """Keystone's API as its administrator.

    :raises SandboxError: Keystone does not answer.
    """
    return contextlib.closing(Identity(
        state.ports['keystone'], state.passwords[ADMIN.name]))


class Keystone:
    """The Identity service of a sandbox."""

    def __init__(self, layout: Layout, state: State, supervisor: Supervisor,
                 report: Report, database: mariadb.MariaDB) -> None:
        self._layout = layout
        self._state = state
        self._supervisor = supervisor
        self._report = report
        self._database = database

    def up(self) -> None:
        """Run Keystone with its users and catalogue.

        :raises SandboxError: it does not start.
        """
        files.make_private_folders([self._layout.keystone])
        self._write_config()
        self._ensure_schema()
        self.start()
        if 'users' not in self._state.stages:
            self._make_users()
            self._state.set_stage('users')
            self._report('keystone: users and catalogue made')
        if self._state.options.cinder and (
                'cinder_service' not in self._state.stages):
            with open_identity(self._state) as identity:
                identity.ensure_service(
                    'block-storage', 'cinder', self._get_url('cinder') + '/v3')
            self._state.set_stage('cinder_service')

    def start(self) -> bool:
        """Start Keystone if it does not run; True if started."""
        spec = wsgi.prepare(
            self._layout, 'keystone', config=self._write_config(),
            application='keystone.wsgi.api:application', workers=1,
            threads=8, port=self._state.ports['keystone'],
            environment={
                'OS_KEYSTONE_CONFIG_DIR': str(self._layout.keystone)},
        )
        return self._supervisor.ensure(spec, self._answers,
                                       timeout_s=_START_TIMEOUT_S)

    def _answers(self) -> bool:
        port = self._state.ports['keystone']
        return http_json.get_status(port, '/v3') == 200

    def _write_config(self) -> str:
        keys = self._layout.keystone / 'fernet-keys'
        text = files.render_ini({
            'DEFAULT': {'log_file': self._layout.log('keystone')},
            'database': {'connection': mariadb.get_url(self._state,
                                                       'keystone')},
            'cache': {'enabled': True, 'backend': 'dogpile.cache.memory'},
            'fernet_tokens': {'key_repository': keys},
            # Receipts have keys of their own, or Keystone does not load.
            'fernet_receipts': {'key_repository': keys},
            'credential': {'key_repository': keys},
            # The passwords are random: no need to hash slowly.
            'identity': {'password_hash_rounds': 4},
        })
        files.write_private(self._layout.keystone / 'keystone.conf', text)
        return text

    def _ensure_schema(self) -> None:
        version = importlib.metadata.version('keystone')
        if self._state.stages.get('keystone') == version:
            return
        if 'keystone' not in self._state.stages:
            self._database.empty('keystone')
            self._write_keys()
        self._manage('db_sync')
        self._bootstrap()
        self._state.set_stage('keystone', version)
        self._report('keystone: database made')

    def _write_keys(self) -> None:
        folder = self._layout.keystone / 'fernet-keys'
        files.make_private_folders([folder])
        # 0 is the staged key, the highest number the primary one.
        for name in ('0', '1'):
            key = base64.urlsafe_b64encode(os.urandom(32)).decode()
            files.write_private(folder / name, key)

    def _bootstrap(self) -> None:
        url = get_url(self._state)
        self._manage('bootstrap', {
            'OS_BOOTSTRAP_USERNAME': ADMIN.name,
            'OS_BOOTSTRAP_PASSWORD': self._state.passwords[ADMIN.name],
            'OS_BOOTSTRAP_PROJECT_NAME': ADMIN.project,
            'OS_BOOTSTRAP_REGION_ID': REGION,
            'OS_BOOTSTRAP_PUBLIC_URL': url,
            'OS_BOOTSTRAP_INTERNAL_URL': url,
        })

    def _manage(self, what: str, environment: dict[str, str] | None = None
                ) -> None:
        self._supervisor.check_cancelled()
        command.run(
            [layouts.get_venv_program('keystone-manage'), '--config-file',
             str(self._layout.keystone / 'keystone.conf'), what],
            timeout_s=_MANAGE_TIMEOUT_S, environment=environment,
            folder=self._layout.run)

    def _make_users(self) -> None:
        with open_identity(self._state) as identity:
            for user in USERS:
                identity.ensure_user(user, self._state.passwords[user.name])
            identity.ensure_service('image', 'glance',
                                    self._get_url('glance'))

    def _get_url(self, service: str) -> str:
        return f'http://127.0.0.1:{self._state.ports[service]}'
