# SPDX-License-Identifier: Apache-2.0
"""How rbd_images lie in RADOS: object size, striping, a data pool."""

import random

import pytest

from volume_rbd import exception
from volume_rbd.ceph import interface
from volume_rbd.model import MIB, Layout, SnapSpec

STRIPED = Layout(MIB, 64 * 1024, 4)
APART = Layout(MIB, data_pool='volumes')


def test_an_image_says_how_it_lies(ceph):
    for layout in (Layout(MIB), STRIPED):
        with ceph.volumes.open(ceph.new(layout=layout)) as image:
            assert image.layout == layout


def test_of_a_layout_that_says_nothing_objects_have_4_mib(ceph):
    with ceph.volumes.open(ceph.new(layout=Layout())) as image:
        assert image.layout == Layout(4 * MIB)


def test_one_object_at_a_time_is_no_striping(ceph):
    with ceph.volumes.open(ceph.new(layout=Layout(MIB, MIB, 1))) as image:
        assert image.layout == Layout(MIB)
        assert not image.features & interface.STRIPINGV2


def test_the_data_lies_in_another_pool(ceph):
    name = ceph.new(ceph.vms, layout=APART)
    with ceph.vms.open(name) as image:
        image.write(b'data', MIB)
        assert image.layout == APART
        assert image.features & interface.DATA_POOL
        assert image.read(MIB, 4) == b'data'
    assert not ceph.volumes.has_image(name)


def test_its_own_pool_is_no_other_one(ceph):
    name = ceph.new(layout=APART)
    with ceph.volumes.open(name) as image:
        assert image.layout == Layout(MIB)


@pytest.mark.parametrize('layout', [STRIPED, APART, Layout(2 * MIB)])
def test_a_clone_lies_as_it_is_told(ceph, layout):
    parent = ceph.new_parent(b'parent')
    child = ceph.new_clone(parent, ceph.vms, layout=layout)

    with ceph.vms.open(child) as image:
        assert image.layout == layout
        image.write(b'own', 3 * MIB)
        assert image.read(0, 6) == b'parent'
        assert image.read(3 * MIB, 3) == b'own'


def test_a_clone_lies_as_its_parent_where_nothing_is_said(ceph):
    parent = ceph.new_parent(layout=Layout(2 * MIB))
    with ceph.images.open(ceph.new_clone(parent)) as image:
        assert image.layout == Layout(2 * MIB)


def test_a_clone_takes_over_its_parents_stripes_and_not_its_data_pool(ceph):
    name = ceph.new(ceph.vms, layout=Layout(MIB, 64 * 1024, 4, 'volumes'))
    with ceph.vms.open(name) as image:
        image.create_snapshot('snap')
    parent = SnapSpec('vms', name, 'snap')

    with ceph.images.open(ceph.new_clone(parent)) as image:
        assert image.layout == STRIPED
    with ceph.images.open(ceph.new_clone(parent, layout=Layout(2 * MIB))
                          ) as image:
        assert image.layout == Layout(2 * MIB)


@pytest.mark.parametrize('layout', [
    Layout(MIB, 2 * MIB, 2), Layout(MIB, 3000, 2), Layout(MIB, 4096),
    Layout(MIB, None, 4)])
def test_what_does_not_go_together_is_refused(ceph, layout):
    with pytest.raises(exception.InvalidSize) as caught:
        ceph.volumes.create(ceph.name(), MIB, layout=layout)
    assert caught.value.remedy


def test_a_data_pool_that_is_not_there_is_named(ceph):
    parent, name = ceph.new_parent(), ceph.name()
    nowhere = Layout(data_pool='nowhere')

    with pytest.raises(exception.PoolNotFound, match='nowhere'):
        ceph.volumes.create(name, MIB, layout=nowhere)
    with pytest.raises(exception.PoolNotFound, match='nowhere'):
        ceph.volumes.clone(parent, name, layout=nowhere)
    assert not ceph.volumes.has_image(name)


def test_a_data_pool_that_may_not_be_written_to_is_refused(ceph):
    name = ceph.name()
    with pytest.raises(exception.CephPermissionDenied, match='volumes'):
        ceph.world.cluster('nova').pool('vms').create(
            name, MIB, layout=APART)
    assert not ceph.vms.has_image(name)


def test_extents_of_stripes_are_ascending_and_have_all_data(ceph):
    dice = random.Random(7)
    data = bytearray(16 * MIB)
    with ceph.volumes.open(ceph.new(layout=STRIPED, size_bytes=16 * MIB)
                           ) as image:
        for _ in range(6):
            at = dice.randrange(0, 16 * MIB - 9000)
            piece = dice.randbytes(9000)
            image.write(piece, at)
            data[at:at + 9000] = piece
        image.flush()

        for offset in (0, 100_000, 5 * MIB + 1):
            at = offset
            for extent in image.extents(offset):
                assert extent.offset == at
                at = extent.end
                if not extent.exists:
                    assert not any(data[extent.offset:extent.end])
            assert at == 16 * MIB
