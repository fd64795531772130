# SPDX-License-Identifier: Apache-2.0
"""Real ancestors of an rbd_image, across pools and through the trash."""

from __future__ import annotations

from collections.abc import Iterator

from volume_rbd import exception
from volume_rbd.ceph.interface import Cluster, Image, ParentInfo

_LONGEST = 64


def ancestors(cluster: Cluster, image: Image) -> Iterator[ParentInfo]:
    """The parents of an open image, nearest first.

    Ends where a pool may not be read: what lies behind is not known.
    """
    parent = image.parent
    for _ in range(_LONGEST):
        if parent is None:
            return
        yield parent
        try:
            with cluster.pool(parent.pool).open_by_id(
                    parent.image_id, read_only=True) as opened:
                parent = opened.parent
        except (exception.CephPermissionDenied, exception.PoolNotFound,
                exception.ImageNotFound):
            return


def depth(cluster: Cluster, image: Image) -> int:
    """How many ancestors an open image has; 0 for what is no clone."""
    return sum(1 for _ in ancestors(cluster, image))
