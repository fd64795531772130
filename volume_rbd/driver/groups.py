# SPDX-License-Identifier: Apache-2.0
"""Snapshots of several volumes at one moment.

The volumes are members of an RBD group only while its snapshot is taken:
after that each can be deleted, trashed and migrated as ever. What stays is
the group, without members, until the snapshot is deleted.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Mapping

from oslo_log import log as logging

from volume_rbd import exception, model, opts
from volume_rbd.ceph import groupmark
from volume_rbd.ceph.interface import Cluster, Image
from volume_rbd.driver import debris

LOG = logging.getLogger(__name__)

_REMOVED_AT_ONCE = 8


class Groups:
    """Group snapshots of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster) -> None:
        self._pool = cluster.pool(config.pool)

    def create_snapshot(self, group_snapshot: str,
                        members: Mapping[str, str]) -> None:
        """Snapshots of several volumes at one point in time; all or none.

        :param group_snapshot: its id.
        :param members: the volumes, and for each how its snapshot is called.
        :raises ImageNotFound, SnapshotExists, InvalidName:
        :raises Conflict: there is one of that id, or a volume is in an RBD
            group of somebody's.
        """
        group = _group(group_snapshot)
        for volume, name in members.items():
            debris.check_new_name(name, 'snapshot')
            with self._pool.open(volume, read_only=True) as image:
                if image.find_snapshot(name) or groupmark.find(image, name):
                    raise exception.SnapshotExists(
                        f'Volume {volume!r} has a snapshot {name!r} already.')
        if not members:
            return
        if group in self._pool.groups():
            raise exception.Conflict(
                f'There is a group snapshot {group_snapshot!r} already.')
        try:
            for volume, name in members.items():
                with self._pool.open(volume) as image:
                    groupmark.set_mark(image, name, group)
            self._pool.snapshot_group(group, list(members))
            for volume, name in members.items():
                with self._pool.open(volume) as image:
                    [number] = [part.id for part in image.group_snapshots()
                                if part.group == group]
                    groupmark.set_mark(image, name, group, number)
        except BaseException:
            with contextlib.suppress(exception.VolumeRBDError):
                self.delete_snapshot(group_snapshot, members)
            raise

    def delete_snapshot(self, group_snapshot: str,
                        members: Mapping[str, str]) -> None:
        """Remove all of a group's snapshot; what is gone already is no
        error, nor is one that was never finished."""
        group = _group(group_snapshot)

        def remove(volume: str) -> None:
            try:
                with self._pool.open(volume) as image:
                    _remove_part(image, members[volume], group)
            except exception.ImageNotFound:
                LOG.info('Volume %s is gone, and its snapshot with it',
                         volume)

        # Each waits for a round of the monitors, which they can share.
        with concurrent.futures.ThreadPoolExecutor(
                _REMOVED_AT_ONCE, thread_name_prefix='group') as executor:
            list(executor.map(remove, members))
        self._pool.remove_group(group)


def _group(group_snapshot: str) -> str:
    return model.check_name(
        f'{debris.OWN_PREFIX}group-{group_snapshot}', 'group snapshot')


def _remove_part(image: Image, name: str, group: str) -> None:
    found = groupmark.find(image, name)
    numbers = {part.id for part in image.group_snapshots()
               if part.group == group or (found and part.id == found.id)}
    for number in numbers:
        image.remove_snapshot_by_id(number)
    plain = image.find_snapshot(name)
    if not numbers and plain is not None:
        # The volume was migrated here, and its part became one.
        image.unprotect_snapshot(name)
        image.remove_snapshot(name)
    groupmark.remove_mark(image, name)
