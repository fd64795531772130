# SPDX-License-Identifier: Apache-2.0
"""Deleted volumes go through the trash: at once out of sight, gone later."""

from __future__ import annotations

import dataclasses
import itertools
import time

import pytest

from tests.unit.world import MIB, VOLUME, World, closed_now
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Pool
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.reclaim import reclaimer

CHILD = 'volume-child'


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    return made


def _age(world: World, seconds: float) -> None:
    """Let the trash have happened so long ago."""
    for disk in world.ceph.disks.values():
        if disk.trash is not None:
            disk.trash = dataclasses.replace(
                disk.trash, deletion_time=disk.trash.deletion_time - seconds,
                deferred_until=disk.trash.deferred_until - seconds)


def _killed_before_the_purge(world: World, name: str = VOLUME) -> None:
    """A volume that was moved to the trash, and then nothing."""
    with world.volumes.open(name) as image:
        lineage.set_state(image, lineage.TRASHED)
    world.volumes.trash_move(name)


# -- deferred deletion --------------------------------------------------------

def test_with_deferral_a_volume_is_kept_for_the_delay(world: World) -> None:
    world.configure(deletion_delay_s=60)
    data = world.read('volumes', VOLUME)
    with world.driver() as driver:
        gone = driver.volumes.delete(VOLUME)
        assert gone.is_trashed
        assert '60 s' in gone.reason
        assert driver.reclaimer.purge_due() == []
        assert driver.reclaimer.purge() == []
        assert not driver.volumes.exists(VOLUME)
    [disk] = world.ceph.disks.values()
    world.volumes.trash_restore(disk.id, VOLUME)
    assert world.read('volumes', VOLUME) == data


def test_after_the_delay_it_is_purged(world: World) -> None:
    world.configure(deletion_delay_s=60)
    with world.driver() as driver:
        driver.volumes.delete(VOLUME)
        _age(world, 61)
        [item] = driver.reclaimer.purge_due()
    assert (item.what, item.name) == ('trashed_volume', VOLUME)
    assert world.ceph.disks == {}


def test_without_deferral_a_delay_has_no_meaning(world: World) -> None:
    with world.driver() as driver:
        assert not driver.volumes.delete(VOLUME).is_trashed
    assert world.ceph.disks == {}


def test_a_parent_that_is_kept_does_not_go_with_its_clone(world: World
                                                          ) -> None:
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec(CHILD), VOLUME)
    world.configure(deletion_delay_s=60)
    with world.driver() as driver:
        driver.volumes.delete(VOLUME)
    world.configure(deletion_delay_s=0)
    with world.driver() as driver:
        driver.volumes.delete(CHILD)
    assert world.disks('volumes') == [f'[{VOLUME}]']
    assert world.ceph.pool_metadata.get('volumes', {}) == {}
    _age(world, 61)
    with world.driver() as driver:
        driver.reclaimer.purge_due()
    assert world.ceph.disks == {}


# -- found again --------------------------------------------------------------

def test_what_a_killed_process_left_in_the_trash_is_purged(world: World
                                                           ) -> None:
    _killed_before_the_purge(world)
    with world.driver() as driver:
        assert [item.name for item in driver.reclaimer.purge_due()] == [
            VOLUME]
        assert driver.reclaimer.purge_due() == []
    assert world.ceph.disks == {}


def test_a_removal_without_a_header_is_finished(world: World) -> None:
    """Killed at the very end there is no mark left to read."""
    _killed_before_the_purge(world)
    [disk] = world.ceph.disks.values()
    world.volumes.set_metadata(f'volume_rbd.purging.{disk.id}', 'volumes')
    world.ceph.fail_next('open', exception.ImageNotFound('no header'), 1)
    with world.driver() as driver:
        driver.reclaimer.purge_due()
    assert world.ceph.disks == {}
    assert world.volumes.metadata() == {}


def _begun(world: World, image_id: str, pool: str = 'volumes') -> str:
    """:returns: the key of a removal that was killed at the very end."""
    key = f'volume_rbd.purging.{image_id}'
    world.volumes.set_metadata(key, pool)
    return key


@pytest.mark.parametrize('error', [exception.CephPermissionDenied,
                                   exception.OperationTimeout])
def test_a_removal_that_cannot_be_finished_keeps_no_other_from_it(
        world: World, error: type[exception.VolumeRBDError]) -> None:
    key = _begun(world, 'x', 'images')
    _killed_before_the_purge(world)
    world.ceph.fail_next('open', error('no'))
    with world.driver() as driver:
        assert [item.name for item in driver.reclaimer.purge_due()] == [
            VOLUME]
        assert world.volumes.metadata() == {key: 'images'}
        driver.reclaimer.purge_due()
    assert world.volumes.metadata() == {}


