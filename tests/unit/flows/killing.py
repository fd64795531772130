# SPDX-License-Identifier: Apache-2.0
"""Operations whose process is killed: nothing of them is undone."""

from __future__ import annotations

import copy

from tests.unit.flows import checks
from tests.unit.world import World
from volume_rbd import exception, progress


class Killed(progress.Cancellable):
    """Keeps what the cluster was like when so many pieces had passed.

    What comes after that, the undoing too, is taken back by
    :func:`kill`.
    """

    def __init__(self, world: World, pieces: int) -> None:
        super().__init__()
        self._world = world
        self._left = pieces
        self.disks = world.ceph.disks

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        self._left -= 1
        if self._left == 0:
            self.disks = copy.deepcopy(self._world.ceph.disks)
            self.cancel()


def kill(operation: checks.Operation, pieces: int, *,
         is_seen: bool = False) -> None:
    """Run it and kill it after so many pieces of the transfer.

    :param is_seen: Ceph has not noticed yet, and keeps its watches.
    """
    report = Killed(operation.world, pieces)
    operation.go(report)
    assert isinstance(operation.error, exception.Cancelled)
    for disk in report.disks.values():
        disk.watchers = ['192.0.2.9:0/1' for _ in disk.watchers
                         if is_seen]
    operation.world.ceph.disks = report.disks
