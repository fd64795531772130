# SPDX-License-Identifier: Apache-2.0
"""To another pool, with everything that belongs to a volume."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, OnStep, World
from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.model import VolumeSpec

UNFINISHED = f'volume_rbd.migrate-{VOLUME}'


def _make() -> World:
    """A volume with a history: shrunk, grown, discarded, protected."""
    world = World()
    world.make_volume()
    with world.volumes.open(VOLUME) as image:
        image.set_metadata('conf_rbd_qos_iops_limit', '100')
        image.set_metadata('note', 'x')
        image.create_snapshot('one')
        image.protect_snapshot('one')
        image.write(b'two', 0)
        image.aio_write_zeroes(MIB // 2, 4096).wait()
        image.resize(8 * MIB)
        image.write(b'grown', 6 * MIB)
        image.create_snapshot('two')
        image.resize(3 * MIB, allow_shrink=True)
        image.write(b'now', MIB)
        image.create_snapshot('volume_rbd.clone-x')
    return world


@pytest.fixture
def world() -> World:
    return _make()


def _contents(world: World, pool: str, names: tuple[str | None, ...]
              ) -> list[bytes]:
    return [world.read(pool, VOLUME, name) for name in names]


def test_a_volume_moves_with_its_snapshots(world: World) -> None:
    states = ('one', 'two', None)
    before = _contents(world, 'volumes', states)
    blocks = len(world.ceph.disks)
    with world.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms')
    assert _contents(world, 'vms', states) == before
    assert world.snapshots('vms', VOLUME) == ['one!', 'two']
    assert world.disks('volumes') == []
    assert blocks == len(world.ceph.disks) == 1


def test_holes_stay_holes(world: World) -> None:
    [disk] = world.ceph.disks.values()
    used = len(disk.blocks)
    with world.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms')
    [disk] = world.ceph.disks.values()
    # Of data, zeros are looked for 64 KiB at a time.
    assert len(disk.blocks) <= used * 16


def test_limits_and_notes_move_and_the_mark_is_made_anew(world: World
                                                         ) -> None:
    with world.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms')
    with world.cluster.pool('vms').open(VOLUME, read_only=True) as image:
        metadata = dict(image.metadata())
        mark = lineage.get_lineage(image)
    assert mark is not None
    assert mark.state == lineage.COMPLETE
    assert mark.origin.startswith(f'migrated:volumes/{VOLUME}#')
    del metadata[lineage.KEY]
    assert metadata == {'conf_rbd_qos_iops_limit': '100', 'note': 'x'}


def test_it_can_be_given_another_name(world: World) -> None:
    with world.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms', 'other')
    assert world.disks('vms') == ['other']


def test_its_clones_keep_what_they_need_of_it_in_the_trash(world: World
                                                           ) -> None:
    was = world.read('volumes', VOLUME, 'one')
    with world.driver() as driver:
        driver.volumes.create_from_snapshot(VolumeSpec('new'), VOLUME, 'one')
        driver.migration.migrate(VOLUME, 'vms')
        driver.reclaimer.wait()
        assert world.disks('volumes') == [f'[{VOLUME}]', 'new']
        assert world.read('volumes', 'new') == was
        driver.volumes.delete('new')
    assert world.disks('volumes') == []
    assert world.snapshots('vms', VOLUME) == ['one!', 'two']


def test_a_clone_moves_as_a_volume_of_its_own(world: World) -> None:
    was = world.read('volumes', VOLUME, 'one')
    with world.driver() as driver:
        driver.volumes.create_from_snapshot(VolumeSpec('new'), VOLUME, 'one')
        driver.migration.migrate('new', 'vms')
    assert world.read('vms', 'new') == was
    with world.cluster.pool('vms').open('new', read_only=True) as image:
        assert image.parent is None


@pytest.mark.parametrize('is_first', [True, False])
def test_a_part_in_a_groups_snapshot_becomes_a_plain_snapshot(
        is_first: bool) -> None:
    world = World()
    world.make_volume()
    world.make_volume('other')
    members = {VOLUME: 'part', 'other': 'part-2'}
    with world.driver() as driver:
        if not is_first:
            driver.snapshots.create(VOLUME, 'one')
            with world.volumes.open(VOLUME) as image:
                image.write(b'between', 8192)
        driver.groups.create_snapshot('g', members)
        part = world.read('volumes', VOLUME)
        with world.volumes.open(VOLUME) as image:
            image.aio_write_zeroes(0, 4096).wait()
            image.create_snapshot('last')
        last = world.read('volumes', VOLUME)
        driver.migration.migrate(VOLUME, 'vms')
        driver.reclaimer.wait()
        assert world.disks('volumes') == ['other']
        assert world.read('vms', VOLUME, 'part') == part
        assert world.read('vms', VOLUME, 'last') == last
        assert world.read('vms', VOLUME) == last
        driver.groups.delete_snapshot('g', members)
        assert world.volumes.groups() == []
    world.configure(pool='vms')
    with world.driver() as there:
        there.groups.delete_snapshot('g', {VOLUME: 'part'})
    assert 'part' not in world.snapshots('vms', VOLUME)


# -- refusals -----------------------------------------------------------------

def test_what_is_there_already_is_not_touched(world: World) -> None:
    world.cluster.pool('vms').create(VOLUME, MIB)
    before = world.state()
    with world.driver() as driver, pytest.raises(exception.ImageExists):
        driver.migration.migrate(VOLUME, 'vms')
    assert world.state() == before


@pytest.mark.parametrize(('name', 'pool', 'error'), [
    (VOLUME, 'volumes', exception.InvalidInput),
    (VOLUME, 'nope', exception.PoolNotFound),
    ('nope', 'vms', exception.ImageNotFound)])
def test_what_cannot_be_is_told(
        world: World, name: str, pool: str, error: type[Exception]) -> None:
    before = world.state()
    with world.driver() as driver, pytest.raises(error):
        driver.migration.migrate(name, pool)
    assert world.state() == before


def test_a_volume_that_is_open_is_not_migrated(world: World) -> None:
    other = world.ceph.cluster('admin')
    with world.driver() as driver, other.pool('volumes').open(VOLUME), \
            pytest.raises(exception.ImageBusy, match=other.address):
        driver.migration.migrate(VOLUME, 'vms')
    assert world.disks('vms') == []


def test_a_snapshot_of_somebodys_group_keeps_it_where_it_is(world: World
                                                            ) -> None:
    world.ceph.cluster('admin').pool('volumes').snapshot_group(
        'theirs', [VOLUME])
    before = world.state()
    with world.driver() as driver, pytest.raises(
            exception.ImageHasSnapshots, match='theirs'):
        driver.migration.migrate(VOLUME, 'vms')
    assert world.state() == before


# -- failures -----------------------------------------------------------------

def test_a_call_that_fails_leaves_it_here_or_there_and_nothing_else() -> None:
    states = ('one', 'two', None)
    whole = _make()
    before = _contents(whole, 'volumes', states)
    whole.trace()
    with whole.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms')
        calls = whole.end_trace()['ceph']
    for number, method in enumerate(calls):
        world = _make()
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        failed = None
        with world.driver() as driver:
            try:
                driver.migration.migrate(VOLUME, 'vms')
            except exception.ClusterUnavailable as error:
                failed = error
        world.end_trace()
        where = 'volumes' if failed else 'vms'
        if world.disks('volumes') == [f'[{VOLUME}]']:
            with world.driver() as driver:
                driver.reclaimer.purge_due()
        if failed and not world.disks('volumes'):
            where = 'vms'  # the very last call, when all was done
        assert world.disks(where) == [VOLUME], (number, method)
        assert len(world.ceph.disks) == 1, (number, method)
        assert _contents(world, where, states) == before, (number, method)


def test_what_a_killed_process_left_is_replaced(world: World) -> None:
    world.cluster.pool('vms').create(UNFINISHED, MIB)
    with world.cluster.pool('vms').open(UNFINISHED) as image:
        image.create_snapshot('one')
        image.protect_snapshot('one')
    with world.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms')
    assert world.disks('vms') == [VOLUME]


def test_a_copy_that_was_finished_by_a_killed_process_is_made_anew(
        world: World) -> None:
    """The volume may have changed since."""
    with world.volumes.open(VOLUME, read_only=True) as image:
        origin = f'migrated:volumes/{VOLUME}#{image.id}'
    vms = world.cluster.pool('vms')
    vms.create(VOLUME, MIB)
    with vms.open(VOLUME) as image:
        lineage.adopt(image, kind=lineage.VOLUME, origin=origin, job='j',
                      state=lineage.PENDING)
    now = world.read('volumes', VOLUME)
    with world.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms')
    assert world.read('vms', VOLUME) == now


COMPARING = 'comparing the copy with its source'


def test_a_copy_is_compared_where_that_is_wanted(world: World) -> None:
    world.configure(verify_copies=True)
    report = OnStep()
    with world.driver() as driver:
        driver.migration.migrate(VOLUME, 'vms', report=report)
    assert report.steps.count(COMPARING) == 3, 'each of its states'
    assert world.disks('vms') == [VOLUME]


def test_a_copy_that_differs_is_undone_and_the_volume_stays(world: World
                                                            ) -> None:
    world.configure(verify_copies=True)
    before = world.state()

    def spoil() -> None:
        with world.ceph.cluster('admin').pool('vms').open(UNFINISHED
                                                          ) as made:
            made.write(b'spoilt', 100)

    with world.driver() as driver, pytest.raises(exception.DataCorrupted,
                                                 match='bytes at 0'):
        driver.migration.migrate(VOLUME, 'vms',
                                 report=OnStep({COMPARING: spoil}))
    assert world.state() == before
