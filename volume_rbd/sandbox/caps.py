# SPDX-License-Identifier: Apache-2.0
"""Who may do what in the sandbox's cluster.

The defaults are the caps this project asks operators for; the switches give
the narrower ones that are common in the field, to test what then happens.
"""

from __future__ import annotations

from collections.abc import Mapping

from volume_rbd.sandbox.options import Options

POOLS = ('volumes', 'images', 'vms')

Caps = Mapping[str, str]

DAEMONS: Mapping[str, Caps] = {
    'mon.': {'mon': 'allow *'},
    'mgr.a': {'mon': 'allow profile mgr', 'osd': 'allow *', 'mds': 'allow *'},
    'osd.0': {'mon': 'allow profile osd', 'mgr': 'allow profile osd',
              'osd': 'allow *'},
}


def get_client_caps(options: Options) -> dict[str, Caps]:
    """The caps of every client, by entity name."""
    return {
        'client.admin': {'mon': 'allow *', 'osd': 'allow *',
                         'mgr': 'allow *', 'mds': 'allow *'},
        'client.glance': get_glance_caps(options.glance_reads_volumes),
        'client.cinder': _rbd_everywhere(POOLS),
        'client.nova': get_nova_caps(options.nova_reads_volumes),
    }


def get_glance_caps(reads_volumes: bool) -> Caps:
    """Caps of Glance's user.

    :param reads_volumes: without read on the volumes pool Glance cannot open
        an image in its own pool whose parent is there (PermissionError).
    """
    osd = ['profile rbd pool=images']
    if reads_volumes:
        osd.append('profile rbd-read-only pool=volumes')
    return {'mon': 'profile rbd', 'osd': ', '.join(osd),
            'mgr': 'profile rbd pool=images'}


def get_nova_caps(reads_volumes: bool) -> Caps:
    """Caps of a compute node's user: its own pool, and what it clones from."""
    osd = ['profile rbd pool=vms', 'profile rbd-read-only pool=images']
    if reads_volumes:
        osd.append('profile rbd-read-only pool=volumes')
    return {'mon': 'profile rbd', 'osd': ', '.join(osd),
            'mgr': 'profile rbd pool=vms'}


def _rbd_everywhere(pools: tuple[str, ...]) -> Caps:
    each = ', '.join(f'profile rbd pool={pool}' for pool in pools)
    return {'mon': 'profile rbd', 'osd': each, 'mgr': each}


def to_arguments(caps: Caps) -> list[str]:
    """Caps as the arguments of ``ceph auth caps ENTITY``."""
    return [word for pair in caps.items() for word in pair]
