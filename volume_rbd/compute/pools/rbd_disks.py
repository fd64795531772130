# SPDX-License-Identifier: Apache-2.0
"""Disks in RBD: made by this project, and libvirt looks at them.

libvirt's own ways lose data there, or do something else than they say: see
the decision record. So librbd says what is there, and libvirt is told by a
refresh, after the fact. A guest needs neither: its XML names the monitors.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from volume_rbd import exception, model, progress
from volume_rbd.ceph import native
from volume_rbd.compute import xml
from volume_rbd.compute.pools import names
from volume_rbd.compute.pools.disks import Disk
from volume_rbd.compute.pools.secrets import Secrets
from volume_rbd.compute.pools.storage_pool import PoolState, StoragePool
from volume_rbd.driver import RBDDriver

LOG = logging.getLogger(__name__)


class RBDDisks:
    """:param driver: its volumes are the disks."""

    format = 'raw'

    def __init__(self, pool: StoragePool, secrets: Secrets,
                 driver: RBDDriver) -> None:
        self.pool = pool
        self._secrets = secrets
        self._driver = driver
        self._lock: threading.Lock = native.lock()
        self._refreshed_at = 0.0

    def ensure(self) -> PoolState:
        """With the secret that the pool and the guests sign in with."""
        cluster = self._driver.cluster
        user = self._driver.config.cluster.user
        uuid = self._secret_uuid()
        if user is not None:
            key = cluster.key()
            if key:
                self._secrets.ensure(uuid, user, key)
        return self.pool.ensure(xml.Pool(
            self.pool.name, 'rbd', source=self._driver.config.pool,
            hosts=tuple(_split(address) for address in cluster.monitors()),
            user=user, secret_uuid=None if user is None else uuid))

    def _secret_uuid(self) -> str:
        return self._driver.config.secret_uuid or self._driver.cluster.fsid

    # -- making --------------------------------------------------------------
    def create(self, instance: str, name: str,
               size_bytes: int | None = None, *, image: str | None = None,
               report: progress.Progress | None = None,
               is_refreshed: bool = True) -> Disk:
        """:param is_refreshed: libvirt is told at once, which makes it open
            every rbd_image of the pool; else with the next refresh.
        """
        volume = model.VolumeSpec(names.join(instance, name), size_bytes)
        if is_refreshed:
            # libvirt takes it for stopped when it has itself been restarted.
            self.pool.start()
        if image is None:
            (report or progress.Silent()).step(f'making disk {volume.name}')
            self._driver.volumes.create(volume)
        else:
            self._driver.images.create(volume, image, report=report)
        if is_refreshed:
            self._tell(volume.name)
        return self.get(instance, name)

    def _tell(self, volume: str) -> None:
        """The disk is there, whatever libvirt says now. Several that were
        made meanwhile are told of by one refresh."""
        made_at = time.monotonic()
        try:
            with self._lock:
                if self._refreshed_at < made_at:
                    begins_at = time.monotonic()
                    if not self.pool.start():
                        self.pool.refresh()
                    self._refreshed_at = begins_at
        except exception.VolumeRBDError as error:
            LOG.warning('libvirt is not told of %s, which is of no matter '
                        'to its guest: %s', volume, error)

    # -- looking -------------------------------------------------------------
    def find(self, instance: str, name: str) -> Disk | None:
        """librbd and libvirt are asked for the one name; nothing is
        refreshed."""
        volume = names.join(instance, name)
        if not self._driver.volumes.exists(volume):
            return None
        try:
            return self._show(instance, name, self._is_known(volume))
        except exception.ImageNotFound:
            return None  # it went meanwhile

    def _is_known(self, volume: str) -> bool:
        try:
            return self.pool.knows(volume)
        except (exception.NotFound, exception.StoragePoolInactive,
                exception.LibvirtUnavailable) as error:
            LOG.info('libvirt does not know of %s: %s', volume, error)
            return False

    def get(self, instance: str, name: str) -> Disk:
        found = self.find(instance, name)
        if found is None:
            raise exception.ImageNotFound(
                f'There is no disk {names.join(instance, name)!r} in '
                f'ceph_pool {self._driver.config.pool!r}.',
                remedy='Check the name with "volume-rbd pool list".')
        return found

    def list(self) -> Iterator[Disk]:
        known = set(self.pool.names() if self.pool.is_ready() else ())
        for volume in self._driver.volumes.names():
            parts = names.split(volume)
            if parts is not None:
                try:
                    yield self._show(*parts, volume in known)
                except exception.ImageNotFound:
                    continue

    def _show(self, instance: str, name: str, is_known: bool) -> Disk:
        made = self._driver.volumes.show(names.join(instance, name))
        chain = (xml.Backing(made.parent, 'raw'),) if made.parent else ()
        return Disk(instance, name, xml.Volume(
            name=made.name, path=f'{made.pool}/{made.name}', format='raw',
            capacity_bytes=made.size_bytes,
            backing=chain[0] if chain else None), chain, is_known)

    def xml(self, instance: str, name: str, device: str,
            bus: str = 'virtio') -> str:
        self.get(instance, name)
        found = self._driver.connections.get(names.join(instance, name))
        return xml.build_network_disk(
            found.name, zip(found.hosts, found.ports, strict=True), device,
            bus, user=found.auth_username, secret_uuid=found.secret_uuid)

    # -- changing ------------------------------------------------------------
    def resize(self, instance: str, name: str, size_bytes: int) -> Disk:
        self._driver.volumes.extend(names.join(instance, name), size_bytes)
        return self.get(instance, name)

    def delete(self, instance: str, name: str, *, is_refreshed: bool = True
               ) -> None:
        """:param is_refreshed: as for :meth:`create`."""
        volume = names.join(instance, name)
        self.get(instance, name)
        self._driver.volumes.delete(volume)
        if is_refreshed and self._is_known(volume):
            self._tell(volume)


def _split(address: str) -> xml.Host:
    host, _, port = address.rpartition(':')
    return host.strip('[]'), port
