# SPDX-License-Identifier: Apache-2.0
"""The two storage pools of a compute agent, by its configuration."""

from __future__ import annotations

import collections
import functools
import logging
from collections.abc import Callable

from volume_rbd import exception
from volume_rbd.compute import disks
from volume_rbd.compute.config import ComputeConfig
from volume_rbd.compute.pools.adoption import Adoption
from volume_rbd.compute.pools.base_pool import BasePool
from volume_rbd.compute.pools.connection import Connection
from volume_rbd.compute.pools.dir_disks import DirDisks
from volume_rbd.compute.pools.disks import Disks
from volume_rbd.compute.pools.rbd_disks import RBDDisks
from volume_rbd.compute.pools.secrets import Secrets
from volume_rbd.compute.pools.storage_pool import PoolState, StoragePool
from volume_rbd.driver import RBDDriver

LOG = logging.getLogger(__name__)


class Pools:
    """:param open_disks: called when disks in RBD are first asked for;
        likewise *open_driver*.

    Calls of libvirt block their thread: an agent that is patched by eventlet
    makes them in native ones (tpool), as it does with libvirt's bindings.
    """

    def __init__(self, config: ComputeConfig,
                 open_disks: Callable[[], disks.Disks],
                 open_driver: Callable[[], RBDDriver]) -> None:
        self._config = config
        self._open_disks = open_disks
        self._open_driver = open_driver
        self._connection = Connection(config.connection_uri)
        self.secrets = Secrets(self._connection)
        #: The image cache.
        self.base = BasePool(self._connection, config.base_storage_pool,
                             config.fetch.cache_folder)

    @functools.cached_property
    def disks(self) -> Disks:
        """Of the kind that images_type says."""
        return (self._rbd_disks if self._config.images_type == 'rbd'
                else self.dir_disks)

    @property
    def _pool(self) -> StoragePool:
        return StoragePool(self._connection, self._config.disks_storage_pool)

    @functools.cached_property
    def _rbd_disks(self) -> RBDDisks:
        return RBDDisks(self._pool, self.secrets, self._open_disks(),
                        self._open_driver())

    @functools.cached_property
    def dir_disks(self) -> DirDisks:
        """What only disks in files can do.

        :raises NotSupported: they are in RBD.
        """
        if self._config.images_type == 'rbd':
            raise exception.NotSupported(
                'The disks are in RBD, and this is for those in files.',
                remedy='Set [libvirt] images_type to qcow2 or raw, or take a '
                       "snapshot of the disk's volume instead.")
        return DirDisks(self._pool, self._config.store_folder, self.base,
                        self._config.images_type)

    @functools.cached_property
    def adoption(self) -> Adoption:
        """Of disks of before there was a pool.

        :raises NotSupported: the disks are in RBD.
        """
        return Adoption(self._config.instances_folder, self.dir_disks)

    def ensure(self) -> list[PoolState]:
        """Both pools are there and started, with their folders and the
        secret. Idempotent.

        Says which guests have disks that are not in the pool.

        :raises StoragePoolConflict: a pool of that name is something else.
        """
        states = [self.base.ensure(), self.disks.ensure()]
        if self._config.images_type != 'rbd':
            left = self.adoption.instances()
            if left:
                LOG.warning(
                    '%d guest(s) have disks of the old layout, outside of '
                    'the storage_pool: see "volume-rbd pool adopt".',
                    len(left))
        return states

    def refresh(self) -> list[PoolState]:
        """libvirt looks at every volume again.

        :raises StoragePoolInactive:
        """
        for pool in (self.base.pool, self.disks.pool):
            pool.refresh()
        return [self.base.pool.state(), self.disks.pool.state()]

    def count_users(self) -> dict[str, int]:
        """How many disks in files share the data of each image of the cache,
        by its path: what nobody is counted for can go."""
        if self._config.images_type == 'rbd':
            return {}
        return dict(collections.Counter(
            backing.path for disk in self.disks.list()
            for backing in disk.chain))

    def close(self) -> None:
        """Returns when libvirt knows of all that was done."""
        for made in ('_rbd_disks', 'dir_disks'):
            if made in self.__dict__:
                self.__dict__[made].settle()
        self._connection.close()
