# SPDX-License-Identifier: Apache-2.0
"""What a compute agent holds on to: opened on demand, closed once.

For the command line, and for an agent in Python::

    from volume_rbd import compute

    with compute.ComputeAgent(['/etc/nova/nova.conf']) as agent:
        agent.disks.create(...)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from volume_rbd import manager
from volume_rbd.ceph import connection
from volume_rbd.compute import config
from volume_rbd.compute.disks import Disks
from volume_rbd.compute.fetch import Fetcher
from volume_rbd.compute.pools import Pools
from volume_rbd.driver import RBDDriver

#: Looked for in this order where no file is named.
DEFAULT_FILES = ('/etc/volume-rbd/volume-rbd.conf', '/etc/nova/nova.conf')


class ComputeAgent:
    """:param files: configuration files; empty: $VOLUME_RBD_CONFIG, else the
        first of :data:`DEFAULT_FILES` that exists.
    :param environ: where the user's credentials (OS_*) are looked for.
    :raises ConfigurationError: a value is wrong.
    """

    def __init__(self, files: Sequence[str] = (), *,
                 environ: Mapping[str, str] | None = None) -> None:
        self.manager = manager.VolumeManager(
            files or manager.default_files(
                os.environ if environ is None else environ, DEFAULT_FILES),
            environ=environ)
        self.config = config.get_config(self.manager.conf)
        self._driver: RBDDriver | None = None
        self._disks: Disks | None = None
        self._pools: Pools | None = None
        #: Images as local files.
        self.fetcher = Fetcher(
            self.config, lambda: connection.connect(self.config.fetch.cluster),
            self.manager.glance, self.manager.certificates,
            note_fetched=lambda: self.pools.base.note_fetched())

    @property
    def driver(self) -> RBDDriver:
        """The driver whose volumes are the disks in RBD."""
        if self._driver is None:
            self._driver = self.manager.open(self.config.disks)
        return self._driver

    @property
    def disks(self) -> Disks:
        """The disks in RBD."""
        if self._disks is None:
            self._disks = Disks(self.config, self.driver, self.manager.glance)
        return self._disks

    @property
    def pools(self) -> Pools:
        """libvirt's storage pools; nothing is connected to yet."""
        if self._pools is None:
            self._pools = Pools(self.config, lambda: self.disks,
                                lambda: self.driver)
        return self._pools

    def opened(self) -> list[RBDDriver]:
        """The drivers that were asked for so far."""
        return [self._driver] if self._driver else []

    def close(self) -> None:
        """Wait for background work; the connections stay for others."""
        if self._pools is not None:
            self._pools.close()
        for driver in self.opened():
            driver.close()
        self.manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()
