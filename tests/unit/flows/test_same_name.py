# SPDX-License-Identifier: Apache-2.0
"""Two make a volume of one name at once, and nothing is written down of
either (``flow_connection = memory``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import disk_formats
from tests.fakes.qemu_img import FakeQemuImg
from tests.unit.flows import checks
from tests.unit.world import OnStep, World, content
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.copying import luks
from volume_rbd.driver import RBDDriver

PASSPHRASE = '00ff' * 16
SPEC = model.VolumeSpec(checks.NEW, model.GIB)

_SEALED = luks.Encryption(PASSPHRASE)

Make = Callable[[World, RBDDriver, progress.Progress, Path], object]


def _from_file(world: World, driver: RBDDriver, report: progress.Progress,
               path: Path) -> None:
    path.write_bytes(content())
    driver.images.create_from_file(SPEC, str(path), 'raw', report=report)


def _sealed(world: World, driver: RBDDriver, report: progress.Progress,
            path: Path) -> None:
    driver.encryption.create_blank(SPEC, passphrase=PASSPHRASE,
                                   report=report)


def _image(disk_format: str, store_id: str = 'file', **options: Any) -> Make:
    def make(world: World, driver: RBDDriver, report: progress.Progress,
             path: Path) -> object:
        file = (content() if disk_format == 'raw'
                else disk_formats.MAKERS[disk_format](content()))
        return driver.images.create(SPEC, world.make_image(
            file, store_id=store_id, disk_format=disk_format),
            report=report, **options)
    return make


class _Hooked(FakeQemuImg):
    """:ivar hook: called before each that writes."""

    def __init__(self, world: World) -> None:
        super().__init__(world.ceph)
        self.hook: Callable[[], None] = lambda: None

    def to_disk(self, *args: Any, **options: Any) -> None:
        self.hook()
        super().to_disk(*args, **options)

    def make_luks_header(self, *args: Any, **options: Any) -> None:
        self.hook()
        super().make_luks_header(*args, **options)


def _make_anew(world: World) -> None:
    with world.driver() as other:
        other.volumes.create(model.VolumeSpec(checks.NEW, 3 * model.GIB))


@pytest.mark.parametrize(('step', 'make'), [
    ('converting the file', _from_file),
    ('making the LUKS header', _sealed),
    ('converting the image', _image('qcow2')),
    ('converting the image', _image('qcow2', 'rbd')),
    ('making the LUKS header', _image('qcow2', encryption=_SEALED)),
    ('downloading the image', _image('raw'))])
def test_who_was_between_two_steps_leaves_it_to_the_other(
        step: str, make: Make, tmp_path: Path) -> None:
    world = World()

    with world.driver() as driver, pytest.raises(
            exception.Conflict, match='made anew'):
        make(world, driver, OnStep({step: lambda: _make_anew(world)}),
             tmp_path / 'disk')

    [disk] = [disk for disk in world.ceph.disks.values()
              if disk.name == checks.NEW]
    assert (disk.size, disk.blocks, disk.watchers) == (3 * model.GIB, {}, [])
    mark = world.mark('volumes', checks.NEW)
    assert mark is not None
    assert (mark.state, mark.origin) == (lineage.COMPLETE, 'blank')
    assert world.disks('volumes') == [checks.NEW]


@pytest.mark.parametrize('make', [
    _from_file, _sealed, _image('qcow2'), _image('qcow2', 'rbd'),
    _image('qcow2', encryption=_SEALED)])
def test_who_writes_to_it_keeps_it(make: Make, tmp_path: Path) -> None:
    world = World()
    converter = _Hooked(world)
    world.converter = converter
    met: list[BaseException] = []

    def intrude() -> None:
        with pytest.raises(exception.ImageExists) as caught:
            _make_anew(world)
        met.append(caught.value)

    converter.hook = intrude
    with world.driver() as driver:
        make(world, driver, progress.Silent(), tmp_path / 'disk')

    assert met
    mark = world.mark('volumes', checks.NEW)
    assert mark is not None
    assert mark.state == lineage.COMPLETE
    assert not any(disk.watchers for disk in world.ceph.disks.values())
