# SPDX-License-Identifier: Apache-2.0
"""Whose an rbd_image is, and what is left alone because it is not ours."""

from __future__ import annotations

import pytest
from taskflow.types import failure

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.flows import base, owning, reaping, registration, strategies

NEW = 'volume-new'


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    return made


def _mark(world: World, job: str) -> None:
    with world.volumes.open(NEW) as image:
        lineage.adopt(image, kind=lineage.VOLUME, origin='blank', job=job)


def _drop(world: World, fits: owning.Test, result: object = None, *,
          has_job: bool = True) -> bool:
    tools = base.Tools(world.config, world.cluster, world.glance,
                       progress.Silent(), is_resumed=has_job)
    owning.drop(world.volumes, NEW, owning.made_by(tools, 'ours', fits,
                                                   result))
    return not world.volumes.has_image(NEW)


def _failed(error: BaseException) -> failure.Failure:
    """As it comes back from a record."""
    return failure.Failure.from_dict(
        failure.Failure.from_exception(error).to_dict())


def test_what_bears_the_mark_of_the_job_is_its_own(world: World) -> None:
    world.volumes.create(NEW, MIB)
    _mark(world, 'ours')
    assert _drop(world, owning.is_blank(0))


def test_what_bears_the_mark_of_another_job_is_left_alone(world: World
                                                          ) -> None:
    world.volumes.create(NEW, MIB)
    _mark(world, 'theirs')
    assert not _drop(world, owning.is_any)


def test_where_we_may_not_write_there_is_nothing_of_ours(world: World
                                                         ) -> None:
    world.ceph.caps['cinder'] = {'volumes': 'r'}
    assert _drop(world, owning.is_any)


def test_what_bears_no_mark_has_to_fit(world: World) -> None:
    world.volumes.create(NEW, MIB)
    assert not _drop(world, owning.is_blank(2 * MIB))
    with world.volumes.open(NEW):
        assert not _drop(world, owning.is_blank(MIB)), 'it is open'
    assert _drop(world, owning.is_blank(MIB))


@pytest.mark.parametrize(('size_bytes', 'data', 'is_dropped'), [
    (None, b'', True), (2 * MIB, b'', False), (None, b'theirs', False)])
def test_a_clone_that_was_begun_is_as_large_as_its_source_and_empty(
        world: World, size_bytes: int | None, data: bytes,
        is_dropped: bool) -> None:
    with world.volumes.open(VOLUME) as image:
        image.create_snapshot('a')
        size = image.size_bytes
    world.volumes.create(NEW, size_bytes or size)
    if data:
        with world.volumes.open(NEW) as image:
            image.write(data, 0)
    source = model.SnapSpec('volumes', VOLUME, 'a')
    assert _drop(world, owning.is_clone_begun(source, world.cluster)) is (
        is_dropped)


def test_without_a_job_nobody_knows_that_it_was_free(world: World) -> None:
    world.volumes.create(NEW, MIB)
    assert not _drop(world, owning.is_blank(MIB), has_job=False)


def test_a_clone_has_to_be_one_of_the_same_snapshot(world: World) -> None:
    with world.volumes.open(VOLUME) as image:
        image.create_snapshot('a')
        image.create_snapshot('b')
    source = model.SnapSpec('volumes', VOLUME, 'a')
    world.volumes.clone(source, NEW)  # inherits the mark of its parent
    assert not _drop(world, owning.is_blank(1024 * 1024))
    assert not _drop(world, owning.is_clone_of(
        model.SnapSpec('volumes', VOLUME, 'b')))
    assert _drop(world, owning.is_clone_of(source))


@pytest.mark.parametrize('error', [
    exception.ImageExists('taken'), exception.ImageBusy('open')])
def test_where_the_name_was_taken_only_the_mark_counts(
        world: World, error: exception.VolumeRBDError) -> None:
    world.volumes.create(NEW, MIB)
    assert not _drop(world, owning.is_any, _failed(error))
    _mark(world, 'ours')
    assert _drop(world, owning.is_any, _failed(error))


