# SPDX-License-Identifier: Apache-2.0
"""The copy of a volume's part in a snapshot of a group: before Ceph 19 it
cannot be cloned. Only what exists is read and written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from volume_rbd import exception, model
from volume_rbd.ceph import checkpoint, groupmark, lineage
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.flows import copies, making, owning


class CopyPart(making.Making):
    """Copy the part into a new volume. One that was killed is gone on with.
    """

    title = 'copying the snapshot'
    default_provides = 'bytes_moved'

    def execute(self, job: str, volume_name: str, size_bytes: int,
                source_volume: str, source_snapshot: str,
                settings: Mapping[str, Any] | None) -> int:
        tools, pool = self.tools, self.tools.pool
        target = copies.Target(
            pool, volume_name, lineage.VOLUME, size_bytes,
            lambda: pool.create(
                volume_name, size_bytes, layout=tools.config.layout))
        source = model.SnapSpec(pool.name, source_volume, source_snapshot)
        with opened(pool, source_volume, source_snapshot) as (part, origin):
            making.check_not_smaller(size_bytes, source, part.size_bytes)
            start = self._prepare(job, target, origin)
            with copies.filling(target, start, self.or_undo(
                    lambda: pool.remove(volume_name))) as volume:
                checkpoints = copies.begin(volume, target.kind, job, source,
                                           origin, start)
                written = tools.copier.fill(
                    part, volume, report=tools.report, start=start,
                    checkpoints=checkpoints,
                    reopen=lambda: pool.open(volume_name, read_only=True))
                checkpoint.remove(volume)
                self.finish_if_last(volume, settings)
        return written

    def _prepare(self, job: str, target: copies.Target,
                 origin: checkpoint.Origin) -> int:
        """:returns: where to begin."""
        pool, name = target.pool, target.name
        if self.tools.is_resumed:
            is_ours = owning.made_by(self.tools, job, owning.is_blank(
                target.size_bytes))
            owning.drop(pool, name, lambda image: is_ours(image)
                        and checkpoint.find(image, target.kind) is None)
        try:
            return copies.prepare(target, origin, self.tools.report)
        except exception.ImageExists:
            # Left without a checkpoint it may be all the same.
            if not making.remove_unfinished(pool, name):
                raise
            target.create()
            return 0

    def revert(self, job: str, volume_name: str, size_bytes: int,
               result: object, **kwargs: Any) -> None:
        owning.drop(self.tools.pool, volume_name, owning.made_by(
            self.tools, job, owning.is_blank(size_bytes), result))


@contextlib.contextmanager
def opened(pool: Pool, volume_name: str, snapshot: str
           ) -> Iterator[tuple[Image, checkpoint.Origin]]:
    """The volume's part that is called *snapshot*, and what it is.

    :raises ImageNotFound, SnapshotNotFound:
    """
    with pool.open(volume_name, read_only=True) as image:
        found = groupmark.find(image, snapshot)
        image_id = image.id
    if found is None:
        raise exception.SnapshotNotFound(
            f'Volume {volume_name!r} has no snapshot {snapshot!r}.')
    with pool.open_by_id(image_id, snapshot_id=found.id) as part:
        yield part, checkpoint.Origin(pool.name, image_id, found.id,
                                      part.size_bytes)
