# SPDX-License-Identifier: Apache-2.0
"""Volumes, snapshots and images as they should be, byte for byte, and what a
guest does to them. What a driver does is for those who build on it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping

from tests.functional import content
from tests.functional.cluster import Cluster
from tests.functional.content import MIB

#: Of all, one in so many is looked at after each operation; all at the end.
CHECK_ONE_IN = 4
MOST_BYTES = 24 * MIB
MOST_VOLUMES, MOST_SNAPSHOTS, MOST_IMAGES = 6, 4, 4
OBJECT = 4 * MIB


class Shadow:
    """A volume, as it should be.

    :ivar snapshots: name -> content, the oldest first.
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.snapshots: dict[str, bytes] = {}


class Model:
    """All volumes of *pool*, and images made of them.

    :ivar images: id -> the disk inside, and its format.
    """

    def __init__(self, cluster: Cluster, pool: str, seed: int) -> None:
        self.cluster = cluster
        self.pool = pool
        self.random = random.Random(seed)
        self.volumes: dict[str, Shadow] = {}
        self.images: dict[str, tuple[bytes, str]] = {}

    def check(self, name: str) -> None:
        """One in CHECK_ONE_IN times."""
        if not self.random.randrange(CHECK_ONE_IN):
            self.check_all_of(name)

    def check_all_of(self, name: str) -> None:
        shadow = self.volumes[name]
        assert self.digest(name) == content.digest_of_bytes(
            bytes(shadow.data)), name
        for snapshot, data in shadow.snapshots.items():
            assert self.digest(name, snapshot) == (
                content.digest_of_bytes(data)), f'{name}@{snapshot}'

    def digest(self, name: str, snapshot: str | None = None) -> str:
        return self.cluster.digest(self.pool, name, snapshot)

    # -- what a guest does ---------------------------------------------------
    def write(self) -> str:
        name = self.some(self.volumes)
        shadow = self.volumes[name]
        offset = self.offset(shadow)
        length = min(self.random.choice((1, 512, 4096, 70_000, MIB)),
                     len(shadow.data) - offset)
        data = self.random.randbytes(length)
        with self.cluster.open(self.pool, name) as image:
            image.write(data, offset)
        shadow.data[offset:offset + length] = data
        return f'write {name} {offset} {length}'

    def clear(self) -> str:
        """By whole objects, as discard promises zeros for those only."""
        name = self.some(self.volumes)
        shadow = self.volumes[name]
        offset = self.offset(shadow) // OBJECT * OBJECT
        length = min(OBJECT, len(shadow.data) - offset)
        with self.cluster.open(self.pool, name) as image:
            if self.random.randrange(2) and length == OBJECT:
                image.discard(offset, length)
            else:
                image.write_zeroes(offset, length)
        shadow.data[offset:offset + length] = bytes(length)
        return f'clear {name} {offset} {length}'

    # -- chance --------------------------------------------------------------
    def some(self, things: Mapping[str, object]) -> str:
        return self.random.choice(list(things))

    def new_name(self) -> str:
        return f'volume-{uuid.UUID(int=self.random.getrandbits(128))}'

    def new_size(self) -> int:
        return self.random.randrange(1, MOST_BYTES // 512) * 512

    def offset(self, shadow: Shadow) -> int:
        return self.random.randrange(len(shadow.data))
