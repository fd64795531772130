# SPDX-License-Identifier: Apache-2.0
"""A volume becomes an image."""

from __future__ import annotations

import concurrent.futures
import json

import pytest

from tests.unit.flows import checks
from tests.unit.world import SOURCE, VOLUME, OnStep, World
from volume_rbd import exception, model
from volume_rbd.ceph import interface, lineage
from volume_rbd.copying import outbound
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.upload_to_image import source_snapshot


def _image_id(operation: checks.Operation) -> str:
    return str(operation.result.values['image_id'])


def test_the_image_shares_the_volumes_data() -> None:
    operation = checks.upload().go()
    operation.check_done()
    world, result = operation.world, operation.result
    [clone] = [disk for disk in world.ceph.disks.values()
               if disk.pool == 'images']
    assert clone.blocks == {}
    assert clone.link is not None
    assert clone.link.parent.name == VOLUME
    assert result.bytes_moved == 0
    assert (result.strategy, result.reason) == ('clone', 'same_cluster')
    assert 'read' not in operation.calls['ceph']


def test_the_image_has_deep_flatten_whatever_the_volume_has() -> None:
    """Without it, ``snap`` keeps its parent after a flatten."""
    operation = checks.upload()
    for disk in operation.world.ceph.disks.values():
        disk.features = interface.LAYERING
    operation.go()
    operation.check_done()
    [clone] = [disk for disk in operation.world.ceph.disks.values()
               if disk.pool == 'images']
    assert clone.features == interface.CLONE_FEATURES


def test_the_source_snapshot_is_out_of_the_way_with_clone_v2() -> None:
    operation = checks.upload().go()
    name = source_snapshot(_image_id(operation))
    assert operation.world.snapshots('volumes', VOLUME) == [f'[{name}]']
    with operation.world.driver() as driver:
        assert driver.volumes.show(VOLUME).snapshots == ()


def test_the_source_snapshot_stays_protected_with_clone_v1() -> None:
    operation = checks.upload(World(clone_format=1)).go()
    operation.check_done()
    name = source_snapshot(_image_id(operation))
    assert operation.world.snapshots('volumes', VOLUME) == [f'{name}!']


def test_the_record_says_what_the_image_is() -> None:
    operation = checks.upload()
    world = operation.world
    with world.driver() as driver:
        result = driver.images.upload(SOURCE, ImageRequest(
            'a title', properties={'os_distro': 'debian'}))
    image = world.glance.get_image(str(result.values['image_id']))
    assert image.name == 'a title'
    assert (image.disk_format, image.container_format) == ('raw', 'bare')
    assert image.min_disk_gib == 1
    assert image.properties['os_distro'] == 'debian'


def test_a_record_that_the_caller_made_is_filled() -> None:
    operation = checks.upload(keeps_record=True).go()
    operation.check_done()
    assert _image_id(operation) == operation.image_id
    assert 'create_image' not in operation.calls['glance']


def test_the_result_can_be_kept_as_json() -> None:
    operation = checks.upload().go()
    result = operation.result
    kept = json.loads(json.dumps([
        result.operation, result.job, result.attempts, dict(result.values),
        dict(result.lineage)]))
    assert kept[0] == 'upload_to_image'
    assert result.seconds > 0
    assert result.size_bytes == checks.SIZE
    mark = operation.world.mark('images', _image_id(operation))
    assert mark is not None
    assert result.lineage == {'kind': mark.kind, 'job': mark.job,
                              'origin': mark.origin}


# -- the mark -----------------------------------------------------------------

def test_the_image_is_marked_with_where_it_comes_from() -> None:
    operation = checks.upload().go()
    image_id = _image_id(operation)
    mark = operation.world.mark('images', image_id)
    assert mark is not None
    assert mark.kind == lineage.GLANCE_IMAGE
    assert mark.state == lineage.COMPLETE
    assert mark.job == operation.result.job
    assert mark.origin == f'rbd:volumes/{VOLUME}@{source_snapshot(image_id)}'


def test_the_image_does_not_inherit_what_is_about_the_volume() -> None:
    """A clone inherits all metadata: conf_* would throttle the image and all
    its descendants."""
    operation = checks.upload()
    with operation.world.volumes.open(VOLUME) as volume:
        for key in ('conf_rbd_qos_iops_limit', 'conf_rbd_cache',
                    'volume_rbd.other', 'note'):
            volume.set_metadata(key, '1')
    operation.go()
    image_id = _image_id(operation)
    with operation.world.images.open(image_id, read_only=True) as image:
        inherited = dict(image.metadata())
    assert set(inherited) == {lineage.KEY, 'note'}
    with operation.world.volumes.open(VOLUME, read_only=True) as volume:
        assert 'conf_rbd_cache' in volume.metadata()


def test_the_mark_is_pending_until_the_image_is_active() -> None:
    states = []
    operation = checks.upload()
    world = operation.world

    def look() -> None:
        [image_id] = world.disks('images')
        mark = world.mark('images', image_id)
        states.append(mark.state if mark else None)

    operation.go(OnStep({
        'taking the snapshot of the image': look,
        'waiting for the image to be active': look,
        'removing the snapshot of the volume': look}))
    operation.check_done()
    assert states == [lineage.PENDING, lineage.PENDING, lineage.COMPLETE]


