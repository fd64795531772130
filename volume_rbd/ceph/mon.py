# SPDX-License-Identifier: Apache-2.0
"""What the monitors are asked: addresses, usage and health."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from volume_rbd import exception
from volume_rbd.ceph.interface import Health, PoolUsage
from volume_rbd.ceph.session import Session


def addresses(session: Session) -> list[str]:
    """host:port of each monitor; the v1 port wherever it has one.

    Those who are handed it join host and port without a prefix, and the rbd
    of older kernels speaks v1 only. librados takes "host:3300" for v2 by the
    number, and tries both at a number that is neither 3300 nor 6789 (tried
    with 16.2), so a v2 address is of use where there is no other.
    """
    return list(known_addresses(session.command('mon dump')['mons']))


def known_addresses(monitors: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One of each monitor of a monmap (the JSON of "mon dump")."""
    for monitor in monitors:
        by_type: dict[str, str] = {}
        for entry in monitor['public_addrs']['addrvec']:
            # One that is not up yet has port 0.
            if not str(entry['addr']).endswith(':0'):
                by_type.setdefault(entry['type'], str(entry['addr']))
        found = by_type.get('v1') or next(iter(by_type.values()), None)
        if found is not None:
            yield found


def blocklisted(session: Session) -> set[str]:
    """The addresses of those who are shut out; networks that are (a second
    list behind this one) do not count."""
    return {str(entry['addr'])
            for entry in session.command('osd blocklist ls')}


def health(session: Session) -> Health:
    return parse_health(session.command('health'))


def parse_health(told: dict[str, Any]) -> Health:
    """:param told: the JSON of "health"."""
    checks = {name: check for name, check in told.get('checks', {}).items()
              if not check.get('muted')}
    return Health(told['status'], frozenset(checks), frozenset(
        name for name, check in checks.items()
        if check.get('severity') == 'HEALTH_ERR'))


def usage(session: Session, pool: str) -> PoolUsage:
    # max_avail knows replicas and full ratios; the pool's quota it does not.
    known = session.command('df', detail='detail')
    for entry in known['pools']:
        if entry['name'] == pool:
            return _usage(entry['stats'], known['stats']['total_bytes'])
    raise exception.PoolNotFound(f'Cannot ask for the usage of {pool}: '
                                 'the cluster does not list it.')


def _usage(stats: dict[str, int], cluster_bytes: int) -> PoolUsage:
    quota = stats.get('quota_bytes') or None
    available = stats['max_avail']
    if quota is not None:
        available = min(available, max(quota - stats['stored'], 0))
    return PoolUsage(stored_bytes=stats['stored'],
                     max_available_bytes=available, quota_bytes=quota,
                     cluster_bytes=cluster_bytes)
