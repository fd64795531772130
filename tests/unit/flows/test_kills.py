# SPDX-License-Identifier: Apache-2.0
"""A process is killed at every moment of every operation, and another one
takes it up: to finish it, or to undo it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.unit.flows import (
    checks,
    test_convert_image,
    test_convert_volume,
    test_encrypt,
)
from tests.unit.flows.lives import Job
from tests.unit.flows.test_faults import OPERATIONS
from tests.unit.world import SOURCE, VOLUME, World
from volume_rbd import exception, model
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
                   volume_name=checks.NEW, volume=model.VolumeSpec(
                       checks.NEW, model.GIB, qos={'read_iops_sec': '100'})))


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


def _convert_into_a_record() -> checks.Operation:
    operation = test_convert_volume.convert()
    operation.image_id = operation.world.make_record(disk_format='qcow2')
    return operation


MAKERS: dict[str, Callable[[], checks.Operation]] = {
    **OPERATIONS,
    'create-convert': test_convert_image.convert,
    'create-convert-staged': lambda: test_convert_image.convert(
        store_id='file'),
    'create-convert-cloned': lambda: test_convert_image.convert(
        may_write=False),
    'upload-convert': test_convert_volume.convert,
    'upload-convert-into-a-record': _convert_into_a_record,
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


#: Each strategy, and one that follows another; "make faults" has the rest,
#: and the several kills in a row take some of it.
ALWAYS = frozenset((
    'create-clone', 'create-convert', 'create-convert-staged',
    'create-convert-cloned', 'create-copy',
    'create-download', 'create-copy-after-clone', 'upload-clone',
    'upload-clone-into-a-record', 'upload-copy', 'upload-convert',
    'upload-convert-into-a-record', 'upload-chunks',
    'upload-chunks-into-a-record'))


@pytest.mark.parametrize('is_undone', [False, True],
                         ids=['finished', 'undone'])
@pytest.mark.parametrize('name', [
    name if name in ALWAYS else pytest.param(name, marks=pytest.mark.faults)
    for name in MAKERS])
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


class Replacing(test_convert_image.Conversion):
    """The content of a volume that is there is replaced: once it is touched
    there is no way back for it."""

    def check_done(self) -> None:
        assert self.world.read('volumes', VOLUME)[:len(
            self.data)] == self.data

    def check_untouched(self) -> None:
        assert _without_content(self.world.state()) == _without_content(
            self.before)


def _without_content(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: {**value, 'blocks': None, 'metadata': None}
            if value.get('name') == VOLUME else value
            for key, value in state.items()}


def _replacing(strategy: str, store_id: str) -> Job:
    made = (test_convert_image.convert(store_id=store_id)
            if strategy == 'convert' else checks.create(store_id=store_id))
    world, image_id = made.world, made.image_id
    assert image_id is not None
    world.make_volume(size_bytes=8 * model.MIB)
    operation = Replacing(world, made.data, made.run, image_id)
    return Job(
        operation,
        lambda tools, arguments: create_from_image.get_flow(
            tools, arguments, replaces=True),
        {'job': JOB, 'image_id': image_id, 'volume_name': VOLUME,
         'image_size_bytes': world.glance.get_image(image_id).size_bytes,
         'disk_format': 'qcow2' if strategy == 'convert' else 'raw',
         'size_bytes': 8 * model.MIB, 'is_size_fixed': True,
         'source': (['images', image_id, 'snap'] if store_id == 'rbd'
                    else None),
         'choices': [{'strategy': strategy, 'reason': 'not_raw',
                      'sentence': ''}],
         'has_passphrase': False, 'settings': None})


@pytest.mark.parametrize('is_undone', [False, True],
                         ids=['finished', 'undone'])
@pytest.mark.parametrize(('strategy', 'store_id'), [
    ('convert', 'rbd'), ('convert', 'file'), ('copy', 'rbd'),
    ('download', 'file')])
def test_what_replaces_a_content_is_finished_or_lets_go(
        strategy: str, store_id: str, is_undone: bool) -> None:
    whole = _replacing(strategy, store_id)
    moments = whole.run().moments
    whole.check_done()
    for number in range(len(moments)):
        job = _replacing(strategy, store_id)
        job.run(number)
        job.run(is_undone=is_undone)
        if is_undone:
            job.check_undone()
        else:
            job.check_done()


def _encrypting() -> Job:
    operation = test_encrypt.seal()
    world, image_id = operation.world, operation.image_id
    assert image_id is not None
    with world.driver() as driver:
        decided = driver.images.plan_create(dataclasses.replace(
            checks.NEW_SPEC, is_encrypted=True), image_id)
    return Job(operation, create_from_image.get_flow,
               create_from_image.get_arguments(
                   decided, job=JOB, image=world.glance.get_image(image_id),
                   volume_name=checks.NEW, has_passphrase=True),
               test_encrypt.ENCRYPTION)


def test_what_has_a_passphrase_is_undone_without_it() -> None:
    whole = _encrypting()
    moments = whole.run().moments
    whole.check_done()
    assert 'child' in moments
    for number in range(len(moments)):
        job = _encrypting()
        job.run(number)
        job.run(is_undone=True)
        job.check_undone()


def test_what_has_a_passphrase_is_not_finished_without_it() -> None:
    job = _encrypting()
    job.run(20)
    with pytest.raises(exception.InvalidInput, match='passphrase'):
        job.run()


def _failing() -> checks.Operation:
    operation = checks.upload()
    operation.world.ceph.fail_next('protect_snapshot',
                                   exception.NoSpace('Full.'))
    return operation


def test_what_had_failed_by_itself_goes_on_being_undone() -> None:
    """It does not begin anew, as long as the record says that it failed."""
    whole = _job(_failing)
    moments = whole.run().moments
    assert isinstance(whole.operation.outcome, BaseException)
    whole.check_undone()
    outcomes = set()
    for number in range(len(moments)):
        job = _job(_failing)
        job.run(number)
        job.run()
        job.check_undone()
        outcomes.add(type(job.operation.outcome))
    assert len(outcomes) == 2  # the fault was met, or died with the process


SEED = 20261121
MOST_MOMENTS = 60


@pytest.mark.parametrize('number', range(40))
def test_several_kills_in_a_row_do_no_more_harm(number: int) -> None:
    chance = random.Random(SEED + number)
    job = _job(MAKERS[chance.choice(list(MAKERS))])
    is_undone = False
    for _ in range(chance.randint(2, 4)):
        job.run(chance.randrange(MOST_MOMENTS), is_undone=is_undone)
        # Who was told to undo it is not told otherwise.
        is_undone = is_undone or chance.random() < 0.3
    job.run(is_undone=is_undone)
    job.check_undone() if is_undone else job.check_done()
