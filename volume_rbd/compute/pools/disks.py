# SPDX-License-Identifier: Apache-2.0
"""What a storage_pool of guests' disks can do, whatever it is made of.

A disk is named by the uuid of its guest and a name of its own; its volume is
called ``{uuid}_{name}``. What is made here is whole or not there at all:
nothing half made bears the name of a disk, also after a kill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

from volume_rbd import progress
from volume_rbd.compute import xml
from volume_rbd.compute.pools.storage_pool import PoolState, StoragePool


@dataclasses.dataclass(frozen=True)
class Disk:
    """:param chain: what it shares data with, nearest first."""

    instance: str
    name: str
    volume: xml.Volume
    chain: tuple[xml.Backing, ...] = ()


class Disks(Protocol):
    """:raises LibvirtUnavailable, SecretNotFound: before anything is touched.
    :raises StoragePoolInactive, StoragePoolNotFound: for disks in files;
        those in RBD need no storage_pool."""

    @property
    def pool(self) -> StoragePool: ...

    def ensure(self) -> PoolState:
        """The pool is there, is started, and starts with libvirtd."""

    def create(self, instance: str, name: str,
               size_bytes: int | None = None, *, image: str | None = None,
               report: progress.Progress | None = None) -> Disk:
        """:param size_bytes: None: that of the disk in the image.
        :param image: for disks in files the name of a file in the image
            cache; for those in RBD the id of a Glance image. None: blank.
        :raises InvalidName, InvalidSize, ImageUnsafe:
        :raises StorageVolumeExists, ImageExists: the disk is there.
        """

    def find(self, instance: str, name: str) -> Disk | None:
        """However many disks there are, it takes no longer."""

    def get(self, instance: str, name: str) -> Disk:
        """:raises StorageVolumeNotFound, ImageNotFound:"""

    def known(self) -> set[str]:
        """The names of the volumes that libvirt knows of. A disk in RBD is
        there for guests whether it does or not."""

    def list(self) -> Iterator[Disk]:
        """Looks at each of them."""

    def resize(self, instance: str, name: str, size_bytes: int) -> Disk:
        """:raises InvalidSize: it would not grow."""

    def delete(self, instance: str, name: str) -> None:
        """:raises StorageVolumeNotFound, ImageNotFound:"""

    def xml(self, instance: str, name: str, device: str,
            bus: str = 'virtio') -> str:
        """The ``<disk>`` for the guest's domain."""

    def settle(self) -> None:
        """Returns when libvirt knows of all that was done before."""
