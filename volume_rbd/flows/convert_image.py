# SPDX-License-Identifier: Apache-2.0
"""The convert strategy of a create: the disk inside of an image's file.

The file is read straight from the store's pool where its location is trusted,
or from a temporary rbd_image beside the volume: a clone of the file where qemu
could not open that, because it opens everything for writing; or else what
Glance sends. Nothing opens it before it was inspected.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from volume_rbd import exception, model, plan
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Image
from volume_rbd.copying import inbound, inspection, qemu_img
from volume_rbd.flows import encrypt, making, owning, staging, verify
from volume_rbd.flows.base import Task, Tools

_SECTOR_BYTES = 512
_CHUNK_BYTES = 1 * model.MIB
# The headers of all formats but vhdx and the end of some vmdk.
_FIRST_LOOK_BYTES = 4 * model.MIB


class Stage(enum.StrEnum):
    """What the temporary rbd_image is."""

    NONE = 'none'
    CLONE = 'clone'
    DOWNLOAD = 'download'


def find_stage(tools: Tools, arguments: Mapping[str, Any]) -> Stage:
    """What the flow with these arguments reads."""
    if arguments['source'] is None:
        return Stage.DOWNLOAD
    if not arguments.get('stages_clone'):
        return Stage.NONE
    # The bytes that were signed are verified as they come.
    return Stage.DOWNLOAD if tools.checker else Stage.CLONE


def get_tasks(tools: Tools, stage: Stage,
              before_write: Sequence[Task] = (), *, replaces: bool = False
              ) -> list[Task]:
    """What follows once the volume is there.

    :param replaces: it was there before, and gets another content.
    """
    if stage is Stage.NONE:
        write = [InspectFile(tools), *before_write,
                 ConvertFile(tools, replaces=replaces)]
        return [VerifyFile(tools), *write] if tools.checker else write
    make: type[Task] = CloneFile if stage is Stage.CLONE else StageFile
    return [make(tools), InspectFile(tools, is_staged=True), *before_write,
            ConvertFile(tools, is_staged=True, replaces=replaces),
            DropFile(tools)]


class VerifyFile(verify.VerifySnapshot):
    """The file itself is what was signed, not the disk inside."""


class StageFile(Task):
    """Stream the image's file into a temporary rbd_image.

    What its first bytes tell is looked at before the rest is fetched.
    """

    title = 'staging the image'
    default_provides = 'staged_bytes'

    def execute(self, job: str, image_id: str, image_size_bytes: int,
                volume_name: str, disk_format: str, size_bytes: int,
                is_size_fixed: bool) -> int:
        tools = self.tools
        name = staging.stage_name(volume_name)
        if tools.is_resumed:
            self._drop(job, volume_name)
        # Whole sectors: qemu's rbd driver fails at the end of others.
        staging.make(tools.pool, name,
                     -(-image_size_bytes // _SECTOR_BYTES) * _SECTOR_BYTES,
                     job=job, origin=f'glance:{image_id}',
                     layout=tools.config.layout)

        def look(head: bytes) -> None:
            disk_bytes = inspection.inspect_head(
                head, image_size_bytes, disk_format,
                vmdk_types=tools.config.vmdk_allowed_types)
            if disk_bytes is not None and is_size_fixed:
                _check_fits(image_id, disk_bytes, size_bytes)

        with self.or_undo(lambda: staging.drop(tools.pool, name)):
            report = tools.transfer()
            report.start(image_size_bytes)
            with contextlib.closing(tools.glance.download(
                    image_id, _CHUNK_BYTES)) as chunks, \
                    tools.pool.open(name) as stage:
                return inbound.write_stream(
                    _looked_at(verify.verified(tools, chunks), look), stage,
                    operations=inbound.operations_within_memory(
                        tools.config.copy_operations, _CHUNK_BYTES),
                    report=report)

    def revert(self, job: str, volume_name: str, result: object,
               **kwargs: Any) -> None:
        self._drop(job, volume_name, result)

    def _drop(self, job: str, volume_name: str, result: object = None
              ) -> None:
        owning.drop(self.tools.pool, staging.stage_name(volume_name),
                    owning.made_by(self.tools, job, owning.is_any, result))


class CloneFile(Task):
    """Clone the image's snapshot: the clone is ours to open for writing."""

    title = StageFile.title

    def execute(self, job: str, image_id: str, volume_name: str,
                source: Sequence[str]) -> None:
        tools, pool = self.tools, self.tools.pool
        name = staging.stage_name(volume_name)
        if tools.is_resumed:
            self._drop(job, volume_name)
        staging.drop_left(pool, name)
        pool.clone(model.SnapSpec(*source), name,
                   layout=tools.config.layout.of_clone())
        with self.or_undo(lambda: staging.drop(pool, name)):
            staging.mark(pool, name, job=job, origin=f'glance:{image_id}')

    def revert(self, job: str, volume_name: str, result: object,
               **kwargs: Any) -> None:
        self._drop(job, volume_name, result)

    def _drop(self, job: str, volume_name: str, result: object = None
              ) -> None:
        owning.drop(self.tools.pool, staging.stage_name(volume_name),
                    owning.made_by(self.tools, job, owning.is_any, result))


