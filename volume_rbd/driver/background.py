# SPDX-License-Identifier: Apache-2.0
"""Flattening in the background, a bounded number at once."""

from __future__ import annotations

import concurrent.futures

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph.interface import Cluster

LOG = logging.getLogger(__name__)


class Flattener:
    """:param workers: how many flattens run at once."""

    def __init__(self, cluster: Cluster, workers: int) -> None:
        self._cluster = cluster
        self._executor = concurrent.futures.ThreadPoolExecutor(
            workers, thread_name_prefix='flatten')

    def submit(self, pool: str, name: str
               ) -> concurrent.futures.Future[None]:
        LOG.info('Flattening %s/%s in the background', pool, name)
        return self._executor.submit(self._flatten, pool, name)

    def close(self) -> None:
        """Wait for what was submitted."""
        self._executor.shutdown(wait=True)

    def _flatten(self, pool: str, name: str) -> None:
        try:
            with self._cluster.pool(pool).open(name) as image:
                image.flatten()
        except exception.ImageNotFound:
            LOG.info('%s/%s is gone: nothing to flatten', pool, name)
        except exception.VolumeRBDError as error:
            LOG.error('Flattening %s/%s failed, it stays a clone: %s',
                      pool, name, error)
