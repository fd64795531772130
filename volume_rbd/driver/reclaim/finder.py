# SPDX-License-Identifier: Apache-2.0
"""Everything that nobody owns: what the sources find, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph.interface import Cluster, Pool
from volume_rbd.driver.reclaim.bases import UnusedBases
from volume_rbd.driver.reclaim.images import Images
from volume_rbd.driver.reclaim.items import Reclaimable, Source
from volume_rbd.driver.reclaim.proofs import Proofs
from volume_rbd.driver.reclaim.removing import Remover
from volume_rbd.driver.reclaim.temporary import Temporary
from volume_rbd.driver.reclaim.trash import Trash
from volume_rbd.driver.reclaim.volumes import Volumes
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)


class Finder:
    """:ivar sources: asked in this order; others may be added."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance], proofs: Proofs,
                 remover: Remover) -> None:
        self._config = config
        self._cluster = cluster
        self._open_glance = open_glance
        own = cluster.pool(config.pool)
        self.trash = Trash(cluster, config.pool, proofs, remover)
        self.bases = UnusedBases(own, proofs, remover)
        self.temporary = Temporary(own, proofs, remover)
        self.sources: list[Source] = [
            self.trash,
            Images(cluster, proofs, remover),
            self.bases,
            self.temporary,
            Volumes(cluster, config.pool, proofs, remover),
        ]

    def find(self) -> Iterator[Reclaimable]:
        """Opens every volume once, and every rbd_image of the images'
        pools. Touches nothing."""
        pools = self._pools()
        for source in self.sources:
            yield from source.find(pools)

    def remove(self, item: Reclaimable) -> bool:
        """See :meth:`.items.Source.remove`."""
        source = next(source for source in self.sources
                      if item.what in source.kinds)
        return source.remove(item)

    def _pools(self) -> list[Pool]:
        names = [self._config.pool, *self._config.image_pools]
        try:
            names += [store.pool for store in self._open_glance().get_stores()
                      if store.type == 'rbd' and store.pool
                      and store.fsid in (None, self._cluster.fsid)]
        except exception.VolumeRBDError as error:
            LOG.warning("The pools of Glance's stores are not known: %s",
                        error)
        own, *others = (self._cluster.pool(name)
                        for name in dict.fromkeys(names))
        return [own, *(pool for pool in others if _is_ours_to_read(pool))]


def _is_ours_to_read(pool: Pool) -> bool:
    """A store may be in another cluster, or not for the volumes' user."""
    try:
        pool.check()
    except (exception.PoolNotFound, exception.AccessDenied) as error:
        LOG.warning('Pool %s is left alone: %s', pool.name, error)
        return False
    return True
