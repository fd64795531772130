# SPDX-License-Identifier: Apache-2.0
"""What the stock driver has left in a pool: ``CLONE.clone_snap``, protected,
with clones of format 1, and ``NAME.deleted``."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception, model

CLONE = 'volume-2'


class Stock:
    """Does what the stock driver does."""

    def __init__(self, world: World, clone_format: int = 1) -> None:
        self.pool = world.ceph.cluster(
            'cinder', clone_format=clone_format).pool('volumes')

    def create(self, name: str) -> None:
        self.pool.create(name, MIB)
        with self.pool.open(name) as image:
            image.write(name.encode(), 0)

    def clone(self, source: str, name: str) -> None:
        snapshot = f'{name}.clone_snap'
        with self.pool.open(source) as image:
            image.create_snapshot(snapshot)
            image.protect_snapshot(snapshot)
        self.pool.clone(model.SnapSpec('volumes', source, snapshot), name)

    def delete(self, name: str) -> None:
        self.pool.rename(name, f'{name}.deleted')

    def snapshot(self, volume: str, name: str) -> None:
        with self.pool.open(volume) as image:
            image.create_snapshot(name)
            image.protect_snapshot(name)


@pytest.fixture(params=[1, 2])
def world(request: pytest.FixtureRequest) -> World:
    made = World()
    stock = Stock(made, request.param)
    stock.create(VOLUME)
    stock.clone(VOLUME, CLONE)
    return made


@pytest.fixture
def stock(world: World) -> Stock:
    return Stock(world)


def test_deleting_a_clone_takes_its_snapshot_along(world: World) -> None:
    with world.driver() as driver:
        driver.volumes.delete(CLONE)
    assert world.disks('volumes') == [VOLUME]
    assert world.snapshots('volumes', VOLUME) == []


def test_a_source_with_a_clone_is_deleted_and_never_renamed(world: World
                                                            ) -> None:
    with world.driver() as driver:
        assert driver.volumes.delete(VOLUME).is_trashed
        driver.reclaimer.wait()
        assert world.disks('volumes') == [f'[{VOLUME}]', CLONE]
        assert world.read('volumes', CLONE, length=8) == VOLUME.encode()
        driver.volumes.delete(CLONE)
    assert world.ceph.disks == {}


def test_the_last_clone_takes_a_volume_along_that_stock_renamed(
        world: World, stock: Stock) -> None:
    stock.clone(VOLUME, 'other')
    stock.delete(VOLUME)
    with world.driver() as driver:
        driver.volumes.delete('other')
        driver.reclaimer.wait()
        assert world.disks('volumes') == [f'{VOLUME}.deleted', CLONE]
        driver.volumes.delete(CLONE)
    assert world.ceph.disks == {}


def test_a_chain_of_renamed_ones_goes_as_a_whole(world: World, stock: Stock
                                                 ) -> None:
    stock.clone(CLONE, 'leaf')
    stock.delete(CLONE)
    stock.delete(VOLUME)
    with world.driver() as driver:
        driver.volumes.delete('leaf')
    assert world.ceph.disks == {}


def test_a_renamed_one_with_a_snapshot_of_its_owner_stays(
        world: World, stock: Stock) -> None:
    stock.snapshot(VOLUME, 'snapshot-1')
    stock.delete(VOLUME)
    with world.driver() as driver:
        driver.volumes.delete(CLONE)
        driver.reclaimer.purge()
    assert world.disks('volumes') == [f'{VOLUME}.deleted']
    assert world.snapshots('volumes', f'{VOLUME}.deleted') == ['snapshot-1!']


def test_what_stock_has_left_before_is_listed_and_reclaimed(
        world: World, stock: Stock) -> None:
    stock.create('live')
    stock.clone('live', 'gone')
    stock.pool.remove('gone')
    stock.delete(VOLUME)
    stock.pool.remove(CLONE)
    with world.driver() as driver:
        before = world.state()
        assert [(item.what, item.name) for item in driver.reclaimer.find()
                ] == [('stock_snapshot', 'live@gone.clone_snap'),
                      ('stock_deleted', f'{VOLUME}.deleted')]
        assert world.state() == before
        driver.reclaimer.purge()
    assert world.disks('volumes') == ['live']
    assert world.snapshots('volumes', 'live') == []


def test_with_a_clone_nothing_of_it_is_reclaimed(world: World, stock: Stock
                                                 ) -> None:
    stock.delete(VOLUME)
    before = world.state()
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert world.state() == before


def test_a_backups_snapshots_go_with_the_volume(world: World) -> None:
    with world.volumes.open(CLONE) as image:
        image.create_snapshot('backup.b5d0-1.snap.1700000000.5')
    with world.driver() as driver:
        driver.volumes.delete(CLONE)
    assert world.disks('volumes') == [VOLUME]


def test_a_snapshot_of_stock_s_is_deleted_and_its_clones_live_on(
        world: World, stock: Stock) -> None:
    stock.snapshot(VOLUME, 'snapshot-1')
    stock.pool.clone(model.SnapSpec('volumes', VOLUME, 'snapshot-1'), 'made')
    with world.driver() as driver:
        driver.snapshots.delete(VOLUME, 'snapshot-1')
        assert driver.snapshots.list(VOLUME)[0].name == f'{CLONE}.clone_snap'
    assert world.read('volumes', 'made', length=8) == VOLUME.encode()


def test_with_a_snapshot_of_the_owners_a_source_is_not_deleted(
        world: World, stock: Stock) -> None:
    stock.snapshot(VOLUME, 'snapshot-1')
    before = world.state()
    with world.driver() as driver, pytest.raises(
            exception.ImageHasSnapshots, match=': snapshot-1'):
        driver.volumes.delete(VOLUME)
    assert world.state() == before


def test_a_snapshot_named_like_stock_s_is_not_taken(world: World) -> None:
    with world.driver() as driver, pytest.raises(exception.InvalidName):
        driver.snapshots.create(VOLUME, 'x.clone_snap')
