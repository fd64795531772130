# SPDX-License-Identifier: Apache-2.0
"""What somebody has written beside the jobs who may write to the pool, and has
not the key."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
import uuid
from typing import Any

import pytest

from tests.fakes import disk_formats
from tests.unit.jobs.conftest import DATA, NEW, NEW_SPEC, Estate, upload
from tests.unit.world import VOLUME
from volume_rbd import exception, model
from volume_rbd.driver import RBDDriver
from volume_rbd.flows.base import Result
from volume_rbd.jobs import books, node
from volume_rbd.jobs.job import Job, State
from volume_rbd.jobs.records import NAMESPACE, JobRecords

_DEEP = '[' * 100_000
_FOREIGN = '../../kept'


def _signed(estate: Estate, job_id: str) -> str:
    """By us, of a job that does nothing."""
    return Job(job_id, 'upload_to_image', {}, (), '', (), 0.0).dump(
        estate.world.cluster.sign)


def test_what_is_no_id_of_a_job_is_no_path_and_no_object(
        estate: Estate, tmp_path: pathlib.Path) -> None:
    kept = tmp_path / 'kept'
    kept.mkdir()
    estate.world.configure(flow_connection=f'dir://{tmp_path}/flows')
    estate.make_volume()
    upload(estate.driver())
    estate.forge({f'passing.{kept}': '1', f'passing.{_FOREIGN}': '1',
                    f'job.{kept}': '{}', f'job.{_FOREIGN}': '{}',
                    f'claim.volume/{NEW}': str(kept), 'job.\x1b[2J': '{}'})
    names = {name for _, _, name in estate.world.ceph.records}
    jobs = estate.driver().jobs

    assert jobs.recover_until_idle(1) == []

    assert [info.state for info in jobs.list()] == 2 * [State.REFUSED]
    for job_id in (str(kept), _FOREIGN):
        for settle in (jobs.settle, jobs.cancel):
            with pytest.raises(exception.InvalidInput, match='--forget'):
                settle(job_id)
        jobs.forget(job_id)
    assert jobs.list() == []
    assert not jobs.is_claimed(f'volume/{NEW}')
    assert kept.is_dir()
    assert {name for _, _, name in estate.world.ceph.records} == names


@pytest.mark.parametrize('job_id', [
    '/nowhere', '..', '', 'x', '{11111111-1111-4111-8111-111111111111}'])
def test_a_book_has_the_id_of_a_job(estate: Estate, job_id: str) -> None:
    with books.opened(estate.world.config, estate.world.cluster) as backend:
        with pytest.raises(exception.InvalidInput):
            books.begin(backend, job_id, 'upload_to_image')
        assert books.find(backend, job_id) is None
        books.remove(backend, job_id)


@pytest.mark.parametrize('owner', ['x', '', 'a/b/c/d', 'a/b/c/d/e/f'])
def test_what_is_forged_keeps_nobody_from_the_others(estate: Estate,
                                                     owner: str) -> None:
    estate.make_volume()
    estate.stop_at('cloning the volume', upload)
    forged, passing, locked = (str(uuid.UUID(int=each)) for each in (
        5, 6, 7))
    estate.forge({
        f'job.{forged}': json.dumps({'signature': 'x', 'job': 5}),
        f'job.{locked}': _signed(estate, locked),
        f'passing.{passing}': '1', f'passing.{forged}': '1'})
    for job_id in (passing, locked):
        estate.world.cluster.records('volumes', NAMESPACE).lock(
            f'job.{job_id}', owner, duration_s=60)
    estate.forge({'note': _DEEP}, f'job.{locked}')
    time.sleep(1.1)

    driver = estate.driver()
    outcomes = [future.result() for future in driver.jobs.recover()]

    assert [found.state for found in outcomes if found] == [State.DONE]
    assert {info.state for info in driver.jobs.list()} == {
        State.REFUSED, State.RUNNING}


@pytest.mark.parametrize('word', [
    '', 'x', 'a/b/c', 'a/b/c/d/e/f',
    node.describe().rpartition('/')[0] + '9' * 5000 + '/1'])
def test_of_whom_nothing_can_be_told_is_not_gone(word: str) -> None:
    assert not node.is_gone(word)


def test_a_history_that_is_none_of_ours_says_nothing(estate: Estate) -> None:
    estate.make_volume()
    driver = estate.driver()
    upload(driver)
    before = driver.jobs.list(is_over=True)
    fields = json.loads(next(iter(estate.world.ceph.records[
        'volumes', NAMESPACE, 'history'].values())))
    estate.forge({
        'a': json.dumps({**fields, 'created_at': 10 ** 400}), 'b': _DEEP,
        'c': '5', 'd': json.dumps({**fields, 'note': 5})}, 'history')

    assert driver.jobs.list(is_over=True) == before


def test_what_goes_wrong_with_one_job_keeps_nobody_from_the_others(
        estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    estate.make_volume()
    estate.stop_at('cloning the volume', upload)
    other, passing = str(uuid.UUID(int=5)), str(uuid.UUID(int=6))
    estate.forge({
        f'job.{other}': _signed(estate, other),
        f'passing.{passing}': '1'})
    is_nobodys = JobRecords.is_nobodys

    def fail(records: JobRecords, job_id: str) -> bool:
        if job_id in (other, passing):
            raise exception.DataCorrupted('The holder of a lock is none.')
        return is_nobodys(records, job_id)

    monkeypatch.setattr(JobRecords, 'is_nobodys', fail)
    time.sleep(1.1)

    outcomes = [future.result() for future in estate.driver().jobs.recover()]

    assert [found.state for found in outcomes if found] == [State.DONE]


# -- what was over, and somebody puts back ------------------------------------
def _put_back(estate: Estate, state: str) -> tuple[RBDDriver, str, str]:
    """:param state: of the flow, as the book says that comes with it.
    :returns: a driver, and the ids of the image and of the job.
    """
    estate.make_volume()
    running = estate.stop_at('removing the snapshot of the volume', upload,
                             lives=True)
    text = estate.world.ceph.records['volumes', NAMESPACE, 'open'][
        f'job.{running.job}']
    result = running.wake()
    assert isinstance(result, Result)
    estate.forge({f'job.{running.job}': text})
    with books.opened(estate.world.config, estate.world.cluster) as backend:
        kept = books.begin(backend, running.job, 'upload_to_image')
        kept.detail.state = state
        with contextlib.closing(backend.get_connection()) as connection:
            connection.update_flow_details(kept.detail)
    return estate.driver(), str(result.values['image_id']), running.job


@pytest.mark.parametrize('status', ['active', 'deactivated'])
@pytest.mark.parametrize('state', ['REVERTED', 'PENDING'])
def test_an_image_that_is_in_use_is_not_undone(estate: Estate, state: str,
                                               status: str) -> None:
    driver, image_id, job_id = _put_back(estate, state)
    estate.world.server.records[image_id].change(status=status)
    with estate.world.cluster.pool('volumes').open(VOLUME) as volume:
        volume.write(b'later', 0)
    before = _without_volumes(estate)

    outcome = driver.jobs.settle(job_id)

    assert outcome is not None
    assert outcome.state is State.UNDOING
    assert 'stays' in str(outcome.error)
    assert estate.world.server.records[image_id].image.status == status
    assert _without_volumes(estate) == before
    assert estate.world.read('images', image_id, 'snap') == DATA


def _without_volumes(estate: Estate) -> dict[str, Any]:
    return {key: value for key, value in estate.world.state().items()
            if not key.startswith('rbd volumes/')}


def test_an_image_that_was_sent_is_not_undone(estate: Estate) -> None:
    estate.world.configure(enable_clone_optimization=False)
    driver, image_id, job_id = _put_back(estate, 'REVERTED')

    outcome = driver.jobs.settle(job_id)

    assert outcome is not None
    assert outcome.state is State.UNDOING
    assert estate.world.download(image_id) == DATA


def test_that_an_image_was_inspected_no_record_says(estate: Estate) -> None:
    """The book is not signed."""
    image_id = estate.world.make_image(
        disk_formats.qcow2(DATA, incompatible=4), disk_format='qcow2')
    before = estate.world.state()
    stopped = estate.stop_at('inspecting the image', lambda driver, report: (
        driver.images.create(NEW_SPEC, image_id, report=report)))
    [disk] = [disk for disk in estate.world.ceph.disks.values()
              if disk.pool == 'images']
    book = estate.world.ceph.records[
        'volumes', NAMESPACE, f'book.{stopped.job}']
    for key, text in book.items():
        found = json.loads(text)
        if key.startswith('atom.') and found['atom']['name'] == 'InspectFile':
            found['atom'] |= {
                'state': 'SUCCESS', 'intention': 'EXECUTE',
                'results': [len(DATA), model.GIB,
                            [disk.id, disk.snaps[0].id]]}
            book[key] = json.dumps(found)

    [*_, outcome] = estate.driver().jobs.recover_until_idle(10)

    assert estate.world.converter.calls == []
    assert isinstance(outcome.error, exception.ImageUnsafe)
    assert estate.world.state() == before
