# SPDX-License-Identifier: Apache-2.0
"""A compute agent in a cloud in memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.world import SIZE, World, content
from volume_rbd import opts
from volume_rbd.compute.config import ComputeConfig, FetchConfig
from volume_rbd.compute.disks import Disks
from volume_rbd.driver import RBDDriver

INSTANCE = '6c8d5f2e-0a5e-4b37-9a57-0a0d6b1c7f11'
DISK = f'{INSTANCE}_disk'
CLUSTER = opts.ClusterConfig(user='nova')


class Compute:
    """:ivar world: the cloud; its Ceph user nova owns the pool vms.
    :ivar config: change it with :meth:`configure`.
    """

    def __init__(self, **knobs: Any) -> None:
        self.world = World(**knobs)
        ceph = self.world.ceph
        ceph.caps['nova'] = {'vms': 'rw', 'images': 'rw', 'volumes': 'r'}
        self.cluster = ceph.cluster('nova')
        self.vms = self.cluster.pool('vms')
        self.config = ComputeConfig(
            images_type='rbd',
            disks=dataclasses.replace(
                self.world.config, name='libvirt', pool='vms',
                cluster=CLUSTER, clone_upload_flatten='before_register'),
            fetch=FetchConfig(CLUSTER, Path('/nowhere')),
            store_folder=Path('/nowhere'),
            instances_folder=Path('/nowhere'), copy_poll_s=0.01,
            copy_timeout_s=5)

    def configure(self, **changes: Any) -> None:
        """:param changes: of the agent's configuration, or of its disks'."""
        own = {field.name for field in dataclasses.fields(ComputeConfig)}
        disks = {key: value for key, value in changes.items()
                 if key not in own}
        self.config = dataclasses.replace(
            self.config,
            disks=dataclasses.replace(self.config.disks, **disks),
            **{key: value for key, value in changes.items() if key in own})

    @contextlib.contextmanager
    def disks(self) -> Iterator[Disks]:
        with RBDDriver(self.config.disks, self.cluster,
                       lambda: self.world.glance,
                       converter=self.world.converter) as driver:
            yield Disks(self.config, driver, lambda: self.world.glance)

    def make_disk(self, disks: Disks, name: str = DISK) -> None:
        """A small one with data in it."""
        disks.create_blank(name, SIZE)
        data = content()
        with self.vms.open(name) as image:
            for at in (0, SIZE // 2, SIZE - 4096):
                image.write(data[at:at + 4096], at)

    def names(self) -> list[str]:
        return self.world.disks('vms')


@pytest.fixture
def compute() -> Compute:
    return Compute()
