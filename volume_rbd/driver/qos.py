# SPDX-License-Identifier: Apache-2.0
"""The limits of a volume: Cinder's back-end QoS specs."""

from __future__ import annotations

from collections.abc import Mapping

from volume_rbd import opts
from volume_rbd.ceph import qos
from volume_rbd.ceph.interface import Cluster


class QoS:
    """The limits of one backend's volumes."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster) -> None:
        self._pool = cluster.pool(config.pool)

    def check(self, specs: Mapping[str, str]) -> None:
        """Touches nothing.

        :raises InvalidInput: an unknown word or a bad number.
        """
        qos.check(specs)

    def set(self, volume: str, specs: Mapping[str, str]) -> None:
        """Let *specs* be the limits, and no others; also while the volume is
        in use, whose users follow at once.

        :raises ImageNotFound:
        :raises InvalidInput: see :meth:`check`; nothing was touched.
        :raises VolumeRBDError: the limits are what they were before.
        """
        qos.check(specs)
        with self._pool.open(volume) as image:
            qos.replace(image, specs)

    def clear(self, volume: str) -> None:
        """:raises ImageNotFound:"""
        self.set(volume, {})
