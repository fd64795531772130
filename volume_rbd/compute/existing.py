# SPDX-License-Identifier: Apache-2.0
"""A file that is there already: is it the image, in the format wanted?

What was fetched says so itself (record.py). What has no record, Nova's own
file for instance, or no verdict that still holds, is read once more; it is
never replaced, because disks of guests may stand on it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from volume_rbd import exception, model, progress, signatures
from volume_rbd.compute import content
from volume_rbd.compute.record import Record
from volume_rbd.copying import local_file
from volume_rbd.copying.local_file import LocalFile

_REMEDY = ('Let it go if no disk stands on it and nobody needs it, or fetch '
           'the image under another name.')


class Existing:
    """:param vmdk_types: the createTypes that are allowed."""

    def __init__(self, vmdk_types: Sequence[str]) -> None:
        self._vmdk_types = vmdk_types

    def get(self, path: Path, image: model.GlanceImage, wanted: str,
            checker: signatures.Checker | None, report: progress.Progress
            ) -> Record:
        """What is known of the file.

        :raises Conflict: it is something else.
        :raises SignatureInvalid: it is not what was signed, or that cannot
            be seen any more.
        """
        record = Record.find(path)
        if record is not None:
            self._check_record(record, path, image, wanted)
            if checker is None or checker.recall(record.terms):
                return record
        if not content.is_same_format(image.disk_format, wanted):
            if checker is not None:
                raise exception.SignatureInvalid(
                    f'{path} was converted from image {image.id} without its '
                    'signature being verified.', remedy=_REMEDY)
            return self._look_at(path, image, wanted)
        return self._read(path, image, wanted, checker, report)

    def _check_record(self, record: Record, path: Path,
                      image: model.GlanceImage, wanted: str) -> None:
        if record.image_id != image.id:
            raise exception.Conflict(
                f'{path} holds another image, {record.image_id}.',
                remedy=_REMEDY)
        if not content.is_same_format(record.disk_format, wanted):
            raise exception.Conflict(
                f'{path} holds image {image.id} as {record.disk_format}, not '
                f'{wanted}.', remedy=_REMEDY)

    def _look_at(self, path: Path, image: model.GlanceImage, wanted: str
                 ) -> Record:
        """It has other bytes than the image: all that can be seen is that it
        is of its format."""
        with local_file.opened(str(path)) as file:
            return Record(image.id, wanted, file.size_bytes,
                          self._inspect(file, path, wanted))

    def _read(self, path: Path, image: model.GlanceImage, wanted: str,
              checker: signatures.Checker | None, report: progress.Progress
              ) -> Record:
        report.step('verifying the file that is there')
        with local_file.opened(str(path)) as file:
            if image.size_bytes not in (None, file.size_bytes):
                raise _another(path, image, f'it has {file.size_bytes} bytes')
            disk_bytes = self._inspect(file, path, image.disk_format or '')
            self._verify(file, path, image, checker, report)
        record = Record(
            image.id, wanted, os.stat(path).st_size, disk_bytes,
            content.describe_hash(image), checker.terms if checker else None)
        record.write(path)
        return record

    def _inspect(self, file: LocalFile, path: Path, disk_format: str) -> int:
        try:
            return content.inspect(file, disk_format, self._vmdk_types)
        except exception.ImageUnsafe as error:
            raise exception.ImageUnsafe(
                f'{path} is not used: {error.message}', remedy=_REMEDY
                ) from error

    def _verify(self, file: LocalFile, path: Path, image: model.GlanceImage,
                checker: signatures.Checker | None,
                report: progress.Progress) -> None:
        try:
            with content.checking(image, checker) as sinks:
                content.feed(file, sinks, report)
        except exception.SignatureInvalid as error:
            raise exception.SignatureInvalid(
                f'{path} is not used: {error.message}', remedy=_REMEDY
                ) from error
        except exception.DataCorrupted as error:
            raise _another(path, image, error.message) from error


def _another(path: Path, image: model.GlanceImage, how: str
             ) -> exception.Conflict:
    return exception.Conflict(
        f'{path} is there and is not image {image.id}: {how.rstrip(".")}.',
        remedy=_REMEDY)
