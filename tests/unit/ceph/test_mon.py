# SPDX-License-Identifier: Apache-2.0
"""The monitors' addresses, out of a monmap."""

from __future__ import annotations

from typing import Any

import pytest

from volume_rbd.ceph import mon


def _monitor(*addresses: str) -> dict[str, Any]:
    vector = []
    for address in addresses:
        kind, _, rest = address.partition(':')
        vector.append({'type': kind, 'addr': rest, 'nonce': 0})
    return {'public_addrs': {'addrvec': vector}}


@pytest.mark.parametrize(('addresses', 'expected'), [
    (['v2:10.0.0.1:3300', 'v1:10.0.0.1:6789'], ['10.0.0.1:6789']),
    (['v1:10.0.0.1:6789'], ['10.0.0.1:6789']),
    (['v2:10.0.0.1:3300'], ['10.0.0.1:3300']),
    (['v2:[2001:db8::1]:3300', 'v1:[2001:db8::1]:6789'],
     ['[2001:db8::1]:6789']),
    (['v1:10.0.0.1:6789', 'v1:[2001:db8::1]:6789'], ['10.0.0.1:6789']),
    (['v2:10.0.0.1:3300', 'v1:10.0.0.1:0'], ['10.0.0.1:3300']),
    (['v1:0.0.0.0:0'], []),
    ([], []),
])
def test_a_monitor_is_reached_at_its_v1_port_where_it_has_one(
        addresses: list[str], expected: list[str]) -> None:
    assert list(mon.known_addresses([_monitor(*addresses)])) == expected


def test_each_monitor_is_told_once_in_its_order() -> None:
    """Some speak v2 only, in the middle of a change."""
    monmap = [_monitor('v2:10.0.0.3:3300'),
              _monitor('v2:10.0.0.1:3300', 'v1:10.0.0.1:6789')]
    assert list(mon.known_addresses(monmap)) == [
        '10.0.0.3:3300', '10.0.0.1:6789']


def test_of_health_what_is_muted_does_not_count() -> None:
    health = mon.parse_health({'status': 'HEALTH_ERR', 'checks': {
        'OSD_FULL': {'severity': 'HEALTH_ERR', 'muted': False},
        'SLOW_OPS': {'severity': 'HEALTH_WARN', 'muted': False},
        'MON_DISK_CRIT': {'severity': 'HEALTH_ERR', 'muted': True}}})

    assert health.status == 'HEALTH_ERR'
    assert health.checks == {'OSD_FULL', 'SLOW_OPS'}
    assert health.errors == {'OSD_FULL'}
