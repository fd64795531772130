# SPDX-License-Identifier: Apache-2.0
"""create_snapshot and delete_snapshot, of a volume's owner.

Each is two steps on the cluster, as snapshots are protected: clones of format
2 do not need it, but the stock driver does, to make clones of format 1.

Arguments (JSON): job, volume_name, snapshot_name, choice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from taskflow.patterns import linear_flow
from taskflow.types import failure

from volume_rbd import exception
from volume_rbd.flows import strategies
from volume_rbd.flows.base import Task, Tools

CREATE = 'create_snapshot'
DELETE = 'delete_snapshot'


def get_arguments(job: str, volume_name: str, snapshot_name: str
                  ) -> dict[str, Any]:
    return {'job': job, 'volume_name': volume_name,
            'snapshot_name': snapshot_name,
            'choice': {'strategy': 'snapshot', 'reason': 'asked_for',
                       'sentence': 'Snapshots share the data of the volume.'}}


def get_create_flow(tools: Tools, arguments: Mapping[str, Any]
                    ) -> linear_flow.Flow:
    return linear_flow.Flow(CREATE).add(CreateSnapshot(tools))


def get_delete_flow(tools: Tools, arguments: Mapping[str, Any]
                    ) -> linear_flow.Flow:
    return linear_flow.Flow(DELETE).add(DeleteSnapshot(tools))


class CreateSnapshot(Task):
    """Take a snapshot and protect it."""

    title = 'taking the snapshot'

    def execute(self, volume_name: str, snapshot_name: str) -> None:
        with self.tools.pool.open(volume_name) as volume:
            # The name was free when the job began: one that is there was
            # taken by it a moment before its process was killed.
            if not (self.tools.is_resumed
                    and volume.find_snapshot(snapshot_name)):
                volume.create_snapshot(snapshot_name)
            with self.or_undo(lambda: volume.remove_snapshot(snapshot_name)):
                volume.protect_snapshot(snapshot_name)

    def revert(self, volume_name: str, snapshot_name: str, result: object,
               **kwargs: Any) -> None:
        if isinstance(result, failure.Failure) and isinstance(
                strategies.error_of(result), exception.SnapshotExists):
            return
        with contextlib.suppress(exception.ImageNotFound), \
                self.tools.pool.open(volume_name) as volume:
            if volume.find_snapshot(snapshot_name):
                volume.unprotect_snapshot(snapshot_name)
                volume.remove_snapshot(snapshot_name)


class DeleteSnapshot(Task):
    """Take the protection away, and the snapshot."""

    title = 'removing the snapshot'

    def execute(self, volume_name: str, snapshot_name: str) -> None:
        try:
            with self.tools.pool.open(volume_name) as volume:
                if self.tools.is_resumed and not volume.find_snapshot(
                        snapshot_name):
                    return
                volume.unprotect_snapshot(snapshot_name)
                volume.remove_snapshot(snapshot_name)
        except exception.ImageNotFound:
            if not self.tools.is_resumed:
                raise

    def revert(self, volume_name: str, snapshot_name: str, **kwargs: Any
               ) -> None:
        with contextlib.suppress(exception.ImageNotFound), \
                self.tools.pool.open(volume_name) as volume:
            if volume.find_snapshot(snapshot_name):
                volume.protect_snapshot(snapshot_name)
