# SPDX-License-Identifier: Apache-2.0
"""The convert strategy of an upload: the volume as a file of a format.

The file is written onto a temporary rbd_image, which grows with it, and then
sent as it is.
"""

from __future__ import annotations

import re
from typing import Any

from volume_rbd import exception
from volume_rbd.ceph.interface import Image
from volume_rbd.copying import qemu_img
from volume_rbd.flows import owning, staging
from volume_rbd.flows.base import Task, Tools
from volume_rbd.flows.registration import source_snapshot
from volume_rbd.flows.sending import send

# Where qemu puts the text that describes a vmdk, and its length.
_VMDK_TEXT = (512, 20 * 512)


def get_tasks(tools: Tools) -> list[Task]:
    return [ConvertVolume(tools), SendFile(tools), DropFile(tools)]


class ConvertVolume(Task):
    """Write the volume's snapshot as a file into a temporary rbd_image."""

    title = 'converting the volume'
    default_provides = 'staged_bytes'

    def execute(self, job: str, image_id: str, volume_name: str,
                disk_format: str, is_compressed: bool, size_bytes: int
                ) -> int:
        tools, pool = self.tools, self.tools.pool
        if size_bytes % 512:
            # qemu's rbd driver ends with an assertion there (tried: 7.2).
            raise exception.NotSupported(
                f'Volume {volume_name!r} has {size_bytes} bytes, which are '
                'no whole sectors: qemu cannot read it.',
                remedy='Extend it, or upload it as raw.')
        name = staging.stage_name(image_id)
        snapshot = source_snapshot(image_id)
        if tools.is_resumed:
            self._drop(job, image_id)
        staging.drop_left(pool, name)
        # Held open, so that nobody deletes it meanwhile.
        with pool.open(volume_name), self.or_undo(
                lambda: staging.drop_held(pool, name)):
            tools.converter.to_format(
                qemu_img.RBDDisk(pool.name, volume_name,
                                 tools.config.cluster, snapshot),
                qemu_img.RBDDisk(pool.name, name, tools.config.cluster),
                disk_format, size_bytes=size_bytes, report=tools.report,
                compress=is_compressed,
                key=tools.key)
            staging.mark(pool, name, job=job,
                         origin=f'rbd:{pool.name}/{volume_name}@{snapshot}')
            with pool.open(name) as file:
                if disk_format == 'vmdk':
                    _name_extent(file, image_id)
                return file.size_bytes

    def revert(self, job: str, image_id: str, result: object, **kwargs: Any
               ) -> None:
        self._drop(job, image_id, result)

    def _drop(self, job: str, image_id: str, result: object = None) -> None:
        owning.drop(
            self.tools.pool, staging.stage_name(image_id),
            owning.made_by(self.tools, job, owning.is_any, result),
            staging.drop_held if self.tools.is_resumed else staging.drop)


class SendFile(Task):
    """Send the file through Glance's API."""

    title = 'uploading the file'
    looks_back = True
    default_provides = 'bytes_moved'

    def execute(self, image_id: str, store_id: str | None) -> int:
        with self.tools.pool.open(staging.stage_name(image_id)) as file:
            return send(self.tools, file, image_id, store_id)


class DropFile(Task):
    """The bytes are where they belong."""

    title = 'removing the converted file'
    is_cancellable = False
    default_provides = 'stage_leftover'

    def execute(self, image_id: str) -> str | None:
        name = staging.stage_name(image_id)
        if self.tools.is_resumed:
            # A child of the killed process may have been reading it.
            staging.wait_until_let_go(self.tools.pool, name)
        return staging.try_to_drop(self.tools.pool, name)


def _name_extent(file: Image, image_id: str) -> None:
    """qemu writes where it wrote to into a vmdk: a path of this machine."""
    offset, length = _VMDK_TEXT
    text = file.read(offset, length)
    named = re.sub(rb'(?m)^(RW \d+ SPARSE )".*"$',
                   rb'\1"%s.vmdk"' % image_id.encode(), text.rstrip(b'\0'))
    file.write(named.ljust(length, b'\0')[:length], offset)
    file.flush()
