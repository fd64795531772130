# SPDX-License-Identifier: Apache-2.0
"""RBD groups, joined only for a snapshot; and what else moves with ids."""

import time

import pytest

from volume_rbd import exception, model

MIB = 1024 ** 2


def _members(ceph, count=2):
    names = [ceph.new() for _ in range(count)]
    for name in names:
        with ceph.volumes.open(name) as image:
            image.write(name.encode(), 0)
    return names


def _snapshot_of(ceph, name):
    with ceph.volumes.open(name, read_only=True) as image:
        [found] = image.group_snapshots()
        return image.id, found


def test_a_group_snapshot_keeps_what_all_members_were(ceph):
    names, group = _members(ceph), ceph.name()
    ceph.volumes.snapshot_group(group, names)
    for name in names:
        with ceph.volumes.open(name) as image:
            image.write(b'X' * 40, 0)
            image.resize(16 * MIB)

    for name in names:
        image_id, found = _snapshot_of(ceph, name)
        assert (found.size_bytes, found.group) == (8 * MIB, group)
        with ceph.volumes.open_by_id(
                image_id, snapshot_id=found.id) as image:
            assert image.size_bytes == 8 * MIB
            assert image.read(0, len(name)) == name.encode()
            assert [e for e in image.extents() if e.exists] == [
                model.Extent(0, MIB, True)]


def test_it_is_no_snapshot_of_the_owners(ceph):
    [name], group = _members(ceph, 1), ceph.name()
    ceph.volumes.snapshot_group(group, [name])

    with ceph.volumes.open(name) as image:
        assert image.snapshots() == []
        assert image.children() == []


def test_a_former_member_can_be_joined_again_and_trashed(ceph):
    [name], groups = _members(ceph, 1), [ceph.name(), ceph.name()]
    for group in groups:
        ceph.volumes.snapshot_group(group, [name])
    with ceph.volumes.open(name, read_only=True) as image:
        assert [s.group for s in image.group_snapshots()] == groups

    ceph.volumes.trash_move(name)
    [entry] = [e for e in ceph.volumes.trash() if e.name == name]
    with pytest.raises(exception.ImageHasSnapshots):
        ceph.volumes.trash_remove(entry.id)
    with ceph.volumes.open_by_id(entry.id) as image:
        for snapshot in image.group_snapshots():
            image.remove_snapshot_by_id(snapshot.id)
    for group in groups:
        ceph.volumes.remove_group(group)
    ceph.volumes.trash_remove(entry.id)


def test_a_group_whose_member_is_gone_can_be_removed(ceph):
    (gone, left), group = _members(ceph), ceph.name()
    ceph.volumes.snapshot_group(group, [gone, left])
    with ceph.volumes.open(gone) as image:
        image.remove_snapshot_by_id(image.group_snapshots()[0].id)
        assert image.group_snapshots() == []
    ceph.volumes.remove(gone)

    ceph.volumes.remove_group(group)

    assert group not in ceph.volumes.groups()
    with ceph.volumes.open(left) as image:
        [snapshot] = image.group_snapshots()
        assert snapshot.group == ''
        image.remove_snapshot_by_id(snapshot.id)
        assert image.group_snapshots() == []
    ceph.volumes.remove(left)


def test_a_group_is_removed_twice(ceph):
    [name], group = _members(ceph, 1), ceph.name()
    ceph.volumes.snapshot_group(group, [name])
    with ceph.volumes.open(name) as image:
        image.remove_snapshot_by_id(image.group_snapshots()[0].id)
    assert group in ceph.volumes.groups()
    ceph.volumes.remove_group(group)
    ceph.volumes.remove_group(group)
    assert group not in ceph.volumes.groups()


def test_where_a_member_is_missing_there_is_no_group(ceph):
    [name], group = _members(ceph, 1), ceph.name()
    with pytest.raises(exception.ImageNotFound):
        ceph.volumes.snapshot_group(group, [name, ceph.name()])

    assert group not in ceph.volumes.groups()
    with ceph.volumes.open(name, read_only=True) as image:
        assert image.group_snapshots() == []


