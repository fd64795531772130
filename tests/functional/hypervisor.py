# SPDX-License-Identifier: Apache-2.0
"""A compute node of the tests: a libvirtd, folders and agents of its own."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.functional import content
from tests.functional.house import House
from tests.functional.libvirtd import Libvirtd
from volume_rbd import compute

MIB = content.MIB


class Hypervisor:
    """:param folder: of the guests, their disks and the image cache."""

    def __init__(self, house: House, libvirtd: Libvirtd, folder: Path
                 ) -> None:
        self.house = house
        self.libvirtd = libvirtd
        self.instances = folder / 'instances'
        self.cache = self.instances / '_base'
        self.store = self.instances / 'disks'
        self._agents: list[compute.ComputeAgent] = []

    def close(self) -> None:
        for agent in self._agents:
            agent.close()

    def config(self, images_type: str, **libvirt: object) -> str:
        """The path of a nova.conf."""
        return self.house.config({
            'DEFAULT': {'instances_path': str(self.instances)},
            'libvirt': {
                'images_type': images_type, 'images_rbd_pool': 'vms',
                'images_rbd_ceph_conf': self.house.cluster.conf,
                'rbd_user': 'nova', 'rbd_connect_timeout': 20,
                'connection_uri': self.libvirtd.uri, **libvirt}})

    def agent(self, images_type: str, **libvirt: object
              ) -> compute.ComputeAgent:
        """:param libvirt: options of ``[libvirt]``."""
        made = compute.ComputeAgent(
            [self.config(images_type, **libvirt)],
            environ=self.house.sandbox.env('member'))
        self._agents.append(made)
        return made

    def put_in_cache(self, data: bytes, *, disk_format: str = 'raw') -> str:
        """An image in the cache; :returns: the name of its file."""
        self.cache.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        raw = self.cache / name
        raw.write_bytes(data)
        if disk_format != 'raw':
            made = raw.with_name(f'{name}.new')
            run('qemu-img', 'convert', '-O', disk_format, raw, made)
            made.rename(raw)
        return name

    @contextlib.contextmanager
    def pool(self, name: str = 'nova-disks-pool') -> Iterator[Any]:
        """libvirt's own view of a storage_pool."""
        with self.libvirtd.connected() as connection:
            yield connection.storagePoolLookupByName(name)


def instance() -> str:
    """The uuid of a guest."""
    return str(uuid.uuid4())


def run(*words: object) -> str:
    return subprocess.run([str(word) for word in words], check=True,
                          capture_output=True, text=True, timeout=60).stdout


def read_disk(path: Path, disk_format: str, folder: Path) -> bytes:
    """What a guest would see of a disk in a file."""
    raw = folder / f'{uuid.uuid4()}.raw'
    run('qemu-img', 'convert', '-f', disk_format, '-O', 'raw', path, raw)
    data = raw.read_bytes()
    raw.unlink()
    return data
