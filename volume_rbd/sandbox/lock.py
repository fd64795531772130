# SPDX-License-Identifier: Apache-2.0
"""Locks between processes, on files; the kernel frees them with the owner."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from volume_rbd import exception

_POLL_S = 0.05


@contextlib.contextmanager
def hold(path: Path, *, timeout_s: float) -> Iterator[int]:
    """Hold the lock file ``path``; yields its open descriptor.

    :raises SandboxError: somebody else held it for ``timeout_s``.
    :raises FileNotFoundError: its folder is not there.
    """
    deadline = time.monotonic() + timeout_s
    handle = _open(path)
    try:
        while not _try_acquire(handle, path):
            if time.monotonic() > deadline:
                raise exception.SandboxError(
                    f'{path} stayed locked by another command for '
                    f'{timeout_s:.0f} s.',
                    remedy='Wait until that command is done.',
                )
            time.sleep(_POLL_S)
            os.close(handle)
            handle = _open(path)
        yield handle
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    # NOFOLLOW: the ports' lock lies in a folder that anyone may write.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    return os.open(path, flags, mode=0o600)


def _try_acquire(handle: int, path: Path) -> bool:
    """Lock the file; False if another has it, or it was removed meanwhile."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
