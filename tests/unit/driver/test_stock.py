# SPDX-License-Identifier: Apache-2.0
"""What the stock driver has left in a pool: ``CLONE.clone_snap``, protected,
with clones of format 1, and ``NAME.deleted``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.world import MIB, World
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.reclaim import items

# As Cinder names them.
VOLUME, CLONE, OTHER, LEAF, GONE, LIVE = (
    f'volume-00000000-0000-4000-8000-00000000000{number}'
    for number in range(6))


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
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
          ) -> World:
    monkeypatch.setattr(items, 'APART_S', 0.0)
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
        assert world.read('volumes', CLONE,
                          length=len(VOLUME)) == VOLUME.encode()
        driver.volumes.delete(CLONE)
    assert world.ceph.disks == {}


def test_the_last_clone_takes_a_volume_along_that_stock_renamed(
        world: World, stock: Stock) -> None:
    stock.clone(VOLUME, OTHER)
    stock.delete(VOLUME)
    with world.driver() as driver:
        driver.volumes.delete(OTHER)
        driver.reclaimer.wait()
        assert world.disks('volumes') == [f'{VOLUME}.deleted', CLONE]
        driver.volumes.delete(CLONE)
    assert world.ceph.disks == {}


def test_a_chain_of_renamed_ones_goes_as_a_whole(world: World, stock: Stock
                                                 ) -> None:
    stock.clone(CLONE, LEAF)
    stock.delete(CLONE)
    stock.delete(VOLUME)
    with world.driver() as driver:
        driver.volumes.delete(LEAF)
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
    stock.create(LIVE)
    stock.clone(LIVE, GONE)
    stock.pool.remove(GONE)
    stock.delete(VOLUME)
    stock.pool.remove(CLONE)
    with world.driver() as driver:
        before = world.state()
        assert [(item.what, item.name) for item in driver.reclaimer.find()
                ] == [('stock_deleted', f'{VOLUME}.deleted'),
                      ('stock_snapshot', f'{LIVE}@{GONE}.clone_snap')]
        assert world.state() == before
        driver.reclaimer.purge()
    assert world.disks('volumes') == [LIVE]
    assert world.snapshots('volumes', LIVE) == []


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
    assert world.read('volumes', 'made', length=len(VOLUME)) == VOLUME.encode()


def test_with_a_snapshot_of_the_owners_a_source_is_not_deleted(
        world: World, stock: Stock) -> None:
    stock.snapshot(VOLUME, 'snapshot-1')
    before = world.state()
    with world.driver() as driver, pytest.raises(
            exception.ImageHasSnapshots, match=': snapshot-1'):
        driver.volumes.delete(VOLUME)
    assert world.state() == before


# -- what only looks so -------------------------------------------------------

def _nothing_goes(world: World) -> None:
    before = world.state()
    with world.driver() as driver:
        assert list(driver.reclaimer.find()) == []
        assert driver.reclaimer.purge() == []
    assert world.state() == before


@pytest.mark.parametrize('name', ['web.deleted', '.deleted',
                                  f'{VOLUME[:-1]}.deleted'])
def test_a_volume_that_its_owner_calls_deleted_is_his(
        world: World, stock: Stock, name: str) -> None:
    stock.create(name)
    _nothing_goes(world)


def test_so_it_is_when_its_last_clone_is_deleted(world: World, stock: Stock
                                                 ) -> None:
    stock.create('web.deleted')
    stock.clone('web.deleted', LEAF)
    with world.driver() as driver:
        driver.volumes.delete(LEAF)
    assert world.disks('volumes') == [VOLUME, CLONE, 'web.deleted']


def test_what_is_being_made_is_not_what_stock_has_deleted(
        world: World, stock: Stock) -> None:
    name = f'{OTHER}.deleted'
    stock.create(name)
    with world.volumes.open(name) as image:
        lineage.adopt(image, kind=lineage.VOLUME, origin='blank', job='j',
                      state=lineage.PENDING)
    _nothing_goes(world)


@pytest.mark.parametrize('state', [lineage.COMPLETE, lineage.TRASHED])
def test_one_that_this_driver_had_made_goes_too(
        world: World, stock: Stock, state: str) -> None:
    name = f'{OTHER}.deleted'
    stock.create(name)
    with world.volumes.open(name) as image:
        lineage.adopt(image, kind=lineage.VOLUME, origin='blank', job='j',
                      state=state)
    with world.driver() as driver:
        driver.reclaimer.purge()
    assert world.disks('volumes') == [VOLUME, CLONE]


def test_one_that_was_on_its_way_to_the_trash_goes_with_the_next_purge(
        world: World, stock: Stock) -> None:
    stock.create(f'{OTHER}.deleted')
    with world.volumes.open(f'{OTHER}.deleted') as image:
        lineage.set_state(image, lineage.TRASHED)
    with world.driver() as driver:
        driver.reclaimer.purge()
    assert world.disks('volumes') == [VOLUME, CLONE]


SNAPSHOT = 'before.clone_snap'


def test_a_snapshot_that_its_owner_calls_so_is_his(world: World, stock: Stock
                                                   ) -> None:
    stock.snapshot(CLONE, SNAPSHOT)
    _nothing_goes(world)
    with world.driver() as driver, pytest.raises(
            exception.ImageHasSnapshots, match=f': {SNAPSHOT}'):
        driver.volumes.delete(CLONE)
    stock.pool.clone(model.SnapSpec('volumes', CLONE, SNAPSHOT), LEAF)
    with world.driver() as driver:
        driver.volumes.delete(LEAF)
        assert world.snapshots('volumes', CLONE) == [f'{SNAPSHOT}!']
        driver.snapshots.delete(CLONE, SNAPSHOT)
    assert world.snapshots('volumes', CLONE) == []


def test_it_is_migrated_with_its_volume(world: World, stock: Stock) -> None:
    stock.create(OTHER)
    stock.snapshot(OTHER, SNAPSHOT)
    stock.snapshot(OTHER, f'{GONE}.clone_snap')
    with world.driver() as driver:
        driver.migration.migrate(OTHER, 'vms')
    assert world.snapshots('vms', OTHER) == [f'{SNAPSHOT}!']


def test_a_snapshot_stays_that_stock_is_about_to_clone(
        world: World, stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clone is not gone, but not made yet."""
    snapshot = f'{LEAF}.clone_snap'
    stock.snapshot(CLONE, snapshot)
    monkeypatch.setattr(items, 'APART_S', 20.0)
    monkeypatch.setattr('time.sleep', lambda seconds: stock.pool.clone(
        model.SnapSpec('volumes', CLONE, snapshot), LEAF))
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert world.snapshots('volumes', CLONE) == [f'{snapshot}!']


