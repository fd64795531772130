# SPDX-License-Identifier: Apache-2.0
"""A volume becomes an image by a copy inside the cluster."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.unit.flows import checks
from tests.unit.world import MIB, VOLUME, OnStep, World
from volume_rbd import exception
from volume_rbd.ceph import interface, lineage
from volume_rbd.flows.upload_to_image import source_snapshot
from volume_rbd.plan import SENTENCES, Reason

STEPS = ['creating the image record', 'taking a snapshot of the volume',
         'choosing a strategy', 'copying the volume',
         'taking the snapshot of the image', 'registering the image',
         'waiting for the image to be active',
         'removing the snapshot of the volume']
COMPARING = 'comparing the copy with its source'


def _copy(world: World | None = None, **changes: Any
          ) -> checks.UploadOperation:
    """Nothing may be cloned, so it is copied."""
    changes.setdefault('max_clone_depth', 0)
    return checks.upload(world, **changes)


def _image_id(operation: checks.Operation) -> str:
    return str(operation.result.values['image_id'])


def _image(operation: checks.Operation) -> Any:
    return operation.world.glance.get_image(_image_id(operation))


def test_a_volume_with_too_long_a_chain_is_copied() -> None:
    report = OnStep()
    operation = _copy().go(report)
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('copy', 'depth_reached')
    assert SENTENCES[Reason.DEPTH_REACHED][:-1] in result.sentence
    assert len(result.attempts) == 1
    assert report.steps == STEPS
    assert 'clone' not in operation.calls['ceph']
    assert 'upload' not in operation.calls['glance']


def test_the_copy_shares_nothing_and_is_marked_as_a_clone_is() -> None:
    operation = _copy().go()
    world, image_id = operation.world, _image_id(operation)
    [made] = [disk for disk in world.ceph.disks.values()
              if disk.pool == 'images']
    assert made.link is None
    assert made.features == interface.CLONE_FEATURES
    mark = world.mark('images', image_id)
    assert mark is not None
    assert (mark.kind, mark.state, mark.job) == (
        lineage.GLANCE_IMAGE, lineage.COMPLETE, operation.result.job)
    assert mark.origin == f'rbd:volumes/{VOLUME}@{source_snapshot(image_id)}'
    assert operation.result.lineage['origin'] == mark.origin
    assert world.snapshots('volumes', VOLUME) == []


def test_holes_are_neither_read_nor_written() -> None:
    operation = _copy(size_bytes=64 * MIB).go()
    operation.check_done()
    [made] = [disk for disk in operation.world.ceph.disks.values()
              if disk.pool == 'images']
    # Data is in the first, the middle and the last of sixteen objects.
    assert operation.calls['ceph'].count('read') == 3
    assert len(made.blocks) <= 3 * 16
    assert operation.result.bytes_moved <= 3 * 64 * 1024


def test_the_copy_is_one_point_in_time() -> None:
    operation = _copy()
    world = operation.world

    def write() -> None:
        with world.volumes.open(VOLUME) as volume:
            volume.write(b'later', 0)

    operation.go(OnStep({'copying the volume': write}))
    assert world.read('volumes', VOLUME)[:5] == b'later'
    assert world.download(_image_id(operation)) == operation.data


def test_a_glance_without_access_to_the_volumes_takes_a_copy() -> None:
    operation = _copy()
    operation.world.ceph.caps['glance'] = {'images': 'rw'}
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'copy'


# -- hashes -------------------------------------------------------------------

def test_a_glance_that_hashes_by_itself_is_given_no_hash() -> None:
    """It would read everything before the image is active."""
    operation = _copy(World(hashes_locations=True))
    given = []
    operation.world.server.register = (  # type: ignore[method-assign]
        lambda record, url, hashes=None, real=operation.world.server.register:
        (given.append(hashes), real(record, url, hashes))[1])
    operation.go()
    operation.check_done()
    assert given == [None]
    assert _image(operation).os_hash_value == hashlib.sha512(
        operation.data).hexdigest()


@pytest.mark.parametrize('name', ['sha512', 'sha256'])
@pytest.mark.parametrize('compares', [False, True])
def test_a_glance_that_does_not_is_given_the_hash_of_what_was_copied(
        name: str, compares: bool) -> None:
    """Also where it does all the same, and compares."""
    operation = _copy(World(hashes_locations=compares),
                      size_bytes=24 * MIB, glance_secure_hash=False,
                      glance_hashing_algorithm=name).go()
    operation.check_done()
    image = _image(operation)
    assert image.os_hash_algo == name
    assert image.os_hash_value == hashlib.new(
        name, operation.data).hexdigest()


def test_a_wrong_hash_is_undone_and_the_volume_sent() -> None:
    """Glance compares, finds another, and queues the image again."""
    operation = _copy(World(hashes_locations=True), glance_secure_hash=False)
    real = operation.world.server.register

    def register(record: Any, url: str, hashes: Any = None) -> None:
        real(record, url, type(hashes)(hashes.algorithm, '0' * 128))

    operation.world.server.register = (  # type: ignore[method-assign]
        register)
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'upload'
    assert operation.result.reason == Reason.LOCATION_TASK_FAILED


def test_the_old_api_is_given_the_checksum_too() -> None:
    operation = _copy(World(has_locations_api=False, show_locations=True),
                      allow_legacy_locations=True, glance_secure_hash=False
                      ).go()
    operation.check_done()
    image = _image(operation)
    assert operation.result.strategy == 'copy'
    assert image.checksum == hashlib.md5(operation.data).hexdigest()
    assert image.os_hash_value == hashlib.sha512(operation.data).hexdigest()


# -- verify_copies ------------------------------------------------------------

def test_a_copy_is_compared_where_that_is_wanted() -> None:
    report = OnStep()
    operation = _copy(verify_copies=True).go(report)
    operation.check_done()
    assert report.steps[4] == COMPARING
    assert operation.calls['ceph'].count('read') == 1 + 2


def test_a_copy_that_differs_is_undone_and_ends_the_upload() -> None:
    operation = _copy(verify_copies=True)
    world = operation.world

    def spoil() -> None:
        [image_id] = world.disks('images')
        with world.ceph.cluster('admin').pool('images').open(
                image_id) as made:
            made.write(b'x', 70_000)

    operation.go(OnStep({COMPARING: spoil}))
    assert isinstance(operation.error, exception.DataCorrupted)
    operation.check_untouched()


# -- when it is not the way ---------------------------------------------------

@pytest.mark.parametrize(('method', 'error', 'reason'), [
    ('create', exception.CephPermissionDenied('EPERM'), 'clone_denied'),
    ('create', exception.NotSupported('no'), 'copy_failed'),
    ('create', exception.PoolNotFound('no'), 'copy_failed'),
    ('read', exception.VolumeRBDError('EIO'), 'copy_failed'),
    ('write', exception.VolumeRBDError('EIO'), 'copy_failed'),
    ('set_metadata', exception.VolumeRBDError('EIO'), 'copy_failed'),
])
def test_a_copy_that_fails_is_undone_and_the_volume_sent(
        method: str, error: exception.VolumeRBDError, reason: str) -> None:
    operation = _copy()
    operation.world.ceph.fail_next(method, error)
    operation.go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('upload', reason)
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'copy', 'upload']
    assert error.message.rstrip('.') in result.sentence


@pytest.mark.parametrize('error', [
    exception.NoSpace('Full.'), exception.ClusterUnavailable('Gone.')])
def test_what_an_upload_would_meet_as_well_ends_it(
        error: exception.VolumeRBDError) -> None:
    operation = _copy()
    operation.world.ceph.fail_next('write', error)
    operation.go()
    assert operation.error is error
    operation.check_untouched()


@pytest.mark.parametrize('error', [
    exception.GlanceForbidden('403'), exception.InvalidInput('400')])
def test_a_location_that_glance_refuses_is_undone_and_the_volume_sent(
        error: exception.VolumeRBDError) -> None:
    operation = _copy()
    operation.world.glance.fail_next('register_location', error)
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'upload'


def test_a_clone_then_a_copy_then_an_upload_are_all_told() -> None:
    operation = checks.upload()
    operation.world.ceph.fail_next('clone', exception.NotSupported('old'))
    operation.world.ceph.fail_next('create', exception.NotSupported('no'))
    operation.go()
    operation.check_done()
    assert [(attempt['strategy'], attempt['reason'])
            for attempt in operation.result.attempts] == [
        ('clone', 'same_cluster'), ('copy', 'clone_failed'),
        ('upload', 'copy_failed')]


def test_a_registration_that_does_not_end_leaves_the_copy_pending() -> None:
    operation = _copy(World(activation_polls=None)).go()
    assert isinstance(operation.error, exception.RegistrationPending)
    operation.check_pending()
    assert 'Its copy images/' in operation.error.message


@pytest.mark.parametrize('mark', [lineage.GLANCE_IMAGE, None])
def test_what_bears_the_images_name_is_reaped_only_if_it_is_ours(
        mark: str | None) -> None:
    operation = _copy(keeps_record=True)
    images = operation.world.images
    assert operation.image_id is not None
    images.create(operation.image_id, 4096)
    with images.open(operation.image_id) as image:
        if mark:
            lineage.adopt(image, kind=mark, origin='rbd:x', job='earlier',
                          state=lineage.PENDING)
    operation.go()
    if mark:
        operation.check_done()
        assert operation.result.strategy == 'copy'
    else:
        assert isinstance(operation.error, exception.ImageExists)
        operation.check_untouched()


def test_a_copy_that_was_left_pending_is_reclaimed_like_a_clone() -> None:
    operation = _copy(World(activation_polls=None)).go()
    world = operation.world
    [image_id] = world.disks('images')
    del world.server.records[image_id]
    with world.driver() as driver:
        found = list(driver.reclaimer.find())
    assert [(each.what, each.name) for each in found] == [
        ('pending_clone', image_id)]
