# SPDX-License-Identifier: Apache-2.0
"""Removes volumes at once, their data in the background, and now and then
what was left."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph.interface import Cluster, Image, ParentInfo, Pool
from volume_rbd.driver import budget
from volume_rbd.driver.background import Flattener, Worker
from volume_rbd.driver.budget import OnProgress
from volume_rbd.driver.performing import Performer
from volume_rbd.driver.reclaim import bases, items
from volume_rbd.driver.reclaim.bases import Base
from volume_rbd.driver.reclaim.finder import Finder
from volume_rbd.driver.reclaim.items import Reclaimable
from volume_rbd.driver.reclaim.proofs import (
    IsClaimed,
    IsJobOpen,
    Proofs,
    nothing_is_open,
)
from volume_rbd.driver.reclaim.removing import Remover
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)

_PURGES_AT_ONCE = 2
# What one call of purge_due does at most: it runs every minute.
_OPENED_AT_ONCE = 64
_PURGED_WITHIN_S = 30.0
# What cannot go is looked at again so much later: whose clones we delete
# ourselves goes at once.
_KEPT_AGAIN_S = 600.0
_TRIED_AGAIN_S = 30.0
# Glance is asked for the images of bases no more often.
_BASES_AGAIN_S = 600.0


@dataclasses.dataclass(frozen=True)
class Deletion:
    """:param is_trashed: True where clones still need it, or it is kept for
        a while: it is out of sight, and goes when that is over. Otherwise
        its data is being removed."""

    name: str
    is_trashed: bool
    reason: str = ''


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What came of the removal of one thing.

    :param error: why it stays; None also where it is no longer nobody's.
    """

    item: Reclaimable
    is_gone: bool
    error: exception.VolumeRBDError | None = None


