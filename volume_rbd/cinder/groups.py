# SPDX-License-Identifier: Apache-2.0
"""Snapshots of several volumes at one moment.

Groups themselves are rows in Cinder's database; only a snapshot of a group
whose type asks for consistency is the driver's work. For all else
NotImplementedError makes the manager go from volume to volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cinder.objects import fields
from cinder.volume import volume_utils

from volume_rbd.cinder import errors
from volume_rbd.cinder.backend import Backend

_Updates = tuple[dict[str, Any], list[dict[str, Any]]]


class Groups(Backend):
    """Consistent group snapshots."""

    def create_group_snapshot(self, context: Any, group_snapshot: Any,
                              snapshots: Sequence[Any]) -> _Updates:
        self._need_consistent(group_snapshot)
        with errors.translating():
            self.backend().groups.create_snapshot(
                group_snapshot.id, _members(snapshots))
        return _updates(snapshots, fields.GroupSnapshotStatus.AVAILABLE,
                        fields.SnapshotStatus.AVAILABLE)

    def delete_group_snapshot(self, context: Any, group_snapshot: Any,
                              snapshots: Sequence[Any]) -> _Updates:
        self._need_consistent(group_snapshot)
        with errors.translating():
            self.backend().groups.delete_snapshot(
                group_snapshot.id, _members(snapshots))
        return _updates(snapshots, fields.GroupSnapshotStatus.DELETED,
                        fields.SnapshotStatus.DELETED)

    @staticmethod
    def _need_consistent(group_snapshot: Any) -> None:
        """:raises NotImplementedError: each volume for itself will do."""
        if not volume_utils.is_group_a_cg_snapshot_type(group_snapshot):
            raise NotImplementedError


def _members(snapshots: Sequence[Any]) -> dict[str, str]:
    return {snapshot.volume_name: snapshot.name for snapshot in snapshots}


def _updates(snapshots: Sequence[Any], group_status: str, status: str
             ) -> _Updates:
    return {'status': group_status}, [
        {'id': snapshot.id, 'status': status} for snapshot in snapshots]
