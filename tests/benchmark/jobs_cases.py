# SPDX-License-Identifier: Apache-2.0
"""What it costs that jobs are written down, and to look for those that
somebody has left."""

from __future__ import annotations

import configparser
import pathlib
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.benchmark.service import Case
from volume_rbd import manager, model
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.jobs.job import Job, Note, State
from volume_rbd.jobs.records import NAMESPACE, JobRecords
from volume_rbd.sandbox import Sandbox

VOLUME = 'bench-jobs'
# Name -> flow_connection.
WAYS = {'memory': 'memory', 'rados': 'rados://'}
OPEN, OVER = 100, 10_000
_ELSEWHERE = 'another-host/boot/namespace/1/1'


class JobsBench:
    """:param rounds: how often each thing is timed."""

    def __init__(self, sandbox: Sandbox, rounds: int) -> None:
        self._rounds = rounds
        member = sandbox.env('member')
        self._managers = {
            name: manager.VolumeManager(
                [_write_config(member['VOLUME_RBD_CONFIG'], name, connection)],
                environ=member) for name, connection in WAYS.items()}
        self._drivers = {name: found.backend('optimized')
                         for name, found in self._managers.items()}
        self._glance = self._managers['memory'].glance()

    def cases(self) -> list[Case]:
        driver = self._drivers['memory']
        driver.volumes.create(model.VolumeSpec(VOLUME, model.GIB))
        with driver.cluster.pool('volumes').open(VOLUME) as image:
            for offset in range(0, 64 * model.MIB, 4 * model.MIB):
                image.write(b'x' * 4 * model.MIB, offset)
            image.flush()
        return [self.jobs_clone_upload, self.jobs_clone_create,
                self.jobs_scan]

    def close(self) -> None:
        self._drivers['memory'].volumes.delete(VOLUME)
        self._drivers['memory'].reclaimer.purge()
        for found in self._managers.values():
            found.close()

    # -- the cases -----------------------------------------------------------
    def jobs_clone_upload(self) -> dict[str, Any]:
        """Clone-upload, written down in RADOS and not at all."""
        def upload(driver: RBDDriver) -> float:
            started = time.monotonic()
            result = driver.images.upload(model.VolumeSpec(VOLUME),
                                          ImageRequest('bench'))
            seconds = time.monotonic() - started
            assert result.strategy == 'clone', result.sentence
            self._glance.delete_image(str(result.values['image_id']))
            return seconds

        return {**self._compare(upload, self._rounds),
                'target': 'ratio at most 1.10'}

    def jobs_clone_create(self) -> dict[str, Any]:
        """Create by clone, likewise."""
        made = self._drivers['memory'].images.upload(
            model.VolumeSpec(VOLUME), ImageRequest('bench'))
        image_id = str(made.values['image_id'])

        def create(driver: RBDDriver) -> float:
            name = f'bench-{uuid.uuid4()}'
            started = time.monotonic()
            result = driver.images.create(
                model.VolumeSpec(name, 4 * model.GIB), image_id)
            seconds = time.monotonic() - started
            assert result.strategy == 'clone', result.sentence
            self._drivers['memory'].volumes.delete(name)
            return seconds

        found = self._compare(create, 3 * self._rounds)
        self._glance.delete_image(image_id)
        return {**found, 'target': 'at most 50 ms more'}

    def jobs_scan(self) -> dict[str, Any]:
        """A look for jobs to take up: 100 that others have, 10,000 over."""
        driver = self._drivers['rados']
        records = JobRecords(driver.cluster, 'volumes')
        self._fill_history(driver, records)
        jobs = [_job() for _ in range(OPEN)]
        for job in jobs:
            assert records.lock(job.id, _ELSEWHERE, 3600)
            records.write_note(job.id, Note())
            records.open(job)
        found = {
            # The first of a process looks for remnants too.
            'first_seconds': _timed(driver.jobs.recover),
            'seconds': statistics.median(
                _timed(driver.jobs.recover) for _ in range(self._rounds)),
            'list_seconds': _timed(lambda: _check_count(driver, OPEN)),
            'list_all_seconds': _timed(
                lambda: driver.jobs.list(is_over=True))}
        for job in jobs:
            entry = records.find(job.id)
            assert entry is not None
            records.close(entry)
            records.remove(job.id)
        return {**{name: round(seconds, 3)
                   for name, seconds in found.items()},
                'open': OPEN, 'over': OVER, 'target': 'at most 2 s'}

    # -- helpers -------------------------------------------------------------
    def _compare(self, run: Callable[[RBDDriver], float], rounds: int
                 ) -> dict[str, Any]:
        """Each round begins with another way."""
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for driver in self._drivers.values():
            run(driver)  # to connect is no part of it
        for number in range(rounds):
            names = list(WAYS)
            for name in names if number % 2 else reversed(names):
                times[name].append(run(self._drivers[name]))
        memory, rados = (statistics.median(times[name]) for name in WAYS)
        return {'memory_seconds': round(memory, 4),
                'rados_seconds': round(rados, 4),
                'ratio': round(rados / memory, 3),
                'more_ms': round(1000 * (rados - memory), 1),
                'all_seconds': {name: [round(s, 4) for s in found]
                                for name, found in times.items()}}

    def _fill_history(self, driver: RBDDriver, records: JobRecords) -> None:
        """Of the same kind as what a real job leaves."""
        raw = driver.cluster.records('volumes', NAMESPACE)
        done = next(note for _, note in records.history()
                    if note.state == State.DONE)
        job = _job()
        records.remember(job, done)
        key, text = next((key, text) for key, text
                         in raw.read('history').items() if job.id in key)
        for start in range(0, OVER, 500):
            others = [(f'{number:015}', str(uuid.uuid4()))
                      for number in range(start, start + 500)]
            raw.write('history', {
                f'{when}.{other}': text.replace(job.id, other)
                for when, other in others})
        assert key in raw.read('history')


def _job() -> Job:
    job_id = str(uuid.uuid4())
    return Job(
        id=job_id, operation='create_from_image', arguments={'job': job_id},
        claims=(f'volume/{job_id}',), node=_ELSEWHERE,
        clients=('192.0.2.1:0/1',), created_at=time.time())


def _check_count(driver: RBDDriver, count: int) -> None:
    assert len(driver.jobs.list()) == count


def _timed(run: Callable[[], object]) -> float:
    started = time.monotonic()
    run()
    return time.monotonic() - started


def _write_config(path: str, name: str, connection: str) -> str:
    """As the one at *path*, with another flow_connection, beside it."""
    parser = configparser.RawConfigParser(default_section='-')
    parser.read(path)
    if not parser.has_section('DEFAULT'):
        parser.add_section('DEFAULT')
    parser.set('DEFAULT', 'flow_connection', connection)
    made = pathlib.Path(path).with_name(f'bench-{name}.conf')
    made.touch(mode=0o600)
    with made.open('w') as stream:
        parser.write(stream)
    return str(made)