def test_a_removal_that_was_interrupted_is_finished(world: World) -> None:
    world.volumes.create(NEW, MIB)

    def interrupt(done: int, total: int) -> None:
        raise RuntimeError('killed')

    with pytest.raises(RuntimeError):
        world.volumes.remove(NEW, interrupt)
    assert NEW in [image.name for image in world.volumes.images()]
    _drop(world, owning.is_blank(MIB))
    assert NEW not in [image.name for image in world.volumes.images()]


# -- what Glance has ----------------------------------------------------------

def _revert_clone(world: World, image_id: str) -> registration.CloneVolume:
    tools = base.Tools(world.config, world.cluster, world.glance,
                       progress.Silent(), is_resumed=True)
    task = registration.CloneVolume(tools)
    task.revert(job='ours', image_id=image_id, volume_name=VOLUME,
                store_pool='images', result=None)
    return task


@pytest.mark.parametrize('is_active', [True, False],
                         ids=['active', 'at work'])
def test_what_glance_has_or_is_about_to_have_is_not_removed(
        is_active: bool) -> None:
    world = World(activation_polls=1 if is_active else None)
    world.make_volume()
    image_id = world.make_record()
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('s')
    world.images.clone(model.SnapSpec('volumes', VOLUME, 's'), image_id)
    with world.images.open(image_id) as clone:
        lineage.adopt(clone, kind=lineage.GLANCE_IMAGE, origin='x',
                      job='ours')
        clone.create_snapshot(model.GLANCE_SNAPSHOT)
        clone.protect_snapshot(model.GLANCE_SNAPSHOT)
    world.glance.register_location(image_id, reaping.location_of(
        image_id, world.ceph.fsid, 'images'))
    world.glance.get_image(image_id)
    assert image_id in _revert_clone(world, image_id).what_stayed
    assert world.disks('images') == [image_id]
    world.glance.delete_image(image_id)
    assert not _revert_clone(world, image_id).what_stayed
    assert world.disks('images') == []


@pytest.mark.parametrize('was_sent', [True, False])
def test_who_takes_a_registration_up_asks_once_and_is_not_cancelled(
        was_sent: bool) -> None:
    world = World(activation_polls=None)
    image_id = world.make_record()
    url = reaping.location_of(image_id, world.ceph.fsid, 'images')
    if was_sent:
        world.glance.register_location(image_id, url)
    report = progress.Cancellable()
    report.cancel()
    task = registration.Register(base.Tools(
        world.config, world.cluster, world.glance, report, is_resumed=True))
    task.pre_execute()
    assert task.execute(image_id, world.ceph.fsid, 'images') == url
    assert world.server.calls.count('register_location') == 1


# -- what is in a record ------------------------------------------------------

@pytest.mark.parametrize('error', [
    exception.NotCloneable('no', reason='clone_denied', remedy='do it'),
    exception.NoSpace('full'), exception.Cancelled('stop')])
def test_an_error_survives_its_record(error: exception.VolumeRBDError
                                      ) -> None:
    found = strategies.error_of(_failed(error))
    assert type(found) is type(error)
    assert vars(found) == vars(error)


CHOICES = [{'strategy': strategy, 'reason': 'r', 'sentence': 's'}
           for strategy in ('clone', 'copy', 'upload')]


def test_a_controller_believes_only_the_failures_of_its_history() -> None:
    """taskflow's own backends lose what it provided in a try that failed."""
    refused = {'CloneVolume': _failed(exception.NotCloneable(
        'no', reason='clone_denied'))}
    lost = {'exc_type_names': ['x']}
    tried, following = strategies.get_attempts(CHOICES, [(lost, refused)],
                                               is_next=True)
    assert tried == CHOICES[0]
    assert (following['strategy'], following['reason']) == (
        'upload', 'clone_denied')
    controller = strategies.StrategyController(CHOICES)
    assert controller.execute([(lost, refused)]) == following
    assert controller.on_failure([(lost, refused)]) == 'RETRY'
