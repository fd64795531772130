# SPDX-License-Identifier: Apache-2.0
"""Disks in files: storage pools of type dir on a real libvirtd."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.functional import content
from tests.functional.hypervisor import (
    MIB,
    Hypervisor,
    instance,
    read_disk,
    run,
)
from volume_rbd import compute, exception
from volume_rbd.compute import xml

GUEST = '0f0e0d0c-0b0a-4908-8706-050403020100'
IMAGE = content.random_bytes(2 * MIB) + bytes(6 * MIB)


@pytest.fixture
def agent(hypervisor: Hypervisor) -> compute.ComputeAgent:
    """With disks that share the data of images."""
    made = hypervisor.agent('qcow2')
    made.pools.ensure()
    return made


@pytest.fixture
def raw_agent(hypervisor: Hypervisor) -> compute.ComputeAgent:
    made = hypervisor.agent('raw')
    made.pools.ensure()
    return made


# -- the pools ----------------------------------------------------------------
def test_what_is_missing_is_made(hypervisor: Hypervisor) -> None:
    pools = hypervisor.agent('qcow2').pools

    assert [(state.name, state.kind, state.target, state.is_active,
             state.done) for state in pools.ensure()] == [
        ('nova-base-images-pool', 'dir', str(hypervisor.cache), True, 'made'),
        ('nova-disks-pool', 'dir', str(hypervisor.store), True, 'made')]
    assert [state.done for state in pools.ensure()] == ['', '']
    with hypervisor.pool() as pool:
        assert pool.autostart()
        pool.destroy()
    assert [state.done for state in pools.ensure()] == ['', 'started']


def test_the_layout_of_the_cache_stays_what_it_is(hypervisor: Hypervisor
                                                  ) -> None:
    name = hypervisor.put_in_cache(IMAGE)
    pools = hypervisor.agent('qcow2').pools
    pools.ensure()

    assert [path.name for path in hypervisor.cache.iterdir()] == [name]
    assert pools.base.pool.names() == [name]


def test_an_image_that_was_fetched_is_known_at_once(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    image = hypervisor.house.member.make(IMAGE)

    found = agent.fetcher.fetch(image)

    with hypervisor.pool('nova-base-images-pool') as pool:
        assert pool.listVolumes() == [found.path.name]


def test_a_pool_of_that_name_that_is_another_one_is_not_touched(
        hypervisor: Hypervisor, tmp_path: Path) -> None:
    other = tmp_path / 'other'
    other.mkdir()
    with hypervisor.libvirtd.connected() as conn:
        conn.storagePoolDefineXML(xml.build_pool(xml.Pool(
            'nova-disks-pool', 'dir', path=str(other))), 0)

    with pytest.raises(exception.StoragePoolConflict, match=str(other)):
        hypervisor.agent('qcow2').pools.ensure()
    with hypervisor.pool() as pool:
        assert xml.read_pool(pool.XMLDesc(0)).path == str(other)
        assert not pool.isActive()


def test_a_folder_that_is_another_pools_is_said(hypervisor: Hypervisor
                                                ) -> None:
    hypervisor.store.mkdir(parents=True)
    with hypervisor.libvirtd.connected() as conn:
        conn.storagePoolDefineXML(xml.build_pool(xml.Pool(
            'others', 'dir', path=str(hypervisor.store))), 0)

    with pytest.raises(exception.StoragePoolConflict, match='others'):
        hypervisor.agent('qcow2').pools.ensure()


def test_two_at_once_make_one_pool(hypervisor: Hypervisor) -> None:
    agents = [hypervisor.agent('qcow2') for _ in range(4)]
    failed: list[BaseException] = []

    def ensure(agent: compute.ComputeAgent) -> None:
        try:
            agent.pools.ensure()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ensure, args=(agent,))
               for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert agents[0].pools.disks.pool.state().is_active


def test_libvirt_learns_of_what_was_fetched(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    name = hypervisor.put_in_cache(IMAGE)
    assert agent.pools.base.pool.names() == []

    assert agent.pools.base.note_fetched()

    assert agent.pools.base.pool.names() == [name]


def test_a_fetch_goes_well_without_a_pool(hypervisor: Hypervisor) -> None:
    pools = hypervisor.agent('qcow2').pools
    assert not pools.base.note_fetched()
    hypervisor.libvirtd.stop()
    assert not pools.base.note_fetched()


# -- making disks -------------------------------------------------------------
def test_a_disk_shares_the_data_of_the_image(
        hypervisor: Hypervisor, agent: compute.ComputeAgent, tmp_path: Path
        ) -> None:
    image, guest = hypervisor.put_in_cache(IMAGE), instance()

    disk = agent.pools.disks.create(guest, 'disk', 16 * MIB, image=image)

    path = hypervisor.store / f'{guest}_disk'
    assert disk.volume.path == str(path)
    assert (disk.volume.format, disk.volume.capacity_bytes) == (
        'qcow2', 16 * MIB)
    assert disk.chain == (xml.Backing(str(hypervisor.cache / image), 'raw'),)
    assert path.stat().st_size < MIB
    assert read_disk(path, 'qcow2', tmp_path) == IMAGE + bytes(8 * MIB)
    told = json.loads(run('qemu-img', 'info', '--output=json', path))
    assert told['backing-filename'] == str(hypervisor.cache / image)
    assert told['backing-filename-format'] == 'raw'
    assert agent.pools.count_users() == {str(hypervisor.cache / image): 1}


@pytest.mark.parametrize('disk_format', ['raw', 'qcow2'])
def test_a_disk_is_a_copy_of_the_image(
        hypervisor: Hypervisor, raw_agent: compute.ComputeAgent,
        disk_format: str) -> None:
    """From a qcow2, libvirt gives it the size of the image instead of the
    one asked for."""
    image = hypervisor.put_in_cache(IMAGE, disk_format=disk_format)
    guest = instance()

    disk = raw_agent.pools.disks.create(guest, 'disk', 16 * MIB, image=image)

    path = hypervisor.store / f'{guest}_disk'
    assert (disk.volume.format, disk.volume.capacity_bytes, disk.chain) == (
        'raw', 16 * MIB, ())
    assert path.read_bytes() == IMAGE + bytes(8 * MIB)
    assert path.stat().st_blocks * 512 < 4 * MIB


@pytest.mark.parametrize('images_type', ['raw', 'qcow2'])
def test_a_blank_disk_of_any_kind(hypervisor: Hypervisor, images_type: str
                                  ) -> None:
    pools = hypervisor.agent(images_type).pools
    pools.ensure()
    guest = instance()

    disk = pools.disks.create(guest, 'disk.local', 4 * MIB)

    assert (disk.volume.format, disk.volume.capacity_bytes) == (
        images_type, 4 * MIB)
    made = Path(disk.volume.path).stat()
    assert (made.st_uid, made.st_mode & 0o777) == (os.geteuid(), 0o600)
    assert pools.disks.get(guest, 'disk.local') == disk
    with pytest.raises(exception.InvalidSize, match='needs a size'):
        pools.disks.create(guest, 'disk.swap')


def test_a_disk_that_libvirt_did_not_know_of_is_not_replaced(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    guest = instance()
    path = hypervisor.store / f'{guest}_disk'
    path.write_bytes(b'precious')

    with pytest.raises(exception.StorageVolumeExists):
        agent.pools.disks.create(guest, 'disk', MIB)

    assert path.read_bytes() == b'precious'
    found = agent.pools.disks.find(guest, 'disk')
    assert found
    assert found.volume.format == 'raw'


def test_a_disk_smaller_than_its_image_is_refused(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    """libvirt would cut it off, and say nothing."""
    image = hypervisor.put_in_cache(IMAGE)
    with pytest.raises(exception.InvalidSize):
        agent.pools.disks.create(instance(), 'disk', MIB, image=image)
    assert not list(hypervisor.store.iterdir())


def test_an_image_that_refers_to_another_file_is_refused(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    hypervisor.cache.mkdir(exist_ok=True)
    run('qemu-img', 'create', '-f', 'qcow2', '-F', 'raw', '-b',
        '/etc/passwd', hypervisor.cache / 'evil', '4M')
    with pytest.raises(exception.ImageUnsafe, match='/etc/passwd'):
        agent.pools.disks.create(instance(), 'disk', 8 * MIB, image='evil')


@pytest.mark.parametrize('image', ['none', '../escape', ''])
def test_an_image_that_is_not_in_the_cache_is_said(
        hypervisor: Hypervisor, agent: compute.ComputeAgent, image: str
        ) -> None:
    (hypervisor.instances / 'escape').write_bytes(IMAGE)
    with pytest.raises(exception.StorageVolumeNotFound):
        agent.pools.disks.create(instance(), 'disk', 8 * MIB, image=image)


@pytest.mark.parametrize(('guest', 'name'), [
    ('../x', 'disk'), ('..', 'disk'), (GUEST, '../disk'), (GUEST, 'a/b'),
    (GUEST, '')])
def test_no_name_leaves_the_pool(agent: compute.ComputeAgent, guest: str,
                                 name: str) -> None:
    with pytest.raises(exception.InvalidName):
        agent.pools.disks.create(guest, name, MIB)


# -- changing and looking -----------------------------------------------------
def test_a_disk_grows_and_goes(hypervisor: Hypervisor,
                               agent: compute.ComputeAgent) -> None:
    guest, disks = instance(), agent.pools.disks
    disks.create(guest, 'disk', 4 * MIB)

    assert disks.resize(guest, 'disk', 6 * MIB).volume.capacity_bytes == (
        6 * MIB)
    with pytest.raises(exception.InvalidSize):
        disks.resize(guest, 'disk', 5 * MIB)
    disks.delete(guest, 'disk')

    assert not list(hypervisor.store.iterdir())
    assert disks.find(guest, 'disk') is None
    with pytest.raises(exception.StorageVolumeNotFound):
        disks.delete(guest, 'disk')


def test_what_is_no_disk_of_a_guest_is_not_listed(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    guest = instance()
    agent.pools.disks.create(guest, 'disk', MIB)
    (hypervisor.store / 'stray').write_bytes(b'x')
    agent.pools.refresh()
    assert [(disk.instance, disk.name) for disk in agent.pools.disks.list()
            ] == [(guest, 'disk')]


def test_a_disk_that_was_removed_by_hand_is_not_there(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    guest = instance()
    agent.pools.disks.create(guest, 'disk', MIB)
    (hypervisor.store / f'{guest}_disk').unlink()
    assert agent.pools.disks.find(guest, 'disk') is None


@pytest.mark.parametrize('disk_format', ['qcow2', 'raw'])
def test_a_snapshot_has_all_of_the_data_itself(
        hypervisor: Hypervisor, agent: compute.ComputeAgent, tmp_path: Path,
        disk_format: str) -> None:
    image, guest = hypervisor.put_in_cache(IMAGE), instance()
    agent.pools.disks.create(guest, 'disk', image=image)
    path = hypervisor.store / f'{guest}_disk'
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 64k', path)

    made = agent.pools.dir_disks.extract(guest, 'disk', 'snapshot',
                                         disk_format=disk_format)

    assert made.chain == ()
    assert read_disk(Path(made.volume.path), disk_format, tmp_path) == (
        b'\7' * 65536 + IMAGE[65536:])
    assert (hypervisor.cache / image).read_bytes() == IMAGE


def test_a_disk_of_a_guest_that_runs_is_not_extracted(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    guest = instance()
    agent.pools.disks.create(guest, 'disk', MIB)
    with _guest(hypervisor.store / f'{guest}_disk'), \
            pytest.raises(exception.StorageVolumeBusy):
        agent.pools.dir_disks.extract(guest, 'disk', 'snapshot')
    assert [path.name for path in hypervisor.store.iterdir()] == [
        f'{guest}_disk']


def _guest(path: Path) -> subprocess.Popen[str]:
    """qemu with a disk open, as a guest has it."""
    process = subprocess.Popen(
        ['qemu-io', '-f', 'qcow2', str(path)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write('length\n')
    process.stdin.flush()
    assert process.stdout.readline()  # it has opened the disk
    return process


def test_a_guest_reads_no_file_of_the_host_by_what_it_writes(
        hypervisor: Hypervisor, raw_agent: compute.ComputeAgent,
        tmp_path: Path) -> None:
    """libvirt guesses formats when it refreshes a pool, and then believes a
    header that the guest has written: the first half shows that it would
    copy the file of the host."""
    secret, guest = tmp_path / 'secret', instance()
    secret.write_bytes(b'of the host' + bytes(MIB))
    disks = raw_agent.pools.dir_disks
    disks.create(guest, 'disk', MIB)
    forged = tmp_path / 'forged'
    run('qemu-img', 'create', '-f', 'qcow2', '-F', 'raw', '-b', secret,
        forged, '1M')
    path = hypervisor.store / f'{guest}_disk'
    with path.open('r+b') as file:
        file.write(forged.read_bytes())
    raw_agent.pools.refresh()
    with hypervisor.pool() as pool:
        pool.createXMLFrom(xml.build_volume('leak', 'raw', MIB),
                           pool.storageVolLookupByName(f'{guest}_disk'), 0)
        assert (hypervisor.store / 'leak').read_bytes().startswith(
            b'of the host')
        pool.storageVolLookupByName('leak').delete()

    with pytest.raises(exception.ImageUnsafe, match=str(secret)):
        disks.extract(guest, 'disk', 'snapshot')
    told = hypervisor.libvirtd.translate(disks.xml(guest, 'disk', 'vda'))
    assert '"driver":"raw"' in told
    assert 'qcow2' not in told
    assert [found.name for found in hypervisor.store.iterdir()] == [
        path.name]


@pytest.mark.long
def test_a_guest_finds_its_disk_in_the_pool(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    guest = instance()
    agent.pools.disks.create(guest, 'disk', MIB)
    text = agent.pools.disks.xml(guest, 'disk', 'vda')

    assert text == xml.build_volume_disk(
        'nova-disks-pool', f'{guest}_disk', 'qcow2', 'vda')
    told = hypervisor.libvirtd.translate(text)
    assert f'"filename":"{hypervisor.store}/{guest}_disk"' in told
    assert '"driver":"qcow2"' in told


# -- faults -------------------------------------------------------------------
def test_libvirtd_is_away_and_comes_back(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    guest, disks = instance(), agent.pools.disks
    disks.create(guest, 'disk', MIB)
    hypervisor.libvirtd.kill()

    with pytest.raises(exception.LibvirtUnavailable, match='libvirtd runs'):
        disks.create(guest, 'disk.local', MIB)
    hypervisor.libvirtd.start()

    assert disks.get(guest, 'disk').volume.capacity_bytes == MIB
    disks.create(guest, 'disk.local', MIB)


def test_libvirtd_is_killed_while_it_copies(
        hypervisor: Hypervisor, raw_agent: compute.ComputeAgent) -> None:
    """Nothing half made bears the name of the disk, and what is left of it
    is not in the way."""
    data = content.random_bytes(192 * MIB)
    image = hypervisor.put_in_cache(data)
    guest, disks = instance(), raw_agent.pools.disks
    path = hypervisor.store / f'{guest}_disk'
    partial = hypervisor.store / f'.{guest}_disk.partial'

    def kill() -> None:
        while not (partial.exists() and partial.stat().st_blocks):
            time.sleep(0.001)
        hypervisor.libvirtd.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(exception.LibvirtUnavailable):
        disks.create(guest, 'disk', image=image)
    killer.join()
    assert not path.exists()
    assert partial.stat().st_blocks * 512 < len(data)

    hypervisor.libvirtd.start()
    disks.create(guest, 'disk', image=image)

    assert path.read_bytes() == data
    assert [found.name for found in hypervisor.store.iterdir()] == [path.name]


def test_a_pool_that_is_not_started_is_said(
        hypervisor: Hypervisor, agent: compute.ComputeAgent) -> None:
    guest = instance()
    with hypervisor.pool() as pool:
        pool.destroy()
    for attempt in (lambda: agent.pools.disks.create(guest, 'disk', MIB),
                    lambda: agent.pools.disks.find(guest, 'disk'),
                    lambda: agent.pools.refresh()):
        with pytest.raises(exception.StoragePoolInactive,
                           match='pool ensure'):
            attempt()
    assert not list(hypervisor.store.iterdir())


def test_a_pool_that_is_not_there_is_said(hypervisor: Hypervisor) -> None:
    with pytest.raises(exception.StoragePoolNotFound, match='pool ensure'):
        hypervisor.agent('qcow2').pools.disks.create(instance(), 'disk', MIB)


def test_two_make_the_same_disk(
        hypervisor: Hypervisor, raw_agent: compute.ComputeAgent) -> None:
    """One of them does."""
    data = content.random_bytes(48 * MIB)
    image, guest = hypervisor.put_in_cache(data), instance()
    other = hypervisor.agent('raw')
    outcomes: list[object] = []

    def make(agent: compute.ComputeAgent) -> None:
        try:
            outcomes.append(agent.pools.disks.create(guest, 'disk',
                                                     image=image))
        except exception.VolumeRBDError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=make, args=(agent,))
               for agent in (raw_agent, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    made = [each for each in outcomes
            if not isinstance(each, exception.VolumeRBDError)]
    assert len(made) == 1, outcomes
    assert (hypervisor.store / f'{guest}_disk').read_bytes() == data


# -- the command line ---------------------------------------------------------
def test_the_life_of_a_disk_by_commands(hypervisor: Hypervisor) -> None:
    house, guest = hypervisor.house, instance()
    path = hypervisor.config('qcow2')
    image = hypervisor.put_in_cache(IMAGE)

    rows = house.run_json('pool', 'ensure', config=path)
    assert [(row['name'], row['type'], row['state'], row['done'])
            for row in rows] == [
        ('nova-base-images-pool', 'dir', 'active', 'made'),
        ('nova-disks-pool', 'dir', 'active', 'made')]
    made = house.run_json('pool', 'create-disk', guest, 'disk', '--size', '1',
                          '--image', image, config=path)
    assert made['volume'] == f'{guest}_disk'
    assert made['backing'] == [str(hypervisor.cache / image)]
    assert house.run_json('pool', 'show', guest, 'disk', config=path) == {
        **made, 'known': True}
    [row] = house.run_json('pool', 'list', config=path)
    assert (row['instance'], row['name'], row['backing'], row['known']) == (
        guest, 'disk', made['backing'], True)
    [row] = house.run_json('pool', 'list', '--base', config=path)
    assert (row['name'], row['used_by']) == (image, 1)
    assert house.run_json('pool', 'resize-disk', guest, 'disk', '2',
                          config=path)['size_gib'] == 2
    shown = house.run('pool', 'disk-xml', guest, 'disk', config=path).stdout
    assert '<disk type="volume"' in shown
    assert house.run_json('pool', 'extract-disk', guest, 'disk', 'snapshot',
                          config=path)['backing'] == []
    for name in ('disk', 'snapshot'):
        assert house.run('pool', 'delete-disk', guest, name, config=path
                         ).returncode == 0
    missing = house.run('pool', 'show', guest, 'disk', config=path)
    assert missing.returncode == 3
    assert house.run_json('pool', 'refresh', config=path)
