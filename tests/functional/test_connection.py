# SPDX-License-Identifier: Apache-2.0
"""A hypervisor opens a volume with what it is handed, and nothing more."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from os_brick.initiator.connectors.rbd import RBDConnector

from tests.functional import cluster
from tests.functional.content import MIB
from tests.functional.house import House

DATA = b'what the guest wrote'


def _keyring(house: House, user: str) -> str:
    return (Path(house.cluster.conf).parent
            / f'ceph.client.{user}.keyring').read_text()


def _properties(house: House, volume: str, **overrides: object
                ) -> dict[str, Any]:
    driver = house.driver(optimized=overrides)
    return dataclasses.asdict(driver.connections.get(volume))


def _v2_address(house: House) -> tuple[str, str]:
    monitors = json.loads(house.cluster.ceph(
        'mon', 'dump', '--format', 'json'))['mons']
    [address] = [entry['addr'] for entry
                 in monitors[0]['public_addrs']['addrvec']
                 if entry['type'] == 'v2']
    host, port = address.rsplit(':', 1)
    return host, port


@pytest.mark.parametrize('protocol', ['v1', 'v2'])
def test_os_brick_reads_and_writes(house: House, protocol: str) -> None:
    """With a v2 address alone, too: it has no prefix for os-brick."""
    volume = house.volume(DATA, MIB)
    properties = _properties(house, volume)
    if protocol == 'v2':
        host, port = _v2_address(house)
        properties |= {'hosts': [host], 'ports': [port]}
    # Of the hypervisor's own; os-brick would look in /etc/ceph for it.
    properties['keyring'] = _keyring(house, 'cinder')
    connector = RBDConnector(None)
    device = connector.connect_volume(properties)
    try:
        handle = device['path']
        assert handle.read(len(DATA)) == DATA
        handle.seek(4096)
        handle.write(b'by os-brick')
        handle.flush()
    finally:
        connector.disconnect_volume(properties, device)
    with house.cluster.open('volumes', volume, read_only=True) as image:
        assert image.read(4096, 11) == b'by os-brick'


@pytest.fixture
def hypervisor(house: House) -> Iterator[str]:
    """A user that may not write to the images."""
    name = f'hypervisor-{uuid.uuid4().hex[:8]}'
    entity = cluster.make_user(
        house.cluster, name,
        'profile rbd pool=volumes, profile rbd-read-only pool=images')
    yield name
    cluster.remove_user(house.cluster, entity)


@pytest.mark.parametrize('protocol', ['v1', 'v2'])
def test_qemu_opens_it_as_another_user(house: House, tmp_path: Path,
                                       hypervisor: str, protocol: str
                                       ) -> None:
    """As libvirt has QEMU do it: host and port joined, a user's own key."""
    volume = house.volume(DATA, MIB)
    found = _properties(house, volume, rbd_attach_user=hypervisor)
    assert found['auth_username'] == hypervisor
    [host], [port] = found['hosts'], found['ports']
    if protocol == 'v2':
        host, port = _v2_address(house)
    keyring = tmp_path / 'keyring'
    keyring.write_text(_keyring(house, hypervisor))
    conf = tmp_path / 'ceph.conf'
    conf.write_text(f'[global]\nkeyring = {keyring}\n')
    done = subprocess.run(
        ['qemu-img', 'info', '--force-share', '--output', 'json',
         f'rbd:{found["name"]}:id={found["auth_username"]}:'
         f'mon_host={host}\\:{port}:conf={conf}'],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)['virtual-size'] == MIB


def test_there_is_no_secret_in_a_connection(house: House) -> None:
    found = _properties(house, house.volume(DATA, MIB))
    house.check_output(json.dumps(found))
    assert found['secret_uuid'] == house.cluster.fsid
