# SPDX-License-Identifier: Apache-2.0
"""Volumes: make, look, grow, delete."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from tests.unit.world import MIB, VOLUME, OnStep, World
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.driver import RBDDriver
from volume_rbd.model import VolumeSpec

NEW = 'new'


@pytest.fixture
def world() -> World:
    return World()


# -- empty ones ---------------------------------------------------------------

def test_an_empty_volume_has_the_size_and_our_mark(world: World) -> None:
    world.configure(layout=model.Layout(8 * MIB))
    with world.driver() as driver:
        driver.volumes.create(VolumeSpec(NEW, model.GIB))
        made = driver.volumes.show(NEW)
    assert made.size_bytes == model.GIB
    assert made.pool == 'volumes'
    assert made.parent is None
    assert made.depth == 0
    assert made.snapshots == made.watchers == ()
    assert made.lineage is not None
    assert (made.lineage.kind, made.lineage.origin, made.lineage.state) == (
        lineage.VOLUME, 'blank', lineage.COMPLETE)
    assert made.lineage.image_id == made.image_id
    [disk] = world.ceph.disks.values()
    assert disk.object_size == 8 * MIB


@pytest.mark.parametrize('size', [None, 0, -1])
def test_an_empty_volume_needs_a_size(world: World, size: int | None) -> None:
    with world.driver() as driver, pytest.raises(exception.InvalidSize):
        driver.volumes.create(VolumeSpec(NEW, size))
    assert world.ceph.disks == {}


def test_a_volume_over_the_quota_is_refused(world: World) -> None:
    world.configure(max_volume_bytes=MIB)
    with world.driver() as driver:
        driver.volumes.create(VolumeSpec('fits', MIB))
        with pytest.raises(exception.QuotaExceeded):
            driver.volumes.create(VolumeSpec(NEW, MIB + 1))
    assert world.disks('volumes') == ['fits']


@pytest.mark.parametrize('name', ['a@b', 'a/b', '-x', ''])
def test_a_bad_name_is_refused(world: World, name: str) -> None:
    world.make_volume()
    with world.driver() as driver:
        for make in (
                lambda: driver.volumes.create(VolumeSpec(name, MIB)),
                lambda: driver.volumes.create_from_snapshot(
                    VolumeSpec(name), VOLUME, 's'),
                lambda: driver.volumes.create_from_volume(
                    VolumeSpec(name), VOLUME)):
            with pytest.raises(exception.InvalidName):
                make()
    assert world.disks('volumes') == [VOLUME]
    assert world.snapshots('volumes', VOLUME) == []


def test_a_name_that_is_taken_keeps_what_has_it(world: World) -> None:
    data = world.make_volume()
    with world.driver() as driver, pytest.raises(exception.ImageExists):
        driver.volumes.create(VolumeSpec(VOLUME, MIB))
    assert world.read('volumes', VOLUME) == data


# -- from a snapshot, from a volume -------------------------------------------

def _with_snapshot(world: World) -> bytes:
    """``volume-1@s``, and different data in the volume since."""
    data = world.make_volume()
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('s')
        volume.write(b'later', 0)
    return data


def test_a_volume_is_a_clone_of_the_snapshot(world: World) -> None:
    data = _with_snapshot(world)
    with world.driver() as driver:
        driver.volumes.create_from_snapshot(VolumeSpec(NEW), VOLUME, 's')
        made = driver.volumes.show(NEW)
    assert world.read('volumes', NEW) == data
    assert made.parent == f'volumes/{VOLUME}@s'
    assert made.depth == 1
    assert made.lineage is not None
    assert made.lineage.origin == f'rbd:volumes/{VOLUME}@s'


def test_a_volume_is_a_clone_of_a_volume_as_it_is_now(world: World) -> None:
    _with_snapshot(world)
    now = world.read('volumes', VOLUME)
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
        with world.volumes.open(VOLUME) as volume:
            volume.write(b'even later', 0)
        assert driver.volumes.show(VOLUME).snapshots == ('s',)
    assert world.read('volumes', NEW) == now
    assert world.snapshots('volumes', VOLUME) == [
        's', f'[volume_rbd.clone-{NEW}]']


def test_a_clone_of_format_1_keeps_its_snapshot_protected() -> None:
    world = World(clone_format=1)
    data = world.make_volume()
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
        assert world.snapshots('volumes', VOLUME) == [
            f'volume_rbd.clone-{NEW}!']
        assert driver.volumes.delete(VOLUME).is_trashed
        assert world.read('volumes', NEW) == data
        driver.volumes.delete(NEW)
        driver.reclaimer.purge()
    assert world.ceph.disks == {}


def test_a_clone_may_be_larger_than_its_source(world: World) -> None:
    data = _with_snapshot(world)
    with world.driver() as driver:
        driver.volumes.create_from_snapshot(
            VolumeSpec(NEW, 4 * MIB), VOLUME, 's')
    assert world.read('volumes', NEW) == data + bytes(3 * MIB)


def test_a_clone_may_not_be_smaller_than_its_source(world: World) -> None:
    _with_snapshot(world)
    before = world.state()
    with world.driver() as driver:
        with pytest.raises(exception.InvalidSize):
            driver.volumes.create_from_snapshot(
                VolumeSpec(NEW, MIB - 1), VOLUME, 's')
        with pytest.raises(exception.InvalidSize):
            driver.volumes.create_from_volume(
                VolumeSpec(NEW, MIB - 1), VOLUME)
    assert world.state() == before


def test_a_clone_over_the_quota_is_refused(world: World) -> None:
    _with_snapshot(world)
    world.configure(max_volume_bytes=MIB - 1)
    before = world.state()
    with world.driver() as driver:
        with pytest.raises(exception.QuotaExceeded):
            driver.volumes.create_from_snapshot(VolumeSpec(NEW), VOLUME, 's')
        with pytest.raises(exception.QuotaExceeded):
            driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    assert world.state() == before


def test_a_source_that_is_not_there_is_told(world: World) -> None:
    _with_snapshot(world)
    before = world.state()
    with world.driver() as driver:
        with pytest.raises(exception.SnapshotNotFound):
            driver.volumes.create_from_snapshot(
                VolumeSpec(NEW), VOLUME, 'nope')
        with pytest.raises(exception.ImageNotFound):
            driver.volumes.create_from_snapshot(VolumeSpec(NEW), 'nope', 's')
        with pytest.raises(exception.ImageNotFound):
            driver.volumes.create_from_volume(VolumeSpec(NEW), 'nope')
    assert world.state() == before


def test_a_taken_name_leaves_no_snapshot_of_the_source(world: World) -> None:
    _with_snapshot(world)
    world.make_volume(NEW)
    before = world.state()
    with world.driver() as driver, pytest.raises(exception.ImageExists):
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    assert world.state() == before


def test_a_clone_does_not_inherit_what_is_about_its_source(world: World
                                                           ) -> None:
    _with_snapshot(world)
    with world.volumes.open(VOLUME) as volume:
        for key in ('conf_rbd_qos_iops_limit', 'volume_rbd.other', 'note'):
            volume.set_metadata(key, '1')
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    with world.volumes.open(NEW, read_only=True) as made:
        assert set(made.metadata()) == {lineage.KEY, 'note'}


@pytest.mark.parametrize('changes', [{'flatten_volume_from_snapshot': True},
                                     {'max_clone_depth': 0}])
@pytest.mark.parametrize('source', ['snapshot', 'volume'])
def test_a_clone_is_cut_loose_where_policy_asks_for_it(
        world: World, changes: dict[str, object], source: str) -> None:
    _with_snapshot(world)
    world.configure(**changes)
    report = OnStep()
    with world.driver() as driver:
        if source == 'snapshot':
            driver.volumes.create_from_snapshot(
                VolumeSpec(NEW), VOLUME, 's', report=report)
        else:
            driver.volumes.create_from_volume(
                VolumeSpec(NEW), VOLUME, report=report)
        assert driver.volumes.show(NEW).parent is None
    assert 'flattening the volume' in report.steps
    assert world.snapshots('volumes', VOLUME) == ['s']


def test_chains_grow_no_longer_than_allowed(world: World) -> None:
    world.make_volume()
    world.configure(max_clone_depth=2)
    depths = []
    with world.driver() as driver:
        for number in range(5):
            source = f'v{number - 1}' if number else VOLUME
            driver.volumes.create_from_volume(
                VolumeSpec(f'v{number}'), source)
            depths.append(driver.volumes.show(f'v{number}').depth)
    assert depths == [1, 2, 0, 1, 2]


def test_a_flatten_that_is_cancelled_leaves_no_volume(world: World) -> None:
    _with_snapshot(world)
    world.configure(flatten_volume_from_snapshot=True)
    before = world.state()
    report = progress.Cancellable()
    report.cancel()
    with world.driver() as driver, pytest.raises(exception.Cancelled):
        driver.volumes.create_from_snapshot(
            VolumeSpec(NEW), VOLUME, 's', report=report)
    assert world.state() == before


MAKERS: dict[str, Callable[[RBDDriver], object]] = {
    'blank': lambda driver: driver.volumes.create(VolumeSpec(NEW, 2 * MIB)),
    'snapshot': lambda driver: driver.volumes.create_from_snapshot(
        VolumeSpec(NEW, 2 * MIB), VOLUME, 's'),
    'volume': lambda driver: driver.volumes.create_from_volume(
        VolumeSpec(NEW, 2 * MIB), VOLUME),
}


@pytest.mark.parametrize('is_flattened', [False, True])
@pytest.mark.parametrize('clone_format', [1, 2])
@pytest.mark.parametrize('name', MAKERS)
def test_a_call_that_fails_leaves_all_or_nothing(
        name: str, clone_format: int, is_flattened: bool) -> None:
    def begin() -> World:
        world = World(clone_format=clone_format)
        world.configure(flatten_volume_from_snapshot=is_flattened)
        _with_snapshot(world)
        return world

    whole = begin()
    whole.trace()
    with whole.driver() as driver:
        MAKERS[name](driver)
    wrong = []
    for number, method in enumerate(whole.end_trace()['ceph']):
        world = begin()
        before = world.state()
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        try:
            with world.driver() as driver:
                try:
                    MAKERS[name](driver)
                finally:
                    # What was made goes by way of the trash.
                    driver.reclaimer.wait()
        except exception.ClusterUnavailable:
            if _with_unprotected_snapshot(world).state() != before:
                wrong.append(f'{number} {method}: {world.disks("volumes")} '
                             f'{world.snapshots("volumes", VOLUME)}')
        else:
            assert len(world.read('volumes', NEW)) == 2 * MIB
    assert not wrong


def _with_unprotected_snapshot(world: World) -> World:
    """With format 1, cloning has protected the owner's snapshot; that is not
    ours to undo, another clone may need it."""
    for disk in world.ceph.disks.values():
        for snap in disk.snaps:
            if snap.name == 's':
                snap.is_protected = False
    return world


@pytest.mark.parametrize('clone_format', [1, 2])
def test_a_snapshot_left_by_a_run_that_was_killed_is_taken_anew(
        clone_format: int) -> None:
    world = World(clone_format=clone_format)
    world.make_volume()
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot(f'volume_rbd.clone-{NEW}')
        volume.protect_snapshot(f'volume_rbd.clone-{NEW}')
        volume.write(b'later', 0)
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    assert world.read('volumes', NEW)[:5] == b'later'


def test_a_snapshot_that_cannot_go_now_does_not_undo_the_volume(world: World
                                                                ) -> None:
    data = world.make_volume()
    world.ceph.fail_next('remove_snapshot',
                         exception.ClusterUnavailable('lost'))
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    assert world.read('volumes', NEW) == data
    assert world.snapshots('volumes', VOLUME) == [f'volume_rbd.clone-{NEW}']


# -- looking ------------------------------------------------------------------

def test_volumes_are_listed_by_name(world: World) -> None:
    for name in ('c', 'a', 'b'):
        world.make_volume(name)
    with world.driver() as driver:
        assert [made.name for made in driver.volumes.list()] == [
            'a', 'b', 'c']


def test_a_volume_that_goes_while_they_are_listed_is_left_out(world: World
                                                              ) -> None:
    for name in ('a', 'b', 'c'):
        world.make_volume(name)
    with world.driver() as driver:
        listed = driver.volumes.list()
        assert next(listed).name == 'a'
        world.volumes.remove('b')
        assert [made.name for made in listed] == ['c']


def test_who_has_a_volume_open_is_shown(world: World) -> None:
    world.make_volume()
    other = world.ceph.cluster('admin')
    with world.driver() as driver, other.pool('volumes').open(VOLUME):
        assert driver.volumes.show(VOLUME).watchers == (other.address,)


def test_a_watch_that_stays_of_who_was_shut_out_is_in_nobodys_way(
        world: World) -> None:
    """Ceph keeps some for good, of clients that were killed as they opened."""
    world.make_volume()
    other = world.ceph.cluster('admin')
    with world.driver() as driver:
        with contextlib.suppress(exception.ClusterUnavailable), \
                other.pool('volumes').open(VOLUME):
            world.ceph.blocklist.add(other.address)
            driver.volumes.delete(VOLUME)

            assert not driver.volumes.exists(VOLUME)
        driver.reclaimer.wait()


def test_a_volume_without_our_mark_is_shown_without_lineage(world: World
                                                            ) -> None:
    world.volumes.create('theirs', MIB)
    with world.driver() as driver:
        assert driver.volumes.show('theirs').lineage is None


def test_a_parent_in_the_trash_is_shown_as_such(world: World) -> None:
    world.make_volume()
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
        driver.volumes.delete(VOLUME)
        parent = driver.volumes.show(NEW).parent
    assert parent == (
        f'volumes/{VOLUME}@volume_rbd.clone-{NEW} (in trash)')


def test_a_volume_that_is_not_there_is_told(world: World) -> None:
    with world.driver() as driver:
        for look in (driver.volumes.show, driver.volumes.delete,
                     lambda name: driver.volumes.extend(name, MIB)):
            with pytest.raises(exception.ImageNotFound):
                look('nope')


# -- growing ------------------------------------------------------------------

def test_a_volume_grows_and_keeps_its_data(world: World) -> None:
    data = world.make_volume()
    with world.driver() as driver:
        driver.volumes.extend(VOLUME, 3 * MIB)
    assert world.read('volumes', VOLUME) == data + bytes(2 * MIB)


@pytest.mark.parametrize('size', [MIB, MIB - 1, 0, -1])
def test_a_volume_does_not_shrink(world: World, size: int) -> None:
    world.make_volume()
    before = world.state()
    with world.driver() as driver, pytest.raises(exception.InvalidSize):
        driver.volumes.extend(VOLUME, size)
    assert world.state() == before


def test_a_volume_does_not_grow_over_the_quota(world: World) -> None:
    world.make_volume()
    world.configure(max_volume_bytes=2 * MIB)
    with world.driver() as driver:
        with pytest.raises(exception.QuotaExceeded):
            driver.volumes.extend(VOLUME, 2 * MIB + 1)
        driver.volumes.extend(VOLUME, 2 * MIB)


# -- deleting -----------------------------------------------------------------

def test_a_volume_with_snapshots_of_its_owner_is_not_deleted(world: World
                                                             ) -> None:
    _with_snapshot(world)
    before = world.state()
    with world.driver() as driver, \
            pytest.raises(exception.ImageHasSnapshots) as caught:
        driver.volumes.delete(VOLUME)
    assert ' s.' in caught.value.message
    assert 'snapshot delete' in caught.value.remedy
    assert world.state() == before


def test_a_volume_that_is_open_is_not_deleted(world: World) -> None:
    _with_snapshot(world)
    other = world.ceph.cluster('admin')
    with world.driver() as driver, other.pool('volumes').open(VOLUME):
        driver.snapshots.delete(VOLUME, 's')
        before = world.state()
        with pytest.raises(exception.ImageBusy) as caught:
            driver.volumes.delete(VOLUME)
        assert other.address in caught.value.message
        assert world.state() == before


def test_a_plain_volume_is_gone_at_once(world: World) -> None:
    world.make_volume()
    with world.driver() as driver:
        gone = driver.volumes.delete(VOLUME)
    assert not gone.is_trashed
    assert world.ceph.disks == {}


def test_a_deleted_name_can_be_used_again(world: World) -> None:
    world.make_volume()
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
        assert driver.volumes.delete(VOLUME).is_trashed
        world.make_volume(size_bytes=2 * MIB)
        assert driver.volumes.show(VOLUME).size_bytes == 2 * MIB
        driver.volumes.delete(NEW)
        driver.reclaimer.wait()
        assert world.disks('volumes') == [VOLUME]
        driver.volumes.delete(VOLUME)
    assert world.ceph.disks == {}


def test_glance_is_not_asked_for_what_concerns_volumes_only(world: World
                                                            ) -> None:
    """Who has no credentials for Glance can still handle volumes."""
    def refuse() -> object:
        raise exception.ConfigurationError('no credentials')

    with RBDDriver(world.config, world.cluster, refuse) as driver:
        driver.check()
        driver.volumes.create(VolumeSpec('a', MIB))
        driver.volumes.create_from_volume(VolumeSpec('b'), 'a')
        driver.snapshots.create('b', 's')
        driver.volumes.create_from_snapshot(VolumeSpec('c'), 'b', 's')
        driver.snapshots.delete('b', 's')
        for name in 'abc':
            driver.volumes.extend(name, 2 * MIB)
            driver.volumes.delete(name)
    assert world.ceph.disks == {}
