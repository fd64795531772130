# SPDX-License-Identifier: Apache-2.0
"""The cluster with pools of the lanes' own, and what is in them beside
rbd_images."""

from __future__ import annotations

import contextlib
import ctypes
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.functional.cluster import Cluster
from volume_rbd.ceph import bindings

#: Bookkeeping of every pool.
_OF_THE_POOL = frozenset({
    'rbd_directory', 'rbd_info', 'rbd_trash', 'rbd_children', 'rbd_mirroring',
    'rbd_task', 'rbd_trash_purge_schedule', 'rbd_mirror_snapshot_schedule',
    'rbd_group_directory'})
_FENCED_S = 60
_CLOSED_WITHIN_S = 10.0
_SETTLED_S = 1.0
_GENERATIONS = 8
_USERS = {'client.cinder': ('profile rbd', 'profile rbd'),
          'client.glance': ('profile rbd pool=images, profile rbd-read-only',
                            'profile rbd pool=images')}


class PoolCluster(Cluster):
    """A connection of the administrator's."""

    def abandon(self) -> None:
        """A call hangs in it: it is never taken apart, as that would, too."""
        for held in (self._handle, *self._ioctxs.values()):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))

    def fence_watchers(self, pool: str, name: str) -> None:
        """End those who have it open; they were killed."""
        with contextlib.suppress(self._rbd.ImageNotFound), \
                self.open(pool, name, read_only=True) as image:
            for watcher in list(image.watchers_list()):
                self._handle.blocklist_add(watcher['addr'], _FENCED_S)
            deadline = time.monotonic() + _CLOSED_WITHIN_S
            while left := list(image.watchers_list()):
                if time.monotonic() > deadline:
                    assert self.end_lost_watches(pool), (
                        f'{name} is still open at {left}')
                    return
                time.sleep(0.05)

    # -- watches that never end ----------------------------------------------
    def end_lost_watches(self, pool: str, is_due: Callable[[str], bool]
                         = lambda name: True) -> list[str]:
        """Do what an operator does about a watch that is on record for good
        (doc/source/admin/troubleshooting.rst, *is open at*).

        :returns: the rbd_images that had one.
        """
        lost = self._lost_watches(pool, is_due)
        if lost:
            time.sleep(_SETTLED_S)  # nor was it only just begun or ended
            lost &= self._lost_watches(pool, is_due)
        if lost:
            self._peer_anew()
        return sorted({name for name, _ in lost})

    def _lost_watches(self, pool: str, is_due: Callable[[str], bool]
                      ) -> set[tuple[str, str]]:
        """Names and addresses: on record, and no OSD knows of them."""
        found = set()
        for name, image_id in self._ids(pool):
            if is_due(name):
                with contextlib.suppress(self._rbd.ImageNotFound), \
                        self.open(pool, image_id=image_id,
                                  read_only=True) as image:
                    found |= {(name, f'rbd_header.{image_id}', each['addr'])
                              for each in image.watchers_list()}
        living = self._living_watches() if found else set()
        return {(name, address) for name, header, address in found
                if (header, address) not in living}

    def _ids(self, pool: str) -> list[tuple[str, str]]:
        entries = [*self._rbd.RBD().list2(self.ioctx(pool)),
                   *self.trash(pool)]
        return [(entry['name'], entry['id']) for entry in entries]

    def _living_watches(self) -> set[tuple[str, str]]:
        """Objects and addresses. They end by themselves."""
        out = self.ceph('tell', 'osd.0', 'dump_watchers', '-f', 'json')
        return {(each['object'], '{addr}/{nonce}'.format(
            **each['entity_addr_t'])) for each in json.loads(out)}

    def _peer_anew(self) -> None:
        began = self._up_from()
        self.ceph('osd', 'down', '0')
        deadline = time.monotonic() + 30
        while self._up_from() <= began:
            assert time.monotonic() < deadline, 'the OSD does not come back'
            time.sleep(0.2)

    def _up_from(self) -> int:
        """The epoch since when the OSD is up; 0: it is down."""
        [found] = json.loads(self.ceph('osd', 'dump', '-f', 'json'))['osds']
        return int(found['up_from']) if found['up'] else 0

    # -- taking away ---------------------------------------------------------
    def destroy(self, pool: str, is_due: Callable[[str], bool]) -> None:
        """Remove by force every rbd_image, in the trash too, whose name
        *is_due*; clones before what they are clones of."""
        for _ in range(_GENERATIONS):
            names = list(filter(is_due, self.names(pool)))
            entries = [entry for entry in self.trash(pool)
                       if is_due(entry['name'])]
            for name in names:
                self._destroy(pool, name=name)
            for entry in entries:
                self._destroy(pool, image_id=entry['id'])
            if not names and not entries:
                return

    def orphans(self, pool: str) -> list[str]:
        """Objects that are of no rbd_image."""
        ids = {found['id'] for found in self._rbd.RBD().list2(
            self.ioctx(pool))}
        ids |= {entry['id'] for entry in self.trash(pool)}
        names = {f'rbd_id.{name}' for name in self.names(pool)}
        return [item.key for item in self.ioctx(pool).list_objects()
                if item.key not in _OF_THE_POOL and item.key not in names
                and not ids & set(item.key.split('.'))]

    def records(self, pool: str, namespace: str) -> dict[str, list[str]]:
        """The keys of each record."""
        with self._namespace(pool, namespace) as ioctx:
            return {item.key: self._omap_keys(ioctx, item.key)
                    for item in list(ioctx.list_objects())}

    def forget(self, pool: str, namespace: str = 'volume_rbd.jobs') -> None:
        """Remove records, the pool's metadata, and orphans."""
        with self._namespace(pool, namespace) as ioctx:
            for item in list(ioctx.list_objects()):
                ioctx.remove_object(item.key)
        rbd = self._rbd.RBD()
        for key, _ in list(rbd.pool_metadata_list(self.ioctx(pool))):
            rbd.pool_metadata_remove(self.ioctx(pool), key)
        for key in self.orphans(pool):
            with contextlib.suppress(bindings.rados().ObjectNotFound):
                self.ioctx(pool).remove_object(key)

    @contextlib.contextmanager
    def _namespace(self, pool: str, namespace: str) -> Iterator[Any]:
        with self._handle.open_ioctx(pool) as ioctx:
            ioctx.set_namespace(namespace)
            yield ioctx


