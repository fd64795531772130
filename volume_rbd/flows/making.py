# SPDX-License-Identifier: Apache-2.0
"""How a new volume gets its name and its mark, whatever is to be in it.

It bears the name that it will have from the beginning, marked *pending*. So
whoever was killed half-way without a job is found by the next one who makes a
volume of that name, and by the service when it deletes the volume.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from oslo_log import log as logging

from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.ceph import settings as settings_
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.flows import owning, staging
from volume_rbd.flows.base import Task, Tools

LOG = logging.getLogger(__name__)


def make(pool: Pool, name: str, create: Callable[[], None]) -> None:
    """Call *create*, which gives *name* to something new; what a killed
    process has left unfinished there goes before.

    :raises ImageExists: the name is somebody else's.
    """
    try:
        create()
    except exception.ImageExists:
        if not remove_unfinished(pool, name):
            raise
        create()


def check_free(pool: Pool, name: str) -> None:
    """:raises ImageExists: the name is somebody's, and not that of a volume
        that a killed process has left unfinished."""
    if not pool.has_image(name):
        return
    with contextlib.suppress(exception.ImageNotFound), \
            pool.open(name, read_only=True) as image:
        mark = lineage.get_lineage(image)
        if (mark is None or mark.kind != lineage.VOLUME
                or mark.state != lineage.PENDING or image.watchers()):
            raise exception.ImageExists(
                f'Volume {name!r} exists already in pool {pool.name!r}.',
                remedy='Choose another name.')


def remove_unfinished(pool: Pool, name: str) -> bool:
    """:returns: whether there was a volume that a killed process has left."""
    try:
        check_free(pool, name)
    except exception.ImageExists:
        return False
    LOG.warning('Volume %s was left unfinished; it is made anew', name)
    staging.drop(pool, name)
    return True


def check_not_smaller(size_bytes: int, source: object, source_bytes: int
                      ) -> None:
    """:raises InvalidSize: a volume of *size_bytes* has no room for it."""
    if size_bytes < source_bytes:
        raise exception.InvalidSize(
            f'A volume of {model.gib_for(size_bytes)} GiB is smaller '
            f'than its source {source}, which has '
            f'{model.gib_for(source_bytes)} GiB.',
            remedy='Ask for that size or more.')


def get_settings(volume: model.VolumeSpec) -> dict[str, Any] | None:
    """What the volume's type asks for, as JSON; None: nothing."""
    if not settings_.are_wanted(volume):
        return None
    return {'qos': dict(volume.qos), 'is_multiattach': volume.is_multiattach}


def finish(volume: Image, settings: Mapping[str, Any] | None,
           report: progress.Progress) -> None:
    """Give the volume what its type asks for, and say that it is complete.
    """
    settings_.apply_settings(volume, model.VolumeSpec(
        volume.spec.name, **settings or {}))
    report.check()
    lineage.set_state(volume, lineage.COMPLETE)


class Making(Task):
    """Makes the rbd_image of a new volume.

    :param is_last: no step follows that finishes it.
    """

    def __init__(self, tools: Tools, *, is_last: bool) -> None:
        super().__init__(tools)
        self.is_last = is_last

    @contextlib.contextmanager
    def made(self, job: str, volume_name: str, origin: str,
             create: Callable[[], None], fits: owning.Test,
             settings: Mapping[str, Any] | None) -> Iterator[Image]:
        """The new volume, open and marked; finished behind the block.

        :param fits: whether it is what *create* makes.
        """
        pool = self.tools.pool
        if self.tools.is_resumed:
            owning.drop(pool, volume_name,
                        owning.made_by(self.tools, job, fits))
        make(pool, volume_name, create)
        with self.or_undo(lambda: pool.remove(volume_name)), \
                pool.open(volume_name) as volume:
            lineage.adopt(volume, kind=lineage.VOLUME, origin=origin,
                          job=job, state=lineage.PENDING)
            yield volume
            self.finish_if_last(volume, settings)

    def finish_if_last(self, volume: Image,
                       settings: Mapping[str, Any] | None) -> None:
        if self.is_last:
            finish(volume, settings, self.tools.report)


@contextlib.contextmanager
def filling(pool: Pool, name: str, job: str | None,
            undoing: AbstractContextManager[None]) -> Iterator[Image]:
    """The volume, while a child of ours writes to it. It is held open: what
    is unfinished and nobody's, :func:`make` removes.

    :param job: that has made it; None: it was there before.
    :param undoing: is left with what fails, once the volume is closed.
    :raises Conflict: see :func:`check_made_by`; then nothing is undone.
    """
    with contextlib.ExitStack() as stack, pool.open(name) as volume:
        if job is not None:
            check_made_by(job, volume)
        stack.enter_context(undoing)
        yield volume


def check_made_by(job: str, volume: Image) -> None:
    """Between two steps nobody has it open.

    :raises Conflict: somebody has made another one of its name meanwhile.
    """
    mark = lineage.get_lineage(volume)
    if mark is None or mark.job != job:
        raise exception.Conflict(
            f'Volume {volume.spec.name!r} was made anew by another operation.',
            remedy='Give a name to one volume only.')
