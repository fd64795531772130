# SPDX-License-Identifier: Apache-2.0
"""Clones: both formats, parents and children, flatten, what is inherited."""

import time

import pytest

from volume_rbd import exception, model
from volume_rbd.ceph import interface

MIB = 1024 ** 2


def _entry(pool, name):
    return next(entry for entry in pool.trash() if entry.name == name)


def test_a_clone_reads_its_parents_data_and_writes_its_own(ceph):
    parent = ceph.new_parent(b'parent')
    child = ceph.new_clone(parent)

    with ceph.images.open(child) as image:
        assert image.read(0, 6) == b'parent'
        image.write(b'XX', 2)
        assert image.read(0, 6) == b'paXXnt'
    with ceph.volumes.open(parent.image) as image:
        assert image.read(0, 6) == b'parent'


def test_a_clone_is_of_format_2_and_needs_no_protection(ceph):
    parent = ceph.new_parent()

    child = ceph.name()
    ceph.images.clone(parent, child)

    with ceph.images.open(child) as image:
        assert image.is_clone_v2
    with ceph.volumes.open(parent.image) as image:
        assert not image.find_snapshot('snap').is_protected


def test_a_clone_has_our_features_whatever_its_parent_has(ceph):
    parent = ceph.new_parent(features=interface.LAYERING)
    child = ceph.new_clone(parent)

    with ceph.images.open(child) as image:
        assert image.features == interface.CLONE_FEATURES
        assert image.object_size_bytes == MIB


def test_a_clone_knows_its_parent(ceph):
    parent = ceph.new_parent()
    child = ceph.new_clone(parent)

    with ceph.volumes.open(parent.image) as image:
        snapshot = image.find_snapshot('snap')
        parent_id = image.id
    with ceph.images.open(child) as image:
        assert image.parent == interface.ParentInfo(
            pool='volumes', image=parent.image, image_id=parent_id,
            snapshot='snap', snapshot_id=snapshot.id, in_trash=False)


def test_a_removed_snapshot_stays_the_parent_of_its_clones(ceph):
    parent = ceph.new_parent()
    child = ceph.new_clone(parent)

    with ceph.volumes.open(parent.image) as image:
        number = image.find_snapshot('snap').id
        image.remove_snapshot('snap')
        assert image.find_snapshot('snap') is None
        left, = image.snapshots()
        assert (left.id, left.name, left.in_trash) == (number, 'snap', True)
        with pytest.raises(exception.SnapshotBusy):
            image.remove_snapshot_by_id(number)
    with ceph.images.open(child) as image:
        assert image.parent.snapshot == 'snap'
        assert image.parent.snapshot_id == number
        assert image.read(0, 6) == b'parent'


def test_snapshots_in_the_trash_may_share_their_name(ceph):
    parent = ceph.new_parent(b'first')
    first = ceph.new_clone(parent)
    with ceph.volumes.open(parent.image) as image:
        image.remove_snapshot('snap')
        image.write(b'later', 0)
        image.create_snapshot('snap')
    second = ceph.new_clone(parent)

    with ceph.images.open(first) as one, ceph.images.open(second) as two:
        assert one.parent.snapshot == two.parent.snapshot == 'snap'
        assert one.parent.snapshot_id < two.parent.snapshot_id
        parent_id, number = one.parent.image_id, one.parent.snapshot_id
    with ceph.volumes.open_by_id(parent_id, snapshot_id=number) as image:
        assert image.read(0, 5) == b'first'
    with ceph.volumes.open(parent.image) as image:
        assert [child.image for child in image.children(number)] == [first]


def test_the_last_clone_takes_a_removed_snapshot_along(ceph):
    parent = ceph.new_parent()
    child = ceph.new_clone(parent)
    with ceph.volumes.open(parent.image) as image:
        image.remove_snapshot('snap')

    ceph.images.remove(child)

    with ceph.volumes.open(parent.image) as image:
        assert image.snapshots() == []
    ceph.volumes.remove(parent.image)


def test_who_may_only_read_the_parent_leaves_its_snapshot_behind(ceph):
    parent = ceph.new_parent()
    child = ceph.new_clone(parent)
    with ceph.volumes.open(parent.image) as image:
        image.remove_snapshot('snap')

    ceph.world.cluster('glance').pool('images').remove(child)

    with ceph.volumes.open(parent.image) as image:
        left, = image.snapshots()
        assert left.in_trash
        assert image.children() == []
        image.remove_snapshot_by_id(left.id)
        assert image.snapshots() == []


def test_children_are_found_across_pools_and_in_the_trash(ceph):
    parent = ceph.new_parent()
    in_images = ceph.new_clone(parent)
    in_vms = ceph.new_clone(parent, ceph.vms)
    ceph.images.trash_move(in_images)

    with ceph.volumes.open(parent.image) as image:
        children = {child.image: child for child in image.children()}
        number = image.find_snapshot('snap').id
        assert image.children(number) == image.children()

    assert set(children) == {in_images, in_vms}
    assert children[in_images].in_trash
    assert children[in_images].pool == 'images'
    assert not children[in_vms].in_trash


