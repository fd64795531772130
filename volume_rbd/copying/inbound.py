# SPDX-License-Identifier: Apache-2.0
"""A stream of chunks into an empty destination; zeros are not written."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from volume_rbd import exception, progress
from volume_rbd.copying.protocols import Destination
from volume_rbd.copying.window import Window
from volume_rbd.model import MIB

#: Chunks in flight times the chunk's size stays under this, whatever the
#: option says: librbd holds a copy of each buffer as well.
MAX_BYTES_IN_FLIGHT = 32 * MIB

_GRAIN = 64 * 1024
_ZEROS = bytes(4 * MIB)


def write_stream(chunks: Iterable[bytes], destination: Destination, *,
                 operations: int, report: progress.Progress) -> int:
    """Write *chunks*, one after the other from offset 0, into an image that
    is still empty.

    :returns: the bytes that were really written.
    :raises InvalidSize: the stream is longer than the destination.
    """
    offset = written = 0
    room = destination.size_bytes
    with Window(operations) as window:
        for chunk in chunks:
            report.check()
            if offset + len(chunk) > room:
                raise exception.InvalidSize(
                    f'The data is longer than the {room} bytes announced.',
                    remedy='The image changed while it was read; try again.')
            chunk_written = 0
            for start, data in runs(chunk):
                window.push(functools.partial(
                    destination.aio_write, data, offset + start))
                chunk_written += len(data)
            written += chunk_written
            offset += len(chunk)
            report.advance(chunk_written, len(chunk) - chunk_written)
    destination.flush()
    return written


def operations_within_memory(operations: int, chunk_bytes: int) -> int:
    return max(1, min(operations, MAX_BYTES_IN_FLIGHT // chunk_bytes))


def runs(chunk: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of *chunk* that are not zeros, as (offset, data)."""
    if _is_zero(chunk):
        return
    view = memoryview(chunk)
    start: int | None = None
    for position in range(0, len(chunk), _GRAIN):
        is_hole = _is_zero(view[position:position + _GRAIN])
        if is_hole and start is not None:
            yield start, bytes(view[start:position])
            start = None
        elif not is_hole and start is None:
            start = position
    if start == 0:
        yield 0, chunk
    elif start is not None:
        yield start, bytes(view[start:])


def _is_zero(data: bytes | memoryview) -> bool:
    if len(data) <= len(_ZEROS):
        # One memcmp; to compare memoryviews goes byte by byte.
        return _ZEROS.startswith(data)
    return not any(data)
