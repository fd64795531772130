# SPDX-License-Identifier: Apache-2.0
"""Workers in processes of their own, with real jobboards between."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional import content, formats
from tests.functional.content import MIB
from tests.functional.house import PROGRAM, House
from tests.functional.steps import Steps
from tests.jobboards import SERVERS, Server
from volume_rbd import exception, model
from volume_rbd.ceph import checkpoint
from volume_rbd.driver import RBDDriver
from volume_rbd.flows.base import Result
from volume_rbd.jobs.board import Board
from volume_rbd.jobs.info import JobInfo
from volume_rbd.jobs.job import State

# At 8 MiB a second, with a checkpoint every 5 s, it takes 10 s.
SIZE = 80 * MIB
DEPTH = {'rbd_max_clone_depth': 0}
BOARDS = pytest.mark.parametrize('server', ['redis', 'etcd'], indirect=True)
REDIS = pytest.mark.parametrize('server', ['redis'], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path
           ) -> Iterator[Server]:
    with SERVERS[request.param](tmp_path) as made:
        yield made


class Site:
    """A service, its jobboard, and the workers that it has."""

    def __init__(self, house: House, server: Server) -> None:
        self.house = house
        self.server = server
        self.options: dict[str, object] = {'jobboard': server.url, **DEPTH}
        self.workers: list[Worker] = []

    @property
    def driver(self) -> RBDDriver:
        return self.house.driver(**self._overrides())

    def _overrides(self) -> dict[str, dict[str, object]]:
        return {'DEFAULT': {'flow_connection': 'rados://'},
                'optimized': self.options}

    def start_worker(self, *words: str) -> Worker:
        worker = Worker(self.house, self._overrides(), words)
        self.workers.append(worker)
        return worker

    def upload(self, volume: str, image: str, **options: Any) -> Result:
        return self.house.upload(volume, driver=self.driver, image_id=image,
                                 **options)[1]

    def board(self) -> Board:
        return Board(self.driver.config, self.driver.get_fsid())

    def wait_for_empty_board(self) -> None:
        with contextlib.closing(self.board()) as board:
            _wait_for(lambda: not list(board.iterjobs()), 60)

    def running(self) -> JobInfo:
        """The one job that a worker has, once one has it."""
        def find() -> JobInfo | None:
            return next((info for info in self.driver.jobs.list()
                         if info.state is State.RUNNING
                         and any(worker.has(info)
                                 for worker in self.workers)), None)
        return _wait_for(find, 60)

    def check(self) -> None:
        """No record of a job is left, and nothing on the board."""
        self.wait_for_empty_board()
        records = self.driver.cluster.records('volumes', 'volume_rbd.jobs')
        _wait_for(lambda: set(records.names()) <= {
            'history', 'index', 'open'}, 30)
        assert set(records.read('open')) <= {'format'}


class Worker:
    """``volume-rbd worker`` in a process of its own."""

    def __init__(self, house: House, overrides: Any, words: tuple[str, ...]
                 ) -> None:
        self._house = house
        self.said = ''
        self.process = subprocess.Popen(
            [PROGRAM, '--backend', 'optimized', 'worker', *words], text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=house.environ('service', overrides))
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._is_ready.wait(60), self.said
        assert self.process.poll() is None, self.said

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.said += line
                if line.startswith('Working for'):
                    self._is_ready.set()
        self._is_ready.set()

    def has(self, info: JobInfo) -> bool:
        return f'(process {self.process.pid})' in info.node

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join()

    def end(self) -> None:
        """As an operator would."""
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(60) == 0, self.said
            self._reader.join()
            self._house.check_output(self.said)


@pytest.fixture
def site(house: House, server: Server) -> Iterator[Site]:
    made = Site(house, server)
    try:
        yield made
        made.check()
        for worker in made.workers:
            worker.end()
    finally:
        for worker in made.workers:
            worker.kill()


def _wait_for(find: Callable[[], Any], timeout_s: float) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


class Doing(threading.Thread):
    """What is waited for in the background."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def end(self, timeout_s: float = 120) -> Any:
        self.join(timeout_s)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


