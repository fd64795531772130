# SPDX-License-Identifier: Apache-2.0
"""The two worlds in which the contract of volume_rbd.ceph is tried.

A test takes the fixture ``ceph`` and runs in both: the fake, and a real
cluster (marker ``real``), which is the sandbox's, or the one whose ceph.conf
VOLUME_RBD_TEST_CEPH_CONF names: with the users admin, cinder, glance and nova
and the pools volumes, images and vms of the sandbox.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.fakes.ceph import FakeCeph
from volume_rbd import exception, model
from volume_rbd.ceph import bindings, connection
from volume_rbd.ceph.interface import Cluster, Image, Pool, Records
from volume_rbd.opts import ClusterConfig

MIB = 1024 ** 2
POOLS = ('volumes', 'images', 'vms')
_SMALL_OBJECTS = model.Layout(MIB)


class World(Protocol):
    """A cluster, and what can happen to connections."""

    def cluster(self, user: str = 'cinder', *, private: bool = False,
                clone_format: int = 2) -> Cluster: ...

    def lose(self, cluster: Cluster) -> None:
        """Let the cluster throw this connection out."""

    def unreachable(self) -> Cluster:
        """A connection whose monitors do not answer; 1 s, no retries."""

    def close(self) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.server = FakeCeph()

    def cluster(self, user: str = 'cinder', *, private: bool = False,
                clone_format: int = 2) -> Cluster:
        return self.server.cluster(
            user, private=private, clone_format=clone_format)

    def lose(self, cluster: Cluster) -> None:
        self.server.blocklist.add(cluster.address)

    def unreachable(self) -> Cluster:
        server = FakeCeph()
        server.is_reachable = False
        return server.cluster()

    def close(self) -> None:
        pass


class RealWorld:
    def __init__(self, ceph_conf: str) -> None:
        self.ceph_conf = ceph_conf
        self._opened: list[Cluster] = []

    def config(self, user: str = 'cinder', **more: Any) -> ClusterConfig:
        values = {'ceph_conf': self.ceph_conf, 'connect_timeout_s': 10,
                  'retries': 0, **more}
        return ClusterConfig(user=user, **values)

    def cluster(self, user: str = 'cinder', *, private: bool = False,
                clone_format: int = 2) -> Cluster:
        if clone_format == 2 and not private:
            return connection.connect(self.config(user))
        cluster = connection.RadosCluster(
            self.config(user), reconnects=not private,
            overrides={'rbd_default_clone_format': str(clone_format)})
        self._opened.append(cluster)
        return cluster

    def lose(self, cluster: Cluster) -> None:
        admin = bindings.rados().Rados(
            conffile=self.ceph_conf, rados_id='admin')
        admin.connect()
        admin.blocklist_add(cluster.address, 60)
        admin.wait_for_latest_osdmap()
        # The OSD must know the new map before it answers this one.
        with admin.open_ioctx('volumes') as ioctx:
            ioctx.write_full('a-probe-of-the-tests', b'')
            ioctx.remove_object('a-probe-of-the-tests')
        admin.shutdown()

    def unreachable(self) -> Cluster:
        cluster = connection.RadosCluster(
            self.config(connect_timeout_s=1),
            overrides={'mon_host': '[v2:127.0.0.1:1,v1:127.0.0.1:2]'})
        self._opened.append(cluster)
        return cluster

    def close(self) -> None:
        for cluster in self._opened:
            cluster.close()


class Ceph:
    """A world, the pools as client.cinder sees them, and own names."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster = world.cluster()
        self.volumes = self.cluster.pool('volumes')
        self.images = self.cluster.pool('images')
        self.vms = self.cluster.pool('vms')
        self._prefix = f'test-{uuid.uuid4().hex[:8]}-'
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f'{self._prefix}{self._count}'

    def new(self, pool: Pool | None = None, size_bytes: int = 8 * MIB,
            *, layout: model.Layout = _SMALL_OBJECTS, **more: Any
            ) -> str:
        """An rbd_image with small objects; its name."""
        name = self.name()
        (pool or self.volumes).create(name, size_bytes, layout=layout,
                                      **more)
        return name

    def new_parent(self, data: bytes = b'parent', **more: Any
                   ) -> model.SnapSpec:
        """A volume with data and a snapshot."""
        name = self.new(**more)
        with self.volumes.open(name) as image:
            if data:
                image.write(data, 0)
            image.create_snapshot('snap')
        return model.SnapSpec('volumes', name, 'snap')

    def new_clone(self, parent: model.SnapSpec, pool: Pool | None = None,
                  **more: Any) -> str:
        name = self.name()
        (pool or self.images).clone(parent, name, **more)
        return name

    def clean_up(self) -> None:
        """Children before parents, in as many rounds as that takes."""
        left: list[str] = []
        for _ in range(6):
            left = [problem for pool in POOLS
                    for problem in self._clean_pool(self.cluster.pool(pool))]
            if not left:
                return
        raise AssertionError(f'Left behind: {left}')

    def _clean_pool(self, pool: Pool) -> Iterator[str]:
        for entry in pool.trash():
            if entry.name.startswith(self._prefix):
                pool.trash_restore(entry.id, entry.name)
        for group in pool.groups():
            if group.startswith(self._prefix):
                pool.remove_group(group)
        for summary in pool.images():
            if not summary.name.startswith(self._prefix):
                continue
            try:
                with contextlib.suppress(exception.ImageNotFound), \
                        pool.open(summary.name) as image:
                    _remove_snapshots(image)
                pool.remove(summary.name)
            except exception.VolumeRBDError as error:
                yield str(error)


def _remove_snapshots(image: Image) -> None:
    for part in image.group_snapshots():
        image.remove_snapshot_by_id(part.id)
    for snapshot in image.snapshots():
        with contextlib.suppress(exception.Conflict):
            if snapshot.in_trash:
                image.remove_snapshot_by_id(snapshot.id)
                continue
            image.unprotect_snapshot(snapshot.name)
            image.remove_snapshot(snapshot.name)


def ceph_conf(request: pytest.FixtureRequest) -> str:
    """The one place that knows where the real cluster is."""
    named = os.environ.get('VOLUME_RBD_TEST_CEPH_CONF')
    if named:
        return named
    sandbox = request.getfixturevalue('sandbox')
    path: str = sandbox.env()['CEPH_CONF']
    return path


@pytest.fixture(params=[
    'fake', pytest.param('real', marks=pytest.mark.real)])
def ceph(request: pytest.FixtureRequest) -> Iterator[Ceph]:
    world: World = (FakeWorld() if request.param == 'fake'
                    else RealWorld(ceph_conf(request)))
    found = Ceph(world)
    yield found
    found.clean_up()
    world.close()


@pytest.fixture
def real_world(request: pytest.FixtureRequest) -> Iterator[RealWorld]:
    """For what only a real cluster can show; mark the test ``real``."""
    world = RealWorld(ceph_conf(request))
    yield world
    world.close()


@pytest.fixture
def records(ceph: Ceph) -> Iterator[Records]:
    """Those of a namespace of the test's own."""
    found = ceph.cluster.records('volumes', ceph.name())
    yield found
    for name in found.names():
        found.remove(name)
