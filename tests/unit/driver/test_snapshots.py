# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, OnStep, World
from volume_rbd import exception, model
from volume_rbd.model import VolumeSpec


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    return made


def test_a_snapshot_is_listed_with_its_size(world: World) -> None:
    with world.driver() as driver:
        driver.snapshots.create(VOLUME, 'one')
        driver.volumes.extend(VOLUME, 2 * MIB)
        driver.snapshots.create(VOLUME, 'two')
        assert [(found.name, found.size_bytes)
                for found in driver.snapshots.list(VOLUME)] == [
            ('one', MIB), ('two', 2 * MIB)]


@pytest.mark.parametrize('name', ['a@b', 'a/b', '', '-x', 'volume_rbd.x',
                                  'volume_rbd.upload-1'])
def test_a_name_that_is_not_the_owners_to_take_is_refused(world: World,
                                                          name: str) -> None:
    with world.driver() as driver, pytest.raises(exception.InvalidName):
        driver.snapshots.create(VOLUME, name)
    assert world.snapshots('volumes', VOLUME) == []


def test_a_name_that_is_taken_is_refused(world: World) -> None:
    with world.driver() as driver:
        driver.snapshots.create(VOLUME, 's')
        with pytest.raises(exception.SnapshotExists):
            driver.snapshots.create(VOLUME, 's')
    assert world.snapshots('volumes', VOLUME) == ['s!']


def test_what_is_not_there_is_told(world: World) -> None:
    with world.driver() as driver:
        for act in (driver.snapshots.delete, driver.snapshots.revert):
            with pytest.raises(exception.SnapshotNotFound):
                act(VOLUME, 'nope')
            with pytest.raises(exception.ImageNotFound):
                act('nope', 's')
        with pytest.raises(exception.ImageNotFound):
            driver.snapshots.create('nope', 's')
        with pytest.raises(exception.ImageNotFound):
            driver.snapshots.list('nope')


def test_a_deleted_snapshot_is_gone(world: World) -> None:
    with world.driver() as driver:
        driver.snapshots.create(VOLUME, 's')
        driver.snapshots.delete(VOLUME, 's')
        assert driver.snapshots.list(VOLUME) == []
    assert world.snapshots('volumes', VOLUME) == []


def test_a_protected_snapshot_is_deleted_too(world: World) -> None:
    """The stock driver protected every snapshot."""
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('s')
        volume.protect_snapshot('s')
    with world.driver() as driver:
        driver.snapshots.delete(VOLUME, 's')
    assert world.snapshots('volumes', VOLUME) == []


def test_a_snapshot_with_clones_is_out_of_sight_and_they_live_on(
        world: World) -> None:
    data = world.read('volumes', VOLUME)
    with world.driver() as driver:
        driver.snapshots.create(VOLUME, 's')
        driver.volumes.create_from_snapshot(VolumeSpec('new'), VOLUME, 's')
        driver.snapshots.delete(VOLUME, 's')
        assert driver.snapshots.list(VOLUME) == []
        assert world.snapshots('volumes', VOLUME) == ['[s]']
        assert world.read('volumes', 'new') == data
        driver.snapshots.create(VOLUME, 's')  # the name is free again
        driver.snapshots.delete(VOLUME, 's')
        driver.volumes.delete('new')
    assert world.snapshots('volumes', VOLUME) == []


def _with_clone_of_format_1() -> tuple[World, bytes]:
    world = World(clone_format=1)
    data = world.make_volume()
    with world.driver() as driver:
        driver.snapshots.create(VOLUME, 's')
        driver.volumes.create_from_snapshot(VolumeSpec('new'), VOLUME, 's')
    assert world.snapshots('volumes', VOLUME) == ['s!']
    return world, data


def test_clones_of_format_1_are_flattened_as_the_stock_driver_does() -> None:
    world, data = _with_clone_of_format_1()
    report = OnStep()
    with world.driver() as driver:
        driver.snapshots.delete(VOLUME, 's', report=report)
        assert driver.volumes.show('new').parent is None
    assert world.snapshots('volumes', VOLUME) == []
    assert world.read('volumes', 'new') == data
    assert report.steps == ['flattening new, a clone of the snapshot']


def test_one_that_is_just_being_deleted_is_not_flattened() -> None:
    world, _ = _with_clone_of_format_1()
    report = OnStep()
    with world.driver() as driver:
        driver.volumes.delete('new')
        driver.snapshots.delete(VOLUME, 's', report=report)
    assert world.disks('volumes') == [VOLUME]
    assert world.snapshots('volumes', VOLUME) == []


def test_clones_of_format_1_in_other_pools_are_named() -> None:
    world, _ = _with_clone_of_format_1()
    world.ceph.cluster('admin').pool('vms').clone(
        model.SnapSpec('volumes', VOLUME, 's'), 'disk')
    before = world.state()
    with world.driver() as driver, pytest.raises(
            exception.SnapshotBusy, match='vms/disk'):
        driver.snapshots.delete(VOLUME, 's')
    assert world.state() == before


def test_a_revert_brings_back_data_and_size(world: World) -> None:
    data = world.read('volumes', VOLUME)
    with world.driver() as driver:
        driver.snapshots.create(VOLUME, 's')
        driver.volumes.extend(VOLUME, 2 * MIB)
        with world.volumes.open(VOLUME) as volume:
            volume.write(b'later', 0)
        driver.snapshots.revert(VOLUME, 's')
    assert world.read('volumes', VOLUME) == data
    assert world.snapshots('volumes', VOLUME) == ['s!']


def test_a_volume_that_is_open_is_not_reverted(world: World) -> None:
    with world.driver() as driver:
        driver.snapshots.create(VOLUME, 's')
        with world.volumes.open(VOLUME) as volume:
            volume.write(b'later', 0)
        before = world.state()
        other = world.ceph.cluster('admin')
        with other.pool('volumes').open(VOLUME), \
                pytest.raises(exception.ImageBusy, match=other.address):
            driver.snapshots.revert(VOLUME, 's')
    assert world.state() == before


def test_snapshots_of_our_own_operations_do_not_hinder_a_deletion(
        world: World) -> None:
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('volume_rbd.upload-x')
    with world.driver() as driver:
        assert not driver.volumes.delete(VOLUME).is_trashed
    assert world.ceph.disks == {}
