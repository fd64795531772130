# SPDX-License-Identifier: Apache-2.0
"""Disks in RBD: made by this project, and libvirt looks at them.

libvirt's own ways lose data there, or do something else than they say: see
the decision record. So librbd says what is there, and libvirt is told after
the fact. No guest waits for that: its XML names the monitors, not the pool.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from volume_rbd import exception, progress
from volume_rbd.compute import disks, xml
from volume_rbd.compute.disks import get_name, split_name
from volume_rbd.compute.pools.disks import Disk
from volume_rbd.compute.pools.secrets import Secrets
from volume_rbd.compute.pools.storage_pool import PoolState, StoragePool
from volume_rbd.compute.pools.teller import Teller
from volume_rbd.driver import RBDDriver


class RBDDisks:
    """:param disks: what makes them; the rest is *driver*'s."""

    format = 'raw'

    def __init__(self, pool: StoragePool, secrets: Secrets,
                 disks: disks.Disks, driver: RBDDriver) -> None:
        self.pool = pool
        self._secrets = secrets
        self._disks = disks
        self._driver = driver
        self._teller = Teller(pool.name, self._refresh)

    def ensure(self) -> PoolState:
        """With the secret that the pool and the guests sign in with."""
        user, uuid = self._find_user(), None
        if user is not None:
            uuid = self._secret_uuid()
            self._secrets.ensure(uuid, user, self._driver.cluster.key())
        return self.pool.ensure(xml.Pool(
            self.pool.name, 'rbd', source=self._driver.config.pool,
            hosts=tuple(self._driver.connections.monitors()),
            user=user, secret_uuid=uuid))

    def _find_user(self) -> str | None:
        """None for a cluster that asks nobody who he is."""
        user = self._driver.config.cluster.user
        return user if user and self._driver.cluster.key() else None

    def _secret_uuid(self) -> str:
        return self._driver.config.secret_uuid or self._driver.cluster.fsid

    # -- making ---------------------------------------------------------------
    def create(self, instance: str, name: str,
               size_bytes: int | None = None, *, image: str | None = None,
               report: progress.Progress | None = None) -> Disk:
        volume = get_name(instance, name)
        self._check_secret()
        if image is None:
            (report or progress.Silent()).step(f'making disk {volume}')
            self._disks.create_blank(volume, size_bytes or 0)
        else:
            self._disks.create(volume, image, size_bytes, report=report)
        self._teller.tell()
        return self.get(instance, name)

    def _check_secret(self) -> None:
        """No guest starts without it. (The pool is not asked: it does not
        answer while libvirt looks at its volumes.)"""
        if self._find_user() is None:
            return
        uuid = self._secret_uuid()
        if not self._secrets.has(uuid):
            raise exception.SecretNotFound(f'libvirt has no secret {uuid}.')

    def _refresh(self) -> None:
        # libvirt takes it for stopped when it has itself been restarted, and
        # looks at everything when it starts it.
        if not self.pool.start():
            self.pool.refresh()

    def settle(self) -> None:
        self._teller.settle()

    # -- looking -------------------------------------------------------------
    def find(self, instance: str, name: str) -> Disk | None:
        """By librbd alone: libvirt would have to be waited for."""
        volume = get_name(instance, name)
        if not self._disks.exists(volume):
            return None
        try:
            return self._show(instance, name)
        except exception.ImageNotFound:
            return None  # it went meanwhile

    def get(self, instance: str, name: str) -> Disk:
        found = self.find(instance, name)
        if found is None:
            raise exception.ImageNotFound(
                f'There is no disk {get_name(instance, name)!r} in '
                f'ceph_pool {self._driver.config.pool!r}.',
                remedy='Check the name with "volume-rbd pool list".')
        return found

    def known(self) -> set[str]:
        return set(self.pool.names() if self.pool.is_ready() else ())

    def list(self) -> Iterator[Disk]:
        for volume in self._disks.names():
            parts = split_name(volume)
            if parts is not None:
                with contextlib.suppress(exception.ImageNotFound):
                    yield self._show(*parts)  # unless it went meanwhile

    def _show(self, instance: str, name: str) -> Disk:
        made = self._disks.show(get_name(instance, name))
        backing = xml.Backing(made.parent, 'raw') if made.parent else None
        return Disk(instance, name, xml.Volume(
            name=made.name, path=f'{made.pool}/{made.name}', format='raw',
            capacity_bytes=made.size_bytes, backing=backing),
            () if backing is None else (backing,))

    def xml(self, instance: str, name: str, device: str,
            bus: str = 'virtio') -> str:
        self.get(instance, name)
        found = self._driver.connections.get(get_name(instance, name))
        return xml.build_network_disk(
            found.name, zip(found.hosts, found.ports, strict=True), device,
            bus, user=found.auth_username, secret_uuid=found.secret_uuid)

    # -- changing ------------------------------------------------------------
    def resize(self, instance: str, name: str, size_bytes: int) -> Disk:
        self._disks.resize(get_name(instance, name), size_bytes)
        return self.get(instance, name)

    def delete(self, instance: str, name: str) -> None:
        """(libvirt's own deletion would take whatever bears the name.)"""
        self.get(instance, name)
        self._disks.delete(get_name(instance, name))
        self._teller.tell()
