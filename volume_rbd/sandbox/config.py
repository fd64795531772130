# SPDX-License-Identifier: Apache-2.0
"""How the sandbox is used: a configuration file and an environment."""

from __future__ import annotations

from volume_rbd.sandbox import cinder, files, glance, keystone, mariadb
from volume_rbd.sandbox.identity import DOMAIN_NAME, REGION, get_user
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.state import State

# Clients would speak 3.0, without groups and attachments.
_VOLUME_API_VERSION = '3.70'


def render(layout: Layout, state: State) -> str:
    """volume-rbd.conf: two backends that differ in the optimisation only, and
    the disks of a compute agent."""
    sections: dict[str, dict[str, object]] = {
        'DEFAULT': {'enabled_backends': 'ceph,optimized',
                    'instances_path': layout.folder / 'instances'},
        'libvirt': {'images_type': 'rbd', 'images_rbd_pool': 'vms',
                    'images_rbd_ceph_conf': layout.ceph_conf,
                    'rbd_user': 'nova'}}
    for name, optimized in (('ceph', False), ('optimized', True)):
        sections[name] = {
            'volume_backend_name': name,
            'rbd_pool': 'volumes',
            'rbd_user': 'cinder',
            'rbd_ceph_conf': layout.ceph_conf,
            'rbd_cluster_name': 'ceph',
            'enable_clone_optimization': optimized,
        }
    if not state.options.ceph_only:
        user = get_user('service')
        account = keystone.get_credentials(state, user.name, user.project)
        del account['region_name']  # neither section has such an option
        sections['DEFAULT']['glance_api_servers'] = glance.get_url(state)
        sections['glance'] = account
        sections['service_user'] = {'send_service_user_token': True} | account
    return files.render_ini(sections)


def get_environment(layout: Layout, state: State, role: str
                    ) -> dict[str, str]:
    """One flat object with all a client or a test needs.

    :param role: ``service`` (the volume service's user) or a user's name.
    :raises KeyError: there is no such user.
    """
    user = get_user(role)
    environment = {
        'CEPH_CONF': str(layout.ceph_conf),
        'VOLUME_RBD_CONFIG': str(layout.config),
        'SANDBOX': str(layout.folder),
    }
    if state.options.ceph_only:
        return environment
    if state.options.cinder:
        environment |= {
            'CINDER': cinder.get_url(state),
            'CINDER_CONF': str(layout.cinder_conf),
            'OS_VOLUME_API_VERSION': _VOLUME_API_VERSION,
        }
    return environment | {
        'OS_AUTH_TYPE': 'password',
        'OS_AUTH_URL': keystone.get_url(state),
        'OS_USERNAME': user.name,
        'OS_PASSWORD': state.passwords[user.name],
        'OS_PROJECT_NAME': user.project,
        'OS_USER_DOMAIN_NAME': DOMAIN_NAME,
        'OS_PROJECT_DOMAIN_NAME': DOMAIN_NAME,
        'OS_IDENTITY_API_VERSION': '3',
        'OS_REGION_NAME': REGION,
        'GLANCE': glance.get_url(state),
        'flow_connection': mariadb.get_url(state, 'volume_rbd'),
    }
