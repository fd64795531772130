# SPDX-License-Identifier: Apache-2.0
"""A disk that is moved by each of the strategies that move bytes."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from tests.functional import content, formats
from tests.functional.house import House
from volume_rbd.flows.base import Result
from volume_rbd.progress import Progress

#: An operation that is given what to report to.
Move = Callable[[Progress], tuple[str, Result]]
#: staged: what is converted comes by way of Glance.
CREATES = ('download', 'convert', 'convert-staged')
UPLOADS = ('copy', 'upload', 'convert-upload')


class Mover:
    """Moves a disk by each strategy.

    :ivar disk: its bytes.
    :ivar volume: what is uploaded.
    :ivar image: what is created from.
    """

    def __init__(self, house: House, folder: pathlib.Path) -> None:
        self._house = house
        self._folder = folder
        self.disk = b''
        self.volume = self.image = ''

    def prepare(self, strategy: str, disk: bytes) -> Move:
        """What the *strategy* needs is there; nothing is moved yet."""
        self.disk = disk
        house = self._house
        if strategy in CREATES:
            image = self._make_image(strategy)
            return lambda report: house.create(image, report=report)
        self.volume = house.volume(disk)
        driver = house.driver('ceph')
        if strategy == 'copy':
            driver = house.driver(optimized={'rbd_max_clone_depth': 0})
        disk_format = 'qcow2' if strategy == 'convert-upload' else 'raw'
        return lambda report: house.upload(
            self.volume, driver=driver, disk_format=disk_format,
            report=report)

    def _make_image(self, strategy: str) -> str:
        if strategy == 'download':
            self.image = self._house.member.make(self.disk, 'file')
        else:
            self.image = self._house.member.make(
                formats.make(self._folder, self.disk, 'qcow2'),
                'rbd' if strategy == 'convert' else 'file',
                disk_format='qcow2')
        return self.image

    def check(self, strategy: str, made: str, result: Result) -> None:
        """It was that strategy, and every byte is where it should be."""
        house = self._house
        assert result.strategy == strategy.partition('-')[0]
        wanted = content.digest_of_bytes(self.disk)
        if strategy in CREATES:
            assert house.cluster.digest('volumes', made) == wanted
        elif strategy == 'convert-upload':
            file = house.member.request('GET', f'/images/{made}/file').content
            inside = formats.read(self._folder, file, 'qcow2')
            assert content.digest_of_bytes(inside) == wanted
        else:
            assert house.member.digest(made) == wanted

    def wait_until_closed(self, strategy: str) -> None:
        """qemu watches what it only reads as well, and when it was killed
        nobody ends that: its owner cannot delete the image, or the volume,
        for half a minute."""
        if strategy == 'convert':
            self._house.cluster.wait_until_closed('images', self.image)
        elif strategy == 'convert-upload':
            self._house.cluster.wait_until_closed('volumes', self.volume)
