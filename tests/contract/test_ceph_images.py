# SPDX-License-Identifier: Apache-2.0
"""Open rbd_images: size, metadata, snapshots, watchers."""

import contextlib
import time

import pytest

from volume_rbd import exception
from volume_rbd.ceph import interface

MIB = 1024 ** 2


def test_a_grown_image_keeps_its_data_and_ends_in_zeros(ceph):
    with ceph.volumes.open(ceph.new(size_bytes=MIB)) as image:
        image.write(b'data', MIB - 4)
        image.resize(3 * MIB)

        assert image.size_bytes == 3 * MIB
        assert image.read(MIB - 4, 8) == b'data\0\0\0\0'


def test_an_image_shrinks_only_when_told_to(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        with pytest.raises(exception.InvalidSize):
            image.resize(MIB)
        image.resize(MIB, allow_shrink=True)

        assert image.size_bytes == MIB


def test_what_was_cut_off_does_not_come_back(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        image.write(b'x' * 10000, MIB - 5000)
        image.resize(MIB - 100, allow_shrink=True)
        image.resize(2 * MIB)

        assert image.read(MIB - 101, 5000) == b'x' + bytes(4999)


def test_metadata_is_what_was_set(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        assert image.metadata() == {}
        image.set_metadata('key', 'first')
        image.set_metadata('key', 'välue\nwith {"json": 1}')
        image.set_metadata('a.b/c', 'x')

    with ceph.volumes.open(name, read_only=True) as image:
        assert image.metadata() == {
            'key': 'välue\nwith {"json": 1}', 'a.b/c': 'x'}


def test_an_empty_metadata_value_does_not_mix_up_the_others(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        image.set_metadata('a', '')
        image.set_metadata('b', 'of b')

        assert image.metadata() == {'a': '', 'b': 'of b'}


def test_all_of_many_metadata_keys_are_listed(ceph):
    wanted = {f'key{number:03}': str(number) * 50 for number in range(150)}
    with ceph.volumes.open(ceph.new()) as image:
        for key, value in wanted.items():
            image.set_metadata(key, value)

        assert image.metadata() == wanted


def test_removing_metadata_is_idempotent(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        image.set_metadata('key', 'value')
        image.remove_metadata('key')
        image.remove_metadata('key')

        assert image.metadata() == {}


def test_a_snapshot_keeps_size_and_data_of_its_moment(ceph):
    name = ceph.new(size_bytes=2 * MIB)
    with ceph.volumes.open(name) as image:
        image.write(b'old', 0)
        image.create_snapshot('s')
        image.write(b'new', 0)
        image.resize(4 * MIB)
        found = image.find_snapshot('s')

    assert found.size_bytes == 2 * MIB
    with ceph.volumes.open(name, snapshot='s') as image:
        assert image.size_bytes == 2 * MIB
        assert image.read(0, 3) == b'old'
        with pytest.raises(exception.NotSupported):
            image.write(b'x', 0)
    with ceph.volumes.open_by_id(image.id, snapshot_id=found.id) as image:
        assert image.read(0, 3) == b'old'


def test_snapshots_are_listed_oldest_first(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        for name in ('b', 'a'):
            image.create_snapshot(name)

        assert [snapshot.name for snapshot in image.snapshots()] == [
            'b', 'a']
        assert image.find_snapshot('c') is None


def test_a_second_snapshot_of_the_same_name_is_refused(ceph):
    parent = ceph.new_parent()

    with ceph.volumes.open(parent.image) as image, \
            pytest.raises(exception.SnapshotExists, match='@snap'):
        image.create_snapshot('snap')


def test_an_unknown_snapshot_is_not_found_in_any_way(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        for action in (image.remove_snapshot, image.protect_snapshot,
                       image.unprotect_snapshot, image.rollback):
            with pytest.raises(exception.SnapshotNotFound, match='@nope'):
                action('nope')
        for action in (image.remove_snapshot_by_id, image.children):
            with pytest.raises(exception.SnapshotNotFound):
                action(999999)
    with pytest.raises(exception.SnapshotNotFound, match='@nope'), \
            ceph.volumes.open(name, snapshot='nope'):
        pass
    with pytest.raises(exception.SnapshotNotFound), \
            ceph.volumes.open_by_id(image.id, snapshot_id=999999):
        pass


def test_a_protected_snapshot_stays_until_it_is_unprotected(ceph):
    parent = ceph.new_parent()

    with ceph.volumes.open(parent.image) as image:
        image.protect_snapshot('snap')
        image.protect_snapshot('snap')
        assert image.find_snapshot('snap').is_protected
        with pytest.raises(exception.SnapshotBusy):
            image.remove_snapshot('snap')
        image.unprotect_snapshot('snap')
        image.unprotect_snapshot('snap')
        image.remove_snapshot('snap')
        assert image.snapshots() == []


def test_a_snapshot_without_children_is_removed_by_its_id(ceph):
    parent = ceph.new_parent()

    with ceph.volumes.open(parent.image) as image:
        image.remove_snapshot_by_id(image.find_snapshot('snap').id)

        assert image.snapshots() == []


def test_rollback_brings_data_and_size_back(ceph):
    calls = []
    with ceph.volumes.open(ceph.new(size_bytes=2 * MIB)) as image:
        image.write(b'old', MIB)
        image.create_snapshot('s')
        image.write(b'new and more', MIB)
        image.write(b'elsewhere', 0)
        image.resize(4 * MIB)

        image.rollback('s', lambda *done: calls.append(done))

        assert image.size_bytes == 2 * MIB
        assert image.read(MIB, 12) == b'old' + bytes(9)
        assert image.read(0, 9) == bytes(9)
    assert calls


def test_a_refused_rollback_changes_nothing(ceph):
    def stop(done, total):
        raise exception.Cancelled('enough')

    with ceph.volumes.open(ceph.new()) as image:
        image.create_snapshot('s')
        image.write(b'new', 0)
        with pytest.raises(exception.Cancelled):
            image.rollback('s', stop)

        assert image.read(0, 3) == b'new'


def test_watchers_are_the_others_who_have_it_open_for_writing(ceph):
    name = ceph.new()
    other = ceph.world.cluster('admin')

    with ceph.volumes.open(name) as image:
        assert image.watchers() == []
        with other.pool('volumes').open(name):
            assert image.watchers() == [other.address]
        with ceph.volumes.open(name):
            assert image.watchers() == [ceph.cluster.address]
        with other.pool('volumes').open(name, read_only=True) as reader:
            assert image.watchers() == []
            assert reader.watchers() == [ceph.cluster.address]


def test_living_watchers_are_those_who_are_not_shut_out(ceph):
    name = ceph.new()
    private = ceph.cluster.private()

    with ceph.volumes.open(name) as image, \
            contextlib.suppress(exception.ClusterUnavailable), \
            private.pool('volumes').open(name):
        assert image.living_watchers() == [private.address]
        ceph.cluster.blocklist(private.address)
        assert image.living_watchers() == []


def test_a_writer_that_is_fenced_is_shut_out_at_once(ceph):
    name = ceph.new()
    other = ceph.world.cluster('cinder', private=True)

    with ceph.volumes.open(name) as image:
        assert not image.fence_writer()
        with contextlib.suppress(exception.ClusterUnavailable), \
                other.pool('volumes').open(name) as theirs:
            theirs.write(b'theirs', 0)
            assert image.fence_writer()
            assert image.watchers() == []
            with pytest.raises(exception.ClusterUnavailable):
                theirs.write(b'late', 0)
        image.write(b'ours', 6)

    with ceph.volumes.open(name) as image:
        assert image.read(0, 10) == b'theirsours'
    ceph.volumes.remove(name)


def test_a_closed_image_cannot_be_used(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        pass

    with pytest.raises(exception.VolumeRBDError):
        image.read(0, 1)


# -- trash -----------------------------------------------------------------
def _entry(pool, name):
    return next(entry for entry in pool.trash() if entry.name == name)


def test_a_trashed_image_leaves_the_directory_and_can_be_read(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.write(b'data', 0)

    ceph.volumes.trash_move(name)

    entry = _entry(ceph.volumes, name)
    assert not ceph.volumes.has_image(name)
    assert entry.id == image.id
    with ceph.volumes.open_by_id(entry.id, read_only=True) as image:
        assert image.read(0, 4) == b'data'


def test_the_trash_tells_times_in_seconds_since_the_epoch(ceph):
    name = ceph.new()

    before = time.time()
    ceph.volumes.trash_move(name, delay_s=1000)

    entry = _entry(ceph.volumes, name)
    assert before - 5 < entry.deletion_time < before + 60
    assert 990 < entry.deferred_until - entry.deletion_time < 1010


def test_an_open_image_can_be_moved_to_the_trash_not_removed(ceph):
    name = ceph.new()
    with ceph.world.cluster('admin').pool('volumes').open(name) as image:
        image.write(b'1', 0)
        ceph.volumes.trash_move(name)
        with pytest.raises(exception.ImageBusy):
            ceph.volumes.trash_remove(image.id)
        assert image.read(0, 1) == b'1'

    ceph.volumes.trash_remove(image.id)
    assert not [e for e in ceph.volumes.trash() if e.name == name]


def test_what_is_kept_for_a_while_is_removed_by_force_only(ceph):
    name = ceph.new()
    ceph.volumes.trash_move(name, delay_s=1000)
    image_id = _entry(ceph.volumes, name).id

    with pytest.raises(exception.Conflict, match='kept'):
        ceph.volumes.trash_remove(image_id)
    ceph.volumes.trash_remove(image_id, force=True)

    with pytest.raises(exception.ImageNotFound):
        ceph.volumes.trash_remove(image_id)


def test_a_trashed_image_is_restored_under_a_free_name(ceph):
    name, other, new_name = ceph.new(), ceph.new(), ceph.name()
    ceph.volumes.trash_move(name)
    image_id = _entry(ceph.volumes, name).id

    with pytest.raises(exception.ImageExists):
        ceph.volumes.trash_restore(image_id, other)
    ceph.volumes.trash_restore(image_id, new_name)

    with ceph.volumes.open(new_name) as image:
        assert image.id == image_id
    with pytest.raises(exception.ImageNotFound):
        ceph.volumes.trash_restore('0123456789ab', ceph.name())


def test_a_trashed_image_with_snapshots_stays(ceph):
    parent = ceph.new_parent()
    ceph.volumes.trash_move(parent.image)
    image_id = _entry(ceph.volumes, parent.image).id

    with pytest.raises(exception.ImageHasSnapshots):
        ceph.volumes.trash_remove(image_id)


def test_an_unknown_image_cannot_be_trashed(ceph):
    with pytest.raises(exception.ImageNotFound):
        ceph.volumes.trash_move(ceph.name())


# -- features -----------------------------------------------------------------

SHAREABLE = interface.CLONE_FEATURES & ~(
    interface.EXCLUSIVE_LOCK | interface.OBJECT_MAP | interface.FAST_DIFF)
DROPPED = interface.CLONE_FEATURES & ~SHAREABLE


def _with_snapshots(ceph):
    """A volume with all features, data and two snapshots."""
    name = ceph.new(features=interface.CLONE_FEATURES)
    with ceph.volumes.open(name) as image:
        image.write(b'one', 0)
        image.create_snapshot('first')
        image.write(b'two', 2 * MIB)
        image.create_snapshot('second')
    return name


def _data(image):
    return [(extent.offset, extent.length) for extent in image.extents()
            if extent.exists]


def test_features_are_turned_off_and_on_again(ceph):
    name = _with_snapshots(ceph)
    with ceph.volumes.open(name) as image:
        assert image.has_valid_object_map

        image.update_features(DROPPED, False)

        assert image.features == SHAREABLE
        assert not image.has_valid_object_map
        image.write(b'three', 4 * MIB)

        image.update_features(DROPPED, True)

        assert image.features == interface.CLONE_FEATURES
        assert image.read(4 * MIB, 5) == b'three'


def test_an_object_map_is_not_valid_before_it_is_rebuilt(ceph):
    name = _with_snapshots(ceph)
    with ceph.volumes.open(name) as image:
        image.update_features(DROPPED, False)
        image.write(b'three', 4 * MIB)
        image.update_features(DROPPED, True)

        assert not image.has_valid_object_map
        image.rebuild_object_map()

        assert image.has_valid_object_map
        assert _data(image) == [(0, MIB), (2 * MIB, MIB), (4 * MIB, MIB)]
    for snapshot, expected in (('first', [(0, MIB)]),
                               ('second', [(0, MIB), (2 * MIB, MIB)])):
        with ceph.volumes.open(name, snapshot=snapshot) as image:
            assert image.has_valid_object_map
            assert _data(image) == expected


def test_the_object_map_of_a_removed_snapshot_is_rebuilt_too(ceph):
    parent = ceph.new_parent()
    clone = ceph.new_clone(parent)
    with ceph.volumes.open(parent.image) as image:
        image.remove_snapshot(parent.snapshot)
        image.update_features(DROPPED, False)
        image.update_features(DROPPED, True)
        image.rebuild_object_map()

        assert image.has_valid_object_map
    with ceph.images.open(clone, read_only=True) as image:
        assert image.read(0, 6) == b'parent'


def test_to_rebuild_without_an_object_map_does_nothing(ceph):
    with ceph.volumes.open(ceph.new(features=interface.LAYERING)) as image:
        image.rebuild_object_map()

        assert not image.has_valid_object_map


def test_turning_features_on_or_off_twice_is_no_error(ceph):
    with ceph.volumes.open(_with_snapshots(ceph)) as image:
        for is_enabled in (False, False, True, True):
            image.update_features(DROPPED, is_enabled)

        assert image.features == interface.CLONE_FEATURES


@pytest.mark.parametrize(('features', 'is_enabled'), [
    (interface.EXCLUSIVE_LOCK, False), (interface.DEEP_FLATTEN, True)])
def test_features_that_cannot_be_changed_are_refused(
        ceph, features, is_enabled):
    name = ceph.new(
        features=interface.CLONE_FEATURES & ~interface.DEEP_FLATTEN)
    with ceph.volumes.open(name) as image:
        before = image.features
        with pytest.raises(exception.InvalidInput):
            image.update_features(features, is_enabled)

        assert image.features == before


# -- other names for snapshots ------------------------------------------------

def test_a_renamed_snapshot_keeps_its_id_and_its_protection(ceph):
    with ceph.volumes.open(_with_snapshots(ceph)) as image:
        image.protect_snapshot('first')
        before = image.find_snapshot('first')

        image.rename_snapshot('first', 'other')

        assert image.find_snapshot('first') is None
        after = image.find_snapshot('other')
        assert (after.id, after.is_protected) == (before.id, True)


@pytest.mark.parametrize('clone_format', [1, 2])
def test_a_snapshot_with_clones_can_be_renamed(ceph, clone_format):
    cluster = ceph.world.cluster(clone_format=clone_format)
    parent = ceph.new_parent()
    clone = ceph.new_clone(parent, cluster.pool('images'))

    with ceph.volumes.open(parent.image) as image:
        image.rename_snapshot(parent.snapshot, 'other')

    with ceph.images.open(clone, read_only=True) as image:
        assert image.read(0, 6) == b'parent'
        assert image.parent.snapshot == 'other'


def test_a_taken_or_a_missing_name_of_a_snapshot_is_told(ceph):
    with ceph.volumes.open(_with_snapshots(ceph)) as image:
        with pytest.raises(exception.SnapshotExists):
            image.rename_snapshot('first', 'second')
        with pytest.raises(exception.SnapshotNotFound):
            image.rename_snapshot('nope', 'third')

        assert [found.name for found in image.snapshots()] == [
            'first', 'second']