def _looked_at(chunks: Iterable[bytes], look: Any) -> Iterator[bytes]:
    """*chunks*, the first of them only after *look* has seen them."""
    kept: list[bytes] = []
    has_looked = False
    for chunk in chunks:
        if has_looked:
            yield chunk
            continue
        kept.append(chunk)
        if sum(map(len, kept)) >= _FIRST_LOOK_BYTES:
            look(b''.join(kept))
            has_looked = True
            yield from kept
            kept.clear()
    if not has_looked:
        look(b''.join(kept))
        yield from kept


class _Reading(Task):
    """:param is_staged: what is read is the temporary rbd_image."""

    def __init__(self, tools: Tools, *, is_staged: bool = False) -> None:
        super().__init__(tools)
        self._is_staged = is_staged

    def _where(self, source: Sequence[str] | None) -> Sequence[str] | None:
        return None if self._is_staged else source

    def inspect(self, image_id: str, volume_name: str, disk_format: str,
                source: Sequence[str] | None, size_bytes: int,
                is_size_fixed: bool) -> tuple[int, list[Any]]:
        """See that the file may be opened, and that the volume holds the disk
        inside, or may grow to hold it.

        :param size_bytes: of the volume.
        :returns: the size of the disk inside, and which file it is.
        :raises ImageUnsafe, SignatureInvalid, InvalidSize, QuotaExceeded:
        """
        tools, source = self.tools, self._where(source)
        verify.require(tools, image_id)
        with _opened(tools, source, volume_name) as file:
            disk_bytes = inspection.inspect(
                file, disk_format,
                vmdk_types=tools.config.vmdk_allowed_types)
            encrypt.refuse_encrypted(tools, file, image_id)
            file_id = _identity(file, source)
        if source:
            verify.confirm(tools, image_id, file_id)
        if is_size_fixed:
            _check_fits(image_id, disk_bytes, size_bytes)
        elif disk_bytes > size_bytes:
            plan.check_quota(model.gib_for(disk_bytes) * model.GIB,
                             tools.config.max_volume_bytes)
        return disk_bytes, file_id


class InspectFile(_Reading):
    """See that the file is of its format and refers to nothing outside of
    it, and that the volume holds the disk inside."""

    title = 'inspecting the image'
    default_provides = ('disk_size_bytes', 'volume_size_bytes', 'file_id')

    def execute(self, job: str, image_id: str, volume_name: str,
                disk_format: str, source: Sequence[str] | None,
                size_bytes: int, is_size_fixed: bool
                ) -> tuple[int, int, list[Any]]:
        disk_bytes, file_id = self.inspect(
            image_id, volume_name, disk_format, source, size_bytes,
            is_size_fixed)
        if disk_bytes > size_bytes:
            size_bytes = model.gib_for(disk_bytes) * model.GIB
            with self.tools.pool.open(volume_name) as volume:
                making.check_made_by(job, volume)
                volume.resize(size_bytes)
        return disk_bytes, size_bytes, file_id


