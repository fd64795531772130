# SPDX-License-Identifier: Apache-2.0
"""Reads and writes in flight.

librbd completes them on a thread of its own, where the bindings call back.
Nothing is done there but to keep a reference: no lock, no event, nothing that
eventlet may have made green.

Completion and callback refer to each other, which only the garbage collector
would undo, some hundred MiB of buffers later: ``wait`` lets go of the
completion.
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
        self._pending = _Pending(session, 'write to', spec)
        self._data: bytes | None = data
        with session.translating('write to', spec):
            self._pending.completion = image.aio_write(data, offset, _ignore)

    def wait(self) -> None:
        try:
            self._pending.wait()
        finally:
            self._data = None


class WriteZeroes:
    """Zeros being written."""

    def __init__(self, session: Session, spec: model.ImageSpec,
                 image: Any, offset: int, length: int) -> None:
        self._pending = _Pending(session, 'write zeros to', spec)
        with session.translating('write zeros to', spec):
            self._pending.completion = image.aio_write_zeroes(
                offset, length, _ignore)

    def wait(self) -> None:
        self._pending.wait()


class Read:
    """A read in flight."""

    def __init__(self, session: Session, spec: model.ImageSpec,
                 image: Any, offset: int, length: int) -> None:
        self._pending = _Pending(session, 'read', spec)
        self._spec = spec
        self._length = length
        self._data: bytes | None = None
        with session.translating('read', spec):
            self._pending.completion = image.aio_read(
                offset, length, self._arrived)

    def _arrived(self, _completion: object, data: bytes | None) -> None:
        self._data = data

    def wait(self) -> bytes:
        self._pending.wait()
        data = self._data
        if data is None or len(data) != self._length:
            raise exception.VolumeRBDError(
                f'Cannot read {self._spec}: {len(data or b"")} bytes came '
                f'instead of {self._length}.')
        return data


class _Pending:
    """The completion until it is done; its code from then on."""

    def __init__(self, session: Session, what: str, spec: model.ImageSpec
                 ) -> None:
        self._session = session
        self._what = what
        self._spec = spec
        self.completion: Any = None
        self._code = 0

    def wait(self) -> None:
        with self._session.translating(self._what, self._spec):
            if self.completion is not None:
                self.completion.wait_for_complete_and_cb()
                self._code = self.completion.get_return_value()
                self.completion = None
            if self._code < 0:
                raise errors.from_code(
                    self._code, self._what, self._spec, self._session.who)


def _ignore(_completion: object) -> None:
    pass
