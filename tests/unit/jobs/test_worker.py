# SPDX-License-Identifier: Apache-2.0
"""Jobs that are posted, and the workers that do them."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.fakes.jobboard import MemoryServer
from tests.unit.jobs.conftest import (
    DATA,
    NEW,
    NEW_SPEC,
    Estate,
    Stopped,
    upload,
)
from tests.unit.world import SOURCE, OnStep
from volume_rbd import exception, progress
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.base import Result
from volume_rbd.jobs import node
from volume_rbd.jobs.board import Board
from volume_rbd.jobs.job import State
from volume_rbd.jobs.records import NAMESPACE
from volume_rbd.jobs.waits import Answer, Waits
from volume_rbd.jobs.worker import Conductor, Worker


class Yard(Estate):
    """An estate with a jobboard, where an upload is a copy."""

    def __init__(self, estate: Estate, server: MemoryServer, url: str
                 ) -> None:
        self.__dict__ = estate.__dict__
        self.server = server
        self.world.configure(jobboard=url, jobboard_timeout_s=30,
                             max_clone_depth=0)

    def board(self, driver: RBDDriver) -> Board:
        return Board(driver.config, driver.get_fsid())

    @contextlib.contextmanager
    def working(self, most: int = 2) -> Iterator[RBDDriver]:
        driver = self.driver()
        worker = Worker(driver.jobs, self.board(driver), most)
        worker.start()
        try:
            yield driver
        finally:
            worker.stop()
            worker.wait()

    def upload(self, report: progress.Progress | None = None) -> Result:
        """Into a record that is there, as a service does."""
        image_id = self.world.make_record()
        return self.driver().images.upload(
            SOURCE, ImageRequest('image', image_id=image_id), report=report)

    def upload_in_thread(self, report: progress.Progress | None = None
                         ) -> Upload:
        made = Upload(lambda: self.upload(report))
        made.start()
        return made

    def wait_for(self, is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def posted(self) -> str:
        """The id of the job that is on the board."""
        self.wait_for(self.server.all)
        [posting] = self.server.all()
        return str(posting.details['job'])


class Upload(threading.Thread):
    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__()
        self._work = work
        self.error: BaseException | None = None
        self.result: Result | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except exception.VolumeRBDError as error:
            self.error = error

    def end(self) -> Upload:
        self.join(60)
        assert not self.is_alive()
        return self


@pytest.fixture
def yard(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Yard:
    server = MemoryServer()
    yard = Yard(estate, server, server.install(monkeypatch))
    yard.make_volume()
    return yard


# -- by a worker --------------------------------------------------------------
def test_a_worker_does_what_was_posted_and_the_result_is_the_same(
        yard: Yard) -> None:
    seen = OnStep()
    with yard.working():
        result = yard.upload(seen)

    [image_id] = yard.world.disks('images')
    assert (result.strategy, result.reason) == ('copy', 'depth_reached')
    assert result.values['image_id'] == image_id
    assert result.size_bytes == len(DATA)
    assert yard.world.read('images', image_id, 'snap') == DATA
    assert yard.server.claims == 1
    assert yard.driver().jobs.show(result.job).state is State.DONE
    yard.wait_for(lambda: not yard.server.all())
    yard.check_no_job()


def test_it_is_the_same_result_as_without_a_board(yard: Yard) -> None:
    with yard.working():
        posted = yard.upload()
    yard.world.configure(jobboard='')
    here = yard.upload()

    def say(result: Result) -> object:
        return dataclasses.replace(
            result, job='', seconds=0.0, lineage={},
            values={key: value for key, value in result.values.items()
                    if key not in ('image_id', 'job')})

    assert say(posted) == say(here)
    assert set(posted.lineage) == set(here.lineage)


def test_a_volume_is_made_by_a_worker(yard: Yard) -> None:
    image_id = yard.world.make_image(DATA)
    with yard.working():
        result = yard.driver().images.create(NEW_SPEC, image_id,
                                             is_undone_when_lost=True)

    assert result.strategy == 'copy'
    assert yard.server.claims == 1
    assert yard.world.read('volumes', NEW)[:len(DATA)] == DATA
    yard.check_no_job()


def test_what_takes_milliseconds_is_done_at_once(yard: Yard) -> None:
    yard.world.configure(max_clone_depth=5)
    assert yard.upload().strategy == 'clone'
    assert yard.server.places == {}


def test_what_makes_its_own_record_makes_it_as_whoever_asks(yard: Yard
                                                            ) -> None:
    result = yard.driver().images.upload(SOURCE, ImageRequest('image'))
    assert result.strategy == 'copy'
    assert yard.server.places == {}


def test_an_error_of_the_worker_is_the_error_of_the_operation(yard: Yard
                                                              ) -> None:
    image_id = yard.world.make_record()
    before = yard.world.state()
    yard.world.glance.fail_next('register_location',
                                exception.QuotaExceeded('413: too large.'))
    with yard.working(), pytest.raises(exception.QuotaExceeded,
                                       match='413'):
        yard.driver().images.upload(
            SOURCE, ImageRequest('image', image_id=image_id))

    assert yard.world.state() == before
    yard.check_no_job()


def test_what_may_not_begin_is_not_posted(
        yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = yard.world.make_image(DATA)

    def take_the_name(method: str) -> None:
        if not yard.world.volumes.has_image(NEW):
            yard.world.make_volume(NEW)

    # After the name was found to be free, and before the job has it.
    monkeypatch.setattr(yard.world.server, 'check', take_the_name)
    with pytest.raises(exception.ImageExists):
        yard.driver().images.create(NEW_SPEC, image_id)
    assert yard.server.places == {}
    yard.check_no_job()


def test_who_waits_sees_how_far_it_is_and_can_cancel(yard: Yard) -> None:
    seen = OnStep()
    waiting = yard.upload_in_thread(seen)
    job = yard.posted()
    assert yard.driver().jobs.show(job).state is State.POSTED
    stopped, worker = Stopped('choosing a strategy'), yard.driver()
    thread = threading.Thread(
        target=lambda: worker.jobs.settle(job, report=stopped))
    thread.start()
    assert stopped.is_there.wait(30)
    yard.wait_for(lambda: seen.steps)

    seen.cancel()
    yard.wait_for(lambda: yard.records().note(job)[1])
    time.sleep(1)
    stopped.wake()

    assert isinstance(waiting.end().error, exception.Cancelled)
    thread.join()
    assert yard.driver().jobs.show(job).state is State.UNDONE
    assert yard.world.disks('images') == []
    [snapshots] = [found['snapshots'] for found
                   in yard.world.state().values() if 'snapshots' in found]
    assert not snapshots
    yard.check_no_job()


# -- without one --------------------------------------------------------------
def test_what_no_worker_takes_is_done_here(yard: Yard) -> None:
    yard.world.configure(jobboard_timeout_s=1)
    result = yard.upload()
    assert result.strategy == 'copy'
    assert yard.server.claims <= 1  # that of who withdraws it
    yard.wait_for(lambda: not yard.server.all())
    yard.check_no_job()


def test_a_board_that_is_away_is_not_waited_for(yard: Yard) -> None:
    yard.server.is_away = True
    started = time.monotonic()
    assert yard.upload().strategy == 'copy'
    assert time.monotonic() - started < 15
    yard.check_no_job()


def test_a_board_that_forgets_loses_nothing(yard: Yard) -> None:
    yard.world.configure(jobboard_timeout_s=2)
    waiting = yard.upload_in_thread()
    yard.posted()
    yard.server.forget()
    with yard.working():
        result = waiting.end().result
    assert result is not None
    assert yard.driver().jobs.show(result.job).state is State.DONE
    yard.check_no_job()


def test_what_waits_for_a_worker_is_nobodys_to_take_up_or_undo(yard: Yard
                                                               ) -> None:
    image_id = yard.world.make_image(DATA)
    waiting = Upload(lambda: yard.driver().images.create(NEW_SPEC, image_id))
    waiting.start()
    job = yard.posted()
    other = yard.driver()

    time.sleep(1.5)  # longer than a lease
    assert other.jobs.recover() == []
    with pytest.raises(exception.JobConflict, match=job):
        other.images.create(NEW_SPEC, image_id)

    with yard.working():
        assert waiting.end().error is None
    yard.check_no_job()


def test_a_worker_that_is_lost_is_followed_by_another(yard: Yard) -> None:
    waiting = yard.upload_in_thread()
    job = yard.posted()
    stopped, worker = Stopped('choosing a strategy'), yard.driver()
    lost = Upload(lambda: worker.jobs.settle(job, report=stopped))
    lost.start()
    assert stopped.is_there.wait(30)
    run = worker.jobs._running[job]
    assert run is not None
    run.lease.stop()

    with yard.working() as other:
        time.sleep(1.2)
        [*_, outcome] = other.jobs.recover_until_idle(20)
        assert outcome.state is State.DONE
    result = waiting.end().result
    stopped.wake()
    lost.end()

    assert result is not None
    assert yard.world.read('images', str(result.values['image_id']),
                           'snap') == DATA
    assert yard.driver().jobs.show(job).note.attempts == 1
    yard.check_no_job()


def test_what_nobody_waits_for_any_more_is_undone(yard: Yard) -> None:
    image_id = yard.world.make_image(DATA)
    before = yard.world.state()
    waiting = Upload(lambda: yard.driver().images.create(
        NEW_SPEC, image_id, is_undone_when_lost=True))
    waiting.start()
    job = yard.posted()
    records = yard.world.cluster.records('volumes', NAMESPACE)
    holder = records.find_lock(f'wait.{job}')
    assert holder is not None
    records.break_lock(f'wait.{job}', holder)
    # Of a process of this host that is gone.
    gone = node.describe().rpartition('/')[0] + '/0'
    assert yard.world.ceph.cluster().records('volumes', NAMESPACE).lock(
        f'wait.{job}', gone, duration_s=60)

    outcome = yard.driver().jobs.settle(job)

    assert outcome is not None
    assert outcome.state is State.UNDONE
    assert isinstance(waiting.end().error, exception.JobLost)
    assert yard.world.state() == before
    yard.check_no_job()


def test_what_those_left_who_were_killed_while_they_waited_is_swept(
        yard: Yard) -> None:
    gone, here = str(uuid.UUID(int=5)), str(uuid.UUID(int=6))
    records, waits = yard.records(), Waits(yard.world.cluster, 'volumes')
    for job, owner in ((gone, node.describe().rpartition('/')[0] + '/0'),
                       (here, node.describe())):
        records.announce(job)
        assert waits.lock(job, owner, 60)
        waits.tell(job, Answer(error=exception.NoSpace('Full.')))

    yard.driver().jobs.recover()

    assert waits.find_answer(gone) is None
    assert isinstance(waits.find_answer(here), Answer)
    waits.remove(here)
    records.forget(here)
    yard.check_no_job()


def test_a_registration_that_is_settled_when_nobody_waits_any_more(
        yard: Yard) -> None:
    yard.world.configure(registration_timeout_s=0.05)
    yard.world.server.activation_polls = None
    with yard.working(), pytest.raises(exception.RegistrationPending):
        yard.upload()
    [info] = yard.driver().jobs.list()
    assert info.state is State.WAITING
    # As if who waited had been killed before they read it.
    Waits(yard.world.cluster, 'volumes').tell(
        info.id, Answer(error=exception.NoSpace('x')))
    [image_id] = yard.world.disks('images')
    record = yard.world.server.records[image_id]
    record.image = dataclasses.replace(record.image, status='active')

    outcomes = yard.driver().jobs.recover_until_idle(10)

    assert outcomes[-1].state is State.DONE
    yard.check_no_job()


def test_who_waits_hears_that_its_job_was_forgotten(yard: Yard) -> None:
    waiting = yard.upload_in_thread()
    job = yard.posted()
    yard.driver().jobs.forget(job)
    assert isinstance(waiting.end().error, exception.JobLost)
    yard.check_no_job()


def test_an_answer_of_others_is_none(yard: Yard) -> None:
    job, other = str(uuid.UUID(int=5)), str(uuid.UUID(int=6))
    waits = Waits(yard.world.cluster, 'volumes')
    records = yard.world.cluster.records('volumes', NAMESPACE)
    for text in ('x', '{}', '[]', '{"answer": "{}", "signature": "x"}',
                 '{"answer": 5, "signature": "x"}', '[' * 100_000):
        records.write(f'wait.{job}', {'answer': text})
        assert waits.find_answer(job) is None
    waits.tell(other, Answer(error=exception.NoSpace('x')))
    records.write(f'wait.{job}', records.read(f'wait.{other}'))
    assert waits.find_answer(job) is None
    assert waits.find_answer(other) is not None


# -- what is on the board -----------------------------------------------------
@pytest.mark.parametrize('details', [
    {'job': str(uuid.UUID(int=5)), 'backend': 'ceph'},
    {'job': 'x', 'backend': 'ceph'},
    {'flow_uuid': 'x', 'store': {'a': 1}},
    {'job': str(uuid.UUID(int=5)), 'backend': 'ceph',
     'flow': {'name': 'subprocess.getoutput', 'args': ['touch /tmp/x']}},
    'nonsense'])
def test_what_is_forged_is_refused_and_removed(yard: Yard, details: object
                                               ) -> None:
    before = yard.world.state()
    driver = yard.driver()
    place = f'volume_rbd/{driver.get_fsid()}/ceph'
    yard.server._fetch('x', {'namespace': place}).post('forged',
                                                       details=details)
    with yard.working():
        yard.wait_for(lambda: not yard.server.all())
    assert yard.server.claims == 1
    assert yard.world.state() == before
    assert yard.world.ceph.records == {}


def test_a_record_that_is_forged_is_left_alone(yard: Yard) -> None:
    job = str(uuid.UUID(int=5))
    records = yard.world.cluster.records('volumes', NAMESPACE)
    records.create('open', {'format': '1', f'job.{job}': '{"job": "x"}'})
    before = yard.world.state()
    driver = yard.driver()
    yard.board(driver).post(job)
    with yard.working():
        yard.wait_for(lambda: not yard.server.all())
    assert yard.world.state() == before


def test_a_job_that_was_never_posted_is_not_taken_from_the_board(
        yard: Yard) -> None:
    left = yard.stop_at('choosing a strategy', upload)
    driver = yard.driver()
    yard.board(driver).post(left.job)
    with yard.working():
        yard.wait_for(lambda: not yard.server.all())
    assert [info.note.attempts for info in driver.jobs.list()] == [0]
    left.wake()


def test_no_engine_is_ever_made_of_a_posting(yard: Yard) -> None:
    driver = yard.driver()
    conductor = Conductor(driver.jobs, yard.board(driver), 1)
    with pytest.raises(NotImplementedError, match='by volume_rbd'):
        conductor._engine_from_job(object())


def test_an_image_that_the_service_may_not_see_is_uploaded_here(
        yard: Yard) -> None:
    yard.world.configure(jobboard_timeout_s=1)
    image_id = yard.world.make_record()
    driver = yard.driver()
    service = yard.driver()
    service.jobs._make_tools = lambda job: (_ for _ in ()).throw(
        exception.GlanceImageNotFound('There is no such image.'))
    worker = Worker(service.jobs, yard.board(service), 1)
    worker.start()
    try:
        result = driver.images.upload(
            SOURCE, ImageRequest('image', image_id=image_id))
    finally:
        worker.stop()
        worker.wait()
    assert result.strategy == 'copy'
    yard.check_no_job()
