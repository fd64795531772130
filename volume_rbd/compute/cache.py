# SPDX-License-Identifier: Apache-2.0
"""Files that several processes fetch, each of them once.

A file is made under a hidden name in the folder where it is to be, by whoever
holds the lock (flock) of that hidden file, and gets its own name only when it
is whole. The kernel lets go of the lock with the process, whatever ends it; so
a hidden file that nobody has locked is a leftover, and goes with the next
fetch into that folder.

Nothing that bears its own name is ever written to or replaced: disks of guests
may stand on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from oslo_log import log as logging

from volume_rbd import exception, progress
from volume_rbd.compute.record import Record
from volume_rbd.copying.local_file import LocalFile, translating

LOG = logging.getLogger(__name__)

_SUFFIX = '.volume_rbd-part'
_CONVERTED = '.converted'
#: Nova's: guests of any user stand on it, so the folder says who may read it.
_MODE = 0o644
_POLL_S = 0.1
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


def name_for(image_id: str) -> str:
    """How Nova calls the file of an image in its cache."""
    return hashlib.sha1(image_id.encode(), usedforsecurity=False).hexdigest()


class Part:
    """A file in the making, which only this process writes to."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @contextlib.contextmanager
    def emptied(self, size_bytes: int) -> Iterator[LocalFile]:
        """It, as one hole of that size.

        :raises NoSpace: the file system cannot have one so large.
        """
        with translating('write to', str(self.path)):
            os.ftruncate(self._descriptor, 0)
            os.ftruncate(self._descriptor, size_bytes)
        with contextlib.closing(LocalFile(
                str(self.path), self._descriptor, is_direct=True)) as file:
            yield file

    @contextlib.contextmanager
    def opened(self) -> Iterator[LocalFile]:
        """To look at it."""
        with contextlib.closing(LocalFile(str(self.path), self._descriptor)
                                ) as file:
            yield file

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    @property
    def used_bytes(self) -> int:
        """Of the disk; holes take none."""
        return os.fstat(self._descriptor).st_blocks * 512

    def publish(self, path: Path, record: Record) -> None:
        """Give it its own name, once all of it is on the disk."""
        with translating('write to', str(path)):
            record.write(self._descriptor)
            os.fchmod(self._descriptor, _MODE)
            os.fsync(self._descriptor)
            os.rename(self.path, path)
            _sync_folder(path.parent)

    def drop(self) -> None:
        """Whatever is left of it goes, and the lock with it."""
        if _has_name(self.path, self._descriptor):
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)


class Slot:
    """The place of one file that is not there yet, held by this process.

    :ivar path: the name that the file is to have.
    :ivar part: what comes from the store.
    """

    def __init__(self, path: Path, part: Part) -> None:
        self.path = path
        self.part = part
        self._converted: Part | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The lock is the first part's: it goes last.
        for part in (self._converted, self.part):
            if part is not None:
                part.drop()

    def add_converted(self) -> Part:
        """Another part, for what is made of the first."""
        path = self.part.path.with_name(self.part.path.name + _CONVERTED)
        while True:
            descriptor = _open(path)
            # Nobody makes another one, but somebody may clean up.
            if _try_lock(descriptor, path) and _is_new(path, descriptor):
                self._converted = Part(path, descriptor)
                return self._converted
            _let_go(path, descriptor)

    def check_room(self, needed_bytes: int) -> None:
        """:raises NoSpace:"""
        check_room(self.path.parent, needed_bytes)


def check_room(folder: Path, needed_bytes: int) -> None:
    """:raises NoSpace: there are fewer bytes for whoever asks."""
    with translating('look at', str(folder)):
        found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < needed_bytes:
        raise exception.NoSpace(
            f'{folder} has room for {free} bytes, and {needed_bytes} are '
            'needed.',
            remedy='Free space on its file system, for instance by removing '
                   'images that no disk stands on, or choose a folder on '
                   'another one.')


def hold(path: Path, report: progress.Progress) -> Slot | None:
    """Wait until nobody else makes the file *path*.

    :returns: None where the file is there, be it made meanwhile.
    :raises AccessDenied, NotFound, NoSpace: nothing can be made there.
    :raises Cancelled: while it waited.
    """
    hidden = path.with_name(f'.{path.name}{_SUFFIX}')
    is_told = False
    while not os.path.lexists(path):
        descriptor = _open(hidden)
        try:
            while not _try_lock(descriptor, hidden):
                if not is_told:
                    report.step('waiting for another fetch of the image')
                    is_told = True
                report.check()
                time.sleep(_POLL_S)
            if _is_new(hidden, descriptor) and not os.path.lexists(path):
                slot, descriptor = Slot(path, Part(hidden, descriptor)), -1
                return slot
        finally:
            if descriptor >= 0:
                _let_go(hidden, descriptor)
    return None


def clean(folder: Path) -> None:
    """Remove what fetches into *folder* have left that were killed."""
    for path in sorted(folder.glob(f'.*{_SUFFIX}*')):
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
            LOG.debug('%s is left alone: %s', path, error)
            continue
        try:
            if _try_lock(descriptor, path) and _has_name(path, descriptor):
                LOG.info('Removing %s, left by a fetch that was killed', path)
                path.unlink()
        except OSError as error:
            LOG.warning('%s cannot be removed: %s', path, error)
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    with translating('write to', str(path.parent)):
        return os.open(path, _FLAGS | os.O_CREAT, 0o600)


def _try_lock(descriptor: int, path: Path) -> bool:
    with translating('lock', str(path)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
    return True


def _is_new(path: Path, descriptor: int) -> bool:
    """Not what somebody who was killed had begun, and not one that bears
    another name by now."""
    return (_has_name(path, descriptor)
            and os.fstat(descriptor).st_size == 0)


def _let_go(path: Path, descriptor: int) -> None:
    """Of a hidden file that is of no use; locked, it may be removed."""
    with contextlib.suppress(exception.VolumeRBDError, OSError):
        if _try_lock(descriptor, path) and _has_name(path, descriptor):
            path.unlink()
    os.close(descriptor)


def _has_name(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_folder(folder: Path) -> None:
    """:raises AccessDenied, NotFound: it cannot be made."""
    with translating('make', str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
