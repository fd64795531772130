# SPDX-License-Identifier: Apache-2.0
"""Volumes that several may write to at once."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception
from volume_rbd.ceph import interface
from volume_rbd.ceph.multiattach import EXCLUSIVE, KEY
from volume_rbd.model import VolumeSpec

ALL = interface.CLONE_FEATURES
SHARED = ALL & ~EXCLUSIVE


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    return made


def _features(world: World, name: str = VOLUME) -> int:
    with world.volumes.open(name, read_only=True) as image:
        return image.features


def test_the_lock_and_what_needs_it_go_and_come_back(world: World) -> None:
    before = world.state()
    with world.driver() as driver:
        assert driver.volumes.set_multiattach(VOLUME, True) == ALL
        assert _features(world) == SHARED
        assert driver.volumes.set_multiattach(VOLUME, False) == ALL
    assert world.state() == before


def test_the_object_map_is_valid_again(world: World) -> None:
    """An invalid one would make every diff read all objects."""
    with world.driver() as driver:
        driver.volumes.set_multiattach(VOLUME, True)
        driver.volumes.set_multiattach(VOLUME, False)
    with world.volumes.open(VOLUME, read_only=True) as image:
        assert image.has_valid_object_map


def test_twice_is_as_once(world: World) -> None:
    before = world.state()
    with world.driver() as driver:
        for is_on in (True, True, False, False):
            assert driver.volumes.set_multiattach(VOLUME, is_on) == ALL
    assert world.state() == before


@pytest.mark.parametrize('features', [
    ALL | interface.JOURNALING,
    interface.LAYERING | interface.EXCLUSIVE_LOCK,
    interface.LAYERING])
def test_a_volume_gets_back_what_it_had_and_no_more(features: int) -> None:
    world = World()
    world.volumes.create(VOLUME, MIB, features=features)
    with world.driver() as driver:
        if features & EXCLUSIVE:
            driver.volumes.set_multiattach(VOLUME, True)
            assert _features(world) == features & ~EXCLUSIVE
            driver.volumes.set_multiattach(VOLUME, False)
        else:
            assert driver.volumes.set_multiattach(VOLUME, True) == features
    assert _features(world) == features


def test_what_the_stock_driver_remembers_of_a_volume_counts(world: World
                                                           ) -> None:
    """It writes the features into the service's database."""
    plain = interface.LAYERING | interface.EXCLUSIVE_LOCK
    world.volumes.create('stock', MIB, features=interface.LAYERING)
    with world.driver() as driver:
        assert driver.volumes.set_multiattach(
            'stock', False, saved_features=plain) == plain


def test_a_volume_of_which_nothing_is_known_gets_the_usual_features(
        world: World) -> None:
    world.volumes.create('stock', MIB, features=interface.LAYERING)
    with world.driver() as driver:
        driver.volumes.set_multiattach('stock', False)
    assert _features(world, 'stock') == ALL & ~interface.DEEP_FLATTEN


def test_a_clone_does_not_believe_the_mark_of_its_parent(world: World
                                                         ) -> None:
    world.volumes.create('s', MIB, features=(
        interface.LAYERING | interface.EXCLUSIVE_LOCK))
    with world.driver() as driver:
        driver.volumes.set_multiattach('s', True)
        driver.volumes.create_from_volume(
            VolumeSpec('clone', is_multiattach=True), 's')
        assert _features(world, 'clone') == SHARED
        assert driver.volumes.set_multiattach('clone', False) == ALL
        driver.volumes.create_from_volume(VolumeSpec('plain'), 's')
    assert _features(world, 'plain') == ALL


@pytest.mark.parametrize('mark', ['', '{', '7', '{"features": "x"}'])
def test_a_forged_mark_is_no_mark(world: World, mark: str) -> None:
    with world.driver() as driver:
        driver.volumes.set_multiattach(VOLUME, True)
        with world.volumes.open(VOLUME) as image:
            image.set_metadata(KEY, mark)
        assert driver.volumes.set_multiattach(VOLUME, False) == ALL


@pytest.mark.parametrize('is_on', [True, False])
def test_a_volume_that_is_open_is_left_alone(world: World, is_on: bool
                                             ) -> None:
    other = world.ceph.cluster('admin')
    with world.driver() as driver:
        driver.volumes.set_multiattach(VOLUME, not is_on)
        with other.pool('volumes').open(VOLUME):
            before = world.state()
            with pytest.raises(exception.ImageBusy) as caught:
                driver.volumes.set_multiattach(VOLUME, is_on)
            assert other.address in caught.value.message
            assert world.state() == before


def test_a_volume_that_is_not_there_is_told(world: World) -> None:
    with world.driver() as driver, pytest.raises(exception.ImageNotFound):
        driver.volumes.set_multiattach('nope', True)


@pytest.mark.parametrize('is_on', [True, False])
def test_a_change_that_fails_half_way_is_undone(is_on: bool) -> None:
    def begin() -> World:
        world = World()
        world.make_volume()
        with world.driver() as driver:
            driver.volumes.set_multiattach(VOLUME, not is_on)
        return world

    whole = begin()
    whole.trace()
    with whole.driver() as driver:
        driver.volumes.set_multiattach(VOLUME, is_on)
    calls = whole.end_trace()['ceph']
    assert 'update_features' in calls
    for number in range(len(calls)):
        world = begin()
        before = world.state()
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        with world.driver() as driver, \
                pytest.raises(exception.ClusterUnavailable):
            driver.volumes.set_multiattach(VOLUME, is_on)
        assert world.state() == before, calls[number]


def test_a_run_that_was_killed_is_finished_by_the_next(world: World) -> None:
    """The features are on, the object map is not rebuilt."""
    before = world.state()
    with world.driver() as driver:
        driver.volumes.set_multiattach(VOLUME, True)
        with world.volumes.open(VOLUME) as image:
            image.update_features(EXCLUSIVE & ALL, True)
            assert not image.has_valid_object_map
        driver.volumes.set_multiattach(VOLUME, False)
    assert world.state() == before
