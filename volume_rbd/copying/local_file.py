# SPDX-License-Identifier: Apache-2.0
"""A local file as a disk, to copy from and to.

What nobody wrote is a hole, takes no room and reads as zeros. Reads and
writes run on a few threads of the file's own; like everything that waits,
they belong into a process that nobody has patched (decision 0007).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from volume_rbd import exception, model
from volume_rbd.copying.direct import DirectWriter

# As many writes as a copy has in flight, see copy.py.
_THREADS = 4
_PIECE_BYTES = 4 * model.MIB
_ZEROS = bytes(_PIECE_BYTES)

_Kind = type[exception.VolumeRBDError]
_DENIED = (exception.AccessDenied, 'Check the rights of the folder and of the '
                                   'file for the user of this process.')
_FULL = (exception.NoSpace, 'Free space on its file system, or choose a '
                            'folder on another one.')
_NO_FILE = (exception.InvalidInput, 'Name a regular file.')

#: What an operating system's error means here, and what to do about it.
BY_ERRNO: Mapping[int, tuple[_Kind, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (exception.LimitExceeded,
                  'Its file system, or "ulimit -f", allows no larger files.'),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.EEXIST: (exception.Conflict, 'Remove it, or choose another path.'),
    errno.ENOENT: (exception.NotFound, 'Check the path.'),
    errno.ENOTDIR: (exception.NotFound, 'Check the path.'),
    errno.EISDIR: _NO_FILE,
    errno.ELOOP: _NO_FILE,
}


class Operation:
    """A read or a write in flight."""

    def __init__(self, future: Future[bytes | None]) -> None:
        self._future = future

    def wait(self) -> bytes | None:
        return self._future.result()


class LocalFile:
    """An open file as a Source, a Destination and a Rewritable.

    Its size is the one it had when it was opened: nobody else may change it
    meanwhile, and who does is found out.

    Errors are those of :data:`BY_ERRNO`.
    """

    def __init__(self, path: str, descriptor: int, *,
                 is_direct: bool = False) -> None:
        """:param descriptor: of a regular file; stays the caller's.
        :param is_direct: what is written goes past the page cache."""
        self._path = path
        self._descriptor = descriptor
        self._direct = DirectWriter.find(descriptor) if is_direct else None
        self._threads = ThreadPoolExecutor(_THREADS, 'local-file')
        self.size_bytes = os.fstat(descriptor).st_size

    def close(self) -> None:
        """Wait for what is in flight."""
        self._threads.shutdown()
        if self._direct is not None:
            self._direct.close()

    # -- reading -------------------------------------------------------------
    def extents(self, offset: int = 0, length: int | None = None
                ) -> Iterator[model.Extent]:
        """As the file system tells: one that knows no holes has none.

        :raises DataCorrupted: the file has another size by now.
        """
        end = self.size_bytes if length is None else offset + length
        at = offset
        while at < end:
            start = min(self._find(os.SEEK_DATA, at), end)
            if start > at:
                yield model.Extent(at, start - at, False)
            if start < end:
                at = min(self._find(os.SEEK_HOLE, start), end)
                yield model.Extent(start, at - start, True)
            else:
                at = end
        self._check_size()

    def _find(self, what: int, offset: int) -> int:
        try:
            return os.lseek(self._descriptor, offset, what)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more data up to the end
                return self.size_bytes
            raise _translate('read', self._path, error) from error

    def _check_size(self) -> None:
        size_bytes = os.fstat(self._descriptor).st_size
        if size_bytes != self.size_bytes:
            raise exception.DataCorrupted(
                f'{self._path} had {self.size_bytes} bytes and has '
                f'{size_bytes} now.',
                remedy='Somebody writes to it. Try again once it is done.')

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes where the file ends."""
        parts = []
        with translating('read', self._path):
            while length > 0:
                data = os.pread(self._descriptor, length, offset)
                if not data:
                    break
                parts.append(data)
                offset += len(data)
                length -= len(data)
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def aio_read(self, offset: int, length: int) -> Operation:
        return self._begin(self.read, offset, length)

    # -- writing -------------------------------------------------------------
    def write(self, data: bytes | memoryview, offset: int) -> None:
        left = memoryview(data)
        with translating('write to', self._path):
            if self._direct is not None:
                written = self._direct.write(left, offset)
                left = left[written:]
                offset += written
            while left:
                written = os.pwrite(self._descriptor, left, offset)
                left = left[written:]
                offset += written

    def aio_write(self, data: bytes, offset: int) -> Operation:
        self._check_range(offset, len(data))
        return self._begin(self.write, data, offset)

    def aio_write_zeroes(self, offset: int, length: int) -> Operation:
        """A hole stays one."""
        self._check_range(offset, length)
        return self._begin(self._write_zeroes, offset, length)

    def _write_zeroes(self, offset: int, length: int) -> None:
        for extent in self.extents(offset, length):
            if extent.exists:
                for at in range(extent.offset, extent.end, _PIECE_BYTES):
                    count = min(_PIECE_BYTES, extent.end - at)
                    self.write(memoryview(_ZEROS)[:count], at)

    def flush(self) -> None:
        """Until it is on the disk."""
        with translating('write to', self._path):
            os.fsync(self._descriptor)

    # -- what they share -----------------------------------------------------
    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or offset + length > self.size_bytes:
            raise exception.InvalidSize(
                f'{length} bytes at {offset} are not within the '
                f'{self.size_bytes} bytes of {self._path}.')

    def _begin(self, work: Callable[..., bytes | None], *arguments: object
               ) -> Operation:
        return Operation(self._threads.submit(work, *arguments))


