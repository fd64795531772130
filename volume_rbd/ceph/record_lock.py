# SPDX-License-Identifier: Apache-2.0
"""What is said to the OSD class ``lock``, and what it answers.

The bindings of Ceph 16 cannot tell who has a lock or break it, and do not set
the microseconds of a lock's duration (tried: 2 s became 3.4 s; what happens to
be in memory could make years of it). So all is written and read here.

All of Ceph's structures are encoded with a version, the oldest version that
can read it, and a length, so that what is not known here can be skipped
(src/cls/lock/cls_lock_ops.h, src/msg/msg_types.h).
"""

from __future__ import annotations

import struct
from typing import Self

from volume_rbd import exception
from volume_rbd.ceph.interface import LockHolder

_EXCLUSIVE = 1
_MAY_RENEW = 1


def encode(lock: str, owner: str, note: str, duration_s: int) -> bytes:
    """cls_lock_lock_op: the exclusive *lock*, or more time for it."""
    return _structure(
        _text(lock) + bytes([_EXCLUSIVE]) + _text(owner) + _text('')
        + _text(note) + struct.pack('<II', duration_s, 0)
        + bytes([_MAY_RENEW]))


def encode_question(lock: str) -> bytes:
    """cls_lock_get_info_op."""
    return _structure(_text(lock))


def encode_break(lock: str, holder: LockHolder) -> bytes:
    """cls_lock_break_op."""
    kind, _, number = holder.client.partition('.')
    numbers = {name: value for value, name in _KINDS.items()}
    return _structure(
        _text(lock) + struct.pack('<Bq', numbers[kind], int(number))
        + _text(holder.owner) + _text(''))


def _structure(content: bytes) -> bytes:
    return struct.pack('<BBI', 1, 1, len(content)) + content


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack('<I', len(data)) + data


def decode(answer: bytes) -> LockHolder | None:
    """The only holder of an exclusive lock; None where nobody has it.

    :raises DataCorrupted: that is no such answer.
    """
    try:
        reply = _Reader(answer).structure()
        if reply.number('<I') == 0:
            return None
        holder = reply.structure()
        kind, number = holder.number('<B'), holder.number('<q')
        cookie = holder.text()
        facts = reply.structure()
        expires_s = facts.number('<I') + facts.number('<I') / 1e9
        facts.skip_address()
        return LockHolder(f'{_KINDS.get(kind, kind)}.{number}', cookie,
                          expires_s, facts.text())
    except (struct.error, ValueError) as error:
        raise exception.DataCorrupted(
            f'The holder of a lock cannot be understood: {error}.') from error


_KINDS = {8: 'client'}


class _Reader:
    """Reads from the front of *data*."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def structure(self) -> Self:
        """What a versioned structure holds; this goes on behind it."""
        self._take(2)
        return type(self)(self._take(self.number('<I')))

    def number(self, kind: str) -> int:
        (value,) = struct.unpack(kind, self._take(struct.calcsize(kind)))
        return int(value)

    def text(self) -> str:
        # Untrusted: anybody may have the lock, by any name.
        return self._take(self.number('<I')).decode(errors='replace')

    def skip_address(self) -> None:
        """Of one or of several protocols, each with a mark in front."""
        mark = self.number('<B')
        if mark == 2:
            for _ in range(self.number('<I')):
                self.skip_address()
        elif mark == 1:
            self.structure()
        else:
            raise ValueError(f'an address of kind {mark}')

    def _take(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        if len(taken) < count:
            raise ValueError(f'{count} bytes expected, {len(taken)} left')
        return taken
