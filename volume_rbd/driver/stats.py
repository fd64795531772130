# SPDX-License-Identifier: Apache-2.0
"""How much room a backend has.

The figures are those of the stock driver, so that a scheduler goes on as it
was: with a quota the total is the quota; without one it is the whole cluster;
and where report_dynamic_total_capacity is on, as by default, it is what is
stored and what can still be written.
"""

from __future__ import annotations

import collections
import dataclasses
import threading

from volume_rbd import opts
from volume_rbd.ceph.interface import Cluster, Pool

#: How many known sizes are asked again by a call, the oldest first: a pool of
#: 10,000, asked once a minute, is seen anew every ten minutes.
REFRESHED_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True)
class BackendStats:
    """:param provisioned_bytes: the sizes of all rbd_images of the pool;
        None where the pool is the service's own, which then knows it.
    :param max_over_subscription_ratio: a number, or 'auto'.
    """

    fsid: str
    total_bytes: int
    free_bytes: int
    provisioned_bytes: int | None
    reserved_percentage: int
    max_over_subscription_ratio: str


class Stats:
    """The room of one backend. For all threads."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster
        self._sizes = ProvisionedSizes(cluster.pool(config.pool))

    def get(self) -> BackendStats:
        """One ``df``; where the pool is shared with others, one listing and
        a bounded number of small reads besides.

        :raises ClusterUnavailable: and what else Ceph says.
        """
        config = self._config
        usage = self._cluster.pool(config.pool).usage()
        free_bytes = usage.max_available_bytes
        if config.report_dynamic_total:
            total_bytes = free_bytes + usage.stored_bytes
        else:
            total_bytes = usage.quota_bytes or usage.cluster_bytes
        return BackendStats(
            fsid=self._cluster.fsid, total_bytes=total_bytes,
            free_bytes=free_bytes,
            provisioned_bytes=(None if config.is_exclusive_pool
                               else self._sizes.total_bytes()),
            reserved_percentage=config.reserved_percentage,
            max_over_subscription_ratio=config.max_over_subscription_ratio)

    def forget(self, name: str) -> None:
        """The size of that volume has changed."""
        self._sizes.forget(name)


class ProvisionedSizes:
    """The sizes of a pool's rbd_images, remembered by their ids.

    An id is never used again and a new one is asked for at once, so only a
    size that changes can be old: our own changes are told to :meth:`forget`,
    and those of others are seen as the known ones are asked again, a bounded
    number with each call.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        # By id, in the order in which they were asked.
        self._known: collections.OrderedDict[str, int]
        self._known = collections.OrderedDict()
        # New in the last call: one in the making may be given another size.
        self._young: set[str] = set()
        # Its own lock: who resizes does not wait for a listing.
        self._changed_lock = threading.Lock()
        self._changed: set[str] = set()

    def total_bytes(self) -> int:
        with self._lock:
            # Before the listing: what changes after it is asked once more.
            with self._changed_lock:
                changed, self._changed = self._changed, set()
            try:
                self._refresh(changed)
            except BaseException:
                with self._changed_lock:
                    self._changed |= changed
                raise
            return sum(self._known.values())

    def _refresh(self, changed: set[str]) -> None:
        listed = {image.id: image.name for image in self._pool.images()}
        for image_id in self._known.keys() - listed.keys():
            del self._known[image_id]
        new = listed.keys() - self._known.keys()
        oldest = list(self._known)[:REFRESHED_AT_ONCE]
        asked = {image_id for image_id, name in listed.items()
                 if image_id in new or image_id in self._young
                 or name in changed} | set(oldest)
        sizes = self._pool.sizes(asked)
        self._young = new if self._known else set()
        for image_id in asked:
            # One that went since the listing has no size.
            self._known.pop(image_id, None)
            if image_id in sizes:
                self._known[image_id] = sizes[image_id]

    def forget(self, name: str) -> None:
        with self._changed_lock:
            self._changed.add(name)
