# SPDX-License-Identifier: Apache-2.0
"""What a volume's type asks for, in every way of making a volume."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception
from volume_rbd.ceph import interface, lineage
from volume_rbd.ceph.multiattach import EXCLUSIVE
from volume_rbd.driver import RBDDriver
from volume_rbd.model import VolumeSpec

NEW = VolumeSpec('new', 2 * MIB, is_multiattach=True,
                 qos={'total_iops_sec': '500'})


def _from_image(driver: RBDDriver, volume: VolumeSpec, world: World) -> None:
    driver.images.create(volume, world.make_image(store_id='rbd'))


def _by_download(driver: RBDDriver, volume: VolumeSpec, world: World) -> None:
    driver.images.create(volume, world.make_image(store_id='file'))


MAKERS: dict[str, Callable[[RBDDriver, VolumeSpec, World], object]] = {
    'blank': lambda driver, volume, world: driver.volumes.create(volume),
    'snapshot': lambda driver, volume, world: (
        driver.volumes.create_from_snapshot(volume, VOLUME, 's')),
    'volume': lambda driver, volume, world: (
        driver.volumes.create_from_volume(volume, VOLUME)),
    'image by clone': _from_image,
    'image by download': _by_download,
}


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    with made.volumes.open(VOLUME) as image:
        image.create_snapshot('s')
        image.set_metadata('conf_rbd_qos_bps_limit', '7')
    return made


@pytest.mark.parametrize('name', MAKERS)
def test_a_new_volume_is_what_its_type_asks_for(world: World, name: str
                                                ) -> None:
    with world.driver() as driver:
        MAKERS[name](driver, NEW, world)
    with world.volumes.open(NEW.name, read_only=True) as image:
        assert image.features == interface.CLONE_FEATURES & ~EXCLUSIVE
        assert {key: value for key, value in image.metadata().items()
                if key.startswith('conf_')} == {
                    'conf_rbd_qos_iops_limit': '500'}
        mark = lineage.get_lineage(image)
    assert mark is not None
    assert mark.state == lineage.COMPLETE


@pytest.mark.parametrize('name', MAKERS)
@pytest.mark.parametrize('method', ['set_metadata', 'update_features'])
def test_a_volume_that_cannot_be_so_is_not_made(
        world: World, name: str, method: str) -> None:
    """Also where settings fail last, after all of the data is there."""
    whole = World()
    whole.make_volume()
    with whole.volumes.open(VOLUME) as image:
        image.create_snapshot('s')
    whole.trace()
    with whole.driver() as driver:
        MAKERS[name](driver, NEW, whole)
    calls = whole.end_trace()['ceph']
    last = max(number for number, call in enumerate(calls)
               if call == method)

    def make(driver: RBDDriver) -> None:
        MAKERS[name](driver, NEW, world)

    images = set(world.disks('images'))
    before = {key: value for key, value in world.state().items()
              if key.startswith('rbd volumes')}
    world.trace()
    world.break_call('ceph', last, exception.NoSpace('full'))
    with world.driver() as driver, pytest.raises(exception.NoSpace):
        make(driver)
    after = {key: value for key, value in world.state().items()
             if key.startswith('rbd volumes')}
    assert after == before
    assert len(set(world.disks('images')) - images) <= 1  # the image itself


@pytest.mark.parametrize('name', MAKERS)
def test_wrong_limits_are_refused_before_anything_is_made(
        world: World, name: str) -> None:
    wrong = VolumeSpec('new', 2 * MIB, qos={'total_iops_sec': 'many'})
    world.trace()
    with world.driver() as driver, pytest.raises(exception.InvalidInput):
        MAKERS[name](driver, wrong, world)
    called = world.end_trace()['ceph']
    assert 'clone' not in called
    assert 'create' not in called
    assert 'create_snapshot' not in called


@pytest.mark.parametrize('name', MAKERS)
def test_a_volume_without_a_type_is_asked_nothing(world: World, name: str
                                                  ) -> None:
    with world.driver() as driver:
        MAKERS[name](driver, VolumeSpec('new', 2 * MIB), world)
    with world.volumes.open('new', read_only=True) as image:
        assert image.features == interface.CLONE_FEATURES
        assert not [key for key in image.metadata()
                    if key.startswith('conf_')]
