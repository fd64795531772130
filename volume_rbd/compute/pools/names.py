# SPDX-License-Identifier: Apache-2.0
"""How the disks of guests are named: ``{instance uuid}_{name}``."""

from __future__ import annotations

import re
import uuid

from volume_rbd import exception

# disk, disk.local, disk.eph0, disk.config, kernel, ramdisk …
_NAME = re.compile(r'[a-z0-9][a-z0-9.-]{0,63}\Z')
_DISK = re.compile(r'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_(.+)\Z')


def join(instance: str, name: str) -> str:
    """The name of disk *name* of the guest with uuid *instance*.

    :raises InvalidName: one of them is none; nothing that is a path gets
        into a storage_pool.
    """
    try:
        canonical: str | None = str(uuid.UUID(instance))
    except ValueError:
        canonical = None
    if canonical != instance:
        raise exception.InvalidName(
            f'{instance!r} is not the uuid of a guest.',
            remedy='Write it as "openstack server list" shows it.')
    if not _NAME.match(name):
        raise exception.InvalidName(
            f'{name!r} cannot be the name of a disk.',
            remedy='Use small letters, digits, dots and dashes: disk, '
                   'disk.local, kernel.')
    return f'{instance}_{name}'


def split(volume: str) -> tuple[str, str] | None:
    """The uuid and the name; None for what is no disk of a guest."""
    match = _DISK.match(volume)
    if match is None or not _NAME.match(match[2]):
        return None
    return match[1], match[2]
