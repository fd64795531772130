# SPDX-License-Identifier: Apache-2.0
"""Reverting, and taking a half-done revert back."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, OnStep, World
from volume_rbd import exception
from volume_rbd.driver.revert import SAFETY


@pytest.fixture
def world() -> World:
    """``volume-1@s``, and a volume that was changed and grew since."""
    return _changed()


def _changed() -> World:
    made = World()
    made.make_volume()
    with made.volumes.open(VOLUME) as image:
        image.create_snapshot('s')
        image.resize(2 * MIB)
        image.write(b'later', 0)
        image.write(b'grown', MIB)
    return made


def test_a_volume_keeps_its_size_where_it_is_to(world: World) -> None:
    was = world.read('volumes', VOLUME, 's')
    with world.driver() as driver:
        driver.snapshots.revert(VOLUME, 's', keep_size=True)
    assert world.read('volumes', VOLUME) == was + bytes(MIB)
    assert world.snapshots('volumes', VOLUME) == ['s']


def test_without_that_it_is_as_small_as_it_was(world: World) -> None:
    was = world.read('volumes', VOLUME, 's')
    with world.driver() as driver:
        driver.snapshots.revert(VOLUME, 's')
    assert world.read('volumes', VOLUME) == was


def test_a_revert_that_fails_at_any_call_leaves_all_or_nothing() -> None:
    whole = _changed()
    whole.trace()
    with whole.driver() as driver:
        driver.snapshots.revert(VOLUME, 's', keep_size=True)
    calls = whole.end_trace()['ceph']
    reverted = whole.state()
    for number, method in enumerate(calls):
        world = _changed()
        before = world.state()
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        try:
            with world.driver() as driver:
                driver.snapshots.revert(VOLUME, 's', keep_size=True)
        except exception.ClusterUnavailable:
            world.end_trace()
            assert world.read('volumes', VOLUME) == _content(before), (
                number, method)
        else:
            world.end_trace()
            assert world.read('volumes', VOLUME) == _content(reverted)
        # Nothing that was left is in the way of the next one.
        with world.driver() as driver:
            driver.snapshots.revert(VOLUME, 's', keep_size=True)
        assert world.read('volumes', VOLUME) == _content(reverted)
        assert world.snapshots('volumes', VOLUME) == ['s'], (number, method)


def _content(state: dict[str, dict[str, object]]) -> bytes:
    [disk] = [disk for key, disk in state.items() if key.startswith('rbd')]
    blocks = disk['blocks']
    assert isinstance(blocks, dict)
    assert isinstance(disk['size'], int)
    return b''.join(blocks.get(number, bytes(4096))
                    for number in range(disk['size'] // 4096))


def test_a_revert_that_was_killed_can_be_taken_back(world: World) -> None:
    """The next one goes back to what was before the first, if it fails."""
    before = world.read('volumes', VOLUME)
    with world.volumes.open(VOLUME) as image:
        image.create_snapshot(SAFETY)
        image.set_metadata('volume_rbd.reverting', image.id)
        image.resize(MIB, allow_shrink=True)
        image.write(b'half', 0)
    world.ceph.fail_next('rollback', exception.NoSpace('full'))
    with world.driver() as driver, pytest.raises(exception.NoSpace):
        driver.snapshots.revert(VOLUME, 's')
    assert world.read('volumes', VOLUME) == before
    assert world.snapshots('volumes', VOLUME) == ['s']


def test_a_revert_that_ended_is_not_taken_back_by_the_next(world: World
                                                           ) -> None:
    """Its snapshot could not be removed; the volume has changed since."""
    world.ceph.fail_next('remove_snapshot', exception.ClusterUnavailable(''))
    with world.driver() as driver:
        driver.snapshots.revert(VOLUME, 's')
    assert world.snapshots('volumes', VOLUME) == ['s', SAFETY]
    with world.volumes.open(VOLUME) as image:
        image.write(b'newer', 0)
    world.ceph.fail_next('rollback', exception.NoSpace('full'))
    with world.driver() as driver, pytest.raises(exception.NoSpace):
        driver.snapshots.revert(VOLUME, 's')
    assert world.read('volumes', VOLUME)[:5] == b'newer'
    assert world.snapshots('volumes', VOLUME) == ['s']


def test_where_it_cannot_be_taken_back_it_says_where_the_data_is(
        world: World) -> None:
    world.ceph.fail_next('rollback', exception.NoSpace('full'), 2)
    with world.driver() as driver, pytest.raises(
            exception.NoSpace, match=f'in its snapshot {SAFETY!r}'):
        driver.snapshots.revert(VOLUME, 's')
    assert world.snapshots('volumes', VOLUME) == ['s', SAFETY]


def test_a_cancelled_copy_of_a_groups_part_is_taken_back(world: World
                                                         ) -> None:
    with world.driver() as driver:
        driver.groups.create_snapshot('g', {VOLUME: 'part'})
        before = world.read('volumes', VOLUME)
        report = OnStep()
        report.start = lambda total: report.cancel()  # type: ignore
        with pytest.raises(exception.Cancelled):
            driver.snapshots.revert(VOLUME, 'part', report=report)
        assert world.read('volumes', VOLUME) == before
        driver.groups.delete_snapshot('g', {VOLUME: 'part'})
