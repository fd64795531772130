# SPDX-License-Identifier: Apache-2.0
"""Consistent snapshots of several volumes, and what becomes of them."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception
from volume_rbd.ceph import groupmark, lineage
from volume_rbd.driver.images import ImageRequest
from volume_rbd.model import VolumeSpec

OTHER = 'volume-2'
GROUP = 'b1f1c1f0-0000-4000-8000-000000000001'
MEMBERS = {VOLUME: 'snapshot-1', OTHER: 'snapshot-2'}


@pytest.fixture
def world() -> World:
    made = World()
    for name in MEMBERS:
        made.make_volume(name)
    return made


def _write(world: World, name: str, data: bytes) -> None:
    with world.volumes.open(name) as image:
        image.write(data, 0)


def _snapshot(world: World) -> None:
    """A group's snapshot, and different data in the volumes since."""
    with world.driver() as driver:
        driver.groups.create_snapshot(GROUP, MEMBERS)
    for name in MEMBERS:
        _write(world, name, b'later')


def test_parts_are_listed_under_the_names_that_the_service_gave(
        world: World) -> None:
    _snapshot(world)
    with world.driver() as driver:
        for volume, name in MEMBERS.items():
            [found] = driver.snapshots.list(volume)
            assert (found.name, found.size_bytes) == (name, MIB)
            assert driver.volumes.show(volume).snapshots == (name,)


def test_a_volume_made_from_a_part_is_a_copy(world: World) -> None:
    data = world.read('volumes', VOLUME)
    _snapshot(world)
    with world.driver() as driver:
        driver.volumes.create_from_snapshot(
            VolumeSpec('new', 2 * MIB), VOLUME, MEMBERS[VOLUME])
        made = driver.volumes.show('new')
        assert made.parent is None
        assert made.lineage is not None
        assert made.lineage.origin == (
            f'rbd:volumes/{VOLUME}@{MEMBERS[VOLUME]}')
        assert made.lineage.state == lineage.COMPLETE
        driver.groups.delete_snapshot(GROUP, MEMBERS)
    assert world.read('volumes', 'new') == data + bytes(MIB)


def test_a_copy_that_fails_leaves_nothing(world: World) -> None:
    _snapshot(world)
    before = world.state()
    for method in ('aio_read', 'write', 'extents', 'flush'):
        world.ceph.fail_next(
            'read' if method == 'aio_read' else method,
            exception.ClusterUnavailable('lost'))
        with world.driver() as driver, \
                pytest.raises(exception.ClusterUnavailable):
            driver.volumes.create_from_snapshot(
                VolumeSpec('new'), VOLUME, MEMBERS[VOLUME])
        assert world.state() == before, method


def test_a_volume_is_reverted_to_a_part(world: World) -> None:
    data = world.read('volumes', VOLUME)
    _snapshot(world)
    with world.driver() as driver:
        driver.volumes.extend(VOLUME, 2 * MIB)
        driver.snapshots.revert(VOLUME, MEMBERS[VOLUME], keep_size=True)
        assert [found.name for found in driver.snapshots.list(VOLUME)] == [
            MEMBERS[VOLUME]]
    assert world.read('volumes', VOLUME) == data + bytes(MIB)


def test_a_member_is_uploaded_as_ever(world: World) -> None:
    _snapshot(world)
    now = world.read('volumes', VOLUME)
    with world.driver() as driver:
        result = driver.images.upload(VolumeSpec(VOLUME), ImageRequest('x'))
    assert result.strategy == 'clone'
    assert world.download(str(result.values['image_id'])) == now


def test_a_clone_does_not_inherit_what_its_source_is_part_of(world: World
                                                             ) -> None:
    _snapshot(world)
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec('new'), VOLUME)
        assert driver.snapshots.list('new') == []


def test_a_member_is_not_deleted_before_its_snapshot(world: World) -> None:
    _snapshot(world)
    before = world.state()
    with world.driver() as driver, pytest.raises(
            exception.ImageHasSnapshots, match=GROUP):
        driver.volumes.delete(VOLUME)
    assert world.state() == before


def test_after_the_snapshot_is_deleted_nothing_is_left_of_it(world: World
                                                             ) -> None:
    before = world.state()
    with world.driver() as driver:
        driver.groups.create_snapshot(GROUP, MEMBERS)
        assert world.volumes.groups() == [f'volume_rbd.group-{GROUP}']
        driver.groups.delete_snapshot(GROUP, MEMBERS)
        assert world.state() == before
        assert world.volumes.groups() == []
        driver.groups.delete_snapshot(GROUP, MEMBERS)
        for name in MEMBERS:
            driver.volumes.delete(name)
    assert world.ceph.disks == {}


