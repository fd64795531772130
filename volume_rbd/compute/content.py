# SPDX-License-Identifier: Apache-2.0
"""Is what is in a file the image, whole and harmless?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from volume_rbd import exception, model, plan, progress, signatures
from volume_rbd.copying import inspection
from volume_rbd.copying.local_file import LocalFile
from volume_rbd.copying.outbound import SourceStream
from volume_rbd.copying.protocols import Source
from volume_rbd.copying.sinks import Feeder, Sink
from volume_rbd.glance import download

#: Kernels and ramdisks: any bytes will do.
_OPAQUE = frozenset({'aki', 'ari', 'ami'})
#: The bytes of the file are those of the disk.
_PLAIN = frozenset({'raw', 'iso', *_OPAQUE})
_OPERATIONS = 4


def check_format(image: model.GlanceImage, convert_to: str | None) -> str:
    """:returns: the format that the file is to have, in Glance's word.
    :raises NotSupported: it cannot be made of the image.
    """
    have = image.disk_format or ''
    if convert_to not in (None, 'raw'):
        raise exception.NotSupported(
            f'A fetched image cannot be made {convert_to!r}.',
            remedy='Ask for raw, or for the image as it is.')
    if convert_to is None:
        return have
    if have not in _PLAIN and (have not in plan.READABLE_FORMATS
                               or image.is_encrypted):
        raise exception.NotSupported(
            f'Image {image.id} is {have or "of no format"}'
            f'{" and encrypted" if image.is_encrypted else ""}, and cannot '
            'be made raw.', remedy='Fetch it as it is.')
    return 'raw'


def is_same_format(one: str | None, other: str | None) -> bool:
    """Whether a file of the one is a file of the other."""
    return one == other or {one, other} <= _PLAIN


def get_size(image: model.GlanceImage) -> int:
    """:raises GlanceImageNotUsable: Glance does not know it."""
    if image.size_bytes is None:
        raise exception.GlanceImageNotUsable(
            f'Glance does not know the size of image {image.id}.')
    return image.size_bytes


def check_size(image: model.GlanceImage, size_bytes: int) -> None:
    """:raises DataCorrupted: it is not that of the image."""
    if image.size_bytes not in (None, size_bytes):
        raise exception.DataCorrupted(
            f'Glance image {image.id} has {image.size_bytes} bytes, and its '
            f'snapshot {size_bytes}.')


def count_data(source: Source) -> int:
    """So many bytes of it are not in holes."""
    return sum(extent.length for extent in source.extents() if extent.exists)


def inspect(file: LocalFile, disk_format: str, vmdk_types: Sequence[str]
            ) -> int:
    """:returns: the size in bytes of the disk inside.
    :raises ImageUnsafe:
    """
    if disk_format in _OPAQUE or not file.size_bytes:
        return file.size_bytes
    return inspection.inspect(file, disk_format, vmdk_types=vmdk_types)


@contextlib.contextmanager
def checking(image: model.GlanceImage, checker: signatures.Checker | None
             ) -> Iterator[Sequence[Sink]]:
    """What is to be fed all bytes of the image within the block.

    :raises DataCorrupted, SignatureInvalid: at the end of the block: they
        are others.
    """
    with contextlib.ExitStack() as stack:
        hashes = stack.enter_context(download.Verifier(image))
        sinks: list[Sink] = [hashes]
        if checker is not None:
            sinks.append(stack.enter_context(checker.watching()))
        yield sinks
        hashes.check()


def feed(source: Source, sinks: Sequence[Sink], report: progress.Progress
         ) -> None:
    """All bytes of *source* in order, holes as zeros."""
    report.start(source.size_bytes)
    with Feeder(sinks, report) as feeder, SourceStream(
            source, operations=_OPERATIONS, report=report) as stream:
        while piece := stream.read():
            feeder.pass_on(piece)


def describe_hash(image: model.GlanceImage) -> str | None:
    """``algorithm:value`` of what the bytes are verified by."""
    found, expected = download.choose_hash(image)
    return None if found is None else f'{found.name}:{expected}'
