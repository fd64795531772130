# SPDX-License-Identifier: Apache-2.0
"""Pools: making, finding, naming and removing rbd_images."""

import pytest

from volume_rbd import exception, model
from volume_rbd.ceph import interface

MIB = 1024 ** 2


def test_a_created_image_is_listed_with_its_id(ceph):
    name = ceph.new()

    listed = {image.name: image.id for image in ceph.volumes.images()}

    with ceph.volumes.open(name) as image:
        assert listed[name] == image.id
        assert str(image.spec) == f'volumes/{name}'


def test_an_image_has_the_size_objects_and_features_asked_for(ceph):
    name = ceph.new(size_bytes=5 * MIB + 512, layout=model.Layout(2 * MIB),
                    features=interface.LAYERING)

    with ceph.volumes.open(name, read_only=True) as image:
        assert image.size_bytes == 5 * MIB + 512
        assert image.object_size_bytes == 2 * MIB
        assert image.features == interface.LAYERING
        assert image.parent is None
        assert not image.is_clone_v2


def test_who_may_write_to_a_pool_is_known(ceph):
    nova = ceph.world.cluster('nova')

    assert ceph.images.may_write()
    assert nova.pool('vms').may_write()
    assert not nova.pool('images').may_write()
    with pytest.raises(exception.PoolNotFound):
        nova.pool('nowhere').may_write()


def test_a_second_image_of_the_same_name_is_refused(ceph):
    name = ceph.new()

    with pytest.raises(exception.ImageExists, match=name):
        ceph.volumes.create(name, MIB)


def test_the_same_name_in_another_pool_is_another_image(ceph):
    name = ceph.new()

    assert not ceph.images.has_image(name)
    ceph.images.create(name, MIB)
    assert ceph.images.has_image(name)


@pytest.mark.parametrize('object_size', [3000, 0, 512])
def test_an_impossible_object_size_is_refused(ceph, object_size):
    with pytest.raises(exception.InvalidSize):
        ceph.volumes.create(
            ceph.name(), MIB, layout=model.Layout(object_size))


def test_a_negative_size_is_refused(ceph):
    with pytest.raises(exception.InvalidSize):
        ceph.volumes.create(ceph.name(), -1)


def test_a_removed_image_is_gone(ceph):
    name = ceph.new()

    ceph.volumes.remove(name)

    assert not ceph.volumes.has_image(name)
    with pytest.raises(exception.ImageNotFound, match=name), \
            ceph.volumes.open(name):
        pass


def test_an_unknown_image_cannot_be_removed(ceph):
    with pytest.raises(exception.ImageNotFound):
        ceph.volumes.remove(ceph.name())


def test_an_open_image_cannot_be_removed(ceph):
    name = ceph.new()

    with ceph.volumes.open(name) as image:
        image.write(b'1', 0)
        with pytest.raises(exception.ImageBusy):
            ceph.volumes.remove(name)

    ceph.volumes.remove(name)


def test_an_image_with_snapshots_cannot_be_removed(ceph):
    parent = ceph.new_parent()

    with pytest.raises(exception.ImageHasSnapshots):
        ceph.volumes.remove(parent.image)