def test_what_was_in_a_pool_that_is_gone_is_forgotten(world: World) -> None:
    _begun(world, 'x', 'no-pool')
    _killed_before_the_purge(world)
    with world.driver() as driver:
        assert len(driver.reclaimer.purge_due()) == 1
    assert world.volumes.metadata() == {}


def test_a_removal_without_a_header_that_fails_is_found_again(world: World
                                                              ) -> None:
    _killed_before_the_purge(world)
    [disk] = world.ceph.disks.values()
    key = _begun(world, disk.id)
    disk.trash, kept = None, disk.trash  # nothing that lists it is left
    world.ceph.fail_next('open', exception.ImageNotFound('no header'), 2)
    world.ceph.fail_next('trash_remove', exception.OperationTimeout('no'))
    with world.driver() as driver:
        driver.reclaimer.purge_due()
        assert world.volumes.metadata() == {key: 'volumes'}
        disk.trash = kept
        world.ceph.fail_next('open', exception.ImageNotFound('no header'))
        driver.reclaimer.purge_due()
    assert world.ceph.disks == {}
    assert world.volumes.metadata() == {}


def test_other_peoples_entries_are_never_purged(world: World) -> None:
    world.volumes.trash_move(VOLUME)
    world.make_volume(CHILD)
    _killed_before_the_purge(world, CHILD)
    with world.driver() as driver:
        assert [item.name for item in driver.reclaimer.purge_due()] == [CHILD]
    assert world.disks('volumes') == [f'[{VOLUME}]']


def test_it_goes_once_who_has_it_open_lets_go(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaimer, '_TRIED_AGAIN_S', 0)
    _killed_before_the_purge(world)
    [disk] = world.ceph.disks.values()
    with world.driver() as driver:
        with world.ceph.cluster('admin').pool('volumes').open_by_id(disk.id):
            assert driver.reclaimer.purge_due() == []
        assert world.volumes.metadata() == {}
        assert len(driver.reclaimer.purge_due()) == 1
    assert world.ceph.disks == {}


# -- cheap --------------------------------------------------------------------

def test_no_volume_is_opened_where_nothing_is_to_be_done(world: World
                                                         ) -> None:
    for number in range(20):
        world.make_volume(f'v{number}')
    with world.driver() as driver:
        world.trace()
        driver.reclaimer.purge_due()
        assert sorted(world.end_trace()['ceph']) == [
            'images', 'pool_metadata', 'pool_metadata', 'trash']


def test_what_cannot_go_is_not_looked_at_each_time(world: World) -> None:
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec(CHILD), VOLUME)
        driver.volumes.delete(VOLUME)
        driver.reclaimer.wait()
        assert driver.reclaimer.purge_due() == []
        world.trace()
        assert driver.reclaimer.purge_due() == []
        assert 'open' not in world.end_trace()['ceph']
        driver.volumes.delete(CHILD)
    assert world.ceph.disks == {}


def test_one_call_looks_at_a_bounded_number(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaimer, '_OPENED_AT_ONCE', 2)
    for number in range(5):
        world.make_volume(f'v{number}')
        _killed_before_the_purge(world, f'v{number}')
    with world.driver() as driver:
        assert [len(driver.reclaimer.purge_due()) for _ in range(4)] == [
            2, 2, 1, 0]


def test_what_cannot_go_keeps_nothing_behind_it_from_going(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaimer, '_OPENED_AT_ONCE', 2)
    monkeypatch.setattr(reclaimer, '_KEPT_AGAIN_S', 0)
    for number in range(5):
        world.make_volume(f'theirs-{number}')
        world.volumes.trash_move(f'theirs-{number}')
    world.make_volume(CHILD)
    _killed_before_the_purge(world, CHILD)
    with world.driver() as driver:
        assert [len(driver.reclaimer.purge_due()) for _ in range(3)] == [
            0, 0, 1]


def test_what_always_fails_keeps_nothing_behind_it_from_going(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaimer, '_OPENED_AT_ONCE', 1)
    monkeypatch.setattr(reclaimer, '_TRIED_AGAIN_S', 0)
    for name in (VOLUME, CHILD):
        if name == CHILD:
            world.make_volume(CHILD)
        _killed_before_the_purge(world, name)
    first = next(iter(world.ceph.disks))
    with world.driver() as driver, \
            world.ceph.cluster('admin').pool('volumes').open_by_id(first):
        assert [len(driver.reclaimer.purge_due()) for _ in range(2)] == [
            0, 1]
    assert world.disks('volumes') == [f'[{VOLUME}]']


