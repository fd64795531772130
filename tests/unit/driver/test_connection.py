# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor is handed to open a volume."""

from __future__ import annotations

import dataclasses

import pytest

from tests.unit.world import VOLUME, World
from volume_rbd import exception, opts
from volume_rbd.driver.connection import Connection


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    return made


def test_a_connection_is_what_libvirt_and_os_brick_take(world: World) -> None:
    with world.driver() as driver:
        found = driver.connections.get(VOLUME)
    assert dataclasses.asdict(found) == {
        'name': f'volumes/{VOLUME}', 'hosts': ('127.0.0.1',),
        'ports': ('6789',), 'cluster_name': 'ceph', 'auth_enabled': True,
        'auth_username': 'cinder', 'secret_type': 'ceph',
        'secret_uuid': world.ceph.fsid, 'discard': True}


def test_each_monitor_has_a_host_and_a_port(world: World) -> None:
    world.ceph.monitors = ['10.0.0.1:6789', '[2001:db8::2]:6790',
                           '10.0.0.3:3300']
    with world.driver() as driver:
        found = driver.connections.get(VOLUME)
    assert found.hosts == ('10.0.0.1', '2001:db8::2', '10.0.0.3')
    assert found.ports == ('6789', '6790', '3300')


def test_the_user_of_hypervisors_may_be_another_one(world: World) -> None:
    world.configure(attach_user='compute')
    with world.driver() as driver:
        found = driver.connections.get(VOLUME)
    assert (found.auth_username, found.auth_enabled) == ('compute', True)


def test_without_a_user_there_is_no_authentication(world: World) -> None:
    """As with the stock driver, for clusters without cephx."""
    world.configure(cluster=opts.ClusterConfig())
    with world.driver() as driver:
        found = driver.connections.get(VOLUME)
    assert (found.auth_username, found.auth_enabled) == (None, False)


def test_the_secret_may_have_a_uuid_of_its_own(world: World) -> None:
    world.configure(secret_uuid='457eb676-33da-42ec-9a8c-9293d545c337')
    with world.driver() as driver:
        found = driver.connections.get(VOLUME)
    assert found.secret_uuid == '457eb676-33da-42ec-9a8c-9293d545c337'


def test_no_key_is_ever_in_it() -> None:
    """OSSN-0085: whoever may see a connection would have it."""
    names = {field.name for field in dataclasses.fields(Connection)}
    assert not {name for name in names if 'key' in name}


def test_a_volume_that_is_not_there_has_no_connection(world: World) -> None:
    world.volumes.trash_move(VOLUME)
    with world.driver() as driver:
        for name in ('nope', VOLUME):
            with pytest.raises(exception.ImageNotFound, match=name):
                driver.connections.get(name)


def test_asking_touches_nothing(world: World) -> None:
    before = world.state()
    with world.driver() as driver:
        driver.connections.get(VOLUME)
    assert world.state() == before


def test_a_cluster_that_does_not_answer_is_told(world: World) -> None:
    world.ceph.is_reachable = False
    with world.driver() as driver, \
            pytest.raises(exception.ClusterUnavailable):
        driver.connections.get(VOLUME)
