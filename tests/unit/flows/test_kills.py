# SPDX-License-Identifier: Apache-2.0
"""A process is killed at every moment of every operation, and another one
takes it up: to finish it, or to undo it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.fakes import disk_formats
from tests.unit.flows import checks, test_convert_image, test_convert_volume
from tests.unit.flows.mortal import Job
from tests.unit.flows.test_faults import OPERATIONS
from tests.unit.world import SOURCE, VOLUME, World
from volume_rbd import model
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows import create_from_image, sending, upload_to_image

IMAGE = 'a0000000-0000-4000-8000-000000000001'
JOB = 'c0000000-0000-4000-8000-000000000001'


def _create(operation: checks.Operation) -> Job:
    world, image_id = operation.world, operation.image_id
    assert image_id is not None
    with world.driver() as driver:
        decided = driver.images.plan_create(checks.NEW_SPEC, image_id)
    return Job(operation, create_from_image.get_flow,
               create_from_image.get_arguments(
                   decided, job=JOB, image=world.glance.get_image(image_id),
                   volume_name=checks.NEW, volume=checks.NEW_SPEC))


def _upload(operation: checks.UploadOperation) -> Job:
    world = operation.world
    disk_format = getattr(operation, 'disk_format', 'raw')
    request = ImageRequest('title', disk_format=disk_format,
                           image_id=operation.image_id)
    with world.driver() as driver:
        decided = driver.images.plan_upload(SOURCE, request)
    image = model.GlanceImage(
        id=operation.image_id or IMAGE, name='title', status='queued',
        disk_format=disk_format, container_format='bare', min_disk_gib=1)
    return Job(operation, upload_to_image.get_flow,
               upload_to_image.get_arguments(
                   decided, job=JOB, image=image,
                   record_exists=operation.image_id is not None,
                   volume_name=VOLUME, fsid=world.ceph.fsid))


def _job(make: Callable[[], checks.Operation]) -> Job:
    operation = make()
    if isinstance(operation, checks.UploadOperation):
        return _upload(operation)
    return _create(operation)


def _refused() -> checks.Operation:
    """Glance takes no location, however often it is asked."""
    return checks.upload(World(has_locations_api=False))


def _task_failed() -> checks.Operation:
    """Glance takes a clone's location and fails: it cannot read the volume."""
    operation = checks.upload()
    operation.world.ceph.caps['glance'] = {'images': 'rw'}
    return operation


MAKERS: dict[str, Callable[[], checks.Operation]] = {
    **OPERATIONS,
    'create-convert': test_convert_image.convert,
    'create-convert-staged': lambda: test_convert_image.convert(
        store_id='file'),
    'upload-convert': test_convert_volume.convert,
    'upload-refused': _refused,
    'upload-task-failed': _task_failed,
}


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, '_BEGUN_AFTER_S', 0)


def _moments(make: Callable[[], checks.Operation]) -> list[str]:
    job = _job(make)
    moments = job.run().moments
    job.check_done()
    return moments


@pytest.mark.parametrize('is_undone', [False, True],
                         ids=['finished', 'undone'])
@pytest.mark.parametrize('name', MAKERS)
def test_whoever_takes_it_up_finishes_or_undoes_it(name: str,
                                                   is_undone: bool) -> None:
    for number, moment in enumerate(_moments(MAKERS[name])):
        job = _job(MAKERS[name])
        assert job.run(number).is_over, moment
        job.run(is_undone=is_undone)
        try:
            if is_undone:
                job.check_undone()
            else:
                job.check_done()
        except Exception as error:
            error.add_note(f'killed at {moment}, number {number}')
            raise
