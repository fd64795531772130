# SPDX-License-Identifier: Apache-2.0
"""What copies inside the cluster share, whichever way they go: how they say
"not this way", and how they go on where a killed one stopped.

The rbd_image that a copy fills is held open, and bears a checkpoint, as long
as it is filled. So one that bears a checkpoint and that nobody has open is
what a killed process left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from oslo_log import log as logging

from volume_rbd import exception, model, plan, progress
from volume_rbd.ceph import checkpoint, lineage
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.copying.checkpoints import Checkpoints
from volume_rbd.flows import owning, staging

LOG = logging.getLogger(__name__)

# A killed client's watch lasts 30 seconds.
_LET_GO_TIMEOUT_S = 40
_PAUSE_S = 0.2

# What every other way would meet as well, or must not paper over.
_FINAL = (exception.Cancelled, exception.Unavailable, exception.LimitExceeded,
          exception.Conflict, exception.DataCorrupted)


@contextlib.contextmanager
def saying_not_this_way(denied: plan.Reason = plan.Reason.COPY_FAILED
                        ) -> Iterator[None]:
    """What a transfer through Glance does not meet lets that go on.

    :param denied: the reason where the cephx user may not.
    :raises NotCopyable:
    """
    try:
        yield
    except exception.CephPermissionDenied as error:
        raise not_copyable(denied, error) from None
    except _FINAL:
        raise
    except exception.VolumeRBDError as error:
        raise not_copyable(plan.Reason.COPY_FAILED, error) from None


def not_copyable(reason: plan.Reason, error: exception.VolumeRBDError
                 ) -> exception.NotCopyable:
    return exception.NotCopyable(error.message, reason=reason.value)


# -- what is filled -----------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Target:
    """What a copy fills.

    :param name: of the rbd_image.
    :param kind: what its mark says it is.
    :param create: makes it, empty.
    """

    pool: Pool
    name: str
    kind: str
    size_bytes: int
    create: Callable[[], None]


def prepare(target: Target, origin: checkpoint.Origin,
            report: progress.Progress) -> int:
    """Let the target be there.

    :returns: where to begin: a killed copy of the same may have filled a
        part of it.
    :raises ImageExists, ImageBusy: see :func:`wait_until_left`.
    """
    try:
        target.create()
        return 0
    except exception.ImageExists:
        start = find_start(target, origin, report)
        if not start:
            make_anew(target.pool, target.name, target.kind, target.create,
                      report)
        return start


def find_start(target: Target, origin: checkpoint.Origin,
               report: progress.Progress) -> int:
    """Where a copy of *origin* goes on that a killed process has left; 0
    where there is nothing to go on with.

    :raises ImageExists, ImageBusy: see :func:`wait_until_left`.
    """
    found = wait_until_left(target.pool, target.name, target.kind, report)
    if found is None or found.origin != origin:
        return 0
    with target.pool.open(target.name, read_only=True) as image:
        if image.size_bytes != target.size_bytes:
            return 0
    if found.offset:
        LOG.info('The copy to %s/%s goes on at %d of %d bytes',
                 target.pool.name, target.name, found.offset,
                 origin.size_bytes)
    return found.offset


@contextlib.contextmanager
def filling(target: Target, start: int,
            undoing: AbstractContextManager[None]) -> Iterator[Image]:
    """The target, open to be filled by nobody but us.

    :param undoing: is left with what fails, once the target is closed.
    :raises ImageBusy: somebody else goes on with it too; then nothing is
        undone.
    """
    with contextlib.ExitStack() as stack:
        if not start:
            stack.enter_context(undoing)
        with target.pool.open(target.name) as made:
            if start:
                others = made.watchers()
                if others or not checkpoint.find(made, target.kind):
                    raise _busy(target.pool, target.name, others)
                stack.enter_context(undoing)
            yield made


def begin(made: Image, kind: str, job: str, source: model.SnapSpec,
          origin: checkpoint.Origin, start: int) -> Checkpoints:
    """Mark what is being filled as ours.

    :returns: keeps on *made* how far it came.
    """
    def save(offset: int) -> None:
        checkpoint.write(made, checkpoint.Checkpoint(origin, offset))

    mark = lineage.mark if start else lineage.adopt
    mark(made, kind=kind, job=job, origin=f'rbd:{source}',
         state=lineage.PENDING)
    if not start:
        save(0)
    return Checkpoints(save)


# -- what a killed copy has left ----------------------------------------------

def drop_unfit(target: Target, is_ours: owning.Test,
               remove: Callable[[Pool, str], None] = staging.drop) -> None:
    """Remove what a killed process has left of this job, unless a checkpoint
    says how to go on with it."""
    owning.drop(
        target.pool, target.name, lambda image: is_ours(image)
        and checkpoint.find(image, target.kind) is None, remove)



def is_left(pool: Pool, name: str, kind: str) -> bool:
    """Whether a copy of ours is under way there, or was when its process was
    killed. Also true of what went in this moment."""
    try:
        with pool.open(name, read_only=True) as image:
            return checkpoint.find(image, kind) is not None
    except exception.ImageNotFound:
        return True


def wait_until_left(pool: Pool, name: str, kind: str,
                    report: progress.Progress
                    ) -> checkpoint.Checkpoint | None:
    """Wait until nobody fills *name*: a killed process has it open for half
    a minute more.

    :returns: None where it is gone.
    :raises ImageExists: what bears the name is not a copy of ours that was
        left unfinished.
    :raises ImageBusy: somebody is at work with it.
    """
    deadline = time.monotonic() + _LET_GO_TIMEOUT_S
    is_told = False
    while True:
        report.check()
        try:
            # For reading: whoever is at work may have to remove it.
            with pool.open(name, read_only=True) as image:
                found = checkpoint.find(image, kind)
                watchers = image.watchers()
        except exception.ImageNotFound:
            return None
        if found is None:
            raise exception.ImageExists(
                f'{pool.name}/{name} exists already.',
                remedy='Choose another name.')
        if not watchers:
            return found
        if time.monotonic() > deadline:
            raise _busy(pool, name, watchers)
        if not is_told:
            LOG.info('Waiting until nobody has %s/%s open', pool.name, name)
            is_told = True
        time.sleep(_PAUSE_S)


def make_anew(pool: Pool, name: str, kind: str, make: Callable[[], None],
              report: progress.Progress) -> None:
    """Call *make*, which gives the name to something new; what a killed copy
    has left there goes before.

    :raises ImageExists, ImageBusy: see :func:`wait_until_left`.
    """
    try:
        make()
    except exception.ImageExists:
        wait_until_left(pool, name, kind, report)
        LOG.info('Removing %s/%s, left by a copy that was killed', pool.name,
                 name)
        with contextlib.suppress(exception.ImageNotFound):
            pool.remove(name)
        make()


def _busy(pool: Pool, name: str, watchers: Sequence[str]
          ) -> exception.ImageBusy:
    where = f' at {", ".join(watchers)}' if watchers else ''
    return exception.ImageBusy(
        f'{pool.name}/{name} is being made{where}.',
        remedy='Wait until that has ended.')
