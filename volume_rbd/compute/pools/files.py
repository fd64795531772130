# SPDX-License-Identifier: Apache-2.0
"""Files that get another name, and nothing that is there is replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from volume_rbd import exception


def link(source: Path, target: Path) -> None:
    """*target* is *source*, too. Idempotent.

    :raises StorageVolumeExists: *target* is another file.
    :raises NotSupported: they are on different file systems, or on one
        without hard links.
    :raises AccessDenied: it is somebody else's file.
    :raises FileNotFoundError: *source* is gone.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        if not target.is_symlink() and target.samefile(source):
            return
        raise exception.StorageVolumeExists(
            f'{target} is there already, and is not {source}.',
            remedy='Find out whose it is; neither has been touched.'
        ) from None
    except PermissionError as error:
        raise exception.AccessDenied(
            f'{source} cannot be linked to {target}: {error.strerror}.',
            remedy='Run it as root: the file is not yours, and the kernel '
                   'lets only owners link (fs.protected_hardlinks).'
        ) from error
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK):
            raise exception.NotSupported(
                f'{source} cannot be linked to {target}: {error.strerror}.',
                remedy='Keep both folders on one file system that has hard '
                       'links, or move the guest by a block migration.'
            ) from error
        raise
    _sync(target.parent)


def move(source: Path, target: Path) -> None:
    """Never on the way: whenever this ends, there is a whole file under one
    of the names, or under both. Idempotent, also after a kill.

    :raises StorageVolumeExists, NotSupported, AccessDenied: and what else
        :func:`link` does.
    """
    link(source, target)
    source.unlink()
    _sync(source.parent)


def _sync(folder: Path) -> None:
    """The names in it survive a power failure, in this order."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
