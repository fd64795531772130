# SPDX-License-Identifier: Apache-2.0
"""Jobs: written down, belonging to one, settled by another."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import Any

import pytest

from tests.unit.jobs.conftest import (
    DATA,
    NEW,
    NEW_SPEC,
    Estate,
    upload,
)
from tests.unit.world import SOURCE, VOLUME
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows import create_volume, registration
from volume_rbd.flows.base import Result
from volume_rbd.glance.interface import Glance
from volume_rbd.jobs.info import MOST_ATTEMPTS
from volume_rbd.jobs.job import Job, Note, State
from volume_rbd.jobs.records import NAMESPACE, JobRecords

_UPLOAD_STEPS = [
    'creating the image record', 'taking a snapshot of the volume',
    'choosing a strategy', 'cloning the volume',
    'taking the snapshot of the image', 'registering the image',
    'waiting for the image to be active',
    'removing the snapshot of the volume']


def test_what_is_over_is_remembered_and_leaves_nothing_else(estate: Estate
                                                            ) -> None:
    estate.make_volume()
    driver = estate.driver()
    result = upload(driver)
    assert isinstance(result, Result)

    assert driver.jobs.list() == []
    [info] = driver.jobs.list(is_over=True)
    assert info == driver.jobs.show(result.job)
    assert (info.state, info.operation) == (State.DONE, 'upload_to_image')
    assert info.target == f'image {result.values["image_id"]}'
    assert info.note.strategy == 'clone'
    assert [step['title'] for step in info.note.steps] == _UPLOAD_STEPS
    assert all(step['state'] == 'SUCCESS'
               and step['ended_at'] >= step['started_at']
               for step in info.note.steps)
    assert info.project_id == 'demo'
    estate.check_no_job()


@pytest.mark.parametrize('step', _UPLOAD_STEPS[1:])
def test_an_upload_whose_process_stops_is_finished_by_another(
        estate: Estate, step: str) -> None:
    estate.make_volume()
    stopped = estate.stop_at(step, upload)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.DONE
    assert outcome.job.id == stopped.job
    before = estate.world.state()
    [image_id] = estate.world.disks('images')
    assert estate.world.server.records[image_id].image.status == 'active'
    assert estate.world.read('images', image_id, 'snap') == DATA
    assert len(estate.world.server.records) == 1
    error = stopped.wake()
    assert isinstance(error, exception.JobLost)
    assert estate.world.state() == before
    estate.check_no_job()


def test_an_upload_without_a_record_is_undone(estate: Estate) -> None:
    """Made by the service it would not be that of who had asked."""
    estate.make_volume()
    before = estate.world.state()
    stopped = estate.stop_at(_UPLOAD_STEPS[0], upload)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.UNDONE
    assert isinstance(stopped.wake(), exception.JobLost)
    assert estate.world.state() == before
    estate.check_no_job()


@pytest.mark.parametrize('step', ['choosing a strategy',
                                  'cloning the image'])
def test_a_create_whose_process_stops_is_finished_by_another(
        estate: Estate, step: str) -> None:
    image_id = estate.make_image()
    stopped = estate.stop_at(step, lambda driver, report: (
        driver.images.create(NEW_SPEC, image_id, report=report)))

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.DONE
    assert estate.world.read('volumes', NEW)[:len(DATA)] == DATA
    assert isinstance(stopped.wake(), exception.JobLost)
    assert estate.world.read('volumes', NEW)[:len(DATA)] == DATA
    estate.check_no_job()


@pytest.mark.parametrize(('is_undone', 'state'), [
    (True, State.UNDONE), (False, State.DONE)])
def test_a_volume_that_nobody_waits_for_any_more_is_undone(
        estate: Estate, is_undone: bool, state: State) -> None:
    """Inside Cinder, which gives it up."""
    estate.make_volume()
    before = estate.world.state()
    estate.stop_at('cloning the volume', lambda driver, report: (
        driver.volumes.create_from_volume(
            NEW_SPEC, VOLUME, report=report,
            is_undone_when_lost=is_undone)))

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is state
    assert (NEW in estate.world.disks('volumes')) is not is_undone
    if is_undone:
        assert estate.world.state() == before
    estate.check_no_job()


def test_a_process_that_is_only_slow_keeps_its_job(estate: Estate) -> None:
    estate.make_volume()
    slow = estate.stop_at('cloning the volume', upload, lives=True)
    other = estate.driver()

    assert other.jobs.recover() == []
    time.sleep(1.5)
    assert other.jobs.recover() == []
    [info] = other.jobs.list()
    assert info.state is State.RUNNING
    assert info.lease_s is not None
    with pytest.raises(exception.JobConflict, match=slow.job):
        other.jobs.forget(slow.job)
    assert isinstance(slow.wake(), Result)
    estate.check_no_job()


def test_of_two_for_one_volume_one_wins_and_the_other_says_so(
        estate: Estate) -> None:
    image_id = estate.make_image()
    first = estate.stop_at('cloning the image', lambda driver, report: (
        driver.images.create(NEW_SPEC, image_id, report=report)), lives=True)

    with pytest.raises(exception.JobConflict, match=f'{first.job}.*{NEW}'):
        estate.driver().images.create(NEW_SPEC, image_id)

    assert isinstance(first.wake(), Result)
    estate.check_no_job()


def test_the_same_again_goes_on_with_what_was_left(estate: Estate) -> None:
    image_id = estate.make_image()
    stopped = estate.stop_at('cloning the image', lambda driver, report: (
        driver.images.create(NEW_SPEC, image_id, report=report)))
    time.sleep(1.1)

    result = estate.driver().images.create(NEW_SPEC, image_id)

    assert result.job == stopped.job
    assert estate.world.read('volumes', NEW)[:len(DATA)] == DATA
    estate.check_no_job()


def test_something_else_of_that_name_undoes_what_was_left(estate: Estate
                                                          ) -> None:
    image_id = estate.make_image()
    stopped = estate.stop_at('cloning the image', lambda driver, report: (
        driver.images.create(NEW_SPEC, image_id, report=report)))
    time.sleep(1.1)

    result = estate.driver().images.create(
        model.VolumeSpec(NEW, 2 * model.GIB), image_id)

    assert result.job != stopped.job
    assert result.size_bytes == 2 * model.GIB
    info = estate.driver().jobs.show(stopped.job)
    assert info.state is State.UNDONE
    estate.check_no_job()


@pytest.mark.parametrize('step', _UPLOAD_STEPS[:5])
def test_what_is_cancelled_is_undone(estate: Estate, step: str) -> None:
    estate.make_volume()
    before = estate.world.state()
    stopped = estate.stop_at(step, upload)
    time.sleep(1.1)

    outcome = estate.driver().jobs.cancel(stopped.job)

    assert outcome is not None
    assert outcome.state is State.UNDONE
    assert estate.world.state() == before
    estate.check_no_job()


def test_who_runs_a_job_is_told_to_cancel_it(estate: Estate) -> None:
    estate.make_volume()
    before = estate.world.state()
    running = estate.stop_at('cloning the volume', upload, lives=True)

    assert estate.driver().jobs.cancel(running.job) is None
    time.sleep(1)

    assert isinstance(running.wake(), exception.Cancelled)
    assert estate.world.state() == before
    estate.check_no_job()


def test_an_image_that_was_deleted_meanwhile_undoes_its_upload(
        estate: Estate) -> None:
    estate.make_volume()
    before = estate.world.state()
    estate.stop_at('registering the image', upload)
    [image_id] = estate.world.disks('images')
    del estate.world.server.records[image_id]

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.UNDONE
    assert estate.world.state() == before
    estate.check_no_job()


@pytest.mark.parametrize('is_deleted', [True, False])
def test_a_clone_that_was_killed_half_made_is_the_jobs_own(
        estate: Estate, is_deleted: bool) -> None:
    """librbd had not named its parent yet."""
    estate.make_volume()
    record = estate.world.make_record()
    estate.stop_at('cloning the volume', lambda driver, report: (
        driver.images.upload(SOURCE, ImageRequest('image', image_id=record),
                             report=report)))
    estate.world.cluster.pool('images').create(record, len(DATA))
    if is_deleted:
        del estate.world.server.records[record]

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    if is_deleted:
        assert outcome.state is State.UNDONE
        assert estate.world.disks('images') == []
        assert estate.world.disks('volumes') == [VOLUME]
    else:
        assert outcome.state is State.DONE
        assert estate.world.read('images', record, 'snap') == DATA
    estate.check_no_job()


@pytest.mark.parametrize('gives_up', [True, False])
def test_a_record_that_nobody_waits_for_goes_with_its_upload(
        estate: Estate, gives_up: bool) -> None:
    """Only where whoever made it has said so."""
    estate.make_volume()
    record = estate.world.make_record()
    stopped = estate.stop_at('cloning the volume', lambda driver, report: (
        driver.images.upload(SOURCE, ImageRequest(
            'image', image_id=record, gives_up_record=gives_up),
            report=report)))
    with estate.world.cluster.pool('volumes').open(VOLUME) as volume:
        volume.remove_snapshot(registration.source_snapshot(record))
    estate.world.cluster.pool('volumes').remove(VOLUME)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.UNDONE
    assert estate.world.disks('images') == []
    assert (record in estate.world.server.records) is not gives_up
    assert isinstance(stopped.wake(), exception.JobLost)
    estate.check_no_job()


def test_a_record_that_is_waited_for_stays_with_whoever_made_it(
        estate: Estate) -> None:
    estate.make_volume()
    record = estate.world.make_record()
    estate.world.glance.fail_next('register_location',
                                  exception.QuotaExceeded('413'))
    with pytest.raises(exception.QuotaExceeded):
        estate.driver().images.upload(SOURCE, ImageRequest(
            'image', image_id=record, gives_up_record=True))
    assert estate.world.glance.get_image(record).status == 'queued'
    estate.check_no_job()


def test_another_projects_image_is_not_written_to(estate: Estate) -> None:
    estate.make_volume()
    estate.stop_at('cloning the volume', upload)
    [record] = estate.world.server.records.values()
    record.image = model.GlanceImage(**{
        **record.image.__dict__, 'owner': 'another'})
    estate.world.glance.roles = frozenset({'admin'})

    driver = estate.driver()
    driver.jobs.recover_until_idle(2)

    assert estate.world.disks('images') == []
    assert list(estate.world.server.records.values()) == [record]
    [info] = driver.jobs.list()
    assert 'project' in str(info.note.error)


def test_what_could_not_be_undone_is_undone_later(estate: Estate) -> None:
    estate.make_volume()
    before = estate.world.state()
    estate.world.glance.fail_next('register_location',
                                  exception.QuotaExceeded('413'))
    estate.world.ceph.fail_next('remove', exception.NoSpace('Full.'))
    driver = estate.driver()
    with pytest.raises(exception.QuotaExceeded, match='could be undone'):
        upload(driver)
    [info] = driver.jobs.list()
    assert info.state is State.UNDOING
    assert estate.world.state() != before

    [*_, outcome] = driver.jobs.recover_until_idle(10)

    assert outcome.state is State.UNDONE
    assert '413' in str(outcome.error)
    assert estate.world.state() == before
    estate.check_no_job()


def test_a_glance_that_is_away_for_long_is_no_reason_to_give_up(
        estate: Estate) -> None:
    estate.make_volume()
    stopped = estate.stop_at('taking a snapshot of the volume', upload)
    jobs = estate.driver().jobs
    while jobs.show(stopped.job).state is State.RUNNING:
        time.sleep(0.05)
    for _ in range(MOST_ATTEMPTS + 1):
        estate.world.glance.fail_next(
            'get_image', exception.GlanceUnavailable('Away.'))
        outcome = jobs.settle(stopped.job)
        assert outcome is not None
        assert outcome.state is State.ABANDONED
    [info] = jobs.list()
    assert (info.state, info.note.attempts) == (State.ABANDONED, 0)

    [outcome] = jobs.recover_until_idle(10)

    assert outcome.state is State.DONE
    stopped.wake()
    estate.check_no_job()


def test_so_it_is_where_it_is_only_looked_at_or_undone(estate: Estate
                                                       ) -> None:
    """Who is to ask Glance is made before anything is done."""
    estate.make_volume()
    estate.world.glance.fail_next('register_location',
                                  exception.QuotaExceeded('413'))
    estate.world.ceph.fail_next('remove', exception.NoSpace('Full.'))
    driver = estate.driver()
    with pytest.raises(exception.QuotaExceeded):
        upload(driver)
    [info] = driver.jobs.list()

    def open_glance() -> Glance:
        raise exception.GlanceUnavailable('Away.')

    driver.images._open_glance = open_glance
    for _ in range(MOST_ATTEMPTS + 1):
        outcome = driver.jobs.settle(info.id)
        assert outcome is not None
        assert outcome.state is State.UNDOING
    for _ in range(MOST_ATTEMPTS + 1):
        estate.world.glance.fail_next(
            'get_image', exception.GlanceUnavailable('Away.'))
        estate.driver().jobs.settle(info.id)
    [info] = driver.jobs.list()
    assert (info.state, info.note.attempts) == (State.UNDOING, 0)
    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)
    assert outcome.state is State.UNDONE
    estate.check_no_job()


def test_who_takes_up_a_deletion_needs_no_glance(
        estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    estate.make_volume()
    driver = estate.driver()
    with monkeypatch.context() as patched:
        patched.setattr(JobRecords, 'remember', _no_answer)
        driver.volumes.delete(VOLUME)
    other = estate.driver()

    def open_glance() -> Glance:
        raise exception.ConfigurationError('No credentials.')

    other.images._open_glance = open_glance
    outcomes = other.jobs.recover_until_idle(10)
    assert [outcome.state for outcome in outcomes] == [State.DONE]


def _no_answer(*_: object) -> None:
    raise exception.OperationTimeout('no answer')


@pytest.mark.parametrize('step', ['cloning the volume',
                                  'registering the image'])
def test_without_its_book_what_bears_its_mark_is_undone(
        estate: Estate, step: str) -> None:
    estate.make_volume()
    before = estate.world.state()
    stopped = estate.stop_at(step, upload)
    books = estate.world.cluster.records('volumes', NAMESPACE)
    books.remove(f'book.{stopped.job}')
    time.sleep(1.1)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.UNDONE
    assert isinstance(stopped.wake(), exception.VolumeRBDError)
    assert estate.world.state() == before
    estate.check_no_job()


def test_without_its_book_what_has_the_name_may_be_anybodys(estate: Estate
                                                             ) -> None:
    """It was killed before it had looked whether the name is free."""
    estate.make_volume()
    job = '11111111-1111-4111-8111-111111111111'
    arguments = create_volume.get_arguments(
        create_volume.Way.BLANK, model.VolumeSpec(VOLUME, len(DATA)),
        len(DATA), job=job)
    with estate.world.cluster.pool('volumes').open(VOLUME) as volume:
        before = volume.read(0, len(DATA))
    records = estate.records()
    records.announce(job)
    records.open(_job(operation='create_volume', arguments=arguments,
                      claims=(f'volume/{VOLUME}',)))

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.UNDONE
    assert estate.world.read('volumes', VOLUME) == before


def test_what_stayed_when_it_was_killed_once_more_is_undone(estate: Estate
                                                            ) -> None:
    """Which of the reverts had failed, only the process knew."""
    estate.make_volume()
    before = estate.world.state()
    estate.world.glance.fail_next('register_location',
                                  exception.QuotaExceeded('413'))
    estate.world.ceph.fail_next('remove', exception.NoSpace('Full.'))
    there, woken = threading.Event(), threading.Event()
    delete_image = estate.world.glance.delete_image

    def hang(image_id: str) -> None:
        there.set()
        woken.wait(60)

    estate.world.glance.delete_image = hang  # type: ignore[method-assign]
    driver = estate.driver()
    thread = threading.Thread(target=_fail, args=(driver,))
    thread.start()
    assert there.wait(10)
    [run] = driver.jobs._running.values()
    run.lease.stop()  # type: ignore[attr-defined]
    estate.world.glance.delete_image = (  # type: ignore[method-assign]
        delete_image)
    time.sleep(1.1)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.UNDONE
    woken.set()
    thread.join(30)
    assert estate.world.state() == before
    estate.check_no_job()


def _fail(driver: RBDDriver) -> None:
    with pytest.raises(exception.VolumeRBDError):
        upload(driver)


def test_what_was_over_with_a_passphrase_ends_without_it(
        estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between its last step and the end of its record."""
    driver = estate.driver()
    with monkeypatch.context() as patched:
        patched.setattr(JobRecords, 'remember', _no_answer)
        driver.encryption.create_blank(NEW_SPEC, passphrase='00' * 16)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.DONE
    assert estate.world.volumes.has_image(NEW)
    estate.check_no_job()


