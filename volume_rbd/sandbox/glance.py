# SPDX-License-Identifier: Apache-2.0
"""Glance with an RBD store and a file store."""

from __future__ import annotations

import importlib.metadata

from volume_rbd.sandbox import (
    command,
    files,
    http_json,
    keystone,
    mariadb,
    wsgi,
)
from volume_rbd.sandbox import layout as layouts
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

_MANAGE_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 60.0


def get_url(state: State) -> str:
    """Glance's URL, without a version."""
    return f'http://127.0.0.1:{state.ports["glance"]}'


def get_sections(layout: Layout, state: State
                 ) -> dict[str, dict[str, object]]:
    """glance-api.conf as the sandbox's options say."""
    options = state.options
    rbd: dict[str, object] = {
        'rbd_store_pool': 'images',
        'rbd_store_user': 'glance',
        'rbd_store_ceph_conf': layout.ceph_conf,
        # Zeros stay holes: a sandbox lives on somebody's laptop.
        'rbd_thin_provisioning': 'true',
    }
    file: dict[str, object] = {
        'filesystem_store_datadir': layout.glance / 'file'}
    authentication = keystone.get_credentials(state, 'glance', 'service') | {
        'www_authenticate_uri': keystone.get_url(state),
        'interface': 'internal',
        'service_token_roles': 'service',
        'service_token_roles_required': True,
    }
    return {
        'DEFAULT': {
            'log_file': layout.log('glance'),
            'enabled_backends': 'rbd:rbd,file:file',
            'enabled_import_methods': '[glance-direct,copy-image]',
            'show_multiple_locations': options.show_multiple_locations,
            'do_secure_hash': options.secure_hash,
            'worker_self_reference_url': get_url(state),
        },
        'database': {'connection': mariadb.get_url(state, 'glance')},
        'glance_store': {
            'default_backend': 'rbd',
            # Only read when a test takes enabled_backends away.
            'stores': 'file,rbd', 'default_store': 'rbd', **rbd, **file,
        },
        'rbd': rbd,
        'file': file,
        'os_glance_staging_store': {
            'filesystem_store_datadir': layout.glance / 'staging'},
        'os_glance_tasks_store': {
            'filesystem_store_datadir': layout.glance / 'tasks'},
        # Hashing and deleting lock each other out; without a place for the
        # locks Glance answers 500 to a DELETE and never hashes.
        'oslo_concurrency': {'lock_path': layout.glance / 'locks'},
        'paste_deploy': {
            'flavor': 'keystone',
            'config_file': layouts.get_venv_file(
                'etc/glance/glance-api-paste.ini')},
        'keystone_authtoken': authentication,
    }


class Glance:
    """The Image service of a sandbox."""

    def __init__(self, layout: Layout, state: State, supervisor: Supervisor,
                 report: Report, database: mariadb.MariaDB) -> None:
        self._layout = layout
        self._state = state
        self._supervisor = supervisor
        self._report = report
        self._database = database

    def prepare(self) -> None:
        """Make folders, configuration and tables; needs only MariaDB.

        :raises SandboxError: glance-manage fails.
        """
        folder = self._layout.glance
        files.make_private_folders(
            folder / part
            for part in ('file', 'staging', 'tasks', 'locks'))
        self._write_config()
        version = importlib.metadata.version('glance')
        if self._state.stages.get('glance') == version:
            return
        if 'glance' not in self._state.stages:
            self._database.empty('glance')
        self._supervisor.check_cancelled()
        command.run(
            [layouts.get_venv_program('glance-manage'), '--config-file',
             str(folder / 'glance-api.conf'), 'db_sync'],
            timeout_s=_MANAGE_TIMEOUT_S, folder=self._layout.run)
        self._state.set_stage('glance', version)
        self._report('glance: database made')

    def start(self) -> bool:
        """Start Glance if it does not run as configured; True if started."""
        options = self._state.options
        spec = wsgi.prepare(
            self._layout, 'glance', config=self._write_config(),
            application='glance.wsgi.api:application',
            workers=options.glance_workers, threads=options.glance_threads,
            port=self._state.ports['glance'],
            environment={'OS_GLANCE_CONFIG_DIR': str(self._layout.glance)},
        )
        return self._supervisor.ensure(spec, self._answers,
                                       timeout_s=_START_TIMEOUT_S)

    def _answers(self) -> bool:
        # 300 Multiple Choices is how Glance lists its API versions.
        status = http_json.get_status(self._state.ports['glance'], '/')
        return status in (200, 300)

    def _write_config(self) -> str:
        sections = files.apply_overrides(
            get_sections(self._layout, self._state),
            self._state.glance_overrides)
        text = files.render_ini(sections)
        files.write_private(self._layout.glance / 'glance-api.conf', text)
        return text
