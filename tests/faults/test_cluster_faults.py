# SPDX-License-Identifier: Apache-2.0
"""Parts of the cluster fail while bytes move; what must come of it is each
test's name.

More of the kind: a pool that is full half-way and an OSD that is away are in
``tests/functional/test_data_path.py``; Glance slow, broken, away and killed in
``tests/functional/test_fallback.py``; everything through Cinder, with a kill
in the middle, in ``tests/e2e/test_faults.py``.
"""

from __future__ import annotations

import contextlib
import pathlib
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.mover import CREATES, UPLOADS, Mover
from tests.functional.steps import AtBytes
from volume_rbd import exception
from volume_rbd.driver import RBDDriver

DISK_BYTES = 32 * MIB
SLOW_BYTES_PER_S = 16 * MIB


@pytest.fixture(autouse=True)
def all_back(house: House) -> Iterator[None]:
    """Each test ends with the world as it began."""
    before = house.describe()
    yield
    try:
        house.clean_up(before)
        house.check_same(before)
    except (AssertionError, exception.VolumeRBDError):
        house.scrub(before)
        raise


class Moves:
    """A disk on its way by each strategy, all at once."""

    def __init__(self, house: House, folder: pathlib.Path) -> None:
        self._movers = {}
        for strategy in (*CREATES, *UPLOADS):
            (folder / strategy).mkdir()
            mover = Mover(house, folder / strategy)
            self._movers[strategy] = mover, mover.prepare(
                strategy, content.random_bytes(DISK_BYTES))
        self._house = house

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Within the block each has begun to move bytes; behind it each has
        come to its end, and every byte is right."""
        begun = threading.Barrier(len(self._movers) + 1)
        cluster = self._house.cluster
        with ThreadPoolExecutor(len(self._movers)) as threads, \
                cluster.slow('volumes', SLOW_BYTES_PER_S), \
                cluster.slow('images', SLOW_BYTES_PER_S):
            running = {strategy: threads.submit(
                move, AtBytes(MIB, begun.wait)) for strategy, (_, move)
                in self._movers.items()}
            begun.wait(60)
            yield
            done = {strategy: each.result(200)
                    for strategy, each in running.items()}
        for strategy, (made, result) in done.items():
            self._movers[strategy][0].check(strategy, made, result)


@contextlib.contextmanager
def standing_still(house: House, daemon: str, seconds: float
                   ) -> Iterator[None]:
    house.sandbox.signal_process(daemon, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        house.sandbox.signal_process(daemon, signal.SIGCONT)
    yield


@contextlib.contextmanager
def losing_messages(house: House, one_in: int) -> Iterator[None]:
    """The OSD breaks a connection off for one in so many messages."""
    name = 'ms_inject_socket_failures'
    house.cluster.ceph('config', 'set', 'osd', name, str(one_in))
    try:
        yield
    finally:
        house.cluster.ceph('config', 'rm', 'osd', name)


@pytest.mark.timeout(600)
@pytest.mark.parametrize('one_in', [
    1000, pytest.param(5000, marks=pytest.mark.faults)])
def test_connections_that_break_off_lose_no_byte(
        house: House, tmp_path: pathlib.Path, one_in: int) -> None:
    moves = Moves(house, tmp_path)
    before = _broken_off(house)
    with losing_messages(house, one_in), moves.under_way():
        pass
    # In some thousand messages one in 5000 may not have come.
    assert _broken_off(house) > before or one_in > 1000


def _broken_off(house: House) -> int:
    """How often the OSD says that it has done so."""
    log = pathlib.Path(house.sandbox.folder) / 'log' / 'osd.log'
    return log.read_text(errors='replace').count('injecting socket failure')


@pytest.mark.timeout(600)
@pytest.mark.parametrize('daemon', [
    'osd', pytest.param('mon', marks=pytest.mark.faults),
    pytest.param('mgr', marks=pytest.mark.faults)])
def test_a_daemon_that_stands_still_for_3_s_is_waited_for(
        house: House, tmp_path: pathlib.Path, daemon: str) -> None:
    moves = Moves(house, tmp_path)
    with moves.under_way(), standing_still(house, daemon, 3):
        pass


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize('daemon', ['osd', 'mgr'])
def test_a_daemon_that_is_away_for_80_s_is_waited_for(
        house: House, tmp_path: pathlib.Path, daemon: str) -> None:
    """Killed and started again: an only OSD that stood still for so long
    would stay "laggy" (Ceph 16.2)."""
    moves = Moves(house, tmp_path)
    with moves.under_way():
        house.sandbox.signal_process(daemon, signal.SIGKILL)
        try:
            time.sleep(80)
        finally:
            house.sandbox.start_process(daemon)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_monitor_that_is_away_for_80_s_is_a_clear_error_or_none_at_all(
        house: House, tmp_path: pathlib.Path) -> None:
    """What needs it meanwhile, as a snapshot does, says that the cluster is
    unavailable; what does not, goes on. Either way nothing stays."""
    name = f'volume-{uuid.uuid4()}'
    data = content.random_bytes(DISK_BYTES)
    image = house.member.make(data)
    before = house.describe()
    with house.cluster.slow('volumes', SLOW_BYTES_PER_S), \
            ThreadPoolExecutor(1) as thread:
        begun = threading.Event()
        running = thread.submit(
            house.create, image, name=name, driver=copying(house),
            report=AtBytes(MIB, begun.set))
        begun.wait(60)
        with standing_still(house, 'mon', 80):
            pass
        error = running.exception(200)
    if error is None:
        assert house.cluster.digest('volumes', name) == (
            content.digest_of_bytes(data))
        return
    assert isinstance(error, exception.Unavailable), error
    settle(copying(house))
    house.check_same(before)


@pytest.mark.timeout(300)
def test_a_client_that_is_shut_out_in_mid_copy_says_so_and_the_next_goes_on(
        house: House) -> None:
    """As a takeover does it: what it had begun is settled with a new
    connection, and the same can be asked for again."""
    data = content.random_bytes(DISK_BYTES)
    image = house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    before = house.describe()

    def shut_out() -> None:
        with house.cluster.open('volumes', name, read_only=True) as target:
            [watcher] = list(target.watchers_list())
        house.cluster.ceph('osd', 'blocklist', 'add', watcher['addr'], '60')

    # Whichever hears of it first: the copy, or the lease.
    with house.cluster.slow('volumes', SLOW_BYTES_PER_S), pytest.raises(
            (exception.Unavailable, exception.JobLost)):
        house.create(image, name=name, driver=copying(house),
                     report=AtBytes(8 * MIB, shut_out))
    settle(copying(house))
    if name not in house.cluster.names('volumes'):
        house.check_same(before)
        house.create(image, name=name, driver=copying(house))

    assert house.cluster.digest('volumes', name) == (
        content.digest_of_bytes(data))


def copying(house: House) -> RBDDriver:
    """A backend that may clone nothing, and keeps its flows."""
    return house.driver(DEFAULT={'flow_connection': 'rados://'},
                        optimized={'rbd_max_clone_depth': 0})


def settle(driver: RBDDriver) -> None:
    """As a service does it every few seconds."""
    jobs = getattr(driver, 'jobs', None)
    if jobs is not None:
        jobs.recover_until_idle(60)
