# SPDX-License-Identifier: Apache-2.0
"""Disks of before there was a storage_pool become disks of it.

They lie in the folder of their guest: ``{instances_path}/{uuid}/disk``. Their
backing files stay in the image cache.

A disk is linked into the pool and then unlinked from the guest's folder, so
that at any moment at least one of the names is there and whole; a second run
finishes what the first one began. With *keep* the second half is left to a
later run: for a live migration on shared storage, where the source reads the
old name until it has ended.
"""

from __future__ import annotations

import dataclasses
import enum
import fcntl
import os
import re
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

from volume_rbd import exception
from volume_rbd.compute.disks import get_name
from volume_rbd.compute.pools import files
from volume_rbd.compute.pools.dir_disks import DirDisks

# As Nova calls them; disk.info, console.log and libvirt.xml are no disks.
_DISKS = re.compile(
    r'(disk(\.(local|swap|config|rescue|eph\d+|config\.rescue))?'
    r'|(kernel|ramdisk)(\.rescue)?)\Z')
# Whose format is not that of the pool: they are written once, as they are.
_PLAIN = re.compile(r'disk\.config|kernel|ramdisk')
_QCOW2 = b'QFI\xfb'
_F_OFD_GETLK = 36
_FLOCK = struct.Struct('hhqqi4x')  # type, whence, start, length, pid
# qemu takes locks of its own on these bytes of a file it has open.
_QEMU_LOCKS = (100, 200)


class State(enum.StrEnum):
    """Of a disk on its way into the pool."""

    LEGACY = 'legacy'    # in the guest's folder only
    LINKED = 'linked'    # under both names
    ADOPTED = 'adopted'  # in the pool only, in this run


@dataclasses.dataclass(frozen=True)
class LegacyDisk:
    """:param path: the name in the guest's folder.
    :param target: the name in the pool.
    """

    instance: str
    name: str
    path: Path
    target: Path
    state: State
    size_bytes: int


class Adoption:
    """:param instances: the folder of the guests' folders."""

    def __init__(self, instances: Path, disks: DirDisks) -> None:
        self._instances = instances
        self._disks = disks

    # -- looking -------------------------------------------------------------
    def instances(self) -> list[str]:
        """The guests that have such a disk: those on the old layout."""
        try:
            folders = sorted(self._instances.iterdir())
        except FileNotFoundError:
            return []
        return [folder.name for folder in folders
                if _is_uuid(folder.name) and any(self.find(folder.name))]

    def is_legacy(self, instance: str) -> bool:
        return any(self.find(instance))

    def find(self, instance: str) -> Iterator[LegacyDisk]:
        """The disks in the guest's folder, by name. Links to elsewhere are
        none.

        :raises InvalidName: *instance* is no uuid.
        """
        get_name(instance, 'disk')
        folder = self._instances / instance
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if (_DISKS.match(path.name) and path.is_file()
                    and not path.is_symlink()):
                yield self._describe(instance, path)

    def _describe(self, instance: str, path: Path) -> LegacyDisk:
        target = self._disks.folder / get_name(instance, path.name)
        is_linked = target.exists() and target.samefile(path)
        return LegacyDisk(instance, path.name, path, target,
                          State.LINKED if is_linked else State.LEGACY,
                          path.stat().st_size)

    # -- adopting ------------------------------------------------------------
    def adopt(self, instance: str, *, keep: bool = False
              ) -> list[LegacyDisk]:
        """All disks of a guest that is off, or, with *keep*, that may run.

        :param keep: leave the old names, to a later run without it.
        :raises StorageVolumeBusy: qemu has one of them open; nothing has
            been touched.
        :raises StorageVolumeExists: the pool has another disk of that name.
        :raises ImageUnsafe: a disk is not of the format of the pool, or its
            backing file would not be found any more.
        :raises NotSupported: the folders are on different file systems.
        """
        found = list(self.find(instance))
        if not found:
            return []
        self._disks.pool.check()
        for disk in found:
            self._check(disk, keep=keep)
        for disk in found:
            files.link(disk.path, disk.target)
        # Before the old names go, so that no guest is without a disk.
        self._disks.pool.refresh()
        if keep:
            return list(self.find(instance))
        for disk in found:
            files.move(disk.path, disk.target)
        return [dataclasses.replace(disk, state=State.ADOPTED)
                for disk in found]

    def _check(self, disk: LegacyDisk, *, keep: bool) -> None:
        if disk.target.exists() and disk.state is not State.LINKED:
            raise exception.StorageVolumeExists(
                f'{disk.target} is there already, and is not {disk.path}.',
                remedy='Find out whose it is; neither has been touched.')
        with disk.path.open('rb') as file:
            if not keep and _is_open_by_qemu(file.fileno()):
                raise exception.StorageVolumeBusy(
                    f'{disk.path} is open in a guest.',
                    remedy='Shut the guest down first, or link its disks '
                           '(--link) and migrate it.')
            if not _PLAIN.match(disk.name):
                _check_format(disk.path, file.read(4096),
                              self._disks.format)


def _check_format(path: Path, head: bytes, wanted: str) -> None:
    """By the header: whoever looks at the pool takes it for that, too."""
    found = 'qcow2' if head.startswith(_QCOW2) else 'raw'
    if found != wanted:
        raise exception.ImageUnsafe(
            f'{path} is of format {found}, and the disks of the pool are '
            f'{wanted}.', remedy='Convert it, or set [libvirt] images_type '
            'to what the disks are.')
    if found == 'qcow2':
        offset, length = struct.unpack_from('>QI', head, 8)
        backing = head[offset:offset + length] if offset else b''
        if offset and not backing.startswith(b'/'):
            raise exception.ImageUnsafe(
                f'The backing file of {path} is named from its folder '
                f'({backing.decode(errors="replace")!r}), and would not be '
                'found from another.',
                remedy='Name it in full with "qemu-img rebase -u".')


def _is_open_by_qemu(descriptor: int) -> bool:
    for start in _QEMU_LOCKS:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 100, 0)
        answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, asked)
        if _FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
            return True
    return False


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