def test_the_client_of_a_job_that_stays_open_is_no_other_jobs(
        estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes the one up shuts it out."""
    driver = estate.driver()
    with monkeypatch.context() as patched:
        patched.setattr(JobRecords, 'remember', _no_answer)
        driver.volumes.create(NEW_SPEC)
    [entry] = estate.records().entries()
    assert entry.job is not None
    assert entry.job.clients
    assert driver.jobs._clients._idle == []
    driver.volumes.create(model.VolumeSpec('other', model.GIB))
    assert len(driver.jobs._clients._idle) == 1


def test_a_registration_that_takes_long_is_settled_when_it_is_over(
        estate: Estate) -> None:
    estate.make_volume()
    estate.world.configure(registration_timeout_s=0.05)
    estate.world.server.activation_polls = None
    driver = estate.driver()
    with pytest.raises(exception.RegistrationPending):
        upload(driver)
    [info] = driver.jobs.list()
    assert info.state is State.WAITING
    driver.jobs.recover_until_idle(0)
    assert [found.state for found in driver.jobs.list()] == [State.WAITING]

    [image_id] = estate.world.disks('images')
    record = estate.world.server.records[image_id]
    record.image = model.GlanceImage(**{
        **record.image.__dict__, 'status': 'active'})
    outcomes = estate.driver().jobs.recover_until_idle(10)

    assert outcomes[-1].state is State.DONE
    mark = estate.world.mark('images', image_id)
    assert mark is not None
    assert mark.state == lineage.COMPLETE
    estate.check_no_job()


def test_a_registration_that_glance_lost_is_made_again(estate: Estate
                                                        ) -> None:
    estate.make_volume()
    estate.world.configure(registration_timeout_s=0.05)
    server = estate.world.server
    server.activation_polls = None
    with pytest.raises(exception.RegistrationPending):
        upload(estate.driver())
    [image_id] = estate.world.disks('images')
    # Glance was killed at it, and started again.
    server.records[image_id].pending_url = None
    server.activation_polls = 1
    estate.world.configure(registration_timeout_s=5)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert outcome.state is State.DONE
    assert outcome.get_result().values['registration'] == 'active'
    assert server.records[image_id].image.status == 'active'
    assert len(server.records[image_id].tasks) == 2
    estate.check_no_job()


def _wait_for_glance(estate: Estate) -> tuple[RBDDriver, str]:
    """An upload whose registration Glance does not finish.

    :returns: with the id of the image.
    """
    estate.make_volume()
    estate.world.configure(registration_timeout_s=0.05)
    estate.world.server.activation_polls = None
    driver = estate.driver()
    with pytest.raises(exception.RegistrationPending):
        upload(driver)
    [image_id] = estate.world.disks('images')
    return driver, image_id


def _give_up(estate: Estate, image_id: str) -> None:
    """As Glance does."""
    record = estate.world.server.records[image_id]
    record.pending_url = None
    record.tasks[-1]['status'] = 'failure'


def test_who_cancels_has_nothing_registered_again(estate: Estate) -> None:
    driver, image_id = _wait_for_glance(estate)
    _give_up(estate, image_id)
    [info] = driver.jobs.list()

    outcome = driver.jobs.cancel(info.id)

    assert outcome is not None
    assert outcome.state is State.UNDONE
    assert estate.world.disks('images') == []
    estate.check_no_job()


def test_who_cancels_what_glance_is_at_work_with_is_told_what_to_do(
        estate: Estate) -> None:
    """And whoever looks at it later knows that it was cancelled."""
    driver, image_id = _wait_for_glance(estate)
    [info] = driver.jobs.list()

    outcome = driver.jobs.cancel(info.id)

    assert outcome is not None
    assert outcome.state is State.WAITING
    assert outcome.error is not None
    assert 'Delete the image' in outcome.error.remedy
    _give_up(estate, image_id)
    [*_, last] = estate.driver().jobs.recover_until_idle(10)
    assert last.state is State.UNDONE
    assert estate.world.disks('images') == []
    estate.check_no_job()


# -- records that are not ours ------------------------------------------------
_NAMED = '192.0.2.1:0/1'


def _job(**changes: Any) -> Job:
    job_id = '11111111-1111-4111-8111-111111111111'
    return Job(**{
        'id': job_id, 'operation': 'upload_to_image', 'arguments': {},
        'claims': (), 'node': '', 'clients': (_NAMED,),
        'created_at': 0.0, **changes})


_DEEP = '[' * 100_000


@pytest.mark.parametrize('text', [
    'nonsense', '{}', '[]', 'null', '{"job": 1, "signature": 2}',
    '{"job": null, "signature": "x"}', '\ufffd\ufffd', _DEEP,
    json.dumps({'job': 'os.system', 'signature': 'x'}),
    _job(operation='subprocess.getoutput').dump(lambda text: 'forged'),
    _job(arguments={'factory': 'subprocess.getoutput'}).dump(
        lambda text: 'forged')])
def test_what_nobody_of_us_has_signed_is_left_alone(estate: Estate,
                                                    text: str) -> None:
    estate.make_volume()
    job = _job()
    estate.forge({f'job.{job.id}': text})
    before = estate.world.state()
    driver = estate.driver()

    assert driver.jobs.recover_until_idle(1) == []

    assert estate.world.state() == before
    assert _NAMED not in estate.world.ceph.blocklist
    [info] = driver.jobs.list()
    assert info.state is State.REFUSED
    for settle in (driver.jobs.settle, driver.jobs.cancel):
        with pytest.raises(exception.InvalidInput, match='--forget'):
            settle(job.id)
    assert _NAMED not in estate.world.ceph.blocklist
    driver.jobs.forget(job.id)
    assert driver.jobs.list() == []


_STEP = {'name': 'x', 'title': 'x', 'state': 'RUNNING', 'started_at': 1.0,
         'ended_at': None}


@pytest.mark.parametrize('note', [
    [], {'attempts': '1'}, {'attempts': -1}, {'attempts': None},
    {'total_bytes': 1e300}, {'bytes_per_s': float('nan')}, {'step': 1},
    {'error': ['x']}, {'steps': {}}, {'steps': ['x']}, {'steps': [{}]},
    {'steps': [{**_STEP, 'started_at': float('inf')}]},
    {'steps': [{**_STEP, 'title': None}]}])
def test_a_note_that_is_none_of_ours_says_nothing(estate: Estate,
                                                  note: object) -> None:
    estate.make_volume()
    stopped = estate.stop_at('cloning the volume', upload)
    estate.world.cluster.records('volumes', NAMESPACE).write(
        f'job.{stopped.job}', {'note': json.dumps(note)})
    driver = estate.driver()

    [info] = driver.jobs.list()
    assert info.note == Note(state=State.ABANDONED.value)
    [*_, outcome] = driver.jobs.recover_until_idle(10)
    assert outcome.state is State.DONE
    estate.check_no_job()


def test_what_a_note_says_cannot_command_a_terminal() -> None:
    text = '\x1b[2Jgone\x07\nöß'
    note = Note(step=text, steps=[{**_STEP, 'title': text}])
    found = Note.load(note.dump())
    assert found.step == found.steps[0]['title'] == '?[2Jgone?\nöß'


def test_a_claim_of_no_job_is_said_and_can_be_let_go(estate: Estate) -> None:
    image_id = estate.make_image()
    nobody = '11111111-1111-4111-8111-111111111111'
    estate.world.cluster.records('volumes', NAMESPACE).write(
        'open', {f'claim.volume/{NEW}': nobody})
    driver = estate.driver()

    with pytest.raises(exception.JobConflict, match=nobody):
        driver.images.create(NEW_SPEC, image_id)

    driver.jobs.forget(nobody)
    assert isinstance(driver.images.create(NEW_SPEC, image_id), Result)
    estate.check_no_job()


def test_a_process_that_is_gone_has_no_job(
        estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    estate.make_volume()
    running = estate.stop_at('cloning the volume', upload, lives=True)
    driver = estate.driver()
    assert driver.jobs.show(running.job).state is State.RUNNING

    monkeypatch.setattr('volume_rbd.jobs.node.is_gone', lambda word: True)

    info = driver.jobs.show(running.job)
    assert (info.state, info.lease_s, info.eta_s) == (
        State.ABANDONED, None, None)
    assert [found.state for found in driver.jobs.list()] == [info.state]
    monkeypatch.undo()


def test_a_lock_without_an_end_is_no_lease(estate: Estate) -> None:
    """Whoever may write to the pool can take one."""
    estate.make_volume()
    stopped = estate.stop_at('cloning the volume', upload)
    records = estate.world.cluster.records('volumes', NAMESPACE)
    if holder := records.find_lock(f'job.{stopped.job}'):
        records.break_lock(f'job.{stopped.job}', holder)
    assert records.lock(f'job.{stopped.job}', 'theirs', duration_s=0)
    driver = estate.driver()
    assert driver.jobs.show(stopped.job).state is State.ABANDONED

    [*_, outcome] = driver.jobs.recover_until_idle(10)

    assert outcome.state is State.DONE
    estate.check_no_job()


@pytest.mark.parametrize('changes', [
    {'operation': 'subprocess.getoutput'},
    {'operation': 'upload_to_image', 'arguments': {'cmd': 'id'}},
    {'operation': 'create_from_image', 'arguments': {
        'job': '11111111-1111-4111-8111-111111111111',
        'image_id': '../x', 'image_size_bytes': 1, 'volume_name': 'a/b',
        'disk_format': 'raw', 'size_bytes': 1, 'is_size_fixed': True,
        'source': ['pool', 'image', 'snap'], 'choices': [], 'settings': None
    }}])
def test_a_job_with_other_arguments_than_its_operation_has_is_not_run(
        estate: Estate, changes: dict[str, Any]) -> None:
    job = _job(**changes)
    estate.records().announce(job.id)
    estate.records().open(job)
    before = estate.world.state()

    assert estate.driver().jobs.recover_until_idle(1) == []

    assert estate.world.state() == before
    assert _NAMED not in estate.world.ceph.blocklist


def test_no_token_is_in_a_record(estate: Estate) -> None:
    estate.make_volume()
    stopped = estate.stop_at('registering the image', upload)
    text = repr(estate.world.ceph.records).lower()
    assert stopped.job in text
    assert 'demo' in text
    for word in ('token', 'password', 'keyring', 'pickle'):
        assert word not in text


def test_what_was_begun_or_ended_and_no_more_is_swept(estate: Estate
                                                      ) -> None:
    records = estate.records()
    begun, ended, alive = (str(uuid.UUID(int=each)) for each in (5, 6, 7))
    for job_id in (begun, ended, alive):
        records.announce(job_id)
    records.lock(begun, 'somebody/else', 1)
    records.lock(alive, 'somebody/else', 30)
    kept = estate.world.cluster.records('volumes', NAMESPACE)
    kept.create(f'book.{ended}', {'book': '{}', f'flow.{ended}': '{}'})
    kept.write('index', {f'book.{ended}': 'x', f'flow.{ended}': ended,
                         f'book.{begun}': 'x', f'flow.{begun}': begun})
    time.sleep(1.1)

    estate.driver().jobs.recover_until_idle(5)

    assert records.passing() == [alive]
    assert {name for _, namespace, name in estate.world.ceph.records
            if namespace == NAMESPACE} == {'open', 'index', f'job.{alive}'}
    assert kept.read('index') == {}


def test_who_was_swept_before_he_had_a_lease_begins_again(estate: Estate
                                                          ) -> None:
    records, job = estate.records(), _job(claims=('volume/v',))
    records.announce(job.id)
    records.forget(job.id)

    records.open(job)

    assert [entry.job for entry in records.entries()] == [job]
    assert records.passing() == []


def test_the_history_is_bounded(estate: Estate) -> None:
    records = estate.records()
    for number in range(30):
        records.remember(_job(created_at=float(number)),
                         Note())
    records.trim_history(10)
    assert [job.created_at for job, _ in records.history()] == [
        float(number) for number in range(29, 19, -1)]


def test_the_volume_may_be_uploaded_twice_at_once(estate: Estate) -> None:
    estate.make_volume()
    first = estate.stop_at('cloning the volume', upload, lives=True)
    second = estate.driver().images.upload(SOURCE, ImageRequest('other'))
    assert isinstance(first.wake(), Result)
    assert second.strategy == 'clone'
    assert len(estate.world.disks('images')) == 2
    assert estate.world.snapshots('volumes', VOLUME) == [
        f'[{name}]' for name in [
            found[1:-1] for found in estate.world.snapshots(
                'volumes', VOLUME)]]


def test_a_database_whose_driver_is_not_installed_is_told(estate: Estate
                                                          ) -> None:
    estate.make_volume()
    estate.world.configure(flow_connection='mysql+oursql://u:secret@h/x')
    with pytest.raises(exception.ConfigurationError, match='oursql') as told:
        upload(estate.driver())
    assert 'secret' not in str(told.value)
