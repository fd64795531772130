# SPDX-License-Identifier: Apache-2.0
"""A Ceph cluster in memory: the contract of volume_rbd.ceph, without Ceph.

It keeps what matters of the real one: copy-on-write clones in both formats,
the trash namespace of snapshots, the trash of images, watchers, metadata that
clones inherit, users with caps per pool, connections that get lost. The
contract tests hold it to what the real one does.

    ceph = FakeCeph()
    pool = ceph.cluster('cinder').pool('volumes')
    ceph.fail_next('clone', exception.NoSpace('full'))
"""

from __future__ import annotations

import base64
import threading

from tests.fakes.ceph_disk import Disk, Link, Snap
from tests.fakes.ceph_pool import FakePool
from tests.fakes.ceph_records import FakeRecords
from tests.fakes.ceph_tasks import FakeTasks, Task
from volume_rbd import exception
from volume_rbd.ceph import interface

#: Per user and pool: 'rw' is ``profile rbd``, 'r' ``profile rbd-read-only``.
DEFAULT_CAPS = {
    'admin': {'volumes': 'rw', 'images': 'rw', 'vms': 'rw'},
    'cinder': {'volumes': 'rw', 'images': 'rw', 'vms': 'rw'},
    'glance': {'images': 'rw', 'volumes': 'r'},
    'nova': {'vms': 'rw', 'images': 'r', 'volumes': 'r'},
}


class FakeCeph:
    """The cluster itself; clients come from :meth:`cluster`.

    :ivar caps: may be changed at any time.
    :ivar is_reachable: whether its monitors answer.
    :ivar has_manager: whether its manager does.
    :ivar clone_format: 1 for a cluster that refuses format 2.
    """

    def __init__(self, fsid: str = 'f0000000-0000-4000-8000-000000000001',
                 pools: tuple[str, ...] = ('volumes', 'images', 'vms'),
                 capacity_bytes: int = 1024 ** 4) -> None:
        self.fsid = fsid
        self.pools = list(pools)
        self.capacity_bytes = capacity_bytes
        self.quotas: dict[str, int] = {}
        self.caps = {user: dict(caps) for user, caps in DEFAULT_CAPS.items()}
        self.monitors = ['127.0.0.1:6789']
        self.is_reachable = True
        self.has_manager = True
        self.tasks: list[Task] = []
        self.health = interface.Health('HEALTH_OK')
        self.clone_format = 2
        self.disks: dict[str, Disk] = {}
        self.blocklist: set[str] = set()
        #: Name to pool; their members are gone as soon as they are made.
        self.groups: dict[str, str] = {}
        #: (pool, namespace, name) -> key -> text.
        self.records: dict[tuple[str, str, str], dict[str, str]] = {}
        self.record_locks: dict[
            tuple[str, str, str], interface.LockHolder] = {}
        self.pool_metadata: dict[str, dict[str, str]] = {}
        self.lock = threading.RLock()
        self._number = 0
        self._faults: dict[str, list[BaseException]] = {}

    def cluster(self, user: str = 'cinder', *, private: bool = False,
                clone_format: int | None = None) -> FakeCluster:
        return FakeCluster(self, user, private=private,
                           clone_format=clone_format)

    def fail_next(self, method: str, error: BaseException,
                  times: int = 1) -> None:
        """Let the next *times* calls of the method of that name raise."""
        with self.lock:
            self._faults.setdefault(method, []).extend([error] * times)

    # -- for the client classes --------------------------------------------
    def shut_out(self, address: str) -> None:
        self.blocklist.add(address)
        for disk in self.disks.values():
            if address in disk.watchers:
                disk.watchers = [
                    other for other in disk.watchers if other != address]

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def begin(self, method: str, address: str) -> None:
        if address in self.blocklist:
            raise exception.ClusterUnavailable(
                f'Cannot {method}: the connection was shut down.')
        if not self.is_reachable:
            raise exception.ClusterUnavailable(
                f'Cannot {method}: the monitors do not answer.')
        faults = self._faults.get(method)
        if faults:
            raise faults.pop(0)

    def links_to(self, snap: Snap) -> list[tuple[Disk, Link]]:
        """The children of a snapshot, each with one of its links."""
        return [(disk, next(link for link in disk.links()
                            if link.snapshot is snap))
                for disk in self.disks.values()
                if any(link.snapshot is snap for link in disk.links())]

    def detached(self, user: str, links: list[Link]) -> None:
        """A child is gone: the last one takes a trashed snapshot along.

        librbd does it as *user*, and cannot where that one may only read.
        """
        for link in links:
            parent, snap = link.parent, link.snapshot
            if (snap.in_trash and snap in parent.snaps
                    and not self.links_to(snap)
                    and self.caps[user].get(parent.pool) == 'rw'):
                parent.snaps.remove(snap)


class FakeCluster:
    """Implements :class:`volume_rbd.ceph.interface.Cluster`."""

    def __init__(self, server: FakeCeph, user: str, *, private: bool,
                 clone_format: int | None) -> None:
        self.server = server
        self._user = user
        self._private = private
        self._clone_format = clone_format
        self._address: str | None = None

    @property
    def clone_format(self) -> int:
        return self._clone_format or self.server.clone_format

    @property
    def user(self) -> str:
        return self._user

    @property
    def fsid(self) -> str:
        self.begin('fsid')
        return self.server.fsid

    @property
    def address(self) -> str:
        return self._connect()

    def sign(self, text: str) -> str:
        return f'{self._user}: {hash(text.encode())}'

    def key(self) -> bytes:
        return base64.b64encode(f'the key of {self._user}'.encode())

    def private(self) -> FakeCluster:
        return FakeCluster(self.server, self._user, private=True,
                           clone_format=self._clone_format)

    def blocklist(self, address: str) -> None:
        with self.server.lock:
            self.begin('blocklist')
            self.server.shut_out(address)

    def _connect(self) -> str:
        with self.server.lock:
            is_lost = self._address in self.server.blocklist
            if self._address is not None and not is_lost:
                return self._address
            if is_lost and self._private:
                raise exception.ClusterUnavailable(
                    f'The connection of client.{self._user} is gone.')
            if not self.server.is_reachable:
                raise exception.ClusterUnavailable(
                    'The monitors do not answer.')
            if self._user not in self.server.caps:
                raise exception.ConfigurationError(
                    f'There is no keyring for client.{self._user}.')
            number = self.server.next_number()
            self._address = f'127.0.0.1:0/{number}'
            return self._address

    def begin(self, method: str) -> None:
        self.server.begin(method, self._connect())

    def check_caps(self, pool: str, wanted: str) -> None:
        if pool not in self.server.pools:
            raise exception.PoolNotFound(f'There is no pool {pool}.')
        caps = self.server.caps[self._user].get(pool, '')
        if wanted not in caps:
            raise exception.CephPermissionDenied(
                f'client.{self._user} may not use {pool} ({wanted}).')

    def records(self, pool: str, namespace: str) -> FakeRecords:
        return FakeRecords(self, pool, namespace)

    def pool(self, name: str) -> FakePool:
        return FakePool(self, name)

    def pools(self) -> list[str]:
        self.begin('pools')
        return list(self.server.pools)

    def tasks(self) -> FakeTasks:
        return FakeTasks(self)

    def health(self) -> interface.Health:
        self.begin('health')
        return self.server.health

    def monitors(self) -> list[str]:
        self.begin('monitors')
        return list(self.server.monitors)

    def close(self) -> None:
        with self.server.lock:
            if self._private and self._address:
                self.server.shut_out(self._address)
            elif self._address not in self.server.blocklist:
                self._address = None
