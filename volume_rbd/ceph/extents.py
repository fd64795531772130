# SPDX-License-Identifier: Apache-2.0
"""Which parts of an open librbd image have data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from volume_rbd.ceph import bindings
from volume_rbd.model import Extent

# librbd reports through a callback; asked for one window after the other, the
# answer stays small and a caller can stop in between.
_WINDOW_OBJECTS = 16384


def extents(image: Any, offset: int, length: int) -> Iterator[Extent]:
    """Data and holes of the range, ascending, neighbours merged."""
    return merged(_windows(image, offset, offset + length))


def _windows(image: Any, offset: int, end: int) -> Iterator[Extent]:
    period, window = _periods(image)
    whole_object = _has_valid_object_map(image)
    start = offset // period * period
    while start < end:
        # Whole objects are asked for: fast-diff of Ceph 16 is not exact
        # about ranges that begin inside one.
        stop = min(start + window, image.size())
        data = _data(image, start, stop - start, whole_object)
        yield from covering(data, max(start, offset), min(stop, end))
        start = stop


def changes(image: Any, since: str) -> Iterator[Extent]:
    """Where *image* differs from its snapshot *since*, ascending."""
    _, window = _periods(image)
    whole_object = _has_valid_object_map(image)
    size = image.size()
    for start in range(0, size, window):
        found: list[tuple[int, int, bool]] = []
        image.diff_iterate(
            start, min(window, size - start), since,
            lambda *extent, to=found: to.append(extent),
            include_parent=True, whole_object=whole_object)
        for offset, length, exists in sorted(found):
            yield Extent(offset, length, bool(exists))


def _periods(image: Any) -> tuple[int, int]:
    """The bytes that whole objects have between them, which is one, or as
    many as take turns; and a window of such."""
    count = image.stripe_count()
    period: int = image.stat()['obj_size'] * count
    return period, max(_WINDOW_OBJECTS // count, 1) * period


def _has_valid_object_map(image: Any) -> bool:
    rbd = bindings.rbd()
    invalid = (rbd.RBD_FLAG_OBJECT_MAP_INVALID
               | rbd.RBD_FLAG_FAST_DIFF_INVALID)
    return bool(image.features() & rbd.RBD_FEATURE_FAST_DIFF
                and not image.flags() & invalid)


def _data(image: Any, offset: int, length: int, whole_object: bool
          ) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []

    def callback(start: int, size: int, exists: bool) -> None:
        if exists:
            found.append((start, start + size))

    image.diff_iterate(offset, length, None, callback, include_parent=True,
                       whole_object=whole_object)
    # With fancy striping the order of objects is not that of the bytes.
    found.sort()
    return found


def covering(data: Iterable[tuple[int, int]], start: int, end: int
             ) -> Iterator[Extent]:
    """The range [start, end) in extents, from sorted (start, end) of data."""
    at = start
    for first, last in data:
        first, last = max(first, at), min(last, end)
        if first >= last:
            continue
        if first > at:
            yield Extent(at, first - at, False)
        yield Extent(first, last - first, True)
        at = last
    if at < end:
        yield Extent(at, end - at, False)


def merged(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Neighbours of the same kind in one."""
    pending: Extent | None = None
    for extent in extents:
        if pending is not None and pending.exists == extent.exists:
            pending = Extent(pending.offset, pending.length + extent.length,
                             extent.exists)
            continue
        if pending is not None:
            yield pending
        pending = extent
    if pending is not None:
        yield pending
