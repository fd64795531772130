# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses

import pytest

from tests.fakes import disk_formats
from tests.unit.compute.conftest import DISK, INSTANCE, Compute
from tests.unit.world import SIZE, content
from volume_rbd import exception, model
from volume_rbd.compute import disks as disks_
from volume_rbd.driver.images import ImageRequest
from volume_rbd.model import GIB, MIB

# -- names --------------------------------------------------------------------

def test_a_disk_is_named_after_its_instance() -> None:
    assert disks_.get_name(INSTANCE.upper(), 'disk.config') == (
        f'{INSTANCE}_disk.config')


@pytest.mark.parametrize(('instance', 'name'), [
    ('my-guest', 'disk'), ('', 'disk'), (INSTANCE, ''), (INSTANCE, 'a/b'),
    (INSTANCE, 'a@b')])
def test_what_cannot_name_a_disk(instance: str, name: str) -> None:
    with pytest.raises(exception.InvalidName):
        disks_.get_name(instance, name)


# -- made from images ---------------------------------------------------------

def test_a_disk_is_a_clone_of_its_image(compute: Compute) -> None:
    image_id = compute.world.make_image()

    with compute.disks() as disks:
        result = disks.create(DISK, image_id, 2 * GIB)

        assert result.strategy == 'clone'
        assert disks.exists(DISK)
        assert disks.size(DISK) == 2 * GIB
        assert disks.show(DISK).parent == f'images/{image_id}@snap'
    assert compute.world.read('vms', DISK, length=SIZE) == content()


def test_any_of_the_locations_will_do(compute: Compute) -> None:
    """The seed of 2014: try every location."""
    image_id = compute.world.make_image()
    record = compute.world.server.get_record(image_id)
    [url] = record.urls
    place = model.RBDLocation.from_url(url)
    other = dataclasses.replace(place, fsid=INSTANCE).url
    missing = dataclasses.replace(place, snapshot='gone').url
    record.urls = ('file:///x', other, missing, url)

    with compute.disks() as disks:
        assert disks.create(DISK, image_id).strategy == 'clone'


@pytest.mark.parametrize(('change', 'reason'), [
    ({'fsid': INSTANCE}, 'other_cluster'),
    ({'snapshot': 'gone'}, 'missing_snapshot')])
def test_what_is_not_to_be_cloned_is_downloaded(
        compute: Compute, change: dict[str, str], reason: str) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.get_record(image_id).urls = (dataclasses.replace(
        model.RBDLocation(compute.cluster.fsid, 'images', image_id, 'snap'),
        **change).url,)
    with compute.world.images.open(
            _make_empty(compute, image_id)) as image:
        image.create_snapshot('snap')

    with compute.disks() as disks:
        result = disks.create(DISK, image_id)

    assert (result.strategy, result.reason) == ('download', reason)
    assert compute.world.read('vms', DISK, length=SIZE) == content()


def _make_empty(compute: Compute, name: str) -> str:
    compute.world.images.create(name, SIZE)
    return name


def test_a_disk_is_never_smaller_than_its_image(compute: Compute) -> None:
    image_id = compute.world.make_image(min_disk_gib=2)

    with compute.disks() as disks, pytest.raises(exception.InvalidSize):
        disks.create(DISK, image_id, GIB)
    assert compute.names() == []


def test_the_name_of_a_disk_that_is_there_is_refused(compute: Compute
                                                     ) -> None:
    image_id = compute.world.make_image()
    with compute.disks() as disks:
        disks.create_blank(DISK, GIB)
        with pytest.raises(exception.ImageExists):
            disks.create(DISK, image_id)
        assert disks.show(DISK).parent is None


# -- or nothing ---------------------------------------------------------------