def _wait_for_checkpoint(house: House, pool: str, name: str) -> int:
    """How far it has come."""
    def find() -> int:
        if name not in house.cluster.names(pool):
            return 0
        text = house.cluster.metadata(pool, name).get(checkpoint.KEY)
        return int(json.loads(text)['offset']) if text else 0
    return int(_wait_for(find, 60))


# -- by a worker --------------------------------------------------------------
@BOARDS
def test_an_upload_by_copy_is_done_by_a_worker(house: House, site: Site
                                               ) -> None:
    worker = site.start_worker()
    data = content.sparse_bytes(24 * MIB)
    volume, image = house.volume(data), house.member.create()

    result = site.upload(volume, image)

    assert (result.strategy, result.reason) == ('copy', 'depth_reached')
    assert worker.has(site.driver.jobs.show(result.job))
    assert house.member.get(image)['status'] == 'active'
    assert house.member.digest(image) == content.digest_of_bytes(data)
    assert house.cluster.snapshots('volumes', volume) == []


@BOARDS
def test_an_image_is_converted_by_a_worker(
        house: House, site: Site, tmp_path: Path) -> None:
    worker = site.start_worker()
    data = content.sparse_bytes(24 * MIB)
    image = house.member.make(formats.make(tmp_path, data, 'qcow2'),
                              disk_format='qcow2')
    seen = Steps()

    name, result = house.create(image, driver=site.driver, report=seen)

    assert (result.strategy, result.reason) == ('convert', 'not_raw')
    assert worker.has(site.driver.jobs.show(result.job))
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)
    mark = house.cluster.mark('volumes', name)
    assert mark is not None
    assert (mark['state'], mark['job']) == ('complete', result.job)


@REDIS
def test_the_error_is_the_workers_and_nothing_is_left(
        house: House, site: Site) -> None:
    site.options['copy_bandwidth'] = 2
    worker = site.start_worker()
    volume = house.volume(content.random_bytes(24 * MIB))
    image = house.member.create()
    image_pool = house.cluster.names('images')

    doing = Doing(lambda: site.upload(volume, image))
    assert worker.has(site.running())
    house.member.delete(image)

    with pytest.raises((exception.GlanceImageNotFound,
                        exception.GlanceImageNotUsable,
                        exception.RegistrationRefused)):
        doing.end()
    assert house.cluster.names('images') == image_pool
    assert house.cluster.snapshots('volumes', volume) == []


@REDIS
@pytest.mark.timeout(240)
def test_who_waits_cancels_what_a_worker_does(house: House, site: Site
                                              ) -> None:
    site.options['copy_bandwidth'] = 4
    worker = site.start_worker()
    volume = house.volume(content.random_bytes(SIZE))
    image = house.member.create()
    seen = Steps()

    doing = Doing(lambda: site.upload(volume, image, report=seen))
    assert worker.has(site.running())
    _wait_for(lambda: seen.names, 30)
    seen.cancel()

    with pytest.raises(exception.Cancelled):
        doing.end()
    assert house.member.status(image) == 'queued'
    assert house.cluster.snapshots('volumes', volume) == []


# -- what goes wrong ----------------------------------------------------------
@pytest.mark.parametrize('server', [
    'redis', pytest.param('etcd', marks=pytest.mark.faults)], indirect=True)
@pytest.mark.timeout(300)
def test_of_three_workers_one_is_killed_and_another_goes_on(
        house: House, site: Site) -> None:
    site.options['copy_bandwidth'] = 8
    workers = [site.start_worker() for _ in range(3)]
    data = content.random_bytes(SIZE)
    image, name = house.member.make(data), f'volume-{uuid.uuid4()}'

    doing = Doing(lambda: site.driver.images.create(
        model.VolumeSpec(name), image, is_undone_when_lost=True))
    first = site.running()
    [killed] = [worker for worker in workers if worker.has(first)]
    _wait_for_checkpoint(house, 'volumes', name)
    killed.kill()
    offset = _wait_for_checkpoint(house, 'volumes', name)
    result = doing.end()

    assert result.strategy == 'copy'
    assert 0 < offset < SIZE
    assert result.bytes_moved == SIZE - offset
    info = site.driver.jobs.show(first.id)
    assert info.note.attempts == 1
    assert [worker for worker in workers if worker.has(info)] != [killed]
    assert any(worker.has(info) for worker in workers)
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)


