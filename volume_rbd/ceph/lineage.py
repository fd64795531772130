# SPDX-License-Identifier: Apache-2.0
"""Whose an rbd_image is, written on the rbd_image itself.

A clone or a deep copy inherits *all* image metadata of its parent: marks of
ours, which then lie about the child, and ``conf_*`` overrides, which throttle
the child and its descendants. So a mark counts only if it names this image's
own internal id, and whoever clones calls :func:`adopt` at once.

The mark is one metadata key with a JSON value, because one key is written
atomically.
"""

from __future__ import annotations

import dataclasses
import json
import time

from volume_rbd.ceph.interface import Image

KEY = 'volume_rbd.lineage'
_PREFIX = 'volume_rbd.'
_OVERRIDE_PREFIX = 'conf_'

#: What an rbd_image is to us.
VOLUME = 'volume'
GLANCE_IMAGE = 'glance_image'
#: Bytes on their way to somewhere else; nobody's once no process has it open.
STAGE = 'stage'
#: A converted image that volumes are cloned from.
BASE = 'base'

PENDING = 'pending'
COMPLETE = 'complete'
TRASHED = 'trashed'


@dataclasses.dataclass(frozen=True)
class Lineage:
    """:param image_id: the internal id of the rbd_image it is written on.
    :param kind: VOLUME, GLANCE_IMAGE, STAGE or BASE.
    :param origin: what it was made from, e.g. ``rbd:images/ID@snap``,
        ``glance:ID``, or ``blank``.
    :param job: the id of the flow that made it.
    :param state: PENDING until the job is done; TRASHED: to be purged.
    :param created_at: seconds since the epoch.
    """

    image_id: str
    kind: str
    origin: str
    job: str
    state: str
    created_at: float

    def as_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def get_lineage(image: Image) -> Lineage | None:
    """The image's own mark; None if it has none or an inherited one."""
    return _parse(image.metadata().get(KEY), image.id)


def _parse(text: str | None, image_id: str) -> Lineage | None:
    if text is None:
        return None
    try:
        fields = json.loads(text)
        lineage = Lineage(
            image_id=str(fields['image_id']), kind=str(fields['kind']),
            origin=str(fields['origin']), job=str(fields['job']),
            state=str(fields['state']),
            created_at=float(fields['created_at']))
    except (ValueError, KeyError, TypeError):
        # Everyone with write on the pool can write this: not ours then.
        return None
    return lineage if lineage.image_id == image_id else None


def adopt(image: Image, *, kind: str, origin: str, job: str,
          state: str = COMPLETE) -> None:
    """Make the open image ours, and drop what it inherited."""
    for key in image.metadata():
        if key.startswith(_OVERRIDE_PREFIX) or (
                key.startswith(_PREFIX) and key != KEY):
            image.remove_metadata(key)
    mark(image, kind=kind, origin=origin, job=job, state=state)


def mark(image: Image, *, kind: str, origin: str, job: str,
         state: str = COMPLETE) -> None:
    """Write our mark on the open image and leave all else as it is."""
    _write(image, Lineage(image.id, kind, origin, job, state, time.time()))


def set_state(image: Image, state: str) -> None:
    """Change the state of our own mark; an image without one gets one."""
    lineage = get_lineage(image)
    if lineage is None:
        lineage = Lineage(image.id, VOLUME, 'unknown', '', state, time.time())
    _write(image, dataclasses.replace(lineage, state=state))


def _write(image: Image, lineage: Lineage) -> None:
    image.set_metadata(KEY, json.dumps(lineage.as_dict(), sort_keys=True))
