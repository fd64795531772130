# SPDX-License-Identifier: Apache-2.0
"""Disks in files: a storage_pool of type dir, in which libvirt does it all.

A disk is made under another name and gets its own by a hard link, so that a
libvirtd that is killed in the middle leaves no half disk, and one that
libvirt did not know of is not replaced.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from volume_rbd import exception, model, progress
from volume_rbd.compute import xml
from volume_rbd.compute.disks import get_name, split_name
from volume_rbd.compute.pools import files
from volume_rbd.compute.pools.base_pool import BasePool, make_folder
from volume_rbd.compute.pools.disks import Disk
from volume_rbd.compute.pools.storage_pool import PoolState, StoragePool

# What libvirt takes a file for that it hands out as it is.
_PLAIN = ('raw', 'iso')
# Longer ones are a mistake, or a circle.
_MAX_CHAIN = 16


class DirDisks:
    """:param disk_format: qcow2: disks share the data of the image in the
        cache; raw: they are copies of it.
    """

    def __init__(self, pool: StoragePool, folder: Path, base: BasePool,
                 disk_format: str) -> None:
        self.pool = pool
        self.folder = folder
        self.format = disk_format
        self._base = base

    def ensure(self) -> PoolState:
        make_folder(self.folder)
        return self.pool.ensure(xml.Pool(self.pool.name, 'dir',
                                         path=str(self.folder)))

    # -- making --------------------------------------------------------------
    def create(self, instance: str, name: str,
               size_bytes: int | None = None, *, image: str | None = None,
               report: progress.Progress | None = None) -> Disk:
        volume = get_name(instance, name)
        self._check_free(volume)
        base = None if image is None else self._base.get(image)
        size = _choose_size(volume, size_bytes, base)
        (report or progress.Silent()).step(f'making disk {volume}')
        with self._making(volume) as partial:
            if base is not None and self.format == 'raw':
                self.pool.create_from(
                    self._describe(partial, 'raw', size), partial,
                    self._base.pool, base.name)
                # From another format it has the size of the image.
                self.pool.grow(partial, size)
            else:
                backing = None if base is None else xml.Backing(
                    base.path, base.format)
                self.pool.create(self._describe(
                    partial, self.format, size, backing), partial)
        return self.get(instance, name)

    def extract(self, instance: str, name: str, target: str, *,
                disk_format: str = 'qcow2') -> Disk:
        """A disk *target* of the same guest, with what is in disk *name*
        now, and with data of its own only: to be uploaded, and deleted then.
        The guest must not be writing to it.

        :param disk_format: of the new one, qcow2 or raw.
        :raises StorageVolumeBusy: the guest has it open.
        :raises ImageUnsafe: the disk claims to be something that it was not
            made as; a guest can write that, to read files of the host.
        """
        source = self.get(instance, name)
        self._check_safe(source)
        volume = get_name(instance, target)
        self._check_free(volume)
        with self._making(volume) as partial:
            self.pool.create_from(
                self._describe(partial, disk_format,
                               source.volume.capacity_bytes),
                partial, self.pool, source.volume.name)
        return self.get(instance, target)

    @staticmethod
    def _describe(name: str, disk_format: str, size_bytes: int,
                  backing: xml.Backing | None = None) -> str:
        """A file of whoever runs this, and not of libvirtd: only its owner
        may link it. For a guest that runs libvirt changes that."""
        return xml.build_volume(name, disk_format, size_bytes,
                                owner=(os.geteuid(), os.getegid()),
                                backing=backing)

    def _check_safe(self, disk: Disk) -> None:
        """:raises ImageUnsafe: libvirt takes it for something that it was
            not made as.
        """
        is_other = disk.volume.format not in (*_PLAIN, self.format)
        cache = self._base.folder.resolve()
        outside = [backing.path for backing in disk.chain
                   if Path(backing.path).resolve().parent != cache]
        if is_other or outside:
            raise exception.ImageUnsafe(
                f'Disk {disk.volume.name!r} says that it is of format '
                f'{disk.volume.format}'
                + (f' over {", ".join(outside)}' if outside else '')
                + f', and was made as {self.format}.',
                remedy='Its guest may have written that into it. Do not open '
                       'it with anything that guesses the format.')

    @contextlib.contextmanager
    def _making(self, volume: str) -> Iterator[str]:
        """The name to make it under; what is made in the block becomes
        *volume*, or goes."""
        partial = _partial(volume)
        with contextlib.suppress(exception.StorageVolumeNotFound):
            self._discard(partial)
        try:
            yield partial
        except exception.VolumeRBDError:
            with contextlib.suppress(exception.VolumeRBDError):
                self._discard(partial)
            raise
        try:
            files.move(self.folder / partial, self.folder / volume)
        except exception.VolumeRBDError:
            self._discard(partial)
            raise
        except FileNotFoundError:
            raise exception.StorageVolumeBusy(
                f'Disk {volume!r} is being made by somebody else, too.'
            ) from None
        self.pool.refresh()

    def _discard(self, partial: str) -> None:
        """:raises Conflict: libvirt is making it, for somebody else."""
        try:
            self.pool.delete(partial)
        except exception.StorageVolumeNotFound:
            (self.folder / partial).unlink(missing_ok=True)

    def _check_free(self, volume: str) -> None:
        self.pool.check()
        if self.pool.knows(volume) or (self.folder / volume).exists():
            raise exception.StorageVolumeExists(
                f'There is a disk {volume!r} in storage_pool '
                f'{self.pool.name!r} already.')

    # -- looking -------------------------------------------------------------
    def find(self, instance: str, name: str) -> Disk | None:
        volume = get_name(instance, name)
        found = self.pool.find(volume)
        if found is None and (self.folder / volume).is_file():
            self.pool.refresh()  # it was put there by others
            found = self.pool.find(volume)
        if found is None:
            return None
        return Disk(instance, name, found, self.chain(found))

    def get(self, instance: str, name: str) -> Disk:
        found = self.find(instance, name)
        if found is None:
            raise exception.StorageVolumeNotFound(
                f'There is no disk {get_name(instance, name)!r} in '
                f'storage_pool {self.pool.name!r}.')
        return found

    def known(self) -> set[str]:
        return set(self.pool.names())

    def settle(self) -> None:
        """It always knows: it does everything itself."""

    def list(self) -> Iterator[Disk]:
        for volume in self.pool.volumes():
            parts = split_name(volume.name)
            if parts is not None:
                yield Disk(*parts, volume, self.chain(volume))

    def chain(self, volume: xml.Volume) -> tuple[xml.Backing, ...]:
        """What it shares data with, as libvirt says it; no program is run.

        :raises ImageUnsafe: it does not end.
        """
        found: list[xml.Backing] = []
        at: xml.Volume | None = volume
        while at is not None and at.backing is not None:
            found.append(at.backing)
            if len(found) > _MAX_CHAIN:
                raise exception.ImageUnsafe(
                    f'The backing files of {volume.name!r} do not end.')
            at = self.pool.find_by_path(at.backing.path)
        return tuple(found)

    def xml(self, instance: str, name: str, device: str,
            bus: str = 'virtio') -> str:
        disk = self.get(instance, name)
        disk_format = 'raw'  # so nothing that is in it is interpreted
        if self.format == 'qcow2' and disk.volume.format == 'qcow2':
            self._check_safe(disk)
            disk_format = 'qcow2'
        return xml.build_volume_disk(self.pool.name, disk.volume.name,
                                     disk_format, device, bus)

    # -- changing ------------------------------------------------------------
    def resize(self, instance: str, name: str, size_bytes: int) -> Disk:
        disk = self.get(instance, name)
        if size_bytes <= disk.volume.capacity_bytes:
            raise exception.InvalidSize(
                f'Disk {disk.volume.name!r} has '
                f'{disk.volume.capacity_bytes} bytes; {size_bytes} are no '
                'growth.', remedy='A disk can only be made larger.')
        self.pool.grow(disk.volume.name, size_bytes)
        return self.get(instance, name)

    def delete(self, instance: str, name: str) -> None:
        disk = self.get(instance, name)
        self.pool.delete(disk.volume.name)
        self._discard(_partial(disk.volume.name))


def _partial(volume: str) -> str:
    return f'.{volume}.partial'


def _choose_size(volume: str, size_bytes: int | None,
                 base: xml.Volume | None) -> int:
    """:raises InvalidSize: none is given, or the image does not fit."""
    needed = 0 if base is None else base.capacity_bytes
    size = needed if size_bytes is None else size_bytes
    if size <= 0:
        raise exception.InvalidSize(
            f'Disk {volume!r} needs a size.',
            remedy='Give a whole number of GiB, 1 or more.')
    if size < needed:
        raise exception.InvalidSize(
            f'The disk in the image has {needed} bytes, and {volume!r} is to '
            f'have {size}.',
            remedy=f'Give {model.gib_for(needed)} GiB or more.')
    return size
