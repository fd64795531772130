# SPDX-License-Identifier: Apache-2.0
"""The fallback matrix for upload, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from tests.fakes.glance import FILE
from tests.unit import test_plan_properties
from tests.unit.flows import checks
from tests.unit.world import (
    SOON_S,
    SOURCE,
    VOLUME,
    OnStep,
    StoringGlance,
    World,
)
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows import reaping
from volume_rbd.flows.upload_to_image import source_snapshot
from volume_rbd.plan import SENTENCES, Reason

Make = Callable[[], checks.UploadOperation]


def _with_store(**changes: Any) -> World:
    """A Glance that tells something else of its default store."""
    world = World()
    world.server.stores['rbd'] = dataclasses.replace(
        world.server.stores['rbd'], **changes)
    return world


def _failing(method: str, error: Exception, times: int = 1,
             **options: Any) -> checks.UploadOperation:
    operation = checks.upload(**options)
    operation.world.glance.fail_next(method, error, times)
    return operation


def _as(**options: Any) -> World:
    world = World()
    world.glance = StoringGlance(world.server, **options)
    return world


# -- a clone is not even tried ------------------------------------------------

PLANNED: list[tuple[Reason, Make]] = [
    (Reason.CLONE_DISABLED,
     lambda: checks.upload(enable_clone_optimization=False)),
    (Reason.STORES_FORBIDDEN, lambda: checks.upload(_as(has_service=False))),
    (Reason.STORES_NOT_CONFIGURED,
     lambda: checks.upload(World(has_stores=False))),
    (Reason.STORES_BROKEN, lambda: _failing(
        'get_stores', exception.GlanceUnavailable('500'))),
    (Reason.NO_DEFAULT_STORE,
     lambda: checks.upload(_with_store(is_default=False))),
    (Reason.STORE_NOT_RBD, lambda: checks.upload(store_id='file')),
    (Reason.STORE_NOT_RBD, lambda: checks.upload(upload_store='file')),
    (Reason.STORE_NOT_RBD, lambda: checks.upload(World(
        stores=[dataclasses.replace(FILE, is_default=True)]))),
    (Reason.STORE_FSID_UNKNOWN, lambda: checks.upload(_with_store(fsid=None))),
    (Reason.STORE_OTHER_CLUSTER,
     lambda: checks.upload(_with_store(fsid='another'))),
    (Reason.EMPTY_VOLUME, lambda: checks.upload(size_bytes=0)),
]


@pytest.mark.parametrize(('reason', 'make'), PLANNED)
def test_a_volume_that_cannot_be_cloned_is_sent(reason: Reason, make: Make
                                                ) -> None:
    operation = make().go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('upload', reason)
    assert SENTENCES[reason][:-1] in result.sentence
    assert len(result.attempts) == 1
    assert 'clone' not in operation.calls['ceph']
    assert 'register_location' not in operation.calls['glance']


@pytest.mark.parametrize('fields', [{'disk_format': 'iso'},
                                    {'container_format': 'ova'}])
def test_a_format_that_nothing_makes_is_refused_before_anything_is_touched(
        fields: dict[str, str]) -> None:
    operation = checks.upload()
    before = operation.world.state()
    with operation.world.driver() as driver, \
            pytest.raises(exception.NotSupported):
        driver.images.upload(SOURCE, ImageRequest('x', **fields))
    assert operation.world.state() == before


# -- a clone is tried, undone, and the volume sent ----------------------------

def _without_caps() -> checks.UploadOperation:
    world = World()
    world.ceph.caps['cinder'] = {'volumes': 'rw', 'images': 'r'}
    return checks.upload(world)


def _clone_fails(error: exception.VolumeRBDError, **changes: Any
                 ) -> checks.UploadOperation:
    operation = checks.upload(**changes)
    operation.world.ceph.fail_next('clone', error)
    return operation


def _unreadable_for_glance(deletes: str = '') -> checks.UploadOperation:
    """The cephx trap: the usual caps of client.glance."""
    world = World()
    world.ceph.caps['glance'] = {'images': 'rw'}
    world.server.deletes_refused = deletes
    return checks.upload(world)


#: Reason, operation, and whether the clone had been made.
TRIED: list[tuple[Reason, Make, bool]] = [
    (Reason.CLONE_DENIED, _without_caps, False),
    (Reason.CLONE_FAILED, lambda: _clone_fails(
        exception.NotSupported('too old'),
        clone_upload_flatten='before_register'), False),
    (Reason.LOCATION_API_MISSING,
     lambda: checks.upload(World(has_locations_api=False)), True),
    # admin alone is not enough to register
    (Reason.LOCATION_FORBIDDEN, lambda: checks.upload(
        _as(roles=('member', 'admin'), has_service=False)), True),
    # PATCH is refused too
    (Reason.LOCATION_API_MISSING, lambda: checks.upload(
        World(has_locations_api=False), allow_legacy_locations=True), True),
    (Reason.LOCATION_FORBIDDEN, lambda: checks.upload(
        _as(roles=('member', 'admin'), has_service=False),
        allow_legacy_locations=True), True),
    (Reason.LOCATION_API_MISSING, lambda: _failing(
        'register_location_legacy', exception.InvalidInput('400'),
        world=World(has_locations_api=False, show_locations=True),
        allow_legacy_locations=True), True),
    (Reason.LOCATION_REFUSED, lambda: _failing(
        'register_location', exception.InvalidInput('400')), True),
]

#: Where a copy does what a clone could not.
COPIED: list[tuple[Reason, Make]] = [
    (Reason.CLONE_FAILED,
     lambda: _clone_fails(exception.NotCloneable('no layering'))),
    (Reason.CLONE_FAILED,
     lambda: _clone_fails(exception.NotSupported('too old'))),
    (Reason.CLONE_FAILED,
     lambda: _clone_fails(exception.PoolNotFound('no pool'))),
    (Reason.LOCATION_TASK_FAILED, _unreadable_for_glance),
    (Reason.LOCATION_TASK_FAILED, lambda: _unreadable_for_glance('snapshot')),
    (Reason.LOCATION_TASK_FAILED, lambda: _unreadable_for_glance('image')),
]


@pytest.mark.parametrize(('reason', 'make', 'was_made'), TRIED)
def test_a_clone_that_is_no_way_is_undone_and_the_volume_sent(
        reason: Reason, make: Make, was_made: bool) -> None:
    operation = make().go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('upload', reason)
    assert SENTENCES[reason] in result.sentence
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'clone', 'upload']
    assert result.attempts[0]['reason'] == Reason.SAME_CLUSTER
    assert result.bytes_moved == checks.SIZE
    is_made = 'protect_snapshot' in operation.calls['ceph']
    assert is_made is was_made


@pytest.mark.parametrize(('reason', 'make'), COPIED)
def test_a_clone_that_is_no_way_is_undone_and_the_volume_copied(
        reason: Reason, make: Make) -> None:
    operation = make().go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('copy', reason)
    assert SENTENCES[reason] in result.sentence
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'clone', 'copy']
    assert 0 < result.bytes_moved <= checks.SIZE


def test_every_reason_that_only_a_try_finds_is_reached_here() -> None:
    reached = {reason for reason, *_ in [*TRIED, *COPIED]}
    # Of the copy itself: test_copy_volume.py.
    assert reached == (test_plan_properties.RUN_TIME - {Reason.COPY_FAILED}
                       | {Reason.CLONE_FAILED})


def test_the_sentence_of_a_fallback_tells_what_was_answered() -> None:
    operation = _failing('register_location',
                         exception.InvalidInput('Bad URI.')).go()
    assert operation.result.sentence == (
        f'{SENTENCES[Reason.LOCATION_REFUSED]} (Bad URI.)')


def test_a_volume_without_layering_is_copied() -> None:
    operation = checks.upload()
    for disk in operation.world.ceph.disks.values():
        disk.features = 0
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'copy'
    assert operation.result.reason == Reason.CLONE_FAILED


@pytest.mark.parametrize('make', [
    lambda: checks.upload(World(has_locations_api=False, show_locations=True),
                          allow_legacy_locations=True),
    lambda: checks.upload(World(show_locations=True),
                          allow_legacy_locations=True)],
    ids=['before-2.17', 'now'])
def test_the_old_way_to_register_is_taken_where_allowed(make: Make) -> None:
    operation = make()
    operation.world.glance.fail_next('register_location',
                                     exception.GlanceForbidden('403'))
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'clone'
    assert 'register_location_legacy' in operation.calls['glance']


def test_the_old_way_is_never_taken_unasked() -> None:
    operation = checks.upload(World(has_locations_api=False,
                                    show_locations=True)).go()
    assert operation.result.strategy == 'upload'
    assert 'register_location_legacy' not in operation.calls['glance']


# -- something bears the image's name already ---------------------------------

def _occupied(mark: str | None) -> checks.UploadOperation:
    """The pool has an rbd_image named after the record."""
    operation = checks.upload(keeps_record=True)
    images = operation.world.images
    assert operation.image_id is not None
    images.create(operation.image_id, 4096)
    with images.open(operation.image_id) as image:
        image.create_snapshot(model.GLANCE_SNAPSHOT)
        image.protect_snapshot(model.GLANCE_SNAPSHOT)
        if mark is not None:
            lineage.adopt(image, kind=mark, origin='rbd:x', job='earlier',
                          state=lineage.PENDING)
    return operation


def test_what_an_earlier_job_of_ours_left_is_reaped_and_the_clone_made(
        ) -> None:
    operation = _occupied(lineage.GLANCE_IMAGE).go()
    operation.check_done()
    assert operation.result.strategy == 'clone'


@pytest.mark.parametrize('mark', [None, lineage.VOLUME])
def test_what_is_not_our_clone_stops_the_upload(mark: str | None) -> None:
    operation = _occupied(mark).go()
    assert isinstance(operation.error, exception.ImageExists)
    assert 'is not ours' in operation.error.message
    operation.check_untouched()


def test_the_mark_of_another_rbd_image_does_not_make_it_ours() -> None:
    """A clone made by somebody else inherits the mark of its parent."""
    operation = checks.upload(keeps_record=True)
    world = operation.world
    assert operation.image_id is not None
    world.images.create('elder', 4096)
    with world.images.open('elder') as image:
        lineage.adopt(image, kind=lineage.GLANCE_IMAGE, origin='rbd:x',
                      job='j', state=lineage.PENDING)
        image.create_snapshot('s')
    world.images.clone(model.SnapSpec('images', 'elder', 's'),
                       operation.image_id)
    operation.go()
    assert isinstance(operation.error, exception.ImageExists)
    operation.check_untouched()


def test_a_forged_mark_does_not_break_the_upload() -> None:
    operation = _occupied(None)
    with operation.world.images.open(operation.image_id or '') as image:
        image.set_metadata(lineage.KEY, '{"kind": ["glance_image"]}')
    operation.go()
    assert isinstance(operation.error, exception.ImageExists)
    operation.check_untouched()


# -- the record is not as it should be ----------------------------------------

def test_a_conflict_is_success_where_the_image_is_active_with_our_url(
        ) -> None:
    """An earlier try was taken and its answer lost."""
    operation = checks.upload(World(activation_polls=0))
    operation.world.glance.lost_answers['register_location'] = (
        exception.GlanceConflict('409'))
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'clone'


@pytest.mark.parametrize('keeps_record', [True, False])
def test_a_conflict_is_an_error_otherwise(keeps_record: bool) -> None:
    operation = _failing('register_location', exception.GlanceConflict('409'),
                         keeps_record=keeps_record).go()
    assert isinstance(operation.error, exception.GlanceConflict)
    operation.check_untouched()


def test_a_conflict_is_an_error_where_the_image_has_other_data() -> None:
    operation = checks.upload(keeps_record=True)
    world = operation.world
    assert operation.image_id is not None
    record = world.server.records[operation.image_id]

    def somebody_registers() -> None:
        record.urls = ('rbd://f/p/i/s',)
        record.change(status='active', size_bytes=1)

    operation.go(OnStep({'registering the image': somebody_registers}))
    assert isinstance(operation.error, exception.GlanceConflict)
    assert world.disks('images') == []
    assert world.snapshots('volumes', VOLUME) == []


def _deleting(operation: checks.UploadOperation) -> Callable[[], None]:
    def delete() -> None:
        [image_id] = operation.world.server.records
        operation.world.glance.delete_image(image_id)
    return delete


@pytest.mark.parametrize('step', ['registering the image',
                                  'waiting for the image to be active'])
@pytest.mark.parametrize('keeps_record', [True, False])
def test_an_image_that_is_deleted_meanwhile_ends_the_upload(
        step: str, keeps_record: bool) -> None:
    operation = checks.upload(keeps_record=keeps_record)
    operation.go(OnStep({step: _deleting(operation)}))
    assert isinstance(operation.error, (exception.GlanceImageNotFound,
                                        exception.GlanceImageNotUsable))
    world = operation.world
    assert world.server.records == {}
    assert world.disks('images') == []
    assert world.snapshots('volumes', VOLUME) == []


def test_an_image_over_the_quota_ends_the_upload() -> None:
    operation = _failing('register_location', exception.QuotaExceeded('413'))
    operation.go()
    assert isinstance(operation.error, exception.QuotaExceeded)
    operation.check_untouched()


# -- taken, and no answer in time ---------------------------------------------

@pytest.mark.parametrize('keeps_record', [True, False])
@pytest.mark.parametrize('clone_format', [1, 2])
def test_a_registration_that_does_not_end_in_time_stays_pending(
        keeps_record: bool, clone_format: int) -> None:
    operation = checks.upload(
        World(activation_polls=None, clone_format=clone_format),
        keeps_record=keeps_record).go()
    assert isinstance(operation.error, exception.RegistrationPending)
    operation.check_pending()
    assert 'marked pending' in operation.error.message
    assert operation.error.remedy
    world = operation.world
    [image_id] = world.disks('images')
    gone = source_snapshot(image_id)
    assert world.snapshots('volumes', VOLUME) == (
        [f'[{gone}]'] if clone_format == 2 else [f'{gone}!'])


def test_a_pending_image_that_becomes_active_later_is_whole() -> None:
    operation = checks.upload(World(activation_polls=None)).go()
    world = operation.world
    [image_id] = world.disks('images')
    world.server.records[image_id].polls_left = 0
    assert world.glance.get_image(image_id).status == 'active'
    assert world.download(image_id) == operation.data


@pytest.mark.parametrize('error', [
    exception.GlanceUnavailable, exception.GlanceForbidden,
    exception.GlanceUnauthorized, exception.OperationTimeout, ValueError])
def test_what_cannot_be_read_after_the_answer_is_never_undone(
        error: type[Exception]) -> None:
    """Glance makes it active in the background all the same."""
    operation = _failing('get_image', error('no'), times=10 ** 4,
                         keeps_record=True, registration_timeout_s=SOON_S)
    operation.go()
    assert isinstance(operation.error, exception.RegistrationPending)
    operation.check_pending()


@pytest.mark.parametrize('error', [
    exception.GlanceUnavailable, exception.GlanceUnauthorized])
def test_an_image_that_cannot_be_read_for_a_while_is_read_again(
        error: type[Exception]) -> None:
    operation = _failing('get_image', error('no'), times=3).go()
    operation.check_done()
    assert operation.result.strategy == 'clone'


LEGACY = {'has_locations_api': False, 'show_locations': True}


@pytest.mark.parametrize(('method', 'knobs'), [
    ('register_location', {}), ('register_location_legacy', LEGACY)])
def test_a_registration_whose_answer_was_lost_is_not_undone(
        method: str, knobs: dict[str, Any]) -> None:
    operation = checks.upload(World(**knobs), keeps_record=True,
                              allow_legacy_locations=bool(knobs))
    operation.world.glance.lost_answers[method] = (
        exception.GlanceUnavailable('reset by peer'))
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'clone'


@pytest.mark.parametrize('error', [
    exception.GlanceForbidden, exception.ApiNotImplemented,
    exception.InvalidInput, exception.GlanceUnauthorized,
    exception.QuotaExceeded, exception.GlanceUnavailable])
def test_after_a_lost_answer_no_other_answer_undoes_the_clone(
        error: type[exception.VolumeRBDError]) -> None:
    """Glance has taken it, whatever it says to the second try."""
    operation = checks.upload(keeps_record=True)
    world = operation.world
    world.glance.lost_answers['register_location'] = (
        exception.GlanceUnavailable('reset by peer'))
    first = 1  # after get_stores
    world.break_call('glance', first + 1, error('no'))
    operation.go()
    assert operation.calls['glance'][first] == 'register_location'
    operation.check_done()
    assert operation.result.strategy == 'clone'


def test_after_a_lost_answer_a_conflict_that_cannot_be_looked_into_is_left(
        ) -> None:
    operation = checks.upload(keeps_record=True)
    world = operation.world
    world.glance.lost_answers['register_location'] = (
        exception.GlanceUnavailable('reset by peer'))
    world.break_call('glance', 2, exception.GlanceConflict('409'))
    world.glance.fail_next('get_image', exception.GlanceUnavailable('down'))
    operation.go()
    assert operation.calls['glance'][:4] == [
        'get_stores', 'register_location', 'register_location', 'get_image']
    operation.check_done()
    assert operation.result.strategy == 'clone'


def test_a_registration_that_got_lost_on_its_way_is_asked_for_again() -> None:
    operation = _failing('register_location',
                         exception.GlanceUnavailable('reset')).go()
    operation.check_done()
    assert operation.result.strategy == 'clone'
    assert operation.calls['glance'].count('register_location') == 2


def test_a_clone_that_glance_holds_open_for_a_moment_is_undone_later(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping.reap.retry, 'wait', tenacity.wait_none())
    operation = _failing('register_location', exception.InvalidInput('400'))
    operation.world.ceph.fail_next('remove', exception.ImageBusy('open'), 3)
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'upload'


@pytest.mark.parametrize(('method', 'knobs'), [
    ('register_location', {}), ('register_location_legacy', LEGACY)])
def test_a_registration_that_was_never_sent_is_undone(
        method: str, knobs: dict[str, Any]) -> None:
    error = exception.GlanceUnavailable('no route')
    error.was_sent = False
    operation = _failing(method, error, times=10, world=World(**knobs),
                         allow_legacy_locations=bool(knobs)).go()
    assert operation.error is error
    operation.check_untouched()