def test_by_policy_a_disk_is_a_clone_or_nothing(compute: Compute) -> None:
    compute.configure(must_clone=True)
    cloneable = compute.world.make_image()
    elsewhere = compute.world.make_image(store_id='file')

    with compute.disks() as disks:
        assert disks.create(DISK, cloneable).strategy == 'clone'
        with pytest.raises(exception.NotCloneable,
                           match='does not lie in RBD') as caught:
            disks.create(f'{DISK}-2', elsewhere)
    assert caught.value.reason == 'not_rbd'
    assert 'images_rbd_must_clone' in caught.value.remedy
    assert compute.names() == [DISK]


def test_by_policy_no_bytes_are_moved_where_the_clone_fails(
        compute: Compute) -> None:
    compute.configure(must_clone=True)
    image_id = compute.world.make_image()
    compute.world.ceph.fail_next('clone', exception.NotSupported('No.'))

    with compute.disks() as disks, pytest.raises(exception.NotCloneable):
        disks.create(DISK, image_id)
    assert compute.names() == []


# -- the rest of a disk's life ------------------------------------------------

def test_a_disk_grows_and_does_not_shrink(compute: Compute) -> None:
    with compute.disks() as disks:
        disks.create_blank(DISK, GIB)
        disks.resize(DISK, GIB)
        disks.resize(DISK, 3 * GIB)
        assert disks.size(DISK) == 3 * GIB
        with pytest.raises(exception.InvalidSize):
            disks.resize(DISK, 2 * GIB)
        assert disks.size(DISK) == 3 * GIB
        with pytest.raises(exception.ImageNotFound):
            disks.resize('nothing', GIB)


def test_a_flavor_may_be_too_small_for_a_disk(compute: Compute) -> None:
    with compute.disks() as disks:
        disks.create_blank(DISK, 2 * GIB)
        disks.check_size(DISK, 2 * GIB)
        with pytest.raises(exception.InvalidSize, match=DISK):
            disks.check_size(DISK, GIB)


def test_a_disk_goes_back_to_its_snapshot(compute: Compute) -> None:
    with compute.disks() as disks:
        disks.create_blank(DISK, GIB)
        disks.snapshots.create(DISK, 'before')
        with compute.vms.open(DISK) as image:
            image.write(b'after', 0)
        with pytest.raises(exception.SnapshotNotFound):
            disks.rollback(DISK, 'never')
        disks.rollback(DISK, 'before')
        assert compute.world.read('vms', DISK, length=5) == bytes(5)
        disks.snapshots.delete(DISK, 'before')
        assert disks.snapshots.list(DISK) == []


def test_the_room_is_that_of_the_pool_with_the_bytes(compute: Compute
                                                     ) -> None:
    compute.world.ceph.quotas['volumes'] = 7 * MIB
    with compute.disks() as disks:
        found = disks.capacity()
        assert found.pool == 'vms'
        assert found.free_bytes > 7 * MIB
        assert found.total_bytes == found.free_bytes + found.used_bytes
    compute.world.ceph.caps['nova']['volumes'] = 'rw'
    compute.configure(layout=model.Layout(4 * MIB, data_pool='volumes'))
    with compute.disks() as disks:
        disks.check()
        assert disks.capacity() == disks_.Capacity(
            'volumes', 7 * MIB, 0, 7 * MIB)


@pytest.mark.parametrize('way', ['blank', 'clone', 'copy', 'download',
                                 'convert'])
def test_disks_lie_as_they_are_to(compute: Compute, way: str) -> None:
    layout = model.Layout(MIB, 64 * 1024, 4, 'volumes')
    compute.world.ceph.caps['nova']['volumes'] = 'rw'
    compute.configure(layout=layout)
    if way == 'copy':
        compute.configure(flatten_volume_from_snapshot=True)
    with compute.disks() as disks:
        if way == 'blank':
            disks.create_blank(DISK, GIB)
        else:
            result = disks.create(DISK, _make_image(compute, way))
            assert result.strategy == way
    with compute.vms.open(DISK, read_only=True) as image:
        assert image.layout == layout


