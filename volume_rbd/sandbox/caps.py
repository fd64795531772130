# SPDX-License-Identifier: Apache-2.0
"""Who may do what in the sandbox's cluster.

The defaults are the caps this project asks operators for; the switches give
the narrower ones that are common in the field, to test what then happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from volume_rbd.sandbox.options import Options

POOLS = ('volumes', 'images', 'vms')
# Each of Cinder's backends has a pool to itself; "volumes" is the third one.
CINDER_POOLS = ('volumes-off', 'volumes-stock')

Caps = Mapping[str, str]

DAEMONS: Mapping[str, Caps] = {
    'mon.': {'mon': 'allow *'},
    'mgr.a': {'mon': 'allow profile mgr', 'osd': 'allow *', 'mds': 'allow *'},
    'osd.0': {'mon': 'allow profile osd', 'mgr': 'allow profile osd',
              'osd': 'allow *'},
}


def get_client_caps(options: Options) -> dict[str, Caps]:
    """The caps of every client, by entity name."""
    volumes = get_volume_pools(options)
    everything = POOLS + CINDER_POOLS if options.cinder else POOLS
    clients = {
        'client.admin': {'mon': 'allow *', 'osd': 'allow *',
                         'mgr': 'allow *', 'mds': 'allow *'},
        'client.glance': get_glance_caps(
            volumes if options.glance_reads_volumes else ()),
        'client.cinder': _rbd_everywhere(everything),
        'client.nova': get_nova_caps(
            volumes if options.nova_reads_volumes else (),
            writes_images=options.nova_writes_images),
    }
    if options.cinder:
        clients['client.hypervisor'] = get_hypervisor_caps(volumes)
    return clients


def get_volume_pools(options: Options) -> tuple[str, ...]:
    """The pools that hold volumes."""
    return ('volumes', *CINDER_POOLS) if options.cinder else ('volumes',)


def get_glance_caps(readable: Sequence[str]) -> Caps:
    """Caps of Glance's user.

    :param readable: pools of volumes. Without read on them Glance cannot
        open an image in its own pool whose parent is there
        (PermissionError).
    """
    osd = ['profile rbd pool=images', *map(_read_only, readable)]
    return {'mon': 'profile rbd', 'osd': ', '.join(osd),
            'mgr': 'profile rbd pool=images'}


def get_nova_caps(readable: Sequence[str], *, writes_images: bool = False
                  ) -> Caps:
    """Caps of a compute node's user: its own pool, and what it clones from.

    :param readable: pools of volumes.
    :param writes_images: what it clones into as well.
    """
    images = ('profile rbd pool=images' if writes_images
              else _read_only('images'))
    osd = ['profile rbd pool=vms', images, *map(_read_only, readable)]
    return {'mon': 'profile rbd', 'osd': ', '.join(osd),
            'mgr': 'profile rbd pool=vms'}


def get_hypervisor_caps(volumes: Sequence[str]) -> Caps:
    """Caps of who attaches volumes: images are only read, as parents."""
    pools = [f'profile rbd pool={pool}' for pool in volumes]
    return {'mon': 'profile rbd', 'osd': ', '.join(
        [*pools, _read_only('images')]), 'mgr': ', '.join(pools)}


def _read_only(pool: str) -> str:
    return f'profile rbd-read-only pool={pool}'


def _rbd_everywhere(pools: tuple[str, ...]) -> Caps:
    each = ', '.join(f'profile rbd pool={pool}' for pool in pools)
    return {'mon': 'profile rbd', 'osd': each, 'mgr': each}


def to_arguments(caps: Caps) -> list[str]:
    """Caps as the arguments of ``ceph auth caps ENTITY``."""
    return [word for pair in caps.items() for word in pair]
