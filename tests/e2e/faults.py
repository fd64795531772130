# SPDX-License-Identifier: Apache-2.0
"""Operations that are interrupted, and what must be true after it.

An operation says how it is begun and by what in the cluster one sees that
it is under way; the moment is found by looking there, never by sleeping.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.cinder import CinderAPI
from tests.functional import content
from tests.functional.api import GlanceAPI
from tests.functional.cluster import Cluster
from volume_rbd.sandbox import Sandbox

POOLS = {'off': 'volumes-off', 'on': 'volumes'}
EVERYWHERE = ('volumes-off', 'volumes', 'images')
MOVING_TYPE = 'faults-moving'
TARGET = 'sandbox@on#on'
OWN = 'volume_rbd.'
MIGRATING = f'{OWN}migrate-'
STAGE = f'{OWN}stage-'

#: What Cinder leaves as it is when its service starts: an administrator
#: says how it goes on, as with every driver. (For an upload it writes down
#: no worker, so its own clean-up for ``uploading`` never comes to it.)
STUCK = ('extending', 'reverting', 'maintenance', 'retyping', 'uploading')
_SETTLED_S = 90.0
_WATCH_S = 45.0
_CLEAN_S = 240.0


@dataclasses.dataclass
class Job:
    """An operation that was begun.

    :param moment: whether it is under way, seen in the cluster.
    :param freezes: the OSD stood still when it was begun: it is under way
        as soon as the API says so.
    """

    volume: str
    moment: Callable[[], bool]
    image: str | None = None
    snapshot: str | None = None
    group: str | None = None
    freezes: bool = False


class Fleet:
    """The sandbox's services, as somebody sees them who breaks them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.cluster = Cluster(sandbox.env()['CEPH_CONF'])
        self.member = CinderAPI(sandbox.env('member'))
        self.admin = CinderAPI(sandbox.env('admin'))
        self.glance = GlanceAPI(sandbox.env('member'))
        self._types: list[Any] = []

    def close(self) -> None:
        for volume_type in self._types:
            volume_type.delete()
        self.cluster.close()

    def ensure_moving_type(self) -> None:
        """A type that every backend may serve, so that it migrates."""
        if not self._types:
            self._types.append(self.admin.client.volume_types.create(
                MOVING_TYPE))

    # -- what there is -------------------------------------------------------
    def full(self, volume_type: str, gib: int = 1, **fields: Any) -> str:
        volume = self.member.create(volume_type, gib, **fields)
        self.fill(volume, gib)
        return volume

    def fill(self, volume: str, gib: int = 1) -> None:
        """Not with zeros. (One block over and over: it is written fast.)"""
        pool = self.pool_of(volume)
        block = content.random_bytes(4 * content.MIB)
        with self.cluster.open(pool, f'volume-{volume}') as image:
            for offset in range(0, gib * content.GIB, len(block)):
                image.write(block, offset)
            image.flush()

    def pool_of(self, volume: str) -> str:
        host = self.admin.show(volume).to_dict()['os-vol-host-attr:host']
        return POOLS[host.partition('@')[2].partition('#')[0]]

    def describe(self) -> set[str]:
        """Everything that an operation could leave in any pool."""
        lines = set()
        for pool in EVERYWHERE:
            lines |= {f'{pool} trash: {entry["id"]} {entry["name"]}'
                      for entry in self.cluster.trash(pool)}
            lines |= {f'{pool} group: {name}' for name in
                      self.cluster._rbd.RBD().group_list(
                          self.cluster.ioctx(pool))}
            for name in self.cluster.names(pool):
                lines.add(f'{pool}: {name}')
                with contextlib.suppress(Exception):
                    lines |= {f'{pool}: {name}@{found["name"]}' for found in
                              self._snapshots(pool, name)}
        return lines

    def _snapshots(self, pool: str, name: str) -> list[dict[str, Any]]:
        with self.cluster.open(pool, name, read_only=True) as image:
            return list(image.list_snaps())

    def has(self, pool: str, name: str) -> bool:
        return name in self.cluster.names(pool)

    def own_snapshots(self, pool: str, name: str) -> list[str]:
        """Those that an operation of the driver's took."""
        return [found['name'] for found in self._snapshots(pool, name)
                if found['name'].startswith(OWN)]

    # -- processes -----------------------------------------------------------
    def children(self) -> dict[str, int]:
        """Backend -> pid of the processes ``python -m volume_rbd.process``
        that work in this sandbox; those that two have are in it once."""
        return {process.cmdline()[3]: process.pid
                for process in self._processes() if _is_child(process)}

    def count_children(self) -> int:
        return sum(_is_child(process) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = ' '.join(process.cmdline())
                if Path(process.cwd()).is_relative_to(
                        self.sandbox.folder) and (
                        'cinder-volume' in words
                        or '-m volume_rbd.process' in words):
                    found.append(process)
        return found

    def interrupt(self, how: str) -> None:
        """End cinder-volume.

        :param how: 'term': gracefully; 'kill': with all of its processes;
            'service': kill the service, so that its children see their
            sockets close.
        """
        if how == 'term':
            self.sandbox.stop_process('cinder-volume')
        elif how == 'kill':
            self.sandbox.signal_process('cinder-volume', signal.SIGKILL)
        else:
            victims = [process for process in self._processes()
                       if not _is_child(process)]
            for process in victims:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(victims, timeout=10)

    def kill_child(self, backend: str) -> None:
        psutil.Process(self.children()[backend]).kill()

    def start(self) -> None:
        self.sandbox.start_process('cinder-volume')

    @contextlib.contextmanager
    def frozen(self, process: str = 'osd') -> Iterator[None]:
        """Within the block *process* answers nobody."""
        self.sandbox.signal_process(process, signal.SIGSTOP)
        try:
            yield
        finally:
            self.sandbox.signal_process(process, signal.SIGCONT)

    def log_mark(self) -> int:
        return self._log.stat().st_size

    def log_since(self, mark: int) -> str:
        with self._log.open('rb') as stream:
            stream.seek(mark)
            return stream.read().decode('utf-8', 'replace')

    @property
    def _log(self) -> Path:
        return self.sandbox.folder / 'log' / 'cinder-volume.log'

    # -- what must be true after it ------------------------------------------
    def settle(self, volume: str, *, was_ended: bool = True) -> str | None:
        """Wait until nothing is under way with the volume any more; what
        Cinder leaves is reset by its administrator.

        :param was_ended: the service was: nobody works at what is STUCK.
        :returns: what Cinder said before that.
        """
        stuck = STUCK if was_ended else ()
        found = wait_until(
            lambda: (status,) if (status := self.member.status(volume)) in (
                None, 'available', 'in-use', 'error', 'error_deleting',
                'error_extending', *stuck) else None,
            _SETTLED_S, 'the volume is between two states')[0]
        if found is None:
            return None
        row = self.admin.show(volume).to_dict()
        if found in STUCK or row.get('migration_status') == 'migrating':
            self._wait_until_closed(volume)
            self.admin.client.volumes.reset_state(
                volume, 'available', migration_status='none')
        return str(found)

    def watchers(self, volume: str) -> list[Any]:
        name, pool = f'volume-{volume}', self.pool_of(volume)
        if not self.has(pool, name):
            return []
        with self.cluster.open(pool, name, read_only=True) as image:
            return list(image.watchers_list())

    def check_truth(self, volume: str) -> None:
        """What Cinder says of the volume is what is in the cluster."""
        status, name = self.member.status(volume), f'volume-{volume}'
        if status is None:
            assert not any(self.has(pool, name) for pool in EVERYWHERE)
        elif status in ('available', 'in-use'):
            pool = self.pool_of(volume)
            assert self.has(pool, name), f'{status}, and not in the cluster'
            mark = self.cluster.mark(pool, name)
            assert mark is None or mark['state'] == 'complete', mark
            assert self.cluster.size(pool, name) >= (
                self.member.show(volume).size * content.GIB)
            others = [other for other in POOLS.values() if other != pool
                      and self.has(other, name)]
            assert not others, f'{name} is also in {others}'

    def remove(self, job: Job) -> None:
        """As its owner does."""
        if job.group:
            self._remove_group(job.group)
        if job.snapshot:
            with contextlib.suppress(Exception):
                self.admin.client.volume_snapshots.reset_state(
                    job.snapshot, 'available')
                self.member.delete_snapshot(job.snapshot)
        if job.image:
            self.glance.delete(job.image)
        if job.group is None and self.member.status(job.volume):
            self._wait_until_closed(job.volume)
            self.member.delete(job.volume)

    def _wait_until_closed(self, volume: str) -> None:
        """The watch of a process that was killed lasts 30 s; one that died
        while it began to watch has been seen to be forgotten by the OSD
        (16.2), and to be on record for good. Peering looks at the records."""
        try:
            wait_until(lambda: not self.watchers(volume), _WATCH_S)
        except AssertionError:
            self.cluster.ceph('osd', 'down', '0')
            wait_until(lambda: not self.watchers(volume), _SETTLED_S,
                       'the volume is still open')

    def _remove_group(self, group: str) -> None:
        for snapshot in self.member.client.group_snapshots.list(
                search_opts={'group_id': group}):
            if snapshot.status != 'available':
                self.admin.client.group_snapshots.reset_state(
                    snapshot.id, 'error')
            self.member.delete_group_snapshot(snapshot.id)
        self.member.delete_group(group)

    def check_nothing_left(self, before: set[str]) -> None:
        """In any pool; what goes in the background is waited for."""
        deadline = time.monotonic() + _CLEAN_S
        while new := self.describe() - before:
            assert time.monotonic() < deadline, 'left: ' + '\n'.join(
                sorted(new))
            time.sleep(0.5)

    def check_processes(self) -> None:
        """Both of our backends have one process each, and nobody else."""
        wait_until(lambda: len(self.children()) == self.count_children() <= 2,
                   _SETTLED_S, 'there are orphans')


def _is_child(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:3] == ['-m', 'volume_rbd.process']
    except psutil.Error:
        return False


def wait_until(look: Callable[[], Any], timeout_s: float = 60.0,
               what: str = 'it does not come') -> Any:
    """Look until there is something; errors of looking are no answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = None
        with contextlib.suppress(OSError, psutil.Error):
            found = look()
        if found:
            return found
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# -- the operations ----------------------------------------------------------

def from_raw(fleet: Fleet) -> Job:
    """Create from an image that has to be downloaded."""
    image = fleet.glance.make(content.random_bytes(256 * content.MIB) * 4,
                              'file')
    return _from_image(fleet, image)


def from_qcow2(fleet: Fleet) -> Job:
    """Create from an image that has to be converted."""
    with tempfile.TemporaryDirectory() as folder:
        raw, qcow2 = Path(folder) / 'raw', Path(folder) / 'qcow2'
        raw.write_bytes(content.random_bytes(256 * content.MIB) * 3)
        subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                        raw, qcow2], check=True)
        image = fleet.glance.make(qcow2.read_bytes(), 'file',
                                  disk_format='qcow2')
    return _from_image(fleet, image)


def _from_image(fleet: Fleet, image: str) -> Job:
    volume = fleet.member.create('off', 2, status=None, imageRef=image)
    pool, name = POOLS['off'], f'volume-{volume}'

    def moment() -> bool:
        return bool({name, STAGE + name} & set(fleet.cluster.names(pool)))

    return Job(volume, moment, image=image)


def upload_by_clone(fleet: Fleet) -> Job:
    return _upload(fleet, 'on')


def upload_in_chunks(fleet: Fleet) -> Job:
    return _upload(fleet, 'off')


def _upload(fleet: Fleet, volume_type: str) -> Job:
    volume = fleet.full(volume_type)
    pool, name = POOLS[volume_type], f'volume-{volume}'
    image = fleet.member.upload(volume)
    return Job(volume, lambda: bool(fleet.own_snapshots(pool, name))
               or fleet.has('images', image), image=image)


def extend(fleet: Fleet) -> Job:
    volume = fleet.full('on')

    def begin() -> bool:
        fleet.member.client.volumes.extend(volume, 2)
        return bool(wait_until(
            lambda: fleet.member.status(volume) == 'extending'))

    return Job(volume, begin, freezes=True)


def delete(fleet: Fleet) -> Job:
    volume = fleet.full('off', 2)
    fleet.member.client.volumes.delete(volume)
    return Job(volume, lambda: not fleet.has(
        POOLS['off'], f'volume-{volume}'))


def migrate(fleet: Fleet) -> Job:
    fleet.ensure_moving_type()
    volume = None
    while volume is None:
        made = fleet.member.create(MOVING_TYPE)
        if 'off' in fleet.admin.show(made).to_dict()['os-vol-host-attr:host']:
            volume = made
        else:
            fleet.member.delete(made)
    fleet.fill(volume)
    fleet.admin.client.volumes.migrate_volume(volume, TARGET, False, False)
    return Job(volume, lambda: any(
        name.startswith(MIGRATING)
        for name in fleet.cluster.names(POOLS['on'])))


def revert(fleet: Fleet) -> Job:
    volume = fleet.full('off')
    snapshot = fleet.member.create_snapshot(volume)
    fleet.fill(volume)
    fleet.member.client.volumes.revert_to_snapshot(volume, snapshot)
    return Job(volume, lambda: bool(fleet.own_snapshots(
        POOLS['off'], f'volume-{volume}')), snapshot=snapshot)


def group_snapshot(fleet: Fleet) -> Job:
    group = fleet.member.create_group(['on'])
    volume = fleet.member.create('on', group_id=group)

    def begin() -> bool:
        made = fleet.member.client.group_snapshots.create(group)
        return bool(wait_until(
            lambda: fleet.member.client.group_snapshots.get(
                made.id).status == 'creating'))

    return Job(volume, begin, group=group, freezes=True)


OPERATIONS: dict[str, Callable[[Fleet], Job]] = {
    work.__name__: work for work in (
        from_raw, from_qcow2, upload_by_clone, upload_in_chunks, extend,
        delete, migrate, revert, group_snapshot)}
