# SPDX-License-Identifier: Apache-2.0
"""Compute agents: client.nova, whose pool is vms."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from tests.functional.house import House
from volume_rbd import compute

POOL = 'vms'


class Agents:
    """Those of one test, and the disks of one instance.

    :ivar instance: its UUID.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.instance = str(uuid.uuid4())
        self._opened: list[compute.ComputeAgent] = []

    def sections(self, sections: Mapping[str, Mapping[str, object]]
                 | None = None, **libvirt: object
                 ) -> dict[str, dict[str, object]]:
        """Of a nova.conf, to be laid over the sandbox's configuration."""
        found: dict[str, dict[str, object]] = {
            'DEFAULT': {'state_path': self.house.folder}, **{
                name: dict(values)
                for name, values in (sections or {}).items()}}
        found['libvirt'] = {
            'images_type': 'rbd', 'images_rbd_pool': POOL,
            'images_rbd_ceph_conf': self.house.cluster.conf,
            'rbd_user': 'nova', 'rbd_connect_timeout': 20,
            'rados_connection_retries': 0, **libvirt}
        return found

    def get(self, *, role: str = 'member', sections: Any = None,
            **libvirt: object) -> compute.ComputeAgent:
        """:param role: who asks Glance.
        :param libvirt: options of its section.
        """
        agent = compute.ComputeAgent(
            [self.house.config(self.sections(sections, **libvirt))],
            environ=self.house.sandbox.env(role))
        self._opened.append(agent)
        return agent

    def name(self, disk: str = 'disk') -> str:
        return f'{self.instance}_{disk}'

    def digest(self, disk: str = 'disk') -> str:
        return self.house.cluster.digest(POOL, self.name(disk))

    def parent(self, disk: str = 'disk') -> str | None:
        return self.house.cluster.parent(POOL, self.name(disk))

    def close(self) -> None:
        for agent in self._opened:
            agent.close()


@contextlib.contextmanager
def opened(house: House) -> Iterator[Agents]:
    """The instance's disks go when the test is over, and nothing else may
    have to."""
    agents = Agents(house)
    with contextlib.closing(agents):
        yield agents
        left = agents.get().disks.clean_up(f'{agents.instance}_',
                                           with_snapshots=True)
        assert all(disk.is_gone for disk in left), left