class ConvertFile(_Reading):
    """Write the disk inside onto the volume; what is zero stays a hole.

    Whoever goes on with it inspects the file again: that it was, a record
    says, which anybody may write.

    :param replaces: the volume was there before.
    """

    title = 'converting the image'
    default_provides = 'bytes_moved'

    def __init__(self, tools: Tools, *, is_staged: bool = False,
                 replaces: bool = False) -> None:
        super().__init__(tools, is_staged=is_staged)
        self._replaces = replaces

    def execute(self, job: str, image_id: str, volume_name: str,
                disk_format: str, source: Sequence[str] | None,
                size_bytes: int, is_size_fixed: bool, disk_size_bytes: int,
                file_id: Sequence[Any]) -> int:
        tools, pool = self.tools, self.tools.pool
        self._end_child(volume_name)
        if tools.is_resumed:
            disk_size_bytes, file_id = self.inspect(
                image_id, volume_name, disk_format, source, size_bytes,
                is_size_fixed)
        source = self._where(source)
        place = model.SnapSpec(*source) if source else model.SnapSpec(
            pool.name, staging.stage_name(volume_name), '')
        with _opened(tools, source, volume_name) as file, making.filling(
                pool, volume_name, None if self._replaces else job,
                self.or_undo(lambda: staging.wait_until_let_go(
                    pool, volume_name))) as volume:
            tools.converter.to_disk(
                qemu_img.RBDDisk(place.pool, place.image,
                                 tools.config.cluster,
                                 place.snapshot or None),
                disk_format,
                qemu_img.RBDDisk(pool.name, volume_name,
                                 tools.config.cluster),
                # What is not written decrypts to anything, not to zeros.
                is_zero=tools.encryption is None,
                size_bytes=disk_size_bytes, report=tools.report,
                key=tools.key)
            moved = file.size_bytes
            with _opened(tools, source, volume_name) as again:
                if _identity(again, source) != list(file_id):
                    raise exception.ImageUnsafe(
                        f'The data of image {image_id} was exchanged while '
                        'it was read.')
            lineage.set_state(volume, lineage.COMPLETE)
        tools.report.check()  # no step follows that would
        return moved

    def revert(self, volume_name: str, **kwargs: Any) -> None:
        self._end_child(volume_name)

    def _end_child(self, volume_name: str) -> None:
        """That of a process that was killed: its watch, if not itself."""
        if self.tools.is_resumed:
            staging.wait_until_let_go(self.tools.pool, volume_name)


class DropFile(Task):
    """The bytes are where they belong."""

    title = 'removing the staged image'
    is_cancellable = False
    default_provides = 'leftover'

    def execute(self, volume_name: str) -> str | None:
        name = staging.stage_name(volume_name)
        if self.tools.is_resumed:
            # A child of the killed process may have been reading it.
            staging.wait_until_let_go(self.tools.pool, name)
        return staging.try_to_drop(self.tools.pool, name)


def _opened(tools: Tools, source: Sequence[str] | None, volume_name: str
            ) -> contextlib.AbstractContextManager[Image]:
    """The image's file; a staged one stays held as long as it is open."""
    if source is None:
        return tools.pool.open(staging.stage_name(volume_name))
    place = model.SnapSpec(*source)
    return tools.cluster.pool(place.pool).open(
        place.image, snapshot=place.snapshot, read_only=True)


def _identity(file: Image, source: Sequence[str] | None) -> list[Any]:
    """Which rbd_image and snapshot it is; neither id is ever used again."""
    found = file.find_snapshot(source[2]) if source else None
    return [file.id, found.id if found else None]


def _check_fits(image_id: str, disk_bytes: int, size_bytes: int) -> None:
    if disk_bytes > size_bytes:
        needed = model.gib_for(disk_bytes)
        raise exception.InvalidSize(
            f'The disk inside of image {image_id} has {disk_bytes} bytes, '
            f'more than the {size_bytes} of the volume.',
            remedy=f'Ask for {needed} GiB or more.')
