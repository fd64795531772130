# SPDX-License-Identifier: Apache-2.0
"""Who flattens and removes in the background: Ceph's manager, or this
process.

The manager is asked for what is large, and where it answers. Whatever it does
or does not do, this process looks at the end, and does what is left: then it
finds nothing to do, or what the manager has given up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from oslo_log import log as logging

from volume_rbd import exception, model, opts
from volume_rbd.ceph.interface import Cluster, Pool, TaskInfo, Tasks
from volume_rbd.driver.budget import OnProgress, Paused

LOG = logging.getLogger(__name__)

# What is smaller takes some seconds at most, wherever it is done.
_LARGE_BYTES = 10 * model.GIB
# It is asked how far it is, soon at first.
_ASK_FIRST_S = 0.2
_ASK_LATER_S = 5.0
# What it has not begun in that time, or got no further with, is done here.
_PATIENCE_S = 120.0
# A manager that did not answer is left alone so long.
_MANAGER_AGAIN_S = 600.0
_NAP_S = 0.1


class Performer:
    """Of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster) -> None:
        self._cluster = cluster
        self._who = config.background_tasks
        if config.background_bytes_per_s:
            self._who = 'local'  # the manager knows no limit
        self._away_until = 0.0

    def flatten(self, pool: Pool, image_id: str, progress: OnProgress
                ) -> None:
        """:raises ImageNotFound:"""
        with pool.open_by_id(image_id, read_only=True) as image:
            name, size_bytes = image.spec.name, image.size_bytes
            is_there = pool.find_trashed(image_id) is None
        if is_there:
            self._let_manager(
                size_bytes, progress,
                lambda tasks: tasks.flatten(pool.name, name))
        with pool.open_by_id(image_id) as image:
            image.flatten(progress)

    def remove_trashed(self, pool: Pool, image_id: str,
                       progress: OnProgress | None) -> None:
        """:raises ImageNotFound: it is gone."""
        if progress is not None:
            with pool.open_by_id(image_id, read_only=True) as image:
                size_bytes = image.size_bytes
            self._let_manager(
                size_bytes, progress,
                lambda tasks: tasks.remove_trashed(pool.name, image_id))
        pool.trash_remove(image_id, on_progress=progress)

    # -- the manager ---------------------------------------------------------
    def _let_manager(self, size_bytes: int, progress: OnProgress,
                     add: Callable[[Tasks], TaskInfo]) -> None:
        """Wait until the manager has done it, or cannot, or should not."""
        is_small = self._who == 'auto' and size_bytes < _LARGE_BYTES
        if (self._who == 'local' or is_small
                or time.monotonic() < self._away_until):
            return
        tasks = self._cluster.tasks()
        try:
            _Watch(tasks, add(tasks), progress).wait()
        except exception.ImageNotFound:
            return  # or has no parent any more: seen when it is done here
        except exception.Cancelled:
            raise
        except exception.CephPermissionDenied as error:
            self._who = 'local'
            LOG.warning("Ceph's manager may not be asked to work, it is done "
                        'here: %s', error)
        except exception.VolumeRBDError as error:
            self._away_until = time.monotonic() + _MANAGER_AGAIN_S
            LOG.warning("Ceph's manager is not asked to work for a while, "
                        'it is done here: %s', error)


class _Watch:
    """Waits for one task."""

    def __init__(self, tasks: Tasks, task: TaskInfo, progress: OnProgress
                 ) -> None:
        self._tasks = tasks
        self._task = task
        self._progress = progress

    def wait(self) -> None:
        """Returns when it is done, or given up and cancelled.

        :raises Cancelled: by who is reported to. On the way out of this
            process the manager goes on; for a pause it is stopped.
        """
        moved_at = time.monotonic()
        pause_s = _ASK_FIRST_S
        while (found := self._tasks.find(self._task.id)) is not None:
            if found.progress > self._task.progress or (
                    found.is_running and not self._task.is_running):
                moved_at = time.monotonic()
            self._task = found
            if found.problem or time.monotonic() - moved_at > _PATIENCE_S:
                LOG.info("Ceph's manager does not get on with task %s: %s",
                         found.id, found.problem or 'it stands still')
                self._tasks.cancel(found.id)
                return
            self._report(found.progress, pause_s)
            pause_s = min(pause_s * 1.5, _ASK_LATER_S)

    def _report(self, fraction: float, pause_s: float) -> None:
        """Tell, until it is time to ask again."""
        until = time.monotonic() + pause_s
        try:
            self._progress(round(fraction * 1000), 1000)
            while time.monotonic() < until:
                time.sleep(_NAP_S)
                self._progress(0, 1)
        except Paused:
            with contextlib.suppress(exception.VolumeRBDError):
                self._tasks.cancel(self._task.id)
            raise
