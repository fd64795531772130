# SPDX-License-Identifier: Apache-2.0
"""The copy strategy of a create: the bytes of the image's snapshot, from the
store's pool straight into a volume that shares nothing with it. Only what
exists is read and written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from volume_rbd import exception, model, plan
from volume_rbd.ceph import checkpoint, lineage
from volume_rbd.ceph.interface import Image
from volume_rbd.copying.checkpoints import Checkpoints
from volume_rbd.flows import copies, owning, verify
from volume_rbd.flows.base import Task, Tools


class CopyImage(Task):
    """Copy the image's snapshot into a new volume.

    One that was killed is gone on with where the snapshot is the same; not
    where a signature is verified: then nothing that is written beside a
    volume is believed.
    """

    title = 'copying the image'
    default_provides = 'bytes_moved'

    def execute(self, job: str, image_id: str, volume_name: str,
                source: Sequence[str], size_bytes: int) -> int:
        tools, pool = self.tools, self.tools.pool
        parent = model.SnapSpec(*source)
        target = copies.Target(
            pool, volume_name, lineage.VOLUME, size_bytes,
            lambda: pool.create(
                volume_name, size_bytes, layout=tools.config.layout))
        if tools.is_resumed:
            copies.drop_unfit(target, owning.made_by(
                self.tools, job, owning.is_blank(size_bytes)))
        with _opened(tools, parent) as (snapshot, origin):
            check_fits(image_id, snapshot, size_bytes)
            with copies.saying_not_this_way():
                start = self._prepare(target, origin)
                with copies.filling(target, start, self.or_undo(
                        lambda: pool.remove(volume_name))) as volume:
                    checkpoints = copies.begin(volume, target.kind, job,
                                               parent, origin, start)
                    written = _fill(tools, snapshot, volume, volume_name,
                                    start, checkpoints)
                    lineage.set_state(volume, lineage.COMPLETE)
                    checkpoint.remove(volume)
                    tools.report.check()  # no step follows that would
        return written

    def _prepare(self, target: copies.Target, origin: checkpoint.Origin
                 ) -> int:
        if self.tools.checker is None:
            return copies.prepare(target, origin, self.tools.report)
        copies.make_anew(target.pool, target.name, target.kind,
                         target.create, self.tools.report)
        return 0

    def revert(self, job: str, volume_name: str, size_bytes: int,
               result: object, **kwargs: Any) -> None:
        owning.drop(self.tools.pool, volume_name, owning.made_by(
            self.tools, job, owning.is_blank(size_bytes), result))


class CopyOver(Task):
    """Copy the image's snapshot into a volume that is there and reads as
    zeros."""

    title = CopyImage.title
    default_provides = 'bytes_moved'

    def execute(self, image_id: str, volume_name: str, source: Sequence[str],
                size_bytes: int) -> int:
        tools = self.tools
        with _opened(tools, model.SnapSpec(*source)) as (snapshot, _):
            check_fits(image_id, snapshot, size_bytes)
            with copies.saying_not_this_way(), \
                    tools.pool.open(volume_name) as volume:
                written = _fill(tools, snapshot, volume, volume_name)
                lineage.set_state(volume, lineage.COMPLETE)
        return written


def check_fits(image_id: str, disk: Image, size_bytes: int) -> None:
    """:raises InvalidSize: it was exchanged for a larger one."""
    if disk.size_bytes > size_bytes:
        raise exception.InvalidSize(
            f'Image {image_id} needs {disk.size_bytes} bytes, more than the '
            f'{size_bytes} of the volume.', remedy='Ask for a larger volume.')


def _fill(tools: Tools, snapshot: Image, volume: Image, volume_name: str,
          start: int = 0, checkpoints: Checkpoints | None = None) -> int:
    with verify.sinks(tools) as sinks:
        return tools.copier.fill(
            snapshot, volume, report=tools.report, sinks=sinks, start=start,
            checkpoints=checkpoints,
            reopen=lambda: tools.pool.open(volume_name, read_only=True))


@contextlib.contextmanager
def _opened(tools: Tools, parent: model.SnapSpec
            ) -> Iterator[tuple[Image, checkpoint.Origin]]:
    """The image's snapshot, and what it is.

    :raises NotCopyable: it is gone, or may not be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(tools.cluster.pool(parent.pool).open(
                parent.image, snapshot=parent.snapshot, read_only=True))
            origin = checkpoint.Origin.of(image, parent.snapshot)
        except (exception.ImageNotFound, exception.SnapshotNotFound) as error:
            raise copies.not_copyable(plan.Reason.MISSING_SNAPSHOT, error
                                      ) from None
        except exception.CephPermissionDenied as error:
            raise copies.not_copyable(plan.Reason.SNAPSHOT_DENIED, error
                                      ) from None
        yield image, origin
