# SPDX-License-Identifier: Apache-2.0
"""What the monitors are asked: addresses and usage."""

from __future__ import annotations

from typing import Any

from volume_rbd import exception
from volume_rbd.ceph.interface import PoolUsage
from volume_rbd.ceph.session import Session


def addresses(session: Session) -> list[str]:
    """host:port of each monitor; the v1 port wherever it has one.

    libvirt and QEMU take v1 addresses in every release, v2 ones not.
    """
    return [_address(monitor)
            for monitor in session.command('mon dump')['mons']]


def _address(monitor: dict[str, Any]) -> str:
    by_type = {entry['type']: str(entry['addr'])
               for entry in monitor['public_addrs']['addrvec']}
    return by_type.get('v1') or next(iter(by_type.values()))


def usage(session: Session, pool: str) -> PoolUsage:
    # max_avail knows replicas and full ratios; the pool's quota it does not.
    for entry in session.command('df', detail='detail')['pools']:
        if entry['name'] == pool:
            return _usage(entry['stats'])
    raise exception.PoolNotFound(f'Cannot ask for the usage of {pool}: '
                                 'the cluster does not list it.')


def _usage(stats: dict[str, int]) -> PoolUsage:
    quota = stats.get('quota_bytes') or None
    available = stats['max_avail']
    if quota is not None:
        available = min(available, max(quota - stats['stored'], 0))
    return PoolUsage(stored_bytes=stats['stored'],
                     max_available_bytes=available, quota_bytes=quota)
