# SPDX-License-Identifier: Apache-2.0
"""What the bindings do not tell of an rbd_image, asked from its header object.

librbd asks the same object with the same methods (cls_rbd); what comes back
is encoded as on disk, so it stays what it is.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import struct
from collections.abc import Iterable
from typing import Any

from volume_rbd.ceph import errors

_MOST_BYTES = 8 * 1024 ** 2
_KEYS_AT_ONCE = 64
_SIZES_AT_ONCE = 32
# CEPH_NOSNAP: of the image itself.
_HEAD = 2 ** 64 - 2


def _call(ioctx: Any, name: str, method: str, data: bytes) -> bytes:
    _, answer = ioctx.execute(name, 'rbd', method, data, _MOST_BYTES)
    found: bytes = answer
    return found


def image_id(ioctx: Any, name: str) -> str:
    """The id of the rbd_image *name*, which need not be opened."""
    return _bytes(ioctx.read(f'rbd_id.{name}', 4096), 0)[0].decode()


@dataclasses.dataclass(frozen=True)
class Parent:
    """Of the parent of an rbd_image, and of the snapshot of it."""

    pool_id: int
    image_id: str
    snapshot_id: int


def parent(ioctx: Any, image_id: str) -> Parent | None:
    """None for what is no clone.

    The bindings tell the snapshot's name only, which is not unique: several
    in the trash namespace may share their original one.
    """
    # cls::rbd::ParentImageSpec (parent_get, Ceph 14): version, compat,
    # length; pool id, namespace, image id, snapshot id.
    data = _call(ioctx, f'rbd_header.{image_id}', 'parent_get', b'')
    (pool_id,) = struct.unpack_from('<q', data, 1 + 1 + 4)
    if pool_id < 0:
        return None
    _namespace, at = _bytes(data, 1 + 1 + 4 + 8)
    parent_id, at = _bytes(data, at)
    (snapshot_id,) = struct.unpack_from('<Q', data, at)
    return Parent(pool_id, parent_id.decode(), snapshot_id)


def snapshot_time(ioctx: Any, image_id: str, snapshot_id: int) -> float:
    """Seconds since the epoch.

    The bindings ask what librbd has in memory, and take the process down
    with an assertion where the snapshot is gone (tried with 16.2).
    """
    data = _call(ioctx, f'rbd_header.{image_id}', 'get_snapshot_timestamp',
                 struct.pack('<Q', snapshot_id))
    seconds, nanoseconds = struct.unpack_from('<II', data)
    return float(seconds + nanoseconds / 1e9)


def metadata(ioctx: Any, image_id: str) -> dict[str, str]:
    """All image metadata."""
    return _metadata(ioctx, f'rbd_header.{image_id}')


def pool_metadata(ioctx: Any) -> dict[str, str]:
    """All metadata of the pool."""
    return _metadata(ioctx, 'rbd_info')


def _metadata(ioctx: Any, name: str) -> dict[str, str]:
    """All that cls_rbd keeps as metadata on the object *name*.

    The bindings lose empty values and give the next key's value to the key
    before it (tried with 16.2).
    """
    found: dict[str, str] = {}
    last = b''
    while True:
        request = struct.pack(
            f'<I{len(last)}sQ', len(last), last, _KEYS_AT_ONCE)
        data = _call(ioctx, name, 'metadata_list', request)
        (count,) = struct.unpack_from('<I', data)
        at = 4
        for _ in range(count):
            last, at = _bytes(data, at)
            value, at = _bytes(data, at)
            found[last.decode()] = value.decode(errors='replace')
        if count < _KEYS_AT_ONCE:
            return found


def sizes(ioctx: Any, image_ids: Iterable[str], pool: str
          ) -> dict[str, int]:
    """The sizes of images; those that are not there are left out.

    To open an image takes some ten round trips, and this one; so a pool of
    10,000 is asked in about a second.
    """
    found: dict[str, int] = {}
    flying: collections.deque[_Size] = collections.deque()
    left = iter(image_ids)
    try:
        while True:
            while len(flying) < _SIZES_AT_ONCE:
                image_id = next(left, None)
                if image_id is None:
                    break
                flying.append(_Size(ioctx, image_id))
            if not flying:
                return found
            asked = flying.popleft()
            size = asked.wait(pool)
            if size is not None:
                found[asked.image_id] = size
    finally:
        # librados writes into their buffers.
        for asked in flying:
            asked.completion.wait_for_complete_and_cb()


class _Size:
    """A question in flight."""

    def __init__(self, ioctx: Any, image_id: str) -> None:
        self.image_id = image_id
        self._answer: list[bytes] = []
        self.completion = ioctx.aio_execute(
            f'rbd_header.{image_id}', 'rbd', 'get_size',
            struct.pack('<Q', _HEAD), 64,
            lambda _, data: self._answer.append(data))

    def wait(self, pool: str) -> int | None:
        self.completion.wait_for_complete_and_cb()
        code = self.completion.get_return_value()
        if code == -errno.ENOENT:
            return None
        if code < 0:
            raise errors.from_code(
                code, f'ask for the size of the rbd_image {self.image_id} of',
                pool)
        # cls_rbd, get_size: the order (a byte), the size.
        _order, size = struct.unpack_from('<BQ', self._answer[0])
        return int(size)


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from('<I', data, at)
    at += 4
    return data[at:at + length], at + length
