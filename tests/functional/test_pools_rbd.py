# SPDX-License-Identifier: Apache-2.0
"""Disks in RBD: storage pools of type rbd on a real libvirtd, as client.nova.

The traps come first: what libvirt itself does, so that whoever reads "rbd
pools are made by us" sees why; then that none of it happens to our disks.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.functional import content
from tests.functional.house import House
from tests.functional.hypervisor import MIB, Hypervisor, instance
from volume_rbd import compute, exception, model
from volume_rbd.compute import xml
from volume_rbd.compute.pools import bindings
from volume_rbd.compute.pools.rbd_disks import RBDDisks

pytestmark = pytest.mark.usefixtures('house')

DATA = content.random_bytes(2 * MIB)


@pytest.fixture
def agent(hypervisor: Hypervisor) -> compute.ComputeAgent:
    made = hypervisor.agent('rbd')
    made.pools.ensure()
    return made


@pytest.fixture
def disks(agent: compute.ComputeAgent) -> RBDDisks:
    made = agent.pools.disks
    assert isinstance(made, RBDDisks)
    return made


@pytest.fixture
def named(house: House) -> Iterator[str]:
    """A name in the pool of the disks, whose rbd_image goes at the end."""
    name = f'{instance()}_disk'
    yield name
    if name in house.cluster.names('vms'):
        house.cluster.remove('vms', name)


def volume(name: str, size_bytes: int = 4 * MIB,
           backing: xml.Backing | None = None) -> str:
    return xml.build_volume(name, 'raw', size_bytes, backing=backing)


# -- the traps: what libvirt does by itself -----------------------------------
def test_libvirt_deletes_what_bears_the_name_that_it_wants(
        house: House, hypervisor: Hypervisor, agent: compute.ComputeAgent,
        named: str) -> None:
    """A clone fails because the name is taken in Ceph, and libvirt removes
    the rbd_image that has it."""
    house.cluster.make('vms', f'{named}.source', DATA)
    agent.pools.disks.pool.refresh()
    house.cluster.make('vms', named, DATA)
    with hypervisor.pool() as pool:
        source = pool.storageVolLookupByName(f'{named}.source')
        with pytest.raises(bindings.libvirt().libvirtError):
            pool.createXMLFrom(volume(named), source, 0)

    assert named not in house.cluster.names('vms')
    house.cluster.remove('vms', f'{named}.source')


def test_libvirt_takes_another_pools_name_for_its_own(
        house: House, hypervisor: Hypervisor, agent: compute.ComputeAgent,
        named: str) -> None:
    """createXMLFrom looks for the source's name in the target's pool: here
    another rbd_image has it, and its bytes get into the new disk."""
    image = f'{named}.image'
    house.cluster.make('images', image, DATA)
    with hypervisor.libvirtd.connected() as conn:
        theirs = xml.read_pool(conn.storagePoolLookupByName(
            'nova-disks-pool').XMLDesc(0))
        conn.storagePoolDefineXML(xml.build_pool(xml.Pool(
            'images', 'rbd', source='images', hosts=theirs.hosts,
            user=theirs.user, secret_uuid=theirs.secret_uuid)), 0).create()
        source = conn.storagePoolLookupByName(
            'images').storageVolLookupByName(image)
        pool = conn.storagePoolLookupByName('nova-disks-pool')
        with pytest.raises(bindings.libvirt().libvirtError,
                           match='failed to open the RBD image'):
            pool.createXMLFrom(volume(named), source, 0)
        house.cluster.make('vms', image, b'of another guest' + bytes(MIB))
        pool.createXMLFrom(volume(named), source, 0)

    with house.cluster.open('vms', named) as opened:
        assert opened.read(0, 16) == b'of another guest'
    for pool_name, name in (('vms', named), ('vms', image),
                            ('images', image)):
        house.cluster.remove(pool_name, name)


def test_libvirt_ignores_a_backing_store(
        house: House, hypervisor: Hypervisor, agent: compute.ComputeAgent,
        named: str) -> None:
    """The disk is empty, and its XML says that it is not."""
    house.cluster.make('images', named, DATA)
    house.cluster.take_snapshot('images', named, 'snap')
    with hypervisor.pool() as pool:
        made = pool.createXML(volume(named, backing=xml.Backing(
            f'images/{named}@snap', 'raw')), 0)
        assert xml.read_volume(made.XMLDesc(0)).backing

    assert house.cluster.parent('vms', named) is None
    with house.cluster.open('vms', named) as opened:
        assert opened.read(0, MIB) == bytes(MIB)
    house.cluster.remove('images', named)


def test_libvirt_leaves_a_protected_snapshot_behind(
        house: House, hypervisor: Hypervisor, agent: compute.ComputeAgent,
        named: str) -> None:
    """And makes no second copy once the source has changed."""
    house.cluster.make('vms', f'{named}.source', DATA)
    agent.pools.disks.pool.refresh()
    with hypervisor.pool() as pool:
        source = pool.storageVolLookupByName(f'{named}.source')
        pool.createXMLFrom(volume(named), source, 0)
        [left] = house.cluster.snapshots('vms', f'{named}.source')
        assert left.startswith('libvirt-')
        house.cluster.write('vms', f'{named}.source', b'changed')
        with pytest.raises(bindings.libvirt().libvirtError):
            pool.createXMLFrom(volume(f'{named}.second'), source, 0)

    house.cluster.remove('vms', named)
    house.cluster.remove('vms', f'{named}.source')


def test_libvirt_does_not_know_what_others_made(
        house: House, hypervisor: Hypervisor, agent: compute.ComputeAgent,
        named: str) -> None:
    house.cluster.make('vms', named, DATA)
    with hypervisor.pool() as pool:
        with pytest.raises(bindings.libvirt().libvirtError,
                           match='no storage vol'):
            pool.storageVolLookupByName(named)
        with pytest.raises(bindings.libvirt().libvirtError,
                           match='No such file'):
            pool.createXML(volume(named), 0)
    assert house.cluster.names('vms') == [named]


@pytest.mark.long
def test_libvirt_starts_no_guest_from_a_volume_in_rbd(
        house: House, hypervisor: Hypervisor, agent: compute.ComputeAgent,
        named: str) -> None:
    house.cluster.make('vms', named, DATA)
    agent.pools.disks.pool.refresh()
    with pytest.raises(bindings.libvirt().libvirtError,
                       match="isn't yet supported"):
        hypervisor.libvirtd.translate(xml.build_volume_disk(
            'nova-disks-pool', named, 'raw', 'vda'))


# -- the pool -----------------------------------------------------------------
def test_the_pool_comes_with_its_secret(hypervisor: Hypervisor) -> None:
    pools = hypervisor.agent('rbd').pools
    state = pools.ensure()[1]

    assert (state.kind, state.target, state.is_active, state.done) == (
        'rbd', 'vms', True, 'made')
    assert [again.done for again in pools.ensure()] == ['', '']
    with hypervisor.pool() as pool:
        found = xml.read_pool(pool.XMLDesc(0))
        assert pool.autostart()
    assert found.user == 'nova'
    assert found.secret_uuid == hypervisor.house.cluster.fsid
    assert [f'{host}:{port}' for host, port in found.hosts] == _v1(hypervisor)


def _v1(hypervisor: Hypervisor) -> list[str]:
    """The monitors by the protocol that libvirt's librados is given."""
    monitors = json.loads(hypervisor.house.cluster.ceph(
        'mon', 'dump', '--format', 'json'))['mons']
    return [entry['addr'] for monitor in monitors
            for entry in monitor['public_addrs']['addrvec']
            if entry['type'] == 'v1']


