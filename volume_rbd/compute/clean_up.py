# SPDX-License-Identifier: Apache-2.0
"""The disks of a guest that is gone: found by their names, and removed.

Through the library, one by one. A disk that somebody still has open is tried
again for a while, because a hypervisor lets go a moment after its guest has
ended; then it stays, and is told apart.
"""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable

from oslo_log import log as logging

from volume_rbd import exception, progress
from volume_rbd.driver import RBDDriver, debris

LOG = logging.getLogger(__name__)

#: What the names begin with, or says of a name whether it is wanted.
Filter = str | Callable[[str], bool]

TIMEOUT_S = 10.0
_PAUSE_S = 0.5


class State(enum.StrEnum):
    """What became of a disk."""

    REMOVED = 'removed'
    IN_TRASH = 'in trash'
    BUSY = 'busy'
    HAS_SNAPSHOTS = 'has snapshots'
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class CleanedUp:
    """:param reason: for people; empty where the disk is simply gone."""

    name: str
    state: State
    reason: str = ''

    @property
    def is_gone(self) -> bool:
        """Its name is free. What is in the trash goes with the last clone
        that needs it."""
        return self.state in (State.REMOVED, State.IN_TRASH)


def find(driver: RBDDriver, wanted: Filter | None = None) -> list[str]:
    """The names of the disks that are wanted, None: of all of them; sorted,
    and without what operations of ours have under way."""
    return [name for name in driver.volumes.names()
            if not name.startswith(debris.OWN_PREFIX)
            and _matches(wanted, name)]


def check_filter(wanted: Filter) -> None:
    """:raises InvalidInput: it is empty."""
    if isinstance(wanted, str) and not wanted.strip():
        raise exception.InvalidInput(
            'An empty filter means every disk of the pool.',
            remedy="Give what the names begin with, for instance the "
                   "instance's UUID and \"_\".")


def _matches(wanted: Filter | None, name: str) -> bool:
    if wanted is None:
        return True
    return (name.startswith(wanted) if isinstance(wanted, str)
            else bool(wanted(name)))


def clean_up(driver: RBDDriver, wanted: Filter, *, with_snapshots: bool,
             timeout_s: float, report: progress.Progress
             ) -> list[CleanedUp]:
    """See :class:`~volume_rbd.compute.disks.Disks`."""
    check_filter(wanted)
    report.check()
    report.step('removing the disks')
    done: dict[str, CleanedUp] = {}
    left = find(driver, wanted)
    deadline = time.monotonic() + timeout_s
    while left:
        for name in left:
            report.check()
            done[name] = _remove(driver, name, with_snapshots)
        left = [name for name in left if done[name].state is State.BUSY]
        if not left or time.monotonic() > deadline:
            break
        report.step(f'waiting for {len(left)} disk(s) that are open')
        time.sleep(_PAUSE_S)
    return [done[name] for name in sorted(done)]


def _remove(driver: RBDDriver, name: str, with_snapshots: bool) -> CleanedUp:
    try:
        if with_snapshots:
            _remove_snapshots(driver, name)
        gone = driver.volumes.delete(name)
    except exception.ImageNotFound:
        return CleanedUp(name, State.REMOVED, 'Somebody else removed it.')
    except exception.ImageBusy as error:
        return CleanedUp(name, State.BUSY, error.message)
    except exception.ImageHasSnapshots as error:
        return CleanedUp(name, State.HAS_SNAPSHOTS, error.message)
    except exception.VolumeRBDError as error:
        LOG.warning('Disk %s stays: %s', name, error)
        return CleanedUp(name, State.FAILED, str(error))
    return CleanedUp(
        name, State.IN_TRASH if gone.is_trashed else State.REMOVED,
        gone.reason)


def _remove_snapshots(driver: RBDDriver, name: str) -> None:
    """:raises ImageBusy: it is open; then none of them is touched."""
    with driver.cluster.pool(driver.config.pool).open(
            name, read_only=True) as image:
        debris.refuse_watchers(image)
    for found in driver.snapshots.list(name):
        driver.snapshots.delete(name, found.name)