def test_the_snapshot_is_protected_before_glance_hears_of_it() -> None:
    seen = []
    operation = checks.upload()
    world = operation.world

    def look() -> None:
        [image_id] = world.disks('images')
        seen.extend(world.snapshots('images', image_id))

    operation.go(OnStep({'registering the image': look}))
    assert seen == ['snap!']


# -- one point in time --------------------------------------------------------

@pytest.mark.parametrize('is_enabled', [True, False])
def test_the_image_is_the_volume_at_its_snapshot_while_it_is_written_to(
        is_enabled: bool) -> None:
    operation = checks.upload(enable_clone_optimization=is_enabled)
    world = operation.world

    def write() -> None:
        with world.volumes.open(VOLUME) as volume:
            volume.write(b'later', 0)

    operation.go(OnStep({'cloning the volume': write,
                         'uploading the volume': write}))
    assert world.read('volumes', VOLUME)[:5] == b'later'
    assert world.download(_image_id(operation)) == operation.data


def test_a_volume_that_is_in_use_is_uploaded() -> None:
    operation = checks.upload()
    with operation.world.ceph.cluster('nova').pool('volumes').open(
            VOLUME, read_only=True), \
            operation.world.ceph.cluster('admin').pool('volumes').open(
                VOLUME):
        operation.go()
        assert operation.result.strategy == 'clone'


def test_a_volume_without_holes_is_sent_whole_and_holes_are_not_read() -> None:
    operation = checks.upload(size_bytes=24 * model.MIB,
                              enable_clone_optimization=False)
    operation.go()
    operation.check_done()
    # Data is in the first, the middle and the last of six objects.
    assert operation.result.bytes_moved == 12 * model.MIB
    assert (operation.calls['ceph'].count('read')
            == 12 * model.MIB // outbound.CHUNK_BYTES)


def test_a_volume_that_does_not_exist_is_told() -> None:
    world = World()
    with world.driver() as driver, \
            pytest.raises(exception.ImageNotFound):
        driver.images.upload(SOURCE, ImageRequest('x'))
    assert world.server.records == {}


# -- flatten ------------------------------------------------------------------

def test_a_clone_is_cut_loose_before_glance_sees_it() -> None:
    loose = []
    operation = checks.upload(clone_upload_flatten='before_register')
    # The user of Glance that may not read the volumes pool is served.
    operation.world.ceph.caps['glance'] = {'images': 'rw'}
    world = operation.world

    def look() -> None:
        loose.extend(disk.link for disk in world.ceph.disks.values()
                     if disk.pool == 'images')

    operation.go(OnStep({'registering the image': look}))
    operation.check_done()
    assert operation.result.strategy == 'clone'
    assert loose == [None]
    assert world.snapshots('volumes', VOLUME) == []


def test_a_clone_is_cut_loose_in_the_background() -> None:
    operation = checks.upload(clone_upload_flatten='background').go()
    operation.check_done()
    [clone] = [disk for disk in operation.world.ceph.disks.values()
               if disk.pool == 'images']
    assert clone.link is None
    assert [snap.link for snap in clone.snaps] == [None]
    assert operation.world.snapshots('volumes', VOLUME) == []


def test_a_flatten_in_the_background_that_fails_leaves_the_image_a_clone(
        ) -> None:
    operation = checks.upload(clone_upload_flatten='background')
    operation.world.ceph.fail_next('flatten', exception.NoSpace('Full.'))
    operation.go()
    operation.check_done()
    assert operation.world.snapshots('volumes', VOLUME) == [
        f'[{source_snapshot(_image_id(operation))}]']


# -- many at once -------------------------------------------------------------

def _upload_all(world: World, names: list[str]) -> list[str]:
    """At once, by one driver; the images' ids."""
    with world.driver() as driver, \
            concurrent.futures.ThreadPoolExecutor(len(names)) as executor:
        jobs = [executor.submit(
            driver.images.upload, model.VolumeSpec(name), ImageRequest(name))
            for name in names]
        results = [job.result(timeout=60) for job in jobs]
    assert {result.strategy for result in results} == {'clone'}
    assert len({result.job for result in results}) == len(names)
    return [str(result.values['image_id']) for result in results]


def test_twenty_volumes_are_uploaded_at_once() -> None:
    world = World()
    data = {f'volume-{number}': world.make_volume(f'volume-{number}')
            for number in range(20)}
    image_ids = _upload_all(world, list(data))
    assert world.disks('images') == sorted(image_ids)
    for name, image_id in zip(data, image_ids, strict=True):
        assert world.download(image_id) == data[name]
        mark = world.mark('images', image_id)
        assert mark is not None
        assert mark.origin.startswith(f'rbd:volumes/{name}@')
        assert mark.state == lineage.COMPLETE
        assert world.snapshots('volumes', name) == [
            f'[{source_snapshot(image_id)}]']
    assert not any(disk.watchers for disk in world.ceph.disks.values())


def test_one_volume_is_uploaded_twenty_times_at_once() -> None:
    world = World()
    data = world.make_volume()
    image_ids = _upload_all(world, [VOLUME] * 20)
    assert world.disks('images') == sorted(image_ids)
    assert {world.download(image_id) for image_id in image_ids} == {data}
    assert sorted(world.snapshots('volumes', VOLUME)) == sorted(
        f'[{source_snapshot(image_id)}]' for image_id in image_ids)
