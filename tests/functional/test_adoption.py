# SPDX-License-Identifier: Apache-2.0
"""Disks of the old layout get into the pool, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
from volume_rbd.compute.pools.adoption import Adoption, State

IMAGE = content.random_bytes(MIB) + bytes(3 * MIB)
WRITTEN = b'\7' * 65536


class Guest:
    """One of before there was a pool: a disk over the image in the cache, a
    kernel, and what else Nova keeps beside them."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.uuid = instance()
        self.folder = hypervisor.instances / self.uuid
        self.folder.mkdir(parents=True)
        self.store = hypervisor.store
        self.base = hypervisor.cache / hypervisor.put_in_cache(IMAGE)
        run('qemu-img', 'create', '-f', 'qcow2', '-F', 'raw', '-b', self.base,
            self.folder / 'disk')
        run('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 64k',
            self.folder / 'disk')
        (self.folder / 'kernel').write_bytes(b'kernel')
        for name in ('disk.info', 'console.log', 'libvirt.xml'):
            (self.folder / name).write_text('{}')

    @property
    def content(self) -> bytes:
        return WRITTEN + IMAGE[len(WRITTEN):]

    def names(self) -> list[str]:
        """Of the disks in its folder."""
        return sorted(path.name for path in self.folder.iterdir()
                      if path.name in ('disk', 'kernel'))

    def path(self, name: str = 'disk') -> Path:
        """In the pool."""
        return self.store / f'{self.uuid}_{name}'


@pytest.fixture
def agent(hypervisor: Hypervisor) -> compute.ComputeAgent:
    made = hypervisor.agent('qcow2')
    made.pools.ensure()
    return made


@pytest.fixture
def adoption(agent: compute.ComputeAgent) -> Adoption:
    return agent.pools.adoption


@pytest.fixture
def guest(hypervisor: Hypervisor) -> Guest:
    return Guest(hypervisor)


@contextlib.contextmanager
def running(path: Path) -> Iterator[None]:
    """qemu has the disk open, as for a guest."""
    with subprocess.Popen(['qemu-io', '-f', 'qcow2', str(path)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE
                          ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write('length\n')
        process.stdin.flush()
        assert process.stdout.readline()  # it has opened the disk
        yield


def test_the_guests_of_the_old_layout_are_found(
        adoption: Adoption, agent: compute.ComputeAgent, guest: Guest,
        caplog: pytest.LogCaptureFixture) -> None:
    other = instance()
    agent.pools.disks.create(other, 'disk', MIB)
    (guest.folder.parent / 'locks').mkdir()
    (guest.folder / 'disk.config').symlink_to('/etc/passwd')

    assert adoption.instances() == [guest.uuid]
    agent.pools.ensure()
    assert '1 guest(s) have disks of the old layout' in caplog.text
    assert adoption.is_legacy(guest.uuid)
    assert not adoption.is_legacy(other)
    assert [(disk.name, disk.state) for disk in adoption.find(guest.uuid)
            ] == [('disk', State.LEGACY), ('kernel', State.LEGACY)]


def test_disks_of_a_guest_that_is_off_are_moved(
        adoption: Adoption, agent: compute.ComputeAgent, guest: Guest,
        tmp_path: Path) -> None:
    inode = (guest.folder / 'disk').stat().st_ino

    adopted = adoption.adopt(guest.uuid)

    assert [(disk.name, disk.state) for disk in adopted] == [
        ('disk', State.ADOPTED), ('kernel', State.ADOPTED)]
    assert guest.names() == []
    assert guest.path().stat().st_ino == inode
    disk = agent.pools.disks.get(guest.uuid, 'disk')
    assert disk.chain == (xml.Backing(str(guest.base), 'raw'),)
    assert read_disk(guest.path(), 'qcow2', tmp_path) == guest.content
    assert guest.path('kernel').read_bytes() == b'kernel'
    assert guest.base.read_bytes() == IMAGE
    assert adoption.adopt(guest.uuid) == []
    assert adoption.instances() == []


def test_a_guest_that_runs_keeps_its_old_names_until_it_has_moved(
        adoption: Adoption, agent: compute.ComputeAgent, guest: Guest,
        tmp_path: Path) -> None:
    """A live migration on shared storage: the target opens the new name."""
    with running(guest.folder / 'disk'):
        with pytest.raises(exception.StorageVolumeBusy, match='--link'):
            adoption.adopt(guest.uuid)
        assert not guest.path().exists()

        linked = adoption.adopt(guest.uuid, keep=True)

        assert [disk.state for disk in linked] == [State.LINKED] * 2
        assert guest.names() == ['disk', 'kernel']
        assert guest.path().samefile(guest.folder / 'disk')
        assert agent.pools.disks.get(guest.uuid, 'disk').chain
    assert adoption.adopt(guest.uuid, keep=True) == linked

    adoption.adopt(guest.uuid)

    assert guest.names() == []
    assert read_disk(guest.path(), 'qcow2', tmp_path) == guest.content


def test_a_guest_that_is_paused_between_is_known(
        adoption: Adoption, guest: Guest) -> None:
    """By its new name: the lock is the file's, not the name's."""
    adoption.adopt(guest.uuid, keep=True)
    with running(guest.path()), pytest.raises(exception.StorageVolumeBusy):
        adoption.adopt(guest.uuid)
    assert guest.names() == ['disk', 'kernel']


_KILLED = """
import os, signal, sys
from volume_rbd import compute
count = int(sys.argv[3])
def counting(function):
    def counted(*arguments, **options):
        global count
        result = function(*arguments, **options)
        count -= 1
        if not count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return counted
os.link, os.unlink = counting(os.link), counting(os.unlink)
with compute.ComputeAgent([sys.argv[1]]) as agent:
    agent.pools.adoption.adopt(sys.argv[2])
"""


@pytest.mark.parametrize('step', [1, 2, 3, 4])
def test_nothing_is_lost_where_it_is_killed(
        hypervisor: Hypervisor, adoption: Adoption, guest: Guest,
        tmp_path: Path, step: int) -> None:
    """After each of the links and unlinks of a disk and a kernel."""
    killed = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', _KILLED,
         hypervisor.config('qcow2'), guest.uuid, str(step)],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, 'PYTHONPATH': os.getcwd()})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for name in ('disk', 'kernel'):
        assert (guest.folder / name).exists() or guest.path(name).exists()

    adoption.adopt(guest.uuid)

    assert guest.names() == []
    assert read_disk(guest.path(), 'qcow2', tmp_path) == guest.content
    assert guest.path('kernel').read_bytes() == b'kernel'


