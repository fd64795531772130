# SPDX-License-Identifier: Apache-2.0
"""A raw base: the disk inside of a Glance image that is not raw, converted
once into an rbd_image of the backend's own pool, for volumes to be cloned
from.

It is named after the image, so that there is one; it bears our mark of the
kind BASE once it can be cloned, and a note that says what it is the disk of.
Until then the rbd_image of its name is a volume under way and no base.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Self

from volume_rbd import model
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Image

PREFIX = 'volume_rbd.base-'
#: Held open by whoever converts; nobody's once no process has it open.
MAKING = 'volume_rbd.making-'
#: Not of the names that go with their last clone.
SNAPSHOT = 'base'
KEY = 'volume_rbd.base'


@dataclasses.dataclass(frozen=True)
class Note:
    """What was converted, as Glance and the settings told it then.

    :param base_id: the internal id of the rbd_image it is written on.
    :param file_bytes: the size of the image's file.
    :param virtual_bytes: what Glance said of the disk inside, or None.
    :param vmdk_types: that were let in.
    :param size_bytes: of the base.
    :param data_bytes: what it uses, about.
    :param used_at: seconds since the epoch, to about a minute.
    :param is_direct: it was read from the pool of Glance's store; else its
        bytes came through Glance, from who was let download them.
    """

    base_id: str
    image_id: str
    disk_format: str | None
    file_bytes: int | None
    virtual_bytes: int | None
    hash_value: str | None
    vmdk_types: tuple[str, ...]
    size_bytes: int
    data_bytes: int
    used_at: float
    is_direct: bool = False

    @classmethod
    def of(cls, base: Image, image: model.GlanceImage,
           vmdk_types: tuple[str, ...], *, is_direct: bool) -> Self:
        return cls(
            base.id, image.id, image.disk_format, image.size_bytes,
            image.virtual_size_bytes, image.os_hash_value, vmdk_types,
            base.size_bytes, sum(
                extent.length for extent in base.extents() if extent.exists),
            time.time(), is_direct)

    def is_of(self, image: model.GlanceImage, vmdk_types: tuple[str, ...]
              ) -> bool:
        """Whether *image* would be converted to the same disk. What Glance
        did not tell then, or does not now, speaks for nothing."""
        is_let_in = (self.disk_format != 'vmdk'
                     or set(self.vmdk_types) <= set(vmdk_types))
        return is_let_in and (
            self.image_id == image.id
            and self.disk_format == image.disk_format
            and self.file_bytes == image.size_bytes
            and _agree(self.virtual_bytes, image.virtual_size_bytes)
            and _agree(self.hash_value, image.os_hash_value))


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other


def base_name(image_id: str) -> str:
    return PREFIX + image_id


def making_name(image_id: str) -> str:
    return MAKING + image_id


def find_note(image: Image) -> Note | None:
    """What a base that can be cloned is; None if it is no such thing."""
    mark = lineage.get_lineage(image)
    if (mark is None or mark.kind != lineage.BASE
            or mark.state != lineage.COMPLETE):
        return None
    note = _parse(image.metadata().get(KEY))
    if (note is None or note.base_id != image.id
            or note.size_bytes != image.size_bytes
            or image.spec.name != base_name(note.image_id)):
        return None
    return note


def _parse(text: str | None) -> Note | None:
    try:
        fields = json.loads(text or '')
        return Note(**{
            **fields, 'vmdk_types': tuple(map(str, fields['vmdk_types'])),
            'size_bytes': int(fields['size_bytes']),
            'data_bytes': int(fields['data_bytes']),
            'used_at': float(fields['used_at']),
            'is_direct': fields.get('is_direct') is True})
    except (ValueError, KeyError, TypeError):
        # Everyone with write on the pool can write this: no base then.
        return None


def finish(base: Image, image: model.GlanceImage, *, job: str,
           vmdk_types: tuple[str, ...], is_direct: bool) -> Note:
    """Let what was converted be cloned. The mark comes last."""
    base.create_snapshot(SNAPSHOT)
    note = Note.of(base, image, vmdk_types, is_direct=is_direct)
    _write(base, note)
    lineage.mark(base, kind=lineage.BASE, origin=f'glance:{image.id}',
                 job=job)
    return note


def set_used(base: Image, note: Note) -> None:
    _write(base, dataclasses.replace(note, used_at=time.time()))


def _write(base: Image, note: Note) -> None:
    base.set_metadata(KEY, json.dumps(dataclasses.asdict(note),
                                      sort_keys=True))
