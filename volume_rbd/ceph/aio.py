# SPDX-License-Identifier: Apache-2.0
"""Reads and writes in flight.

librbd completes them on a thread of its own, where the bindings call back.
Nothing is done there but to keep a reference: no lock, no event, nothing that
eventlet may have made green.
"""

from __future__ import annotations

from typing import Any

from volume_rbd import exception, model
from volume_rbd.ceph import errors
from volume_rbd.ceph.session import Session


class Write:
    """A write in flight.

    librbd sends *data* without copying it, so it is kept until the end.
    """

    def __init__(self, session: Session, spec: model.ImageSpec,
                 image: Any, data: bytes, offset: int) -> None:
        self._session = session
        self._spec = spec
        self._data: bytes | None = data
        with session.translating('write to', spec):
            self._completion = image.aio_write(data, offset, _ignore)

    def wait(self) -> None:
        with self._session.translating('write to', self._spec):
            self._completion.wait_for_complete_and_cb()
            code = self._completion.get_return_value()
            if code < 0:
                raise errors.from_code(
                    code, 'write to', self._spec, self._session.who)
        self._data = None


class Read:
    """A read in flight."""

    def __init__(self, session: Session, spec: model.ImageSpec,
                 image: Any, offset: int, length: int) -> None:
        self._session = session
        self._spec = spec
        self._length = length
        self._data: bytes | None = None
        with session.translating('read', spec):
            self._completion = image.aio_read(offset, length, self._arrived)

    def _arrived(self, _completion: object, data: bytes | None) -> None:
        self._data = data

    def wait(self) -> bytes:
        with self._session.translating('read', self._spec):
            self._completion.wait_for_complete_and_cb()
            code = self._completion.get_return_value()
            if code < 0:
                raise errors.from_code(
                    code, 'read', self._spec, self._session.who)
        data = self._data
        if data is None or len(data) != self._length:
            raise exception.VolumeRBDError(
                f'Cannot read {self._spec}: {len(data or b"")} bytes came '
                f'instead of {self._length}.')
        return data


def _ignore(_completion: object) -> None:
    pass