def test_one_part_can_be_deleted_alone(world: World) -> None:
    _snapshot(world)
    with world.driver() as driver:
        driver.snapshots.delete(VOLUME, MEMBERS[VOLUME])
        assert driver.snapshots.list(VOLUME) == []
        driver.volumes.delete(VOLUME)
        driver.reclaimer.wait()
        with pytest.raises(exception.SnapshotNotFound):
            driver.snapshots.delete(OTHER, MEMBERS[VOLUME])
        driver.groups.delete_snapshot(GROUP, MEMBERS)
        driver.volumes.delete(OTHER)
    assert world.ceph.disks == {}
    assert world.ceph.groups == {}


def test_several_group_snapshots_of_one_volume(world: World) -> None:
    with world.driver() as driver:
        driver.groups.create_snapshot('g1', {VOLUME: 's1'})
        _write(world, VOLUME, b'two')
        driver.groups.create_snapshot('g2', {VOLUME: 's2'})
        driver.snapshots.create(VOLUME, 's3')
        assert [found.name for found in driver.snapshots.list(VOLUME)] == [
            's1', 's2', 's3']
        driver.volumes.create_from_snapshot(VolumeSpec('new'), VOLUME, 's2')
        assert world.read('volumes', 'new')[:3] == b'two'
        driver.groups.delete_snapshot('g1', {VOLUME: 's1'})
        assert [found.name for found in driver.snapshots.list(VOLUME)] == [
            's2', 's3']


def test_names_that_are_taken_are_refused(world: World) -> None:
    _snapshot(world)
    before = world.state()
    with world.driver() as driver:
        with pytest.raises(exception.SnapshotExists):
            driver.snapshots.create(VOLUME, MEMBERS[VOLUME])
        with pytest.raises(exception.SnapshotExists):
            driver.groups.create_snapshot('other', MEMBERS)
        with pytest.raises(exception.Conflict):
            driver.groups.create_snapshot(GROUP, {VOLUME: 'new'})
    assert world.state() == before
    assert world.volumes.groups() == [f'volume_rbd.group-{GROUP}']


def test_a_member_that_is_missing_is_told(world: World) -> None:
    before = world.state()
    with world.driver() as driver, pytest.raises(exception.ImageNotFound):
        driver.groups.create_snapshot(GROUP, {**MEMBERS, 'nope': 's'})
    assert world.state() == before


def test_a_call_that_fails_leaves_all_or_nothing() -> None:
    def begin() -> World:
        made = World()
        for name in MEMBERS:
            made.make_volume(name)
        return made

    whole = begin()
    whole.trace()
    with whole.driver() as driver:
        driver.groups.create_snapshot(GROUP, MEMBERS)
    calls = whole.end_trace()['ceph']
    for number, method in enumerate(calls):
        world = begin()
        before = world.state()
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        with world.driver() as driver, \
                pytest.raises(exception.ClusterUnavailable):
            driver.groups.create_snapshot(GROUP, MEMBERS)
        world.end_trace()
        assert world.state() == before, (number, method)
        assert world.volumes.groups() == [], (number, method)


def test_what_a_killed_process_left_is_deleted_by_the_groups_id(world: World
                                                                ) -> None:
    before = world.state()
    for volume, name in MEMBERS.items():
        with world.volumes.open(volume) as image:
            groupmark.set_mark(image, name, f'volume_rbd.group-{GROUP}')
    world.volumes.snapshot_group(f'volume_rbd.group-{GROUP}', list(MEMBERS))
    with world.driver() as driver:
        assert [f.name for f in driver.snapshots.list(OTHER)] == [
            MEMBERS[OTHER]]
        driver.groups.delete_snapshot(GROUP, MEMBERS)
    assert world.state() == before


def test_a_mark_of_another_image_does_not_count(world: World) -> None:
    _snapshot(world)
    with world.volumes.open(VOLUME) as image, \
            world.volumes.open(OTHER) as other:
        for key, value in image.metadata().items():
            if 'snapshot' in key:
                other.set_metadata(key, value)
        other.set_metadata('volume_rbd.snapshot.bad', 'not JSON')
    with world.driver() as driver:
        assert [f.name for f in driver.snapshots.list(OTHER)] == [
            MEMBERS[OTHER]]
