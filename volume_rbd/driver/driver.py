# SPDX-License-Identifier: Apache-2.0
"""One backend: what its volumes, snapshots and images can do."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from volume_rbd import opts
from volume_rbd.ceph.interface import Cluster
from volume_rbd.driver.background import Flattener
from volume_rbd.driver.images import Images
from volume_rbd.driver.reclaim import Reclaimer
from volume_rbd.driver.snapshots import Snapshots
from volume_rbd.driver.volumes import Volumes
from volume_rbd.glance.interface import Glance


class RBDDriver:
    """:param open_glance: called when Glance is first needed: who only
        handles volumes and snapshots needs no credentials.

    Leaving the ``with`` block waits for the work in the background.
    """

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance]) -> None:
        self.config = config
        self.cluster = cluster
        self.flattener = Flattener(cluster, config.concurrent_flattens)
        self.reclaimer = Reclaimer(config, cluster, open_glance)
        self.volumes = Volumes(config, cluster, self.reclaimer)
        self.snapshots = Snapshots(config, cluster)
        self.images = Images(config, cluster, open_glance, self.flattener)

    def check(self) -> None:
        """Try the connection and the pool.

        :raises ClusterUnavailable, PoolNotFound, CephPermissionDenied:
        """
        self.cluster.pool(self.config.pool).check()

    def close(self) -> None:
        self.flattener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()