def test_the_secret_is_named_in_the_configuration(hypervisor: Hypervisor
                                                  ) -> None:
    uuid = '457eb676-33da-42ec-9a8c-9293d545c337'
    agent = hypervisor.agent('rbd', rbd_secret_uuid=uuid)
    agent.pools.ensure()

    with hypervisor.pool() as pool:
        assert xml.read_pool(pool.XMLDesc(0)).secret_uuid == uuid
    assert agent.pools.secrets.has(uuid)
    agent.pools.secrets.remove(uuid)
    agent.pools.secrets.remove(uuid)
    assert not agent.pools.secrets.has(uuid)


def test_nobody_is_shown_the_key(
        hypervisor: Hypervisor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    agent = hypervisor.agent('rbd')
    agent.pools.ensure()
    conf = Path(hypervisor.house.cluster.conf)
    key = re.findall(r'key = (\S+)', (
        conf.parent / 'ceph.client.nova.keyring').read_text())[0]
    libvirt = bindings.libvirt()
    connection = libvirt.open(hypervisor.libvirtd.secrets_uri)
    secret = connection.secretLookupByUUIDString(
        hypervisor.house.cluster.fsid)

    with pytest.raises(libvirt.libvirtError, match='secret is private'):
        secret.value()
    assert key not in caplog.text
    assert key not in secret.XMLDesc(0)
    with hypervisor.pool() as pool:
        assert key not in pool.XMLDesc(0)
    connection.close()
    held = [path for path in hypervisor.libvirtd.folder.rglob('*')
            if path.is_file() and key.encode() in path.read_bytes()]
    assert [path.parent.name for path in held] == ['secrets']
    assert held[0].stat().st_mode & 0o077 == 0


def test_a_pool_over_other_data_is_not_touched(
        house: House, hypervisor: Hypervisor, agent: compute.ComputeAgent
        ) -> None:
    other = hypervisor.agent('rbd', images_rbd_pool='volumes')
    with pytest.raises(exception.StoragePoolConflict, match='vms'):
        other.pools.ensure()
    assert agent.pools.disks.pool.state().is_active


def test_a_pool_that_knows_other_monitors_is_changed(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    with hypervisor.libvirtd.connected() as conn:
        pool = conn.storagePoolLookupByName('nova-disks-pool')
        known = xml.read_pool(pool.XMLDesc(0))
        pool.destroy()
        conn.storagePoolDefineXML(xml.build_pool(xml.Pool(
            known.name, 'rbd', known.uuid, source='vms',
            hosts=(('127.0.0.1', '1'),), user='nova',
            secret_uuid=known.secret_uuid)), 0)

    state = agent.pools.ensure()[1]

    assert (state.done, state.is_active, state.uuid) == (
        'changed', True, known.uuid)
    with hypervisor.pool() as pool:
        assert xml.read_pool(pool.XMLDesc(0)).hosts == known.hosts


# -- disks --------------------------------------------------------------------
def test_a_disk_is_a_clone_of_the_image(
        house: House, hypervisor: Hypervisor, disks: RBDDisks) -> None:
    _, uploaded = house.upload(house.volume(DATA, 4 * MIB))
    image = str(uploaded.values['image_id'])
    guest = instance()

    disk = disks.create(guest, 'disk', model.GIB, image=image)

    name = f'{guest}_disk'
    assert disk.volume == xml.Volume(
        name, f'vms/{name}', 'raw', model.GIB,
        backing=xml.Backing(f'images/{image}@snap', 'raw'))
    assert house.cluster.parent('vms', name) == f'images/{image}'
    disks.settle()
    with hypervisor.pool() as pool:
        told = xml.read_volume(pool.storageVolLookupByName(name).XMLDesc(0))
    assert (told.path, told.capacity_bytes) == (f'vms/{name}', model.GIB)
    with house.cluster.open('vms', name) as opened:
        assert opened.read(0, len(DATA)) == DATA
    disks.delete(guest, 'disk')
    assert disks.find(guest, 'disk') is None
    disks.settle()
    with hypervisor.pool() as pool:
        assert pool.listVolumes() == []


def test_a_blank_disk_grows_and_goes(house: House, disks: RBDDisks) -> None:
    guest = instance()
    assert disks.create(guest, 'disk.local', model.GIB).chain == ()
    assert disks.resize(guest, 'disk.local', 2 * model.GIB
                        ).volume.capacity_bytes == 2 * model.GIB
    with pytest.raises(exception.InvalidSize):
        disks.resize(guest, 'disk.local', model.GIB)
    assert [(disk.instance, disk.name) for disk in disks.list()] == [
        (guest, 'disk.local')]
    disks.delete(guest, 'disk.local')
    with pytest.raises(exception.ImageNotFound):
        disks.delete(guest, 'disk.local')


def test_a_name_that_libvirt_does_not_know_is_taken_all_the_same(
        house: House, hypervisor: Hypervisor, disks: RBDDisks, named: str
        ) -> None:
    house.cluster.make('vms', named, DATA)
    guest = named.partition('_')[0]

    with pytest.raises(exception.ImageExists):
        disks.create(guest, 'disk', model.GIB)

    assert house.cluster.size('vms', named) == len(DATA)
    with house.cluster.open('vms', named) as opened:
        assert opened.read(0, len(DATA)) == DATA
    assert disks.get(guest, 'disk').volume.capacity_bytes == len(DATA)
    assert disks.known() == set()  # to look did not refresh
    disks.pool.refresh()
    assert disks.known() == {named}


def test_what_libvirt_still_knows_and_ceph_does_not_is_not_there(
        house: House, hypervisor: Hypervisor, disks: RBDDisks, named: str
        ) -> None:
    guest = named.partition('_')[0]
    house.cluster.make('vms', named, DATA)
    disks.pool.refresh()
    house.cluster.remove('vms', named)

    assert disks.known() == {named}
    assert disks.find(guest, 'disk') is None
    disk = disks.create(guest, 'disk', model.GIB)
    assert disk.volume.capacity_bytes == model.GIB
    disks.delete(guest, 'disk')


def test_libvirt_is_told_of_all(
        hypervisor: Hypervisor, disks: RBDDisks) -> None:
    guests = [instance() for _ in range(5)]
    for guest in guests:
        disks.create(guest, 'disk', model.GIB)

    disks.settle()

    assert disks.known() == {f'{guest}_disk' for guest in guests}
    for guest in guests:
        disks.delete(guest, 'disk')
    disks.settle()
    assert disks.known() == set()


def test_a_guest_finds_its_disk_at_the_monitors(
        hypervisor: Hypervisor, disks: RBDDisks) -> None:
    guest = instance()
    disks.create(guest, 'disk', model.GIB)

    text = disks.xml(guest, 'disk', 'vdb')

    root = ET.fromstring(text)
    source = root.find('source')
    assert source is not None
    assert root.get('type') == 'network'
    assert source.attrib == {'protocol': 'rbd', 'name': f'vms/{guest}_disk'}
    assert [f'{host.get("name")}:{host.get("port")}'
            for host in source.findall('host')] == _v1(hypervisor)
    auth = source.find('auth')
    assert auth is not None
    assert auth.get('username') == 'nova'
    assert [child.attrib for child in auth] == [
        {'type': 'ceph', 'uuid': hypervisor.house.cluster.fsid}]
    told = hypervisor.libvirtd.translate(text)
    assert f'"pool":"vms","image":"{guest}_disk"' in told
    for monitor in _v1(hypervisor):
        host, port = monitor.split(':')
        assert f'{{"host":"{host}","port":"{port}"}}' in told
    assert '"user":"nova"' in told
    disks.delete(guest, 'disk')


# -- faults -------------------------------------------------------------------
def test_without_a_secret_the_pool_does_not_start(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    agent.pools.secrets.remove(hypervisor.house.cluster.fsid)
    with pytest.raises(exception.SecretNotFound, match='pool ensure'):
        agent.pools.refresh()
    # libvirt has stopped the pool that it could not refresh.
    with pytest.raises(exception.StoragePoolInactive, match='pool ensure'):
        agent.pools.refresh()
    with pytest.raises(exception.SecretNotFound, match='pool ensure'):
        agent.pools.disks.create(instance(), 'disk', model.GIB)
    assert hypervisor.house.cluster.names('vms') == []

    assert agent.pools.ensure()[1].done == 'started'


def test_a_wrong_key_is_refused(hypervisor: Hypervisor,
                                agent: compute.ComputeAgent) -> None:
    fsid = hypervisor.house.cluster.fsid
    key = b'AQAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAA=='
    agent.pools.secrets.ensure(fsid, 'nova', key)
    with pytest.raises(exception.VolumeRBDError) as caught:
        agent.pools.refresh()
    assert key.decode() not in str(caught.value)

    agent.pools.ensure()  # with the right one

    agent.pools.refresh()


def test_libvirtd_is_killed_before_it_is_told(
        house: House, hypervisor: Hypervisor, disks: RBDDisks,
        caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    """The disk is there and works; libvirt learns of it later."""
    guest = instance()
    monkeypatch.setattr(disks.pool, 'start', hypervisor.libvirtd.kill)
    disk = disks.create(guest, 'disk', model.GIB)
    disks.settle()
    monkeypatch.undo()

    assert disk.volume.capacity_bytes == model.GIB
    assert 'libvirt is not told' in caplog.text
    assert f'{guest}_disk' in house.cluster.names('vms')
    hypervisor.libvirtd.start()
    disks.create(guest, 'disk.local', model.GIB)
    disks.settle()
    assert disks.known() == {f'{guest}_disk', f'{guest}_disk.local'}
    for name in ('disk', 'disk.local'):
        disks.delete(guest, name)


def test_a_pool_that_is_stopped_is_in_nobodys_way(
        hypervisor: Hypervisor, disks: RBDDisks) -> None:
    """libvirt starts no pool of this type again where it has itself been
    restarted; whoever makes a disk does."""
    guest = instance()
    disks.create(guest, 'disk', model.GIB)
    disks.settle()
    hypervisor.libvirtd.kill()
    hypervisor.libvirtd.start()
    assert not disks.pool.state().is_active

    assert disks.get(guest, 'disk').volume.capacity_bytes == model.GIB
    disks.create(guest, 'disk.local', model.GIB)
    disks.settle()

    assert disks.pool.state().is_active
    assert disks.known() == {f'{guest}_disk', f'{guest}_disk.local'}
    for name in ('disk', 'disk.local'):
        disks.delete(guest, name)


def test_what_was_never_made_is_said(hypervisor: Hypervisor) -> None:
    pools = hypervisor.agent('rbd').pools
    with pytest.raises(exception.SecretNotFound, match='pool ensure'):
        pools.disks.create(instance(), 'disk', model.GIB)
    with pytest.raises(exception.StoragePoolNotFound, match='pool ensure'):
        pools.refresh()
    assert hypervisor.house.cluster.names('vms') == []


def test_libvirtd_is_away(house: House, hypervisor: Hypervisor,
                          disks: RBDDisks) -> None:
    hypervisor.libvirtd.stop()
    with pytest.raises(exception.LibvirtUnavailable):
        disks.create(instance(), 'disk', model.GIB)
    assert house.cluster.names('vms') == []


def test_a_look_up_waits_for_no_refresh(
        hypervisor: Hypervisor, disks: RBDDisks) -> None:
    """libvirt is not asked at all: its own log shows it."""
    guest = instance()
    disks.create(guest, 'disk', model.GIB)
    disks.settle()
    mark = len(hypervisor.libvirtd.log)

    assert disks.get(guest, 'disk').volume.capacity_bytes == model.GIB
    assert disks.find(instance(), 'disk') is None

    time.sleep(0.2)
    assert 'storage' not in hypervisor.libvirtd.log[mark:]
    assert disks.known() == {f'{guest}_disk'}
    told = hypervisor.libvirtd.log[mark:]
    assert 'virStoragePoolListVolumes' in told
    assert 'virStoragePoolRefresh' not in told
    disks.delete(guest, 'disk')


# -- the command line ---------------------------------------------------------
def test_the_life_of_a_disk_by_commands(hypervisor: Hypervisor) -> None:
    house, guest = hypervisor.house, instance()
    path = hypervisor.config('rbd')

    rows = house.run_json('pool', 'ensure', config=path)
    assert [(row['name'], row['type'], row['state']) for row in rows] == [
        ('nova-base-images-pool', 'dir', 'active'),
        ('nova-disks-pool', 'rbd', 'active')]
    made = house.run_json('pool', 'create-disk', guest, 'disk', '--size', '1',
                          config=path)
    assert (made['path'], made['format']) == (f'vms/{guest}_disk', 'raw')
    assert house.run_json('pool', 'show', guest, 'disk', config=path) == {
        **made, 'known': True}
    [row] = house.run_json('pool', 'list', config=path)
    assert (row['instance'], row['name'], row['size_gib']) == (
        guest, 'disk', 1)
    shown = house.run('pool', 'disk-xml', guest, 'disk', '--bus', 'scsi',
                      '--device', 'sda', config=path).stdout
    assert '<target dev="sda" bus="scsi"' in shown
    refused = house.run('pool', 'adopt', guest, config=path)
    assert refused.returncode == 8
    assert house.run('pool', 'delete-disk', guest, 'disk', config=path
                     ).returncode == 0