def test_children_in_a_pool_one_may_not_read_are_no_secret(ceph):
    parent = ceph.new_parent()
    ceph.new_clone(parent, ceph.vms)
    pool = ceph.world.cluster('glance').pool('volumes')

    with pool.open(parent.image, read_only=True) as image, \
            pytest.raises(exception.CephPermissionDenied):
        image.children()


def test_a_parent_in_the_trash_is_said_to_be_there(ceph):
    parent = ceph.new_parent()
    child = ceph.new_clone(parent)
    with ceph.volumes.open(parent.image) as image:
        image.remove_snapshot('snap')
    with pytest.raises(exception.ImageHasSnapshots):
        ceph.volumes.remove(parent.image)
    ceph.volumes.trash_move(parent.image)

    with ceph.images.open(child) as image:
        found = image.parent
        assert found.in_trash
        assert found.image == parent.image
        assert image.read(0, 6) == b'parent'
    with pytest.raises(exception.ImageHasSnapshots):
        ceph.volumes.trash_remove(found.image_id)
    with ceph.volumes.open_by_id(
            found.image_id, snapshot_id=found.snapshot_id) as image:
        assert image.read(0, 6) == b'parent'

    ceph.images.remove(child)
    ceph.volumes.trash_remove(found.image_id)


def test_a_clone_inherits_all_image_metadata(ceph):
    parent = ceph.new_parent()
    with ceph.volumes.open(parent.image) as image:
        image.set_metadata('volume_rbd.lineage', '{}')
        image.set_metadata('conf_rbd_qos_iops_limit', '1000')

    with ceph.images.open(ceph.new_clone(parent)) as image:
        assert image.metadata() == {
            'volume_rbd.lineage': '{}', 'conf_rbd_qos_iops_limit': '1000'}


# -- format 1 --------------------------------------------------------------
@pytest.mark.parametrize('private', [False, True])
def test_where_format_2_is_refused_the_snapshot_is_protected(ceph, private):
    parent, child = ceph.new_parent(), ceph.name()
    old = ceph.world.cluster(clone_format=1, private=private)

    old.pool('images').clone(parent, child)

    with ceph.images.open(child) as image:
        assert not image.is_clone_v2
        assert image.parent.snapshot == 'snap'
        assert image.read(0, 6) == b'parent'
    with ceph.volumes.open(parent.image) as image:
        assert image.find_snapshot('snap').is_protected
        assert [c.image for c in image.children()] == [child]
        with pytest.raises(exception.SnapshotBusy):
            image.remove_snapshot('snap')
        with pytest.raises(exception.SnapshotBusy):
            image.unprotect_snapshot('snap')

    ceph.images.remove(child)
    with ceph.volumes.open(parent.image) as image:
        image.unprotect_snapshot('snap')
        image.remove_snapshot('snap')


def test_format_1_of_a_snapshot_that_is_protected_already(ceph):
    parent, child = ceph.new_parent(), ceph.name()
    with ceph.volumes.open(parent.image) as image:
        image.protect_snapshot('snap')
    old = ceph.world.cluster(clone_format=1)

    old.pool('images').clone(parent, child)

    with ceph.images.open(child) as image:
        assert not image.is_clone_v2


# -- refusals --------------------------------------------------------------
def test_a_parent_without_layering_cannot_be_cloned(ceph):
    parent, child = ceph.new_parent(features=0), ceph.name()

    with pytest.raises(exception.NotCloneable) as caught:
        ceph.images.clone(parent, child)

    assert caught.value.reason == 'clone_failed'
    assert not ceph.images.has_image(child)
    with ceph.volumes.open(parent.image) as image:
        assert not image.find_snapshot('snap').is_protected


def test_a_clone_says_what_is_missing_or_in_its_way(ceph):
    parent, taken = ceph.new_parent(), ceph.new(ceph.images)
    cases = [
        (parent, taken, exception.ImageExists, taken),
        (model.SnapSpec('volumes', parent.image, 'nope'), ceph.name(),
         exception.SnapshotNotFound, '@nope'),
        (model.SnapSpec('volumes', 'nope', 'snap'), ceph.name(),
         exception.ImageNotFound, 'nope'),
        (model.SnapSpec('no-such-pool', 'x', 'snap'), ceph.name(),
         exception.PoolNotFound, 'no-such-pool'),
    ]
    for source, name, kind, text in cases:
        with pytest.raises(kind, match=text):
            ceph.images.clone(source, name)


def test_who_may_not_read_the_parent_cannot_clone_it(ceph):
    name = ceph.new(ceph.vms)
    with ceph.vms.open(name) as image:
        image.create_snapshot('snap')
    glance = ceph.world.cluster('glance')

    with pytest.raises(exception.CephPermissionDenied):
        glance.pool('images').clone(
            model.SnapSpec('vms', name, 'snap'), ceph.name())


