# SPDX-License-Identifier: Apache-2.0
"""The storage_pool over the image cache: what disks are made of."""

from __future__ import annotations

import logging
from pathlib import Path

from volume_rbd import exception
from volume_rbd.compute import xml
from volume_rbd.compute.pools.connection import Connection
from volume_rbd.compute.pools.storage_pool import PoolState, StoragePool

LOG = logging.getLogger(__name__)


class BasePool:
    """Only tells libvirt of the folder: its layout stays what it is, and
    whoever else uses it need not know.

    :param folder: the image cache.
    """

    def __init__(self, connection: Connection, name: str, folder: Path
                 ) -> None:
        self.pool = StoragePool(connection, name)
        self.folder = folder

    def ensure(self) -> PoolState:
        """The folder, and the pool over it.

        :raises StoragePoolConflict: and what else StoragePool.ensure says.
        """
        make_folder(self.folder)
        return self.pool.ensure(xml.Pool(self.pool.name, 'dir',
                                         path=str(self.folder)))

    def note_fetched(self) -> bool:
        """libvirt learns of an image that has come into the cache.

        The image is there whether it does or not, so it is no error where
        there is no pool or no libvirtd.

        :returns: whether it knows now.
        """
        try:
            self.pool.refresh()
        except exception.VolumeRBDError as error:
            LOG.info('The storage_pool %s is not refreshed: %s',
                     self.pool.name, error)
            return False
        return True

    def get(self, image: str) -> xml.Volume:
        """An image of the cache by the name of its file. One that libvirt
        does not know yet is looked for once.

        :raises StorageVolumeNotFound: it is not in the cache.
        :raises ImageUnsafe: it refers to another file.
        """
        found = self.pool.find(image)
        if found is None and Path(image).name == image and (
                self.folder / image).is_file():
            self.pool.refresh()
            found = self.pool.find(image)
        if found is None:
            raise exception.StorageVolumeNotFound(
                f'There is no image {image!r} in the cache {self.folder}.',
                remedy='Fetch it with "volume-rbd fetch".')
        if found.backing is not None:
            raise exception.ImageUnsafe(
                f'The image {image!r} in the cache refers to '
                f'{found.backing.path}.')
        return found


def make_folder(folder: Path) -> None:
    """By whoever runs this, who writes into it: not by libvirtd.

    :raises AccessDenied: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise exception.AccessDenied(
            f'The folder {folder} cannot be made: {error.strerror}.',
            remedy='Correct instances_path, or who owns it.') from error
