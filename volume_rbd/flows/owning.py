# SPDX-License-Identifier: Apache-2.0
"""Whose an rbd_image is that bears the name of what a job makes.

Its mark tells. Who was killed between making it and marking it left it
without one; then it is the job's if it is as the job makes it, for the name
was free when the job began, and no other job may have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from taskflow.types import failure

from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Cluster, Image, Pool
from volume_rbd.flows import staging, strategies
from volume_rbd.flows.base import Tools

#: Says something of an open rbd_image.
Test = Callable[[Image], bool]


def made_by(tools: Tools, job: str, fits: Test, result: object = None
            ) -> Test:
    """Whether *job* has made it. One without a mark only a process can know
    to be the job's that has the job, with its claims: nobody else of ours
    gives that name meanwhile.

    :param fits: of one without a mark of its own.
    :param result: what a revert is handed. Where ``execute`` had met
        somebody else's under the name, only the mark counts.
    """
    def is_ours(image: Image) -> bool:
        mark = lineage.get_lineage(image)
        if mark is not None:
            return mark.job == job
        has_job = tools.is_resumed or tools.lease is not None
        return has_job and not was_taken(result) and fits(image)
    return is_ours


_TAKEN = (exception.ImageExists, exception.ImageBusy,
          exception.GlanceConflict)


def was_taken(result: object,
              kinds: type[Exception] | tuple[type[Exception], ...] = _TAKEN
              ) -> bool:
    """Whether ``execute`` had failed because the name was somebody else's."""
    return isinstance(result, failure.Failure) and isinstance(
        strategies.error_of(result), kinds)


def is_clone_of(source: model.SnapSpec) -> Test:
    def fits(image: Image) -> bool:
        parent = image.parent
        return parent is not None and source == model.SnapSpec(
            parent.pool, parent.image, parent.snapshot)
    return fits


def is_clone_begun(source: model.SnapSpec, cluster: Cluster | None = None
                   ) -> Test:
    """librbd makes a clone empty and names its parent afterwards: who was
    killed in between left one that has none, and no data.

    :param cluster: where the source is: a clone is as large as that. None:
        for names that nobody else gives.
    """
    def fits(image: Image) -> bool:
        return is_clone_of(source)(image) or (
            is_blank(_size_of(cluster, source) if cluster else None)(image)
            and _has_no_data(image))
    return fits


def _size_of(cluster: Cluster, source: model.SnapSpec) -> int:
    try:
        with cluster.pool(source.pool).open(
                source.image, snapshot=source.snapshot,
                read_only=True) as opened:
            return opened.size_bytes
    except (exception.ImageNotFound, exception.SnapshotNotFound):
        return -1  # then nothing is as large


def _has_no_data(image: Image) -> bool:
    return not any(extent.exists for extent in image.extents())


def is_blank(size_bytes: int | None = None) -> Test:
    """As it was created, so far as one can see without reading it.

    :param size_bytes: None: of any size.
    """
    def fits(image: Image) -> bool:
        return (size_bytes in (None, image.size_bytes)
                and image.parent is None
                and not image.snapshots() and not image.watchers())
    return fits


def is_any(image: Image) -> bool:
    """For names that nobody else gives."""
    return True


def drop(pool: Pool, name: str, is_ours: Test,
         remove: Callable[[Pool, str], None] = staging.drop) -> None:
    """Remove the rbd_image *name* if it is there and ours."""
    try:
        with pool.open(name, read_only=True) as image:
            if not is_ours(image):
                return
    except exception.ImageNotFound:
        # Its removal may have been interrupted, unless we may not write
        # there: then nothing in it is ours.
        with contextlib.suppress(exception.CephPermissionDenied):
            remove(pool, name)
        return
    remove(pool, name)
