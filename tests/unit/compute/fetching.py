# SPDX-License-Identifier: Apache-2.0
"""A fetcher over the cloud in memory, with a folder of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tests.unit.flows.test_verify import Box
from tests.unit.world import World
from volume_rbd import compute, opts
from volume_rbd.ceph.interface import Cluster
from volume_rbd.compute.config import FetchConfig

USER = 'nova-fetch'


class Desk:
    """:ivar folder: the cache.
    :ivar connections: how often the cluster was asked for.
    """

    def __init__(self, folder: Path, **knobs: Any) -> None:
        self.folder = folder / '_base'
        self.world = World(**knobs)
        self.world.ceph.caps[USER] = {'images': 'r'}
        self.schemes: tuple[str, ...] = ('rbd',)
        self.connections = 0
        self.box = Box()
        self.noted: list[bool] = []

    def open_cluster(self) -> Cluster:
        self.connections += 1
        return self.world.ceph.cluster(USER)

    def fetcher(self, **changes: Any) -> compute.Fetcher:
        """:param changes: of the options of the disks' backend."""
        return compute.Fetcher(
            compute.ComputeConfig(
                images_type='qcow2',
                disks=dataclasses.replace(self.world.config, **changes),
                fetch=FetchConfig(opts.ClusterConfig(user=USER), self.folder,
                                  self.schemes),
                store_folder=self.folder, instances_folder=self.folder),
            self.open_cluster, lambda: self.world.glance, lambda: self.box,
            self.world.converter, lambda: self.noted.append(True))

    def fetch(self, image_id: str, *words: Any, **options: Any
              ) -> compute.Fetched:
        return self.fetcher().fetch(image_id, *words, **options)

    def files(self) -> list[str]:
        """The names of all there is, hidden ones too."""
        return sorted(path.name for path in self.folder.glob('*')) \
            if self.folder.exists() else []
