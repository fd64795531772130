# SPDX-License-Identifier: Apache-2.0
"""What is in a disk, as one hash that does not care about holes.

Blocks of zeros do not count, so that a terabyte with a megabyte of data is
hashed in no time, and a volume that has grown has the hash of its image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

BLOCK = 64 * 1024
MIB = 1024 ** 2
GIB = 1024 ** 3

Pieces = Iterable[tuple[int, bytes]]


_ZEROS = bytes(BLOCK)


def is_zero(block: bytes) -> bool:
    return block == _ZEROS[:len(block)]


def digest(blocks: Pieces) -> str:
    """The hash of (offset, data); offsets ascend and are whole blocks."""
    total = hashlib.sha256()
    for start, data in blocks:
        view = memoryview(data)
        for at in range(0, len(data), BLOCK):
            block = bytes(view[at:at + BLOCK])
            if is_zero(block):
                continue
            total.update((start + at).to_bytes(8, 'big'))
            total.update(block.ljust(BLOCK, b'\0'))
    return total.hexdigest()


def digest_of_bytes(data: bytes) -> str:
    return digest([(0, data)])


def digest_of_stream(chunks: Iterable[bytes]) -> str:
    """The hash of a stream whose chunks may have any length."""
    return digest(_whole_blocks(chunks))


def _whole_blocks(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    pending, offset = bytearray(), 0
    for chunk in chunks:
        pending += chunk
        whole = len(pending) // (16 * BLOCK) * (16 * BLOCK)
        if whole:
            yield offset, bytes(pending[:whole])
            offset += whole
            del pending[:whole]
    if pending:
        yield offset, bytes(pending)


EMPTY = digest([])


def random_bytes(size_bytes: int) -> bytes:
    return os.urandom(size_bytes)


def sparse_bytes(size_bytes: int) -> bytes:
    """Data at both ends and a little in the middle, zeros between."""
    data = bytearray(size_bytes)
    for start in (0, size_bytes // 2, max(size_bytes - 70_000, 0)):
        piece = os.urandom(min(70_000, size_bytes - start))
        data[start:start + len(piece)] = piece
    return bytes(data)