def test_who_may_not_read_the_parent_cannot_open_the_clone(ceph):
    name = ceph.new(ceph.vms)
    with ceph.vms.open(name) as image:
        image.write(b'1', 0)
        image.create_snapshot('snap')
    child = ceph.new_clone(model.SnapSpec('vms', name, 'snap'))
    glance = ceph.world.cluster('glance')

    with pytest.raises(exception.CephPermissionDenied), \
            glance.pool('images').open(child, read_only=True):
        pass


# -- flatten ---------------------------------------------------------------
def test_a_flattened_clone_has_all_data_and_no_parent(ceph):
    parent = ceph.new_parent(b'p' * (2 * MIB))
    child = ceph.new_clone(parent)

    calls = []
    with ceph.images.open(child) as image:
        image.write(b'own', 4)
        image.flatten(lambda *done: calls.append(done))
        assert image.parent is None
        assert image.read(0, 8) == b'ppppownp'
        assert image.read(2 * MIB - 1, 2) == b'p\0'
    with ceph.volumes.open(parent.image) as image:
        assert image.children() == []
    assert calls


def test_an_image_without_a_parent_is_flat_already(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        image.flatten()


def test_an_aborted_flatten_raises_what_the_callback_raised(ceph):
    child = ceph.new_clone(ceph.new_parent(b'p' * (4 * MIB)))
    calls = []

    def stop(done, total):
        calls.append(done)
        raise ZeroDivisionError('any error')

    with ceph.images.open(child) as image:
        with pytest.raises(ZeroDivisionError, match='any error'):
            image.flatten(stop)
        assert image.parent is not None
        assert image.read(4 * MIB - 1, 2) == b'p\0'
    assert len(calls) == 1


def test_deep_flatten_frees_the_clones_snapshots_too(ceph):
    parent = ceph.new_parent()
    child = ceph.new_clone(parent)
    with ceph.images.open(child) as image:
        image.create_snapshot('snap')
        image.flatten()

    with ceph.images.open(child, snapshot='snap') as image:
        assert image.parent is None
        assert image.read(0, 6) == b'parent'
    with ceph.volumes.open(parent.image) as image:
        assert image.children() == []
        image.remove_snapshot('snap')
        assert image.snapshots() == []


def test_without_deep_flatten_a_snapshot_keeps_the_parent(ceph):
    parent = ceph.new_parent()
    child = ceph.new_clone(parent, features=interface.LAYERING)
    with ceph.images.open(child) as image:
        image.create_snapshot('snap')
        image.flatten()
        assert image.parent is None

    with ceph.images.open(child, snapshot='snap') as image:
        assert image.parent.image == parent.image
    with ceph.volumes.open(parent.image) as image:
        assert [c.image for c in image.children()] == [child]


def test_a_clone_of_a_clone_reads_through_both(ceph):
    parent = ceph.new_parent(b'grandparent')
    middle = ceph.new_clone(parent)
    with ceph.images.open(middle) as image:
        image.write(b'GRAND', 0)
        image.create_snapshot('snap')
    child = ceph.new_clone(model.SnapSpec('images', middle, 'snap'), ceph.vms)

    with ceph.vms.open(child) as image:
        assert image.read(0, 11) == b'GRANDparent'
        assert image.parent.image == middle


def test_a_clone_that_shrank_and_grew_does_not_see_the_parent_again(ceph):
    child = ceph.new_clone(ceph.new_parent(b'p' * (2 * MIB)))

    with ceph.images.open(child) as image:
        image.resize(MIB - 10, allow_shrink=True)
        image.resize(2 * MIB)
        assert image.read(MIB - 11, 20) == b'p' + bytes(19)
        assert sum(e.length for e in image.extents() if e.exists) <= MIB


def test_a_snapshot_knows_when_it_was_taken_also_once_removed(ceph):
    begin = time.time()
    parent = ceph.new_parent()
    ceph.new_clone(parent)

    with ceph.volumes.open(parent.image) as image:
        [found] = image.snapshots()
        taken_at = image.snapshot_time(found.id)
        image.remove_snapshot('snap')
        assert image.snapshots()[0].in_trash
        assert image.snapshot_time(found.id) == taken_at
        with pytest.raises(exception.SnapshotNotFound):
            image.snapshot_time(9999)

    assert begin - 5 < taken_at < time.time() + 5


def test_the_pool_that_may_not_be_read_is_known(ceph):
    name = ceph.new(ceph.vms)
    with ceph.vms.open(name) as image:
        image.create_snapshot('snap')
    child = ceph.new_clone(model.SnapSpec('vms', name, 'snap'))
    with ceph.images.open(child) as image:
        image.create_snapshot('snap')
    grandchild = ceph.new_clone(model.SnapSpec('images', child, 'snap'))
    glance = ceph.world.cluster('glance')

    for each in (child, grandchild):
        with pytest.raises(exception.CephPermissionDenied), \
                glance.pool('images').open(each, read_only=True):
            pass
        assert glance.pool('images').find_denied_pool(each) == 'vms'
        assert ceph.images.find_denied_pool(each) is None
    assert glance.pool('vms').find_denied_pool(name) == 'vms'
    with pytest.raises(exception.ImageNotFound):
        ceph.images.find_denied_pool(ceph.name())