def test_an_aborted_remove_raises_what_the_callback_raised(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.write(b'1', 0)

    with pytest.raises(exception.Cancelled, match='enough'):
        ceph.volumes.remove(name, _stop)


def test_an_interrupted_remove_is_finished_by_another(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.write(b'1', 0)
    with pytest.raises(exception.Cancelled):
        ceph.volumes.remove(name, _stop)

    assert name in [image.name for image in ceph.volumes.images()]
    assert name not in [entry.name for entry in ceph.volumes.trash()]
    assert not ceph.volumes.has_image(name)
    with pytest.raises(exception.ImageNotFound), ceph.volumes.open(name):
        pass
    ceph.volumes.remove(name)
    assert name not in [image.name for image in ceph.volumes.images()]
    with pytest.raises(exception.ImageNotFound):
        ceph.volumes.remove(name)


def _stop(done, total):
    raise exception.Cancelled('enough')


def test_rename_keeps_the_id(ceph):
    name, new_name = ceph.new(), ceph.name()
    with ceph.volumes.open(name) as image:
        image_id = image.id

    ceph.volumes.rename(name, new_name)

    assert not ceph.volumes.has_image(name)
    with ceph.volumes.open(new_name) as image:
        assert image.id == image_id


def test_rename_does_not_replace_another_image(ceph):
    name, other = ceph.new(), ceph.new()

    with pytest.raises(exception.ImageExists):
        ceph.volumes.rename(name, other)


def test_an_image_is_opened_by_its_id(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image_id = image.id

    with ceph.volumes.open_by_id(image_id) as image:
        assert image.spec.name == name

    with pytest.raises(exception.ImageNotFound), \
            ceph.volumes.open_by_id('0123456789ab'):
        pass


def test_a_pool_in_use_passes_its_check(ceph):
    ceph.volumes.check()
    assert ceph.volumes.name == 'volumes'


def test_an_unknown_pool_is_said_to_be_one(ceph):
    unknown = ceph.cluster.pool('no-such-pool')

    for action in (unknown.check, unknown.images, unknown.usage,
                   lambda: unknown.create('x', MIB)):
        with pytest.raises(exception.PoolNotFound, match='no-such-pool'):
            action()


def test_usage_says_what_can_still_be_written(ceph):
    usage = ceph.volumes.usage()

    assert usage.max_available_bytes > 0
    assert usage.stored_bytes >= 0
    assert usage.quota_bytes is None


# -- permissions -----------------------------------------------------------
def test_who_has_no_caps_on_a_pool_is_denied(ceph):
    pool = ceph.world.cluster('glance').pool('vms')

    for action in (pool.check, pool.images, lambda: pool.has_image('x'),
                   lambda: pool.create('x', MIB)):
        with pytest.raises(exception.CephPermissionDenied, match='glance'):
            action()


def test_who_may_only_read_cannot_make_or_remove_anything(ceph):
    name = ceph.new()
    pool = ceph.world.cluster('nova').pool('volumes')

    pool.check()
    for action in (lambda: pool.create(ceph.name(), MIB),
                   lambda: pool.remove(name),
                   lambda: pool.rename(name, ceph.name()),
                   lambda: pool.trash_move(name)):
        with pytest.raises(exception.CephPermissionDenied, match='nova'):
            action()
    with pytest.raises(exception.CephPermissionDenied), pool.open(name):
        pass


def test_who_may_only_read_opens_read_only(ceph):
    name = ceph.new()
    with ceph.volumes.open(name) as image:
        image.write(b'data', 0)
    pool = ceph.world.cluster('nova').pool('volumes')

    with pool.open(name, read_only=True) as image:
        assert image.read(0, 4) == b'data'
        for action in (lambda: image.write(b'1', 0),
                       image.aio_write(b'1', 0).wait,
                       lambda: image.create_snapshot('s'),
                       lambda: image.set_metadata('k', 'v'),
                       lambda: image.resize(16 * MIB)):
            with pytest.raises(exception.NotSupported):
                action()


# -- sizes --------------------------------------------------------------------

def _id(pool, name):
    with pool.open(name, read_only=True) as image:
        return image.id


def test_sizes_are_told_without_opening_anything(ceph):
    names = [ceph.new(size_bytes=number * MIB) for number in range(1, 80)]
    ids = {image.name: image.id for image in ceph.volumes.images()}

    sizes = ceph.volumes.sizes(ids[name] for name in names)

    assert sizes == {ids[name]: number * MIB
                     for number, name in enumerate(names, 1)}


def test_a_size_is_the_one_of_now_and_not_of_a_snapshot(ceph):
    parent = ceph.new_parent(size_bytes=2 * MIB)
    with ceph.volumes.open(parent.image) as image:
        image.resize(5 * MIB)
        assert ceph.volumes.sizes([image.id]) == {image.id: 5 * MIB}


def test_images_that_are_not_there_have_no_size(ceph):
    name = ceph.new()
    image_id = _id(ceph.volumes, name)

    assert ceph.volumes.sizes([]) == {}
    assert ceph.images.sizes([image_id]) == {}
    assert ceph.volumes.sizes(['0123456789ab', image_id]) == {
        image_id: 8 * MIB}


def test_an_image_in_the_trash_has_its_size(ceph):
    name = ceph.new()
    image_id = _id(ceph.volumes, name)
    ceph.volumes.trash_move(name)

    assert ceph.volumes.sizes([image_id]) == {image_id: 8 * MIB}


def test_sizes_of_a_pool_that_may_not_be_read_are_not_told(ceph):
    pool = ceph.world.cluster('glance').pool('vms')

    with pytest.raises(exception.CephPermissionDenied):
        pool.sizes(['0123456789ab'])


def test_the_cluster_is_not_smaller_than_what_is_left_in_it(ceph):
    usage = ceph.volumes.usage()

    assert usage.cluster_bytes >= usage.max_available_bytes > 0