def test_a_group_that_is_there_is_left_alone(ceph):
    (one, two), group = _members(ceph), ceph.name()
    ceph.volumes.snapshot_group(group, [one])
    with pytest.raises(exception.Conflict):
        ceph.volumes.snapshot_group(group, [two])

    assert group in ceph.volumes.groups()
    assert _snapshot_of(ceph, one)[1].group == group


def test_a_member_that_is_open_elsewhere_goes_on_being_written_to(ceph):
    [name], group = _members(ceph, 1), ceph.name()
    other = ceph.world.cluster('admin').pool('volumes')
    with other.open(name) as image:
        image.write(b'before', 0)
        ceph.volumes.snapshot_group(group, [name])
        image.write(b'after!', 0)

    image_id, found = _snapshot_of(ceph, name)
    with ceph.volumes.open_by_id(image_id, snapshot_id=found.id) as image:
        assert image.read(0, 6) == b'before'


# -- what has changed --

def test_changes_are_those_since_a_snapshot(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.write(b'a' * MIB, 0)
        image.write(b'b' * MIB, MIB)
        image.create_snapshot('one')
        image.write(b'c', MIB)
        image.write(b'd', 4 * MIB)
        image.aio_write_zeroes(0, MIB).wait()
        assert _coarse(image.changes('one')) == {
            0: False, 1: True, 4: True}
        image.create_snapshot('two')
        image.write(b'e', 6 * MIB)
        assert _coarse(image.changes('two')) == {6: True}
        assert _coarse(image.changes('one')) == {
            0: False, 1: True, 4: True, 6: True}
    with ceph.volumes.open(name, snapshot='two') as image:
        assert _coarse(image.changes('one')) == {
            0: False, 1: True, 4: True}


def _coarse(extents):
    """The object's number to whether it exists."""
    return {extent.offset // MIB: extent.exists for extent in extents}


def test_changes_go_through_a_snapshot_of_a_group(ceph):
    """What was written before it and not after is a change, too."""
    name, group = ceph.new(), ceph.name()
    with ceph.volumes.open(name) as image:
        image.create_snapshot('one')
        image.write(b'before', 2 * MIB)
    ceph.volumes.snapshot_group(group, [name])
    with ceph.volumes.open(name) as image:
        image.write(b'after', 5 * MIB)
        assert _coarse(image.changes('one')) == {2: True, 5: True}
        number = image.group_snapshots()[0].id
    with ceph.volumes.open_by_id(_id(ceph, name), snapshot_id=number
                                 ) as image:
        assert _coarse(image.changes('one')) == {2: True}


def _id(ceph, name):
    with ceph.volumes.open(name, read_only=True) as image:
        return image.id


def test_changes_of_what_grew_reach_to_its_end(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.create_snapshot('one')
        image.resize(12 * MIB)
        image.write(b'x', 11 * MIB)
        assert _coarse(image.changes('one')) == {11: True}


def test_changes_of_a_clone_are_its_own(ceph):
    child = ceph.new_clone(ceph.new_parent(b'p' * (2 * MIB)))
    with ceph.images.open(child) as image:
        image.create_snapshot('one')
        image.write(b'x', MIB)
        assert _coarse(image.changes('one')) == {1: True}


def test_changes_since_what_is_not_there(ceph):
    with ceph.volumes.open(ceph.new()) as image, \
            pytest.raises(exception.SnapshotNotFound):
        list(image.changes('nope'))


def test_what_is_discarded_reads_as_zeros(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        image.write(b'x' * (3 * MIB), 0)
        image.aio_write_zeroes(MIB, MIB).wait()
        image.aio_write_zeroes(10, 100).wait()
        image.flush()
        assert image.read(0, 3 * MIB) == (
            b'x' * 10 + bytes(100) + b'x' * (MIB - 110) + bytes(MIB)
            + b'x' * MIB)
        with pytest.raises(exception.InvalidSize):
            image.aio_write_zeroes(7 * MIB, 2 * MIB)


def test_what_is_discarded_in_a_clone_does_not_show_the_parent(ceph):
    child = ceph.new_clone(ceph.new_parent(b'p' * (2 * MIB)))
    with ceph.images.open(child) as image:
        image.aio_write_zeroes(0, MIB).wait()
        image.aio_write_zeroes(MIB, 10).wait()
        assert image.read(0, MIB + 11) == bytes(MIB + 10) + b'p'


# -- the pool's own metadata --

def test_a_pool_has_metadata(ceph):
    key = f'volume_rbd.{ceph.name()}'
    ceph.volumes.set_metadata(key, '1')
    ceph.volumes.set_metadata(f'{key}-other', '')
    ceph.volumes.set_metadata(key, '2')
    found = ceph.volumes.metadata()
    assert (found[key], found[f'{key}-other']) == ('2', '')
    assert key not in ceph.images.metadata()

    for _ in range(2):
        ceph.volumes.remove_metadata(key)
        ceph.volumes.remove_metadata(f'{key}-other')
    assert not [k for k in ceph.volumes.metadata() if k.startswith(key)]


# -- a removal from the trash that is stopped --

def test_a_removal_from_the_trash_can_be_stopped_and_finished(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.write(b'x' * (8 * MIB), 0)
        image.set_metadata('mark', 'mine')
    ceph.volumes.trash_move(name)
    [entry] = [e for e in ceph.volumes.trash() if e.name == name]

    def stop(done, total):
        raise exception.Cancelled('enough')

    with pytest.raises(exception.Cancelled, match='enough'):
        ceph.volumes.trash_remove(entry.id, on_progress=stop)
    assert entry.id in [e.id for e in ceph.volumes.trash()]
    with ceph.volumes.open_by_id(entry.id, read_only=True) as image:
        assert image.metadata() == {'mark': 'mine'}
    calls = []
    ceph.volumes.trash_remove(
        entry.id, on_progress=lambda *call: calls.append(call))
    assert calls
    assert entry.id not in [e.id for e in ceph.volumes.trash()]


# -- what the stock driver leaves --

def test_a_parent_of_format_1_can_be_moved_to_the_trash(ceph):
    """Protected snapshot and all; it goes once its child has gone."""
    parent, child = ceph.new_parent(), ceph.name()
    ceph.world.cluster(clone_format=1).pool('volumes').clone(parent, child)

    ceph.volumes.trash_move(parent.image)

    with ceph.volumes.open(child) as image:
        assert image.read(0, 6) == b'parent'
        found = image.parent
        assert found.in_trash
    with ceph.volumes.open_by_id(found.image_id) as image:
        assert [c.image for c in image.children()] == [child]
        with pytest.raises(exception.SnapshotBusy):
            image.unprotect_snapshot('snap')
    ceph.volumes.remove(child)
    with ceph.volumes.open_by_id(found.image_id) as image:
        image.unprotect_snapshot('snap')
        image.remove_snapshot('snap')
    ceph.volumes.trash_remove(found.image_id)


def test_a_snapshot_with_clones_of_both_formats_stays_until_the_first_goes(
        ceph):
    parent, first, second = ceph.new_parent(), ceph.name(), ceph.name()
    ceph.world.cluster(clone_format=1).pool('volumes').clone(parent, first)
    ceph.volumes.clone(parent, second)

    with ceph.volumes.open(parent.image) as image:
        with pytest.raises(exception.SnapshotBusy):
            image.unprotect_snapshot('snap')
        with ceph.volumes.open(first) as clone:
            clone.flatten()
        image.unprotect_snapshot('snap')
        image.remove_snapshot('snap')
        [left] = image.snapshots()
        assert left.in_trash
    with ceph.volumes.open(second, read_only=True) as image:
        assert not image.parent.in_trash


def test_the_trash_keeps_what_is_deferred_until_its_time(ceph):
    name = ceph.new()
    ceph.volumes.trash_move(name, 1)
    [entry] = [e for e in ceph.volumes.trash() if e.name == name]
    assert ceph.volumes.find_trashed(entry.id) == entry
    with pytest.raises(exception.Conflict):
        ceph.volumes.trash_remove(entry.id)
    time.sleep(max(0, entry.deferred_until - time.time()))
    ceph.volumes.trash_remove(entry.id)
    assert ceph.volumes.find_trashed(entry.id) is None
