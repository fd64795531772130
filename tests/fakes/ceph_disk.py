# SPDX-License-Identifier: Apache-2.0
"""What the in-memory cluster keeps: disks, snapshots, blocks.

Blocks are immutable bytes, so a snapshot is a copy of the dict. A block that
a clone does not have is its parent snapshot's, within the overlap.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

from volume_rbd import exception
from volume_rbd.ceph import interface
from volume_rbd.model import Extent, Layout

BLOCK = 4096
_ZEROS = bytes(BLOCK)


@dataclasses.dataclass
class Link:
    """From a clone to the snapshot it comes from."""

    parent: Disk
    snapshot: Snap
    overlap: int
    is_format_2: bool


@dataclasses.dataclass
class Snap:
    id: int
    name: str
    size: int
    blocks: dict[int, bytes]
    link: Link | None
    is_protected: bool = False
    in_trash: bool = False
    group: str | None = None
    taken_at: float = dataclasses.field(default_factory=time.time)


@dataclasses.dataclass
class Disk:
    """An rbd_image, wherever it is: in the directory or in the trash."""

    pool: str
    name: str
    id: str
    size: int
    layout: Layout
    features: int
    blocks: dict[int, bytes] = dataclasses.field(default_factory=dict)
    link: Link | None = None
    snaps: list[Snap] = dataclasses.field(default_factory=list)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    watchers: list[str] = dataclasses.field(default_factory=list)
    trash: interface.TrashEntry | None = None
    is_half_removed: bool = False
    has_invalid_object_map: bool = False

    @property
    def object_size(self) -> int:
        assert self.layout.object_size_bytes
        return self.layout.object_size_bytes

    def links(self) -> Iterator[Link]:
        views: list[View] = [self, *self.snaps]
        for view in views:
            if view.link is not None:
                yield view.link

    def get_snap(self, name: str) -> Snap:
        for snap in self.user_snaps():
            if snap.name == name and not snap.in_trash:
                return snap
        raise exception.SnapshotNotFound(
            f'There is no snapshot {self.pool}/{self.name}@{name}.')

    def user_snaps(self) -> list[Snap]:
        return [snap for snap in self.snaps if snap.group is None]

    def get_snap_by_id(self, number: int) -> Snap:
        for snap in self.snaps:
            if snap.id == number:
                return snap
        raise exception.SnapshotNotFound(
            f'There is no snapshot {self.pool}/{self.name}@#{number}.')

    def resize(self, size: int) -> None:
        if size < self.size:
            self.blocks = {number: data
                           for number, data in self.blocks.items()
                           if number * BLOCK < size}
            last = size // BLOCK
            if size % BLOCK and last in self.blocks:
                kept = self.blocks[last][:size % BLOCK]
                self.blocks[last] = kept.ljust(BLOCK, b'\0')
            if self.link is not None:
                self.link = dataclasses.replace(
                    self.link, overlap=min(self.link.overlap, size))
        self.size = size

    def write(self, data: bytes, offset: int) -> None:
        at = 0
        while at < len(data):
            number, start = divmod(offset + at, BLOCK)
            part = data[at:at + BLOCK - start]
            old = read_block(self, number)
            self.blocks[number] = (
                old[:start] + part + old[start + len(part):])
            at += len(part)


    def write_zeroes(self, offset: int, length: int) -> None:
        """Whole blocks go; parts of one are overwritten with zeros."""
        at, end = offset, offset + length
        while at < end:
            number, start = divmod(at, BLOCK)
            count = min(BLOCK - start, end - at)
            has_parent = self.link and number * BLOCK < self.link.overlap
            if count == BLOCK and not has_parent:
                self.blocks.pop(number, None)
            elif number in self.blocks or has_parent:
                self.write(bytes(count), at)
            at += count


View = Disk | Snap


def read_block(view: View, number: int) -> bytes:
    own = view.blocks.get(number)
    if own is not None:
        return own
    link = view.link
    if link is None or number * BLOCK >= link.overlap:
        return _ZEROS
    data = read_block(link.snapshot, number)
    visible = min(link.overlap - number * BLOCK, BLOCK)
    return data[:visible].ljust(BLOCK, b'\0')


def read(view: View, offset: int, length: int) -> bytes:
    first, start = divmod(offset, BLOCK)
    last = -(-(offset + length) // BLOCK)
    data = b''.join(read_block(view, n) for n in range(first, last))
    return data[start:start + length]


def block_numbers(view: View) -> set[int]:
    """Of all blocks that have data, the parent's included."""
    found = set(view.blocks)
    if view.link is not None:
        overlap = view.link.overlap
        found.update(n for n in block_numbers(view.link.snapshot)
                     if n * BLOCK < overlap)
    return found


def flatten(view: View) -> None:
    view.blocks = {n: read_block(view, n) for n in block_numbers(view)}
    view.link = None


def extents(view: View, unit: int, start: int, end: int) -> Iterator[Extent]:
    """Data rounded to *unit*, as one sees it in an object map."""
    units = {n * BLOCK // unit for n in block_numbers(view)}
    at = start
    while at < end:
        exists = at // unit in units
        stop = at
        while stop < end and (stop // unit in units) == exists:
            stop = (stop // unit + 1) * unit
            if not exists:
                later = [n for n in units if n * unit >= stop]
                stop = min(later) * unit if later else end
        stop = min(stop, end)
        yield Extent(at, stop - at, exists)
        at = stop
