# SPDX-License-Identifier: Apache-2.0
"""Are two places the same, byte for byte?

Read is what exists on either side; a hole on both is the same without a look.
Both sides are at hand, so the bytes themselves are compared: a hash of each
would cost more and prove less.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterable, Iterator

from volume_rbd import exception, model, progress
from volume_rbd.copying import copy, inbound
from volume_rbd.copying.protocols import Source
from volume_rbd.copying.window import Window


def check_same(source: Source, made: Source, *, operations: int,
               report: progress.Progress) -> None:
    """:param made: should begin as *source* is; what is behind its end is not
        looked at.
    :raises DataCorrupted: it does not.
    """
    size_bytes = source.size_bytes
    if made.size_bytes < size_bytes:
        raise exception.DataCorrupted(
            f'The copy has {made.size_bytes} bytes, and its source '
            f'{size_bytes}.')
    report.start(size_bytes)
    # Two of each: the memory is for both sides together.
    most = max(1, inbound.operations_within_memory(
        operations, copy.CHUNK_BYTES) // 2)
    pieces: collections.deque[model.Extent] = collections.deque()
    with Window(most + 1) as ours, Window(most + 1) as theirs:

        def finish() -> None:
            piece = pieces.popleft()
            if ours.pop() != theirs.pop():
                raise exception.DataCorrupted(
                    f'The copy differs from its source in the {piece.length} '
                    f'bytes at {piece.offset}.')
            report.advance(piece.length)

        for piece in copy.pieces(either(
                source.extents(), made.extents(0, size_bytes))):
            report.check()
            if not piece.exists:
                report.advance(0, piece.length)
                continue
            if len(pieces) >= most:
                finish()
            for window, side in ((ours, source), (theirs, made)):
                window.push(functools.partial(
                    side.aio_read, piece.offset, piece.length))
            pieces.append(piece)
        while pieces:
            report.check()
            finish()


def either(first: Iterable[model.Extent], second: Iterable[model.Extent]
           ) -> Iterator[model.Extent]:
    """The extents of what exists in one or in both of two that cover the
    same range from its start; neighbours are not merged."""
    one, two = iter(first), iter(second)
    left, right = next(one, None), next(two, None)
    while left is not None and right is not None:
        end = min(left.end, right.end)
        yield model.Extent(left.offset, end - left.offset,
                           left.exists or right.exists)
        left = _after(left, end) or next(one, None)
        right = _after(right, end) or next(two, None)


def _after(extent: model.Extent, end: int) -> model.Extent | None:
    """What is left of it behind *end*."""
    if extent.end <= end:
        return None
    return model.Extent(end, extent.end - end, extent.exists)