def test_libvirtd_is_away_and_no_disk_has_moved(
        hypervisor: Hypervisor, adoption: Adoption, guest: Guest) -> None:
    hypervisor.libvirtd.kill()
    with pytest.raises(exception.LibvirtUnavailable):
        adoption.adopt(guest.uuid)
    assert guest.names() == ['disk', 'kernel']
    hypervisor.libvirtd.start()
    assert len(adoption.adopt(guest.uuid)) == 2


def test_another_disk_of_that_name_is_not_replaced(
        adoption: Adoption, guest: Guest) -> None:
    guest.path('kernel').write_bytes(b'another')

    with pytest.raises(exception.StorageVolumeExists):
        adoption.adopt(guest.uuid)

    assert guest.names() == ['disk', 'kernel']
    assert guest.path('kernel').read_bytes() == b'another'
    assert not guest.path().exists()


def test_a_disk_of_another_format_is_refused(
        hypervisor: Hypervisor, guest: Guest) -> None:
    """libvirt would take the disk for what its header says, and the guest
    for what it was before."""
    pools = hypervisor.agent('raw').pools
    pools.ensure()
    with pytest.raises(exception.ImageUnsafe, match='images_type'):
        pools.adoption.adopt(guest.uuid)
    assert guest.names() == ['disk', 'kernel']


def test_a_backing_file_that_would_not_be_found_is_refused(
        adoption: Adoption, guest: Guest) -> None:
    run('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b',
        f'../_base/{guest.base.name}', guest.folder / 'disk')
    with pytest.raises(exception.ImageUnsafe, match='rebase'):
        adoption.adopt(guest.uuid)
    assert guest.names() == ['disk', 'kernel']


def test_another_file_system_is_refused(
        hypervisor: Hypervisor, guest: Guest) -> None:
    with _in_memory() as folder:
        pools = hypervisor.agent(
            'qcow2', images_store=str(folder),
            disks_storage_pool='elsewhere').pools
        pools.ensure()
        with pytest.raises(exception.NotSupported, match='block migration'):
            pools.adoption.adopt(guest.uuid)
        assert guest.names() == ['disk', 'kernel']


@contextlib.contextmanager
def _in_memory() -> Iterator[Path]:
    """A folder on another file system than the tests'."""
    folder = Path('/dev/shm') / f'volume-rbd-{os.getpid()}-{time.time_ns()}'
    folder.mkdir()
    try:
        yield folder
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_adoption_by_commands(hypervisor: Hypervisor, guest: Guest) -> None:
    house, path = hypervisor.house, hypervisor.config('qcow2')
    house.run_json('pool', 'ensure', config=path)

    assert house.run_json('pool', 'adopt', config=path) == [
        {'instance': guest.uuid}]
    rows = house.run_json('pool', 'adopt', guest.uuid, config=path)
    assert [(row['name'], row['state'], row['target']) for row in rows] == [
        (name, 'legacy', str(guest.path(name)))
        for name in ('disk', 'kernel')]
    assert guest.names() == ['disk', 'kernel']
    for words, state in ((['--link'], 'linked'), ([], 'adopted')):
        rows = house.run_json('pool', 'adopt', guest.uuid, '--yes', *words,
                              config=path)
        assert [row['state'] for row in rows] == [state] * 2
    assert guest.names() == []
    assert house.run_json('pool', 'show', guest.uuid, 'disk', config=path)[
        'backing'] == [str(guest.base)]
