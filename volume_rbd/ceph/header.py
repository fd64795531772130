# SPDX-License-Identifier: Apache-2.0
"""What the bindings do not tell of an rbd_image, asked from its header object.

librbd asks the same object with the same methods (cls_rbd); what comes back
is encoded as on disk, so it stays what it is.
"""

from __future__ import annotations

import struct
from typing import Any

_MOST_BYTES = 8 * 1024 ** 2
_KEYS_AT_ONCE = 64


def _call(ioctx: Any, image_id: str, method: str, data: bytes) -> bytes:
    _, answer = ioctx.execute(
        f'rbd_header.{image_id}', 'rbd', method, data, _MOST_BYTES)
    found: bytes = answer
    return found


def parent_ids(ioctx: Any, image_id: str) -> tuple[str, int]:
    """The ids of the parent image and of its snapshot.

    The bindings tell the snapshot's name only, which is not unique: several
    in the trash namespace may share their original one.
    """
    # cls::rbd::ParentImageSpec (parent_get, Ceph 14): version, compat,
    # length; pool id, namespace, image id, snapshot id.
    data = _call(ioctx, image_id, 'parent_get', b'')
    _namespace, at = _bytes(data, 1 + 1 + 4 + 8)
    parent_id, at = _bytes(data, at)
    (snapshot_id,) = struct.unpack_from('<Q', data, at)
    return parent_id.decode(), snapshot_id


def metadata(ioctx: Any, image_id: str) -> dict[str, str]:
    """All image metadata.

    The bindings lose empty values and give the next key's value to the key
    before it (tried with 16.2).
    """
    found: dict[str, str] = {}
    last = b''
    while True:
        request = struct.pack(
            f'<I{len(last)}sQ', len(last), last, _KEYS_AT_ONCE)
        data = _call(ioctx, image_id, 'metadata_list', request)
        (count,) = struct.unpack_from('<I', data)
        at = 4
        for _ in range(count):
            last, at = _bytes(data, at)
            value, at = _bytes(data, at)
            found[last.decode()] = value.decode(errors='replace')
        if count < _KEYS_AT_ONCE:
            return found


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from('<I', data, at)
    at += 4
    return data[at:at + length], at + length
