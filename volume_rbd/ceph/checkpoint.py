# SPDX-License-Identifier: Apache-2.0
"""How far a copy into an rbd_image has come, written on that rbd_image.

It is there from the beginning of the copy to its end, beside a mark of ours
that says PENDING. Like that mark it counts only where it names this image's
own internal id.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Self

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Image

KEY = 'volume_rbd.copy'


@dataclasses.dataclass(frozen=True)
class Origin:
    """What is copied: bytes that never change, by ids that are never used
    again."""

    pool: str
    image_id: str
    snapshot_id: int
    size_bytes: int

    @classmethod
    def of(cls, source: Image, snapshot: str) -> Self:
        """:param source: an rbd_image that is open at *snapshot*.
        :raises SnapshotNotFound: it went meanwhile."""
        found = source.find_snapshot(snapshot)
        if found is None:
            raise exception.SnapshotNotFound(
                f'There is no snapshot {source.spec}@{snapshot}.')
        return cls(source.spec.pool, source.id, found.id, source.size_bytes)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """:param offset: all before it is written and flushed."""

    origin: Origin
    offset: int = 0


def find(image: Image, kind: str) -> Checkpoint | None:
    """That of an rbd_image of this *kind*; None where no copy of ours is
    under way, or was when its process was killed."""
    mark = lineage.get_lineage(image)
    if (mark is None or mark.kind != kind
            or mark.state != lineage.PENDING):
        return None
    try:
        fields = json.loads(image.metadata()[KEY])
        checkpoint = Checkpoint(Origin(
            str(fields['pool']), str(fields['source_id']),
            int(fields['snapshot_id']), int(fields['size_bytes'])),
            int(fields['offset']))
    except (ValueError, KeyError, TypeError):
        # Everyone with write on the pool can write this: not ours then.
        return None
    if fields.get('image_id') != image.id or not (
            0 <= checkpoint.offset <= checkpoint.origin.size_bytes):
        return None
    return checkpoint


def write(image: Image, checkpoint: Checkpoint) -> None:
    origin = checkpoint.origin
    image.set_metadata(KEY, json.dumps({
        'image_id': image.id, 'pool': origin.pool,
        'source_id': origin.image_id, 'snapshot_id': origin.snapshot_id,
        'size_bytes': origin.size_bytes, 'offset': checkpoint.offset},
        sort_keys=True))


def remove(image: Image) -> None:
    """The copy is complete."""
    image.remove_metadata(KEY)