@contextlib.contextmanager
def opened(path: str, *, is_writable: bool = False) -> Iterator[LocalFile]:
    """A file that is there. One that is written to is not looked for behind
    a symbolic link.

    :raises InvalidInput: it is no regular file.
    :raises NotFound, AccessDenied:
    """
    # Whoever opens a pipe would wait for its other end.
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (
        os.O_RDWR | os.O_NOFOLLOW if is_writable else os.O_RDONLY)
    with _descriptor(path, flags) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise exception.InvalidInput(f'{path} is no regular file.')
        with contextlib.closing(LocalFile(path, descriptor)) as file:
            yield file


@contextlib.contextmanager
def created(path: str, size_bytes: int) -> Iterator[LocalFile]:
    """A new file for nobody else's eyes, all of it a hole. It is removed
    where the block fails.

    :raises Conflict: something has that name, be it a symbolic link.
    :raises NotFound, AccessDenied: the folder.
    """
    flags = (os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
             | os.O_NOFOLLOW)
    with _descriptor(path, flags) as descriptor:
        try:
            with translating('write to', path):
                os.ftruncate(descriptor, size_bytes)
            with contextlib.closing(LocalFile(
                    path, descriptor, is_direct=True)) as file:
                yield file
        except BaseException:
            _remove(path, descriptor)
            raise


@contextlib.contextmanager
def _descriptor(path: str, flags: int) -> Iterator[int]:
    with translating('open', path):
        descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(path: str, descriptor: int) -> None:
    """Unless somebody has put another one in its place."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), os.fstat(descriptor)):
            os.unlink(path)


@contextlib.contextmanager
def translating(what: str, path: str) -> Iterator[None]:
    """As :data:`BY_ERRNO` says.

    :param what: is done to *path*, as in "write to".
    """
    try:
        yield
    except OSError as error:
        raise _translate(what, path, error) from error


def _translate(what: str, path: str, error: OSError
               ) -> exception.VolumeRBDError:
    kind, remedy = BY_ERRNO.get(error.errno or 0,
                                (exception.VolumeRBDError, ''))
    return kind(f'Cannot {what} {path}: {error.strerror}.', remedy=remedy)