@BOARDS
@pytest.mark.timeout(240)
def test_a_server_that_is_restarted_loses_nothing(house: House, site: Site
                                                  ) -> None:
    """Redis forgets all it had; etcd has it when it is back."""
    site.options |= {'copy_bandwidth': 8, 'jobboard_timeout': 10}
    worker = site.start_worker()
    data = content.random_bytes(40 * MIB)
    volume = house.volume(data)
    images = [house.member.create() for _ in range(3)]

    doing = [Doing(functools.partial(site.upload, volume, images[0]))]
    assert worker.has(site.running())
    site.server.stop()
    # While it is away:
    doing.append(Doing(functools.partial(site.upload, volume, images[1])))
    assert doing[1].end().strategy == 'copy'
    site.server.start()
    doing.append(Doing(functools.partial(site.upload, volume, images[2])))

    results = [each.end() for each in doing]
    for image in images:
        assert house.member.digest(image) == content.digest_of_bytes(data)
    assert worker.has(site.driver.jobs.show(results[0].job))
    assert not worker.has(site.driver.jobs.show(results[1].job))
    assert worker.has(site.driver.jobs.show(results[2].job))


@REDIS
def test_without_any_worker_it_is_done_here(house: House, site: Site
                                            ) -> None:
    site.options['jobboard_timeout'] = 2
    data = content.sparse_bytes(8 * MIB)
    volume, image = house.volume(data), house.member.create()

    result = site.upload(volume, image)

    assert result.strategy == 'copy'
    assert house.member.digest(image) == content.digest_of_bytes(data)


@BOARDS
def test_what_is_forged_is_refused_and_removed(
        house: House, site: Site, tmp_path: Path) -> None:
    worker, made = site.start_worker(), tmp_path / 'made'
    with house.nothing_changes():
        with contextlib.closing(site.board()) as board:
            board.connect()
            for details in (
                    {'job': str(uuid.uuid4()), 'backend': 'optimized'},
                    {'flow_uuid': str(uuid.uuid4()), 'store': {'x': 'y'}},
                    {'job': str(uuid.uuid4()), 'backend': 'optimized',
                     'flow': {'name': 'subprocess.getoutput',
                              'args': [f'touch {made}']}}):
                board._board.post('forged', details=details)
        site.wait_for_empty_board()
    assert not made.exists()
    # It goes on.
    volume, image = house.volume(b'x' * MIB), house.member.create()
    assert worker.has(site.driver.jobs.show(
        site.upload(volume, image).job))


@REDIS
@pytest.mark.timeout(240)
def test_a_worker_that_is_told_to_end_leaves_its_job_to_another(
        house: House, site: Site) -> None:
    site.options['copy_bandwidth'] = 4
    first = site.start_worker('--jobs', '1')
    data = content.random_bytes(SIZE)
    volume, image = house.volume(data), house.member.create()

    doing = Doing(lambda: site.upload(volume, image))
    assert first.has(site.running())
    _wait_for_checkpoint(house, 'images', image)
    second = site.start_worker()
    first.end()
    result = doing.end()

    assert result.bytes_moved < SIZE
    assert second.has(site.driver.jobs.show(result.job))
    assert house.member.digest(image) == content.digest_of_bytes(data)


# -- without a jobboard -------------------------------------------------------
def test_without_a_jobboard_it_takes_up_what_was_left_and_purges(
        house: House) -> None:
    overrides = {'DEFAULT': {'flow_connection': 'rados://'},
                 'optimized': {'copy_bandwidth': 8, **DEPTH}}
    data = content.random_bytes(SIZE)
    image, name = house.member.make(data), f'volume-{uuid.uuid4()}'
    left = subprocess.Popen(
        [PROGRAM, '--backend', 'optimized', 'create', name, '--image',
         image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=house.environ(overrides=overrides))
    try:
        _wait_for_checkpoint(house, 'volumes', name)
    finally:
        left.kill()
        left.wait()
    worker = Worker(house, overrides, ())
    try:
        driver = house.driver(**overrides)
        _wait_for(lambda: not driver.jobs.list(), 60)
        [info] = [found for found in driver.jobs.list(is_over=True)
                  if found.target == f'volume {name}']
        assert info.state is State.DONE
        assert worker.has(info)
        worker.end()
    finally:
        worker.kill()
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)