def _make_image(compute: Compute, way: str) -> str:
    if way == 'convert':
        return compute.world.make_image(disk_formats.qcow2(content()),
                                        disk_format='qcow2')
    return compute.world.make_image(
        store_id='file' if way == 'download' else None)


def test_a_data_pool_that_is_not_there_leaves_nothing(compute: Compute
                                                      ) -> None:
    image_id = compute.world.make_image()
    compute.configure(layout=model.Layout(MIB, data_pool='nowhere'))
    with compute.disks() as disks:
        for make in (lambda: disks.create(DISK, image_id),
                     lambda: disks.create_blank(DISK, GIB),
                     disks.check, disks.capacity):
            with pytest.raises(exception.PoolNotFound, match='nowhere'):
                make()
    assert compute.names() == []


# -- snapshots as images ------------------------------------------------------

def test_a_snapshot_is_an_image_that_needs_nothing(compute: Compute) -> None:
    with compute.disks() as disks:
        compute.make_disk(disks)
        result = disks.snapshot_to_image(DISK, 'my guest')

        assert result.strategy == 'clone'
        assert disks.snapshots.list(DISK) == []
    image_id = str(result.values['image_id'])
    made = compute.world.glance.get_image(image_id)
    assert (made.name, made.status, made.disk_format) == (
        'my guest', 'active', 'raw')
    with compute.world.images.open(image_id, read_only=True) as image:
        assert image.parent is None
    assert compute.world.download(image_id) == content()


def test_an_image_of_another_format_is_of_that_format(compute: Compute
                                                      ) -> None:
    compute.configure(snapshot_format='qcow2')
    with compute.disks() as disks:
        compute.make_disk(disks)
        result = disks.snapshot_to_image(DISK, 'my guest')
    image_id = str(result.values['image_id'])
    assert result.strategy == 'convert'
    assert compute.world.glance.get_image(image_id).disk_format == 'qcow2'
    assert compute.world.download(image_id)[:4] == b'QFI\xfb'


def test_a_record_that_is_there_says_the_format(compute: Compute) -> None:
    record = compute.world.make_record(disk_format='qcow2')
    with compute.disks() as disks:
        compute.make_disk(disks)
        disks.snapshot_to_image(DISK, ImageRequest('x', image_id=record))
    assert compute.world.download(record)[:4] == b'QFI\xfb'


def test_a_record_without_a_format_is_refused(compute: Compute) -> None:
    record = compute.world.make_record(disk_format=None)
    with compute.disks() as disks:
        disks.create_blank(DISK, MIB)
        with pytest.raises(exception.InvalidInput, match='disk_format'):
            disks.snapshot_to_image(DISK, ImageRequest('x', image_id=record))


@pytest.mark.parametrize('call', ['clone', 'flatten', 'protect_snapshot'])
def test_a_snapshot_that_fails_leaves_nothing(compute: Compute, call: str
                                              ) -> None:
    """At flatten and at ``snap`` Nova leaves the clone."""
    with compute.disks() as disks:
        compute.make_disk(disks)
        before = compute.world.state()
        compute.world.ceph.fail_next(call, exception.NoSpace('Full.'))
        with pytest.raises(exception.NoSpace):
            disks.snapshot_to_image(DISK, 'my guest')
        assert compute.world.state() == before


def test_a_snapshot_without_the_cap_goes_through_glance(
        compute: Compute, caplog: pytest.LogCaptureFixture) -> None:
    compute.world.ceph.caps['nova']['images'] = 'r'
    with compute.disks() as disks:
        compute.make_disk(disks)
        result = disks.snapshot_to_image(DISK, 'my guest')
    assert (result.strategy, result.reason) == ('upload', 'clone_denied')
    assert 'Undoing' not in caplog.text
    image_id = str(result.values['image_id'])
    assert compute.world.download(image_id) == content()
