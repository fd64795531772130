# SPDX-License-Identifier: Apache-2.0
"""cinder.conf: three backends that differ in who drives them.

``stock`` is Cinder's own driver, ``off`` and ``on`` are this project's
without and with the optimisation. Each has a pool of its own.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping

from volume_rbd.sandbox import files, glance, keystone, mariadb, rabbitmq
from volume_rbd.sandbox import layout as layouts
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.state import State

# The name of this node in Cinder's tables; the machine's own may change.
HOST = 'sandbox'

_STOCK = 'cinder.volume.drivers.rbd.RBDDriver'
_OURS = 'volume_rbd.cinder.RBDDriver'

Section = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Backend:
    """One section of enabled_backends.

    :param options: what it has beside what all have.
    """

    driver: str
    pool: str
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


BACKENDS = {
    'stock': Backend(_STOCK, 'volumes-stock'),
    'off': Backend(_OURS, 'volumes-off'),
    'on': Backend(_OURS, 'volumes', {
        'enable_clone_optimization': True,
        'rbd_attach_user': 'hypervisor'}),
}
DEFAULT_TYPE = 'on'


def get_sections(layout: Layout, state: State) -> dict[str, Section]:
    """cinder.conf as the sandbox's options say."""
    return (_get_common(layout, state) | _get_identity(state)
            | {name: _get_backend(layout, state, name) for name in BACKENDS})


def render(layout: Layout, state: State) -> str:
    """The whole cinder.conf, what a test has changed included."""
    return files.render_ini(_apply(layout, state))


def render_common(layout: Layout, state: State) -> str:
    """What concerns the API and the scheduler, too: all but the backends."""
    sections = _apply(layout, state)
    enabled = get_enabled(layout, state)
    return files.render_ini({
        name: values for name, values in sections.items()
        if name not in BACKENDS and name not in enabled})


def get_enabled(layout: Layout, state: State) -> list[str]:
    """The names of the backends that cinder-volume runs."""
    value = _apply(layout, state)['DEFAULT'].get('enabled_backends', '')
    return [name.strip() for name in str(value).split(',') if name.strip()]


def _apply(layout: Layout, state: State) -> dict[str, Section]:
    return files.apply_overrides(get_sections(layout, state),
                                 state.cinder_overrides)


def _get_common(layout: Layout, state: State) -> dict[str, Section]:
    folder = layout.cinder
    helper = shlex.quote(layouts.get_venv_program('privsep-helper'))
    return {
        'DEFAULT': _get_default(layout, state),
        'database': {'connection': mariadb.get_url(state, 'cinder'),
                     'max_pool_size': 20},
        # A broker that was restarted is found again within seconds.
        'oslo_messaging_rabbit': {
            'rabbit_retry_backoff': 1, 'rabbit_interval_max': 3,
            'kombu_reconnect_delay': 0.2},
        'coordination': {'backend_url': f'file://{folder / "coordination"}'},
        'oslo_concurrency': {'lock_path': folder / 'locks'},
        'key_manager': {
            'backend': 'volume_rbd.sandbox.keys.SandboxKeyManager',
            'folder': folder / 'keys'},
        # Nobody has set up sudo for a sandbox.
        'cinder_sys_admin': {'helper_command': helper},
        'privsep_osbrick': {'helper_command': helper},
    }


def _get_default(layout: Layout, state: State) -> Section:
    folder = layout.cinder
    return {
        'host': HOST,
        'my_ip': '127.0.0.1',
        'state_path': folder / 'state',
        'image_conversion_dir': folder / 'conversion',
        'api_paste_config': layouts.get_venv_file('etc/cinder/api-paste.ini'),
        'resource_query_filters_file': layouts.get_venv_file(
            'etc/cinder/resource_filters.json'),
        'rootwrap_config': layouts.get_venv_file('etc/cinder/rootwrap.conf'),
        'auth_strategy': 'keystone',
        'transport_url': rabbitmq.get_url(state),
        'rpc_response_timeout': 60,
        'enabled_backends': ','.join(BACKENDS),
        'default_volume_type': DEFAULT_TYPE,
        'enable_force_upload': True,
        'glance_api_servers': glance.get_url(state),
        # A dead service is noticed soon, a slow one is not called dead.
        'report_interval': 2,
        'service_down_time': 20,
        'periodic_interval': 10,
        'periodic_fuzzy_delay': 0,
        'backend_stats_polling_interval': 10,
        'graceful_shutdown_timeout': 10,
        'quota_volumes': 1000,
        'quota_snapshots': 2000,
        'quota_groups': 200,
        'quota_gigabytes': -1,
    }


def _get_identity(state: State) -> dict[str, Section]:
    """The sections with credentials, all of the user cinder."""
    account = keystone.get_credentials(state, 'cinder', 'service')
    bare = {k: v for k, v in account.items() if k != 'region_name'}
    return {
        'keystone_authtoken': account | {
            'www_authenticate_uri': keystone.get_url(state),
            'interface': 'internal',
            'service_token_roles': 'service',
            'service_token_roles_required': True,
        },
        'service_user': bare | {'send_service_user_token': True},
        'glance': account,
        'nova': account,
    }


def _get_backend(layout: Layout, state: State, name: str) -> Section:
    backend = BACKENDS[name]
    return {
        'volume_driver': backend.driver,
        'volume_backend_name': name,
        'rbd_pool': backend.pool,
        'rbd_user': 'cinder',
        'rbd_ceph_conf': layout.ceph_conf,
        'rbd_cluster_name': 'ceph',
        'rbd_secret_uuid': state.fsid,
        # Sparse volumes of a TiB, on a laptop.
        'max_over_subscription_ratio': '1000.0',
        **backend.options,
    }