def test_an_entry_that_cannot_be_looked_at_is_passed_over(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaimer, '_TRIED_AGAIN_S', 0)
    world.make_volume(CHILD)
    for name in (VOLUME, CHILD):
        _killed_before_the_purge(world, name)
    world.ceph.fail_next('open', exception.OperationTimeout('stuck'))
    with world.driver() as driver:
        assert driver.reclaimer.purge_due() == []
        assert [item.name for item in driver.reclaimer.purge_due()] == [
            CHILD, VOLUME]
    assert world.ceph.disks == {}


# -- closing ------------------------------------------------------------------

def test_closing_without_waiting_stops_a_removal_that_is_found_again(
        world: World) -> None:
    driver = RBDDriver(world.config, world.cluster, lambda: world.glance)
    driver.reclaimer._worker._is_stopping.set()  # before it has begun
    driver.volumes.delete(VOLUME)
    driver.close(wait=False)
    assert world.disks('volumes') == [f'[{VOLUME}]']
    assert world.mark_of_trashed(VOLUME) == lineage.TRASHED
    with world.driver() as later:
        assert len(later.reclaimer.purge_due()) == 1
    assert world.ceph.disks == {}


def test_after_closing_a_deletion_is_left_to_the_next_process(world: World
                                                              ) -> None:
    driver = RBDDriver(world.config, world.cluster, lambda: world.glance)
    driver.close(wait=False)
    assert not driver.volumes.delete(VOLUME).is_trashed
    assert world.disks('volumes') == [f'[{VOLUME}]']


def test_closing_without_waiting_does_not_wait_for_ancestors(world: World
                                                             ) -> None:
    driver = RBDDriver(world.config, world.cluster, lambda: world.glance)
    driver.volumes.create_from_volume(model.VolumeSpec(CHILD), VOLUME)
    driver.volumes.delete(VOLUME)
    driver.reclaimer.wait()

    def stop(method: str) -> None:
        if method == 'trash_remove':
            driver.reclaimer._worker._is_stopping.set()

    world.ceph.hooks[world.cluster.address] = stop
    with world.volumes.open(CHILD) as child:
        parent = child.parent
        child.flatten()
    driver.reclaimer.release(parent)
    driver.close(wait=False)
    assert world.disks('volumes') == [f'[{VOLUME}]', CHILD]


def test_what_is_set_free_while_it_is_looked_at_goes_too(world: World
                                                         ) -> None:
    """Who looks still sees its last clone."""
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec(CHILD), VOLUME)
        with world.volumes.open(CHILD) as child:
            parent = child.parent
        leave = driver.reclaimer._remover._leave

        def leave_late(pool: Pool, image_id: str) -> bool:
            is_gone = leave(pool, image_id)
            with world.ceph.cluster('admin').pool('volumes').open(
                    CHILD) as child:
                child.flatten()
            driver.reclaimer.release(parent)
            return is_gone

        driver.reclaimer._remover._leave = leave_late
        driver.volumes.delete(VOLUME)
    assert world.disks('volumes') == [CHILD]


def test_closing_with_waiting_waits_for_all_ancestors(world: World) -> None:
    world.configure(max_clone_depth=20)
    names = [VOLUME, 'a', 'b', 'c']
    with world.driver() as driver:
        for parent, child in itertools.pairwise(names):
            driver.volumes.create_from_volume(model.VolumeSpec(child), parent)
        for name in names:
            driver.volumes.delete(name)
    assert world.ceph.disks == {}
    assert world.volumes.metadata() == {}


def test_after_closing_there_is_nothing_to_wait_for(world: World) -> None:
    world.configure(background_hours=closed_now())
    driver = RBDDriver(world.config, world.cluster, lambda: world.glance)
    for number in range(4):
        world.make_volume(f'v{number}')
        driver.volumes.delete(f'v{number}')
    driver.close(wait=False)
    driver.reclaimer.wait()
    driver.close()


def test_a_move_to_the_trash_that_fails_leaves_the_volume_as_it_was(
        world: World) -> None:
    before = world.state()
    world.ceph.fail_next('trash_move', exception.ImageBusy('no'))
    with world.driver() as driver, pytest.raises(exception.ImageBusy):
        driver.volumes.delete(VOLUME)
    assert world.state() == before


def test_a_large_volume_is_gone_as_quickly_as_a_small_one() -> None:
    world = World()
    world.volumes.create(VOLUME, 1024 * model.GIB)
    with world.driver() as driver:
        world.ceph.fail_next('trash_remove', exception.ImageBusy('slow'))
        started = time.monotonic()
        driver.volumes.delete(VOLUME)
        assert time.monotonic() - started < 0.5
        assert not driver.volumes.exists(VOLUME)
        world.make_volume(size_bytes=MIB)