@contextlib.contextmanager
def pools(cluster: Cluster, names: Sequence[str]) -> Iterator[None]:
    """Pools that Cinder's user may write to and Glance's may read."""
    caps = {user: _caps(cluster, user) for user in _USERS}
    try:
        for user, (osd, mgr) in _USERS.items():
            cluster.ceph('auth', 'caps', user, 'mon', 'profile rbd',
                         'osd', osd, 'mgr', mgr)
        for name in names:
            cluster.ceph('osd', 'pool', 'create', name, '8', '8')
            bindings.rbd().RBD().pool_init(cluster.ioctx(name), True)
        yield
    finally:
        for name in names:
            cluster.ceph('osd', 'pool', 'rm', name, name,
                         '--yes-i-really-really-mean-it')
        for user, words in caps.items():
            cluster.ceph('auth', 'caps', user, *words)


def _caps(cluster: Cluster, user: str) -> list[str]:
    [found] = json.loads(cluster.ceph('auth', 'get', user, '-f', 'json'))
    return [word for pair in found['caps'].items() for word in pair]


@contextlib.contextmanager
def watch_timeout(cluster: Cluster, seconds: int) -> Iterator[None]:
    """How long the watch of a killed client lasts."""
    name = 'osd_client_watch_timeout'
    before = cluster.ceph('config', 'get', 'osd', name).strip()
    cluster.ceph('config', 'set', 'osd', name, str(seconds))
    try:
        yield
    finally:
        cluster.ceph('config', 'set', 'osd', name, before)
