# SPDX-License-Identifier: Apache-2.0
"""Work that nobody waits for, a bounded number at once.

What is to be done is written down in the cluster before it is begun, so that
another process finds it if this one is killed: a purge is a marked entry in
the pool's trash, a flatten a key in the metadata of the volumes' pool.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph.interface import Cluster, ParentInfo, Pool
from volume_rbd.driver import budget
from volume_rbd.driver.budget import OnProgress
from volume_rbd.driver.performing import Performer

LOG = logging.getLogger(__name__)
T = TypeVar('T')

_FLATTEN = 'volume_rbd.flatten.'
# A flatten that another process may still be busy with is left to it so long.
_LEFT_ALONE_S = 3600


class Worker:
    """A bounded number of threads; the same work is never done twice at once.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._executor = concurrent.futures.ThreadPoolExecutor(
            workers, thread_name_prefix=name)
        self._is_stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[str, concurrent.futures.Future[object]] = {}

    def submit(self, key: str, work: Callable[[OnProgress], object]
               ) -> concurrent.futures.Future[object]:
        """Let *work* be done; where that of this *key* is under way, that."""
        with self._lock:
            running = self._running.get(key)
            if running is not None:
                return running
            try:
                future = self._executor.submit(self._run, key, work)
            except RuntimeError:
                # Closed; the next process finds it.
                stopped: concurrent.futures.Future[object]
                stopped = concurrent.futures.Future()
                stopped.cancel()
                return stopped
            self._running[key] = future
            return future

    def _run(self, key: str, work: Callable[[OnProgress], object]) -> object:
        try:
            return work(self._on_progress)
        finally:
            with self._lock:
                self._running.pop(key, None)

    def _on_progress(self, done: int, total: int) -> None:
        if self._is_stopping.is_set():
            raise exception.Cancelled('The driver is being closed.')

    def is_running(self, key: str) -> bool:
        with self._lock:
            return key in self._running

    def wait(self) -> None:
        """Until nothing is left to do."""
        while True:
            with self._lock:
                running = list(self._running.values())
            if not running:
                return
            concurrent.futures.wait(running)

    def close(self, *, wait: bool) -> None:
        """:param wait: for what was submitted, also by what runs; else what
            runs is stopped, and what has not begun never does."""
        if wait:
            self.wait()
        else:
            self._is_stopping.set()
        self._executor.shutdown(wait=True, cancel_futures=not wait)
        with self._lock:
            self._running.clear()  # what was cancelled is still there


class Flattener:
    """Cuts clones loose from their parents.

    :param pool: where it is written down what is to be flattened.
    :param workers: how many flattens run at once in the background.
    :param spent: the budget that says when.
    :param performer: who does it.
    """

    def __init__(self, cluster: Cluster, pool: str, workers: int,
                 spent: budget.Budget, performer: Performer) -> None:
        self._cluster = cluster
        self._pool = cluster.pool(pool)
        self._worker = Worker(workers, 'flatten')
        self._budget = spent
        self._performer = performer
        self._has_looked = False
        #: Told what an rbd_image was cut loose from.
        self.freed: Callable[[ParentInfo | None], object] = lambda _: None

    def slot(self, check: Callable[[], object] = lambda: None
             ) -> contextlib.AbstractContextManager[None]:
        """One of the flattens that may run at once, for somebody who waits
        for it: those in the background make room.

        :param check: may raise, to wait no longer.
        """
        return self._budget.slot(budget.FLATTEN, check)

    def submit(self, pool: str, name: str
               ) -> concurrent.futures.Future[object]:
        """Flatten an rbd_image in the background.

        Where that cannot be written down, it is done all the same, and
        forgotten if this process is killed meanwhile.
        """
        LOG.info('Flattening %s/%s in the background', pool, name)
        image_id = ''
        try:
            with self._cluster.pool(pool).open(name, read_only=True) as image:
                image_id = image.id
            self._pool.set_metadata(_FLATTEN + image_id, json.dumps(
                {'pool': pool, 'at': time.time()}))
        except exception.VolumeRBDError as error:
            LOG.warning('That %s/%s is to be flattened cannot be written '
                        'down: %s', pool, name, error)
            if not image_id:
                return self._worker.submit(
                    f'{pool}/{name}', lambda _: None)
        return self._submit(pool, image_id)

    def _submit(self, pool: str, image_id: str
                ) -> concurrent.futures.Future[object]:
        return self._worker.submit(
            image_id, lambda progress: self._flatten(
                pool, image_id, progress))

    def resume_due(self) -> int:
        """Take up what another process was to flatten and did not.

        With the first call everything that is written down; later only what
        has been there for long: another service may be busy with it.

        :returns: how many.
        """
        count = 0
        for key, text in self._pool.metadata().items():
            if not key.startswith(_FLATTEN):
                continue
            image_id = key.removeprefix(_FLATTEN)
            try:
                wanted = json.loads(text)
                pool, at = str(wanted['pool']), float(wanted['at'])
            except (ValueError, KeyError, TypeError):
                LOG.warning('%s in the metadata of pool %s is not read', key,
                            self._pool.name)
                continue
            is_old = time.time() - at > _LEFT_ALONE_S
            if (is_old or not self._has_looked) and not (
                    self._worker.is_running(image_id)):
                self._submit(pool, image_id)
                count += 1
        self._has_looked = True
        return count

    def _flatten(self, pool: str, image_id: str, progress: OnProgress
                 ) -> None:
        try:
            progress(0, 1)
            place = self._cluster.pool(pool)
            parent, data_bytes = self._look_at(place, image_id)
            self._budget.run(
                budget.FLATTEN, lambda on_progress: self._performer.flatten(
                    place, image_id, on_progress),
                check=progress, data_bytes=data_bytes)
            self.freed(parent)
        except (exception.ImageNotFound, exception.PoolNotFound):
            LOG.info('%s in pool %s is gone: nothing to flatten', image_id,
                     pool)
        except exception.Cancelled:
            LOG.info('Flattening %s in pool %s goes on after the next start',
                     image_id, pool)
            return
        except exception.VolumeRBDError as error:
            LOG.error('Flattening %s in pool %s failed, it stays a clone; '
                      'it will be tried again: %s', image_id, pool, error)
            return
        try:
            self._pool.remove_metadata(_FLATTEN + image_id)
        except exception.VolumeRBDError as error:
            LOG.warning('%s will be flattened once more: %s', image_id,
                        error)

    def _look_at(self, pool: Pool, image_id: str
                 ) -> tuple[ParentInfo | None, int]:
        """:returns: its parent, and what is to be moved, about; 0 where
            nobody counts."""
        with pool.open_by_id(image_id, read_only=True) as image:
            return image.parent, (sum(
                extent.length for extent in image.extents() if extent.exists)
                if self._budget.is_counting else 0)

    def wait(self) -> None:
        """Until nothing is left to do, whatever the hour."""
        with self._budget.hurry():
            self._worker.wait()

    def close(self, *, wait: bool = True) -> None:
        """:param wait: for what was submitted and is not held back; else
            what runs is stopped. What is left the next process finds."""
        self._worker.close(wait=wait)
