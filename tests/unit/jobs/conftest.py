# SPDX-License-Identifier: Apache-2.0
"""A cloud whose jobs are written down, and processes that stop in the middle.

Such a process neither goes on nor prolongs its lease, like one that was
killed; but it can be woken up again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import pytest
import tenacity
from taskflow import storage

from tests.unit.world import SOURCE, VOLUME, World, content
from volume_rbd import model, progress
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.jobs.records import NAMESPACE, JobRecords

Work = Callable[[RBDDriver, progress.Progress], object]

NEW = 'volume-new'
NEW_SPEC = model.VolumeSpec(NEW, model.GIB)
DATA = content()


class Stopped(progress.Silent):
    """Stops at the step *name*, until it is woken."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.is_there = threading.Event()
        self._woken = threading.Event()

    def step(self, name: str) -> None:
        if name == self._name and not self.is_there.is_set():
            self.is_there.set()
            assert self._woken.wait(60)

    def wake(self) -> None:
        self._woken.set()


class Process:
    """A driver at work in a thread, stopped at a step.

    :ivar outcome: what it gave or raised, once it was woken.
    """

    def __init__(self, estate: Estate, step: str,
                 work: Work, *, lives: bool) -> None:
        self.driver = estate.driver()
        self._report = Stopped(step)
        self.outcome: object = None
        self._thread = threading.Thread(target=self._work, args=(work,))
        self._thread.start()
        while not self._report.is_there.wait(0.01):
            assert self._thread.is_alive(), self.outcome
        [(self.job, run)] = self.driver.jobs._running.items()
        if not lives:
            run.lease.stop()  # it is prolonged no more

    def _work(self, work: Work) -> None:
        try:
            self.outcome = work(self.driver, self._report)
        except Exception as error:
            self.outcome = error

    def wake(self) -> object:
        self._report.wake()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.outcome


class Estate:
    """One cloud, and the drivers of several processes."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.configure(flow_connection='rados://', job_lease_s=1)
        self.drivers: list[RBDDriver] = []
        self.processes: list[Process] = []

    def driver(self) -> RBDDriver:
        driver = RBDDriver(self.world.config, self.world.ceph.cluster(),
                           lambda: self.world.glance,
                           converter=self.world.converter)
        self.drivers.append(driver)
        return driver

    def stop_at(self, step: str, work: Work, *, lives: bool = False
                ) -> Process:
        """:param lives: its lease goes on being prolonged."""
        process = Process(self, step, work, lives=lives)
        self.processes.append(process)
        return process

    def make_volume(self) -> None:
        volumes = self.world.cluster.pool('volumes')
        volumes.create(VOLUME, len(DATA))
        with volumes.open(VOLUME) as volume:
            volume.write(DATA, 0)

    def make_image(self) -> str:
        """An image that can be cloned."""
        self.make_volume()
        driver = self.driver()
        result = driver.images.upload(SOURCE, ImageRequest('image'))
        driver.volumes.delete(VOLUME)
        driver.reclaimer.wait()
        return str(result.values['image_id'])

    def records(self) -> JobRecords:
        return JobRecords(self.world.cluster, 'volumes')

    def forge(self, texts: Mapping[str, str], name: str = 'open') -> None:
        """Write as whoever may write to the pool can: what is no text is read
        as one with other letters."""
        self.world.ceph.records.setdefault(
            ('volumes', NAMESPACE, name), {}).update(texts)

    def check_no_job(self) -> None:
        """Only what stays for good, and nothing in it but history."""
        found = {name: record for (_, namespace, name), record
                 in self.world.ceph.records.items()
                 if namespace == NAMESPACE}
        assert set(found) <= {'open', 'index', 'history'}
        assert set(found['open']) == {'format'}
        assert set(found.get('index', {'format': ''})) == {'format'}


@pytest.fixture
def estate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    # taskflow tries 10 s long to write to what it cannot write to.
    for save in (storage.Storage._save_flow_detail,
                 storage.Storage._save_atom_detail):
        monkeypatch.setattr(save.retry, 'wait', tenacity.wait_none())
    estate = Estate(World())
    yield estate
    for process in estate.processes:
        process.wake()
    for driver in estate.drivers:
        driver.close()


def upload(driver: RBDDriver, report: progress.Progress | None = None
           ) -> object:
    return driver.images.upload(SOURCE, ImageRequest('image'), report=report)
