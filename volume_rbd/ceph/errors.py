# SPDX-License-Identifier: Apache-2.0
"""What librados and librbd raise, in our words: one table.

What a foreign error means depends on what it was about: ``ENOENT`` is a
missing rbd_image, snapshot or ceph_pool. So a row names an error for each
subject, and the subject says which one it is.

The table is keyed by name, so that it can be read without the bindings. A
test goes through both modules and fails when a class is missing here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
from collections.abc import Callable, Iterator

from volume_rbd import exception, model

#: What an operation is about; a plain str is a ceph_pool or the cluster.
Subject = model.ImageSpec | model.SnapSpec | str

_Kind = type[exception.VolumeRBDError]


@dataclasses.dataclass(frozen=True)
class _Row:
    image: _Kind
    snapshot: _Kind
    pool: _Kind
    remedy: str = ''


def _always(kind: _Kind, remedy: str = '') -> _Row:
    return _Row(kind, kind, kind, remedy)


_MISSING = _Row(exception.ImageNotFound, exception.SnapshotNotFound,
                exception.PoolNotFound)
_EXISTS = _Row(exception.ImageExists, exception.SnapshotExists,
               exception.Conflict)
_BUSY = _Row(exception.ImageBusy, exception.SnapshotBusy, exception.Conflict)
_DENIED = _always(exception.CephPermissionDenied)
_LOST = _always(exception.ClusterUnavailable)
_TIMEOUT = _always(
    exception.OperationTimeout,
    'Check the cluster with "ceph -s"; what was tried may have happened.')
_FULL = _always(exception.NoSpace)
_INVALID = _always(exception.InvalidInput)
_UNSUPPORTED = _always(exception.NotSupported)
_READ_ONLY = _always(exception.NotSupported,
                     'It was opened read-only, or at a snapshot.')
_CANCELLED = _always(exception.Cancelled)
_OTHER = _always(exception.VolumeRBDError)
_IO = _always(exception.VolumeRBDError,
              'Look into "ceph health detail" for damaged objects.')

TABLE: dict[str, _Row] = {
    'rbd.Error': _OTHER,
    'rbd.OSError': _OTHER,
    'rbd.PermissionError': _DENIED,
    'rbd.ImageNotFound': _MISSING,
    'rbd.ObjectNotFound': _MISSING,
    'rbd.ImageExists': _EXISTS,
    'rbd.ObjectExists': _EXISTS,
    'rbd.IOError': _IO,
    'rbd.NoSpace': _FULL,
    'rbd.DiskQuotaExceeded': _FULL,
    'rbd.IncompleteWriteError': _IO,
    'rbd.InvalidArgument': _INVALID,
    'rbd.LogicError': _OTHER,
    'rbd.ReadOnlyImage': _READ_ONLY,
    'rbd.ImageBusy': _BUSY,
    'rbd.ImageHasSnapshots': _always(exception.ImageHasSnapshots),
    'rbd.FunctionNotSupported': _UNSUPPORTED,
    'rbd.OperationNotSupported': _UNSUPPORTED,
    'rbd.ArgumentOutOfRange': _always(exception.InvalidSize),
    'rbd.ConnectionShutdown': _LOST,
    'rbd.Timeout': _TIMEOUT,
    'rbd.OperationCanceled': _CANCELLED,
    'rados.Error': _OTHER,
    'rados.OSError': _OTHER,
    'rados.PermissionError': _DENIED,
    'rados.PermissionDeniedError': _DENIED,
    'rados.ObjectNotFound': _MISSING,
    'rados.NoData': _MISSING,
    'rados.ObjectExists': _EXISTS,
    'rados.ObjectBusy': _BUSY,
    'rados.IOError': _IO,
    'rados.NoSpace': _FULL,
    'rados.NotConnected': _LOST,
    'rados.ConnectionShutdown': _LOST,
    'rados.RadosStateError': _LOST,
    'rados.IoctxStateError': _LOST,
    'rados.ObjectStateError': _OTHER,
    'rados.IsConnected': _OTHER,
    'rados.LogicError': _OTHER,
    'rados.ExtendMismatch': _OTHER,
    'rados.InvalidArgumentError': _INVALID,
    'rados.InterruptedOrTimeoutError': _TIMEOUT,
    'rados.TimedOut': _TIMEOUT,
    'rados.InProgress': _always(exception.Conflict),
}

#: For what has a number and no class: the fallback of ``OSError`` and the
#: return codes of aio and of monitor commands. EBLOCKLISTED is ESHUTDOWN.
BY_ERRNO: dict[int, _Row] = {
    errno.ENOENT: _MISSING,
    errno.EEXIST: _EXISTS,
    errno.EBUSY: _BUSY,
    errno.EMLINK: _always(
        exception.ImageBusy, 'Take it out of its RBD group first.'),
    errno.ENOTEMPTY: _always(exception.ImageHasSnapshots),
    errno.EPERM: _DENIED,
    errno.EACCES: _DENIED,
    errno.ESHUTDOWN: _LOST,
    errno.ENOTCONN: _LOST,
    errno.ETIMEDOUT: _TIMEOUT,
    errno.EINTR: _TIMEOUT,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EINVAL: _INVALID,
    errno.EROFS: _READ_ONLY,
    errno.ENOSYS: _UNSUPPORTED,
    errno.EOPNOTSUPP: _UNSUPPORTED,
    errno.EDOM: _always(exception.InvalidSize),
    errno.EFBIG: _always(exception.InvalidSize),
    errno.EIO: _IO,
    errno.ECANCELED: _CANCELLED,
}

# "[errno 2] RBD image not found (error opening image b'a' at snapshot None)"
_TEXT = re.compile(r'(?:\[errno -?\d+\] )?(.*?)(?: \(.*\))?\Z', re.DOTALL)


def _row_of(error: BaseException) -> _Row | None:
    for kind in type(error).__mro__:
        row = TABLE.get(f'{kind.__module__}.{kind.__name__}')
        if row is None:
            continue
        number = getattr(error, 'errno', None)
        if row is _OTHER and number is not None:
            return BY_ERRNO.get(abs(number), row)
        return row
    return None


def _kind_of(row: _Row, on: Subject) -> _Kind:
    if isinstance(on, model.SnapSpec):
        return row.snapshot
    if isinstance(on, model.ImageSpec):
        return row.image
    return row.pool


def _build(row: _Row, what: str, on: Subject, why: str, who: str
           ) -> exception.VolumeRBDError:
    by = f' as {who}' if who and row is _DENIED else ''
    message = f'Cannot {what} {on}{by}: {why}.'
    return _kind_of(row, on)(message, remedy=row.remedy)


def translate(error: BaseException, what: str, on: Subject, who: str = ''
              ) -> exception.VolumeRBDError | None:
    """*error* in our words, None if it is not one of Ceph's.

    :param what: the verb: 'open', 'list the children of'.
    :param who: the cephx user, told where something was denied.
    """
    row = _row_of(error)
    if row is None:
        return None
    match = _TEXT.match(str(error))
    why = match.group(1) if match else ''
    return _build(row, what, on, why or type(error).__name__, who)


def from_code(code: int, what: str, on: Subject, who: str = ''
              ) -> exception.VolumeRBDError:
    """The error of a negative return *code*."""
    number = abs(code)
    name = errno.errorcode.get(number, str(number))
    return _build(BY_ERRNO.get(number, _OTHER), what, on, name, who)


@contextlib.contextmanager
def translating(what: str, on: Subject, who: str = '') -> Iterator[None]:
    """Inside, Ceph's errors become ours: "Cannot *what* *on*: …"."""
    try:
        yield
    except Exception as error:
        ours = translate(error, what, on, who)
        if ours is None:
            raise
        raise ours from error


@contextlib.contextmanager
def reporting(on_progress: Callable[[int, int], None] | None
              ) -> Iterator[Callable[[int, int], int] | None]:
    """A progress callback for librbd that can abort by raising.

    The bindings print what a callback raises and go on, and they want an int:
    only a negative one makes librbd stop (tried with 16.2). So the error is
    kept, librbd is told ECANCELED, and the error is raised at the end. If
    librbd had already finished, it is raised all the same.

    librbd calls from a thread of its own.
    """
    if on_progress is None:
        yield None
        return
    raised: list[BaseException] = []

    def callback(done: int, total: int) -> int:
        if not raised:
            try:
                on_progress(done, total)
            except BaseException as error:  # noqa: BLE001 - raised below
                raised.append(error)
        return -errno.ECANCELED if raised else 0

    try:
        yield callback
    except exception.VolumeRBDError:
        if not raised:
            raise
    if raised:
        raise raised[0]
