# SPDX-License-Identifier: Apache-2.0
"""Which of a volume's snapshots are parts of a group's snapshot.

librbd gives such a part no name that anybody could ask for. So the name that
the block-storage service knows it by is written on the rbd_image, in image
metadata, one key a snapshot. As with :mod:`~volume_rbd.ceph.lineage`, a mark
counts only if it names the image's own internal id: clones inherit it.

The mark is written first, with the group it will be in, and once more with
the snapshot's id; whoever is killed in between has marked what can be found
through the group.
"""

from __future__ import annotations

import dataclasses
import json

from volume_rbd.ceph.interface import Image, SnapshotInfo

_PREFIX = 'volume_rbd.snapshot.'


@dataclasses.dataclass(frozen=True)
class _Mark:
    group: str
    snapshot_id: int | None


def set_mark(image: Image, name: str, group: str,
             snapshot_id: int | None = None) -> None:
    """The snapshot *name* of the open image is its part in *group*'s."""
    image.set_metadata(_PREFIX + name, json.dumps(
        {'image_id': image.id, 'group': group, 'snapshot_id': snapshot_id},
        sort_keys=True))


def remove_mark(image: Image, name: str) -> None:
    """Idempotent."""
    image.remove_metadata(_PREFIX + name)


def has_mark(image: Image, name: str) -> bool:
    """Also where the snapshot itself was not taken, or is gone."""
    return name in _marks(image)


def find(image: Image, name: str) -> SnapshotInfo | None:
    return next((part for part in parts(image) if part.name == name), None)


def parts(image: Image) -> list[SnapshotInfo]:
    """All that bear a name, oldest first."""
    taken = image.group_snapshots()
    if not taken:
        return []
    marks = _marks(image)
    found = []
    for part in taken:
        for name, mark in marks.items():
            if part.id == mark.snapshot_id or (
                    mark.snapshot_id is None and part.group == mark.group):
                found.append(SnapshotInfo(part.id, name, part.size_bytes))
    return found


def _marks(image: Image) -> dict[str, _Mark]:
    found = {}
    for key, text in image.metadata().items():
        if not key.startswith(_PREFIX):
            continue
        try:
            fields = json.loads(text)
            if fields['image_id'] != image.id:
                continue
            number = fields['snapshot_id']
            found[key.removeprefix(_PREFIX)] = _Mark(
                str(fields['group']), None if number is None else int(number))
        except (ValueError, KeyError, TypeError):
            # Everyone with write on the pool can write this: not ours then.
            continue
    return found