class Reclaimer:
    """Removes volumes, and what their removal sets free.

    :param spent: the budget that says when data in the trash may go.
    :param performer: who removes it.
    :param is_job_open: whether the job of an id may still go on: it owns
        what bears its id.
    :param is_claimed: whether a job has claimed ``volume/NAME`` or
        ``image/ID``.
    :ivar finder: what nobody owns; other sources may be added to it.
    """

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance], flattener: Flattener,
                 spent: budget.Budget, performer: Performer, *,
                 is_job_open: IsJobOpen = nothing_is_open,
                 is_claimed: IsClaimed = nothing_is_open) -> None:
        self._config = config
        self._pool = cluster.pool(config.pool)
        proofs = Proofs(config, open_glance, is_job_open, is_claimed)
        self._remover = Remover(cluster, self._pool, proofs,
                                performer.remove_trashed, self._submit_free)
        self.finder = Finder(config, cluster, open_glance, proofs,
                             self._remover)
        self._flattener = flattener
        self._budget = spent
        self._worker = Worker(_PURGES_AT_ONCE, 'purge')
        # When what is in the trash may be looked at again.
        self._kept_until: dict[str, float] = {}
        self._bases_due_at = 0.0

    # -- removing a volume ---------------------------------------------------
    def remove_volume(self, name: str, *, delay_s: int = 0,
                      check: Callable[[Image], None] = lambda image: None
                      ) -> Deletion:
        """Move a volume to the trash; its data goes in the background, and
        with it what it alone had kept alive of its ancestors.

        :param check: is handed the volume, and may refuse.
        :raises ImageNotFound, ImageBusy:
        """
        moved = self._remover.to_trash(name, delay_s=delay_s, check=check)
        return self.purge_soon(name, moved.image_id, delay_s=delay_s,
                               has_clones=moved.has_clones)

    def purge_soon(self, name: str, image_id: str, *, has_clones: bool,
                   delay_s: int) -> Deletion:
        """Remove the data of a volume that is in the trash by now."""
        if delay_s:
            return Deletion(name, True, f'it is kept for {delay_s} s')
        self._submit(self._pool, image_id)
        if has_clones:
            return Deletion(name, True, 'clones still share its data')
        return Deletion(name, False)

    def _submit(self, pool: Pool, image_id: str, key: str = ''
                ) -> concurrent.futures.Future[object]:
        return self._worker.submit(
            key or image_id, lambda progress: self._try_to_purge(
                pool, image_id, progress))

    def _submit_free(self, pool: Pool, image_id: str) -> None:
        """What is under way with it may still have seen its last clone."""
        is_running = self._worker.is_running(image_id)
        self._submit(pool, image_id, f'{image_id} again' if is_running else '')

    def purge_now(self, image_id: str,
                  check: Callable[[], object] = lambda: None) -> bool:
        """Remove one volume in the trash, for somebody who waits for it:
        whatever the hour, and before what else is to go.

        :param check: may raise, to wait no longer.
        :returns: whether it is gone; False where it may not go yet.
        """
        def on_progress(done: int, total: int) -> None:
            check()

        try:
            with self._budget.slot(budget.PURGE, check):
                return self._remover.purge(self._pool, image_id, on_progress)
        except exception.ImageNotFound:
            return True
        except exception.Cancelled:
            raise
        except exception.VolumeRBDError as error:
            self._tell_it_stays(self._pool, image_id, error)
            return False

    def _try_to_purge(self, pool: Pool, image_id: str, progress: OnProgress
                      ) -> bool:
        try:
            return self._budget.run(
                budget.PURGE, lambda on_progress: self._remover.purge(
                    pool, image_id, on_progress), check=progress)
        except exception.ImageNotFound:
            return True
        except exception.Cancelled:
            LOG.info('The removal of %s goes on after the next start',
                     image_id)
        except exception.VolumeRBDError as error:
            self._tell_it_stays(pool, image_id, error)
        return False

    def _tell_it_stays(self, pool: Pool, image_id: str,
                       error: exception.VolumeRBDError) -> None:
        LOG.warning('%s stays in the trash of pool %s for now: %s', image_id,
                    pool.name, error)

    def release(self, parent: ParentInfo | None) -> None:
        """A child of *parent* is gone: what that has set free goes in the
        background."""
        self._remover.release(parent)

    # -- bases ---------------------------------------------------------------
    def find_bases(self) -> Iterator[Base]:
        """Those that can be cloned, and whether they have clones."""
        return self.finder.bases.find_all()

    def remove_base(self, name: str) -> bool:
        """Remove a base that has no clones.

        :returns: whether it is out of sight.
        """
        try:
            self.remove_volume(name, check=bases.check_unused)
        except exception.ImageNotFound:
            return True
        except exception.ImageBusy as error:
            LOG.info('Base %s stays: %s', name, error)
            return False
        return True

    def _purge_bases(self) -> list[Reclaimable]:
        now = time.monotonic()
        if not self._config.image_base_cache or now < self._bases_due_at:
            return []
        self._bases_due_at = now + _BASES_AGAIN_S
        return [item for item in self.finder.bases.find()
                if self.remove_base(item.name)]

    # -- finding what is left ------------------------------------------------
    def find(self) -> Iterator[Reclaimable]:
        """What :meth:`reclaim` would remove. Opens every volume once."""
        return self.finder.find()

    def reclaim(self, item: Reclaimable) -> bool:
        """Remove one, if it is still nobody's.

        :returns: whether it is gone.
        """
        return self._attempt(item).is_gone

    def _attempt(self, item: Reclaimable) -> Attempt:
        try:
            return Attempt(item, self.finder.remove(item))
        except (exception.ImageNotFound, exception.SnapshotNotFound):
            return Attempt(item, True)  # another one was quicker
        except exception.VolumeRBDError as error:
            LOG.warning('%s/%s stays: %s', item.pool, item.name, error)
            return Attempt(item, False, error)

    def purge(self) -> list[Reclaimable]:
        """Remove everything that :meth:`find` finds, until nothing more
        comes free.

        :returns: what went.
        """
        return [attempt.item for step in self.purge_in_steps()
                for attempt in step if attempt.is_gone]

    def purge_in_steps(self) -> Iterator[list[Attempt]]:
        """The same. A step is one look, and what came of it: what stays is
        found again by the next, and at the end it is in the last."""
        gone: set[object] = set()
        while True:
            self.wait()
            count = len(gone)
            step = []
            for item in _in_due_time(list(self.find())):
                attempt = self._attempt(item)
                if attempt.is_gone and item.key in gone:
                    continue
                step.append(attempt)
                if attempt.is_gone:
                    gone.add(item.key)
            yield step
            if len(gone) == count:
                return

    # -- now and then --------------------------------------------------------
    def purge_due(self) -> list[Reclaimable]:
        """Remove what is due in the trash of the volumes' pool, and take up
        what an earlier process left half done.

        Two listings where there is nothing to do; otherwise a bounded number
        of entries, and half a minute: what takes longer goes on in the
        background.

        :returns: what went, or is out of sight now.
        """
        self._flattener.resume_due()
        self._remover.finish_interrupted(self._worker.is_running)
        gone = [*self._sweep(), *self._purge_bases()]
        due = list(self._find_due())
        futures = [self._submit(self._pool, item.image_id) for item in due]
        concurrent.futures.wait(futures, timeout=_PURGED_WITHIN_S)
        return gone + [
            item for item, future in zip(due, futures, strict=True)
            if future.done() and not future.cancelled() and future.result()]

    def _sweep(self) -> list[Reclaimable]:
        gone = self.finder.temporary.sweep()
        for item in gone:
            self._submit(self._pool, item.image_id)
        return gone

    def _find_due(self) -> Iterator[Reclaimable]:
        entries = self._pool.trash()
        now = time.monotonic()
        kept = self._kept_until = {
            entry.id: self._kept_until.get(entry.id, 0.0)
            for entry in entries}
        waiting = [entry for entry in entries
                   if entry.deferred_until <= time.time()
                   and kept[entry.id] <= now
                   and not self._worker.is_running(entry.id)]
        if not waiting or self._budget.is_held_back(budget.PURGE):
            return
        # First what was never looked at, then what has waited longest: however
        # many there are that cannot go, each has its turn.
        waiting.sort(key=lambda entry: kept[entry.id])
        for entry in waiting[:_OPENED_AT_ONCE]:
            kept[entry.id] = now + _TRIED_AGAIN_S
            try:
                found = self.finder.trash.look_at(self._pool, entry)
            except exception.VolumeRBDError as error:
                self._tell_it_stays(self._pool, entry.id, error)
                return  # the next call begins behind it
            if found is None:
                kept[entry.id] = now + _KEPT_AGAIN_S
            else:
                yield found

    def wait(self) -> None:
        """Until what is being removed is gone, whatever the hour."""
        with self._budget.hurry():
            self._worker.wait()

    def close(self, *, wait: bool = True) -> None:
        """:param wait: for what is being removed and is not held back; else
            it is stopped. What is left :meth:`purge_due` of another process
            finds."""
        self._worker.close(wait=wait)


def _in_due_time(found: Iterable[Reclaimable]) -> Iterator[Reclaimable]:
    """What must look the same a while later comes last, after a while."""
    seen_at = time.monotonic()
    later = []
    for item in found:
        if item.takes_two_looks:
            later.append(item)
        else:
            yield item
    if later:
        time.sleep(max(0.0, seen_at + items.APART_S - time.monotonic()))
    yield from later