def test_what_stock_has_deleted_is_as_old_as_its_last_snapshot(
        world: World, stock: Stock) -> None:
    stock.create(OTHER)
    stock.snapshot(OTHER, f'{GONE}.clone_snap')
    stock.delete(OTHER)
    stock.create(f'{LEAF}.deleted')
    [disk] = [disk for disk in world.ceph.disks.values()
              if disk.name == f'{OTHER}.deleted']
    disk.snaps[0].taken_at -= 100
    with world.driver() as driver:
        [one, two] = driver.reclaimer.find()
    assert one.age_s == pytest.approx(100, abs=60)
    assert two.age_s is None
    assert one.takes_two_looks
    assert two.takes_two_looks


# -- names for new ones -------------------------------------------------------

def _spec(name: str) -> model.VolumeSpec:
    return model.VolumeSpec(name, MIB)


@pytest.mark.parametrize('name', [f'web{ending}' for ending in (
    '.deleted', '.clone_snap')])
@pytest.mark.parametrize('give', [
    lambda driver, name: driver.volumes.create(_spec(name)),
    lambda driver, name: driver.volumes.create_from_volume(
        _spec(name), CLONE),
    lambda driver, name: driver.volumes.create_from_snapshot(
        _spec(name), VOLUME, f'{CLONE}.clone_snap'),
    lambda driver, name: driver.volumes.rename(CLONE, name),
    lambda driver, name: driver.manage.manage(CLONE, name),
    lambda driver, name: driver.migration.migrate(CLONE, 'vms', name),
    lambda driver, name: driver.images.plan_create(_spec(name), CLONE[7:]),
    lambda driver, name: driver.images.create_from_file(
        _spec(name), '/no/such/file', 'raw'),
    lambda driver, name: driver.encryption.create_blank(
        _spec(name), passphrase='p'),
    lambda driver, name: driver.snapshots.create(CLONE, name),
    lambda driver, name: driver.manage.manage_snapshot(
        VOLUME, 'mine', name),
    lambda driver, name: driver.groups.create_snapshot('g', {CLONE: name}),
])
def test_nobody_is_given_a_name_like_stock_s(
        world: World, stock: Stock,
        give: Callable[[RBDDriver, str], object], name: str) -> None:
    stock.snapshot(VOLUME, 'mine')
    before = world.state()
    with world.driver() as driver, pytest.raises(
            exception.InvalidName, match='drivers name so') as caught:
        give(driver, name)
    assert '.deleted' in caught.value.remedy
    assert world.state() == before


def test_one_that_is_called_so_already_can_be_moved_and_deleted(
        world: World, stock: Stock) -> None:
    stock.create('web.deleted')
    with world.driver() as driver:
        driver.migration.migrate('web.deleted', 'vms')
        stock.create('web.deleted')
        driver.volumes.delete('web.deleted')
    assert world.disks('vms') == ['web.deleted']
    assert world.disks('volumes') == [VOLUME, CLONE]
