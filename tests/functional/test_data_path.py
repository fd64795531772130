# SPDX-License-Identifier: Apache-2.0
"""What happens to bytes on their way, by each strategy that moves them."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.mover import CREATES, UPLOADS, Mover
from tests.functional.proxy import Proxy
from tests.functional.steps import AtBytes
from volume_rbd import exception
from volume_rbd.flows.base import Result


def _sampled(name: str, values: Iterable[object], sample: Collection[object]
             ) -> pytest.MarkDecorator:
    """An ordinary run takes the sample; all of them: ``make faults``."""
    return pytest.mark.parametrize(name, [
        pytest.param(value, marks=[] if value in sample
                     else pytest.mark.faults) for value in values])


@pytest.fixture
def mover(house: House, tmp_path: pathlib.Path) -> Mover:
    return Mover(house, tmp_path)


# -- no room ------------------------------------------------------------------

@pytest.mark.timeout(300)
@_sampled('strategy', [*CREATES, 'copy', 'convert-upload'],
          {'download'})
def test_a_pool_that_is_full_half_way_is_said_and_nothing_stays(
        house: House, mover: Mover, strategy: str) -> None:
    """(An upload through Glance is not ours to end: Glance writes.)"""
    pool = 'images' if strategy == 'copy' else 'volumes'
    move = mover.prepare(strategy, content.random_bytes(128 * MIB))

    report = AtBytes(24 * MIB, lambda: house.cluster.set_quota(pool, MIB))
    with house.nothing_changes(), house.cluster.slow(pool, 4 * MIB):
        try:
            with pytest.raises(exception.NoSpace):
                move(report)
        finally:
            house.cluster.set_quota(pool, 0)
    assert report.acted_at
    mover.wait_until_closed(strategy)


# -- cancelled ----------------------------------------------------------------

@_sampled('strategy', [*CREATES, *UPLOADS], {'download', 'upload'})
def test_a_cancel_is_heard_within_a_second_and_nothing_stays(
        house: House, mover: Mover, strategy: str) -> None:
    move = mover.prepare(strategy, content.random_bytes(256 * MIB))
    report = AtBytes(48 * MIB)

    with house.nothing_changes():
        with pytest.raises(exception.Cancelled):
            move(report)
        ended_at = time.monotonic()
    assert report.stopped_at - report.acted_at < 1
    # With the undoing.
    assert ended_at - report.acted_at < 30
    mover.wait_until_closed(strategy)


# -- the OSD is away ----------------------------------------------------------

@pytest.mark.faults
@pytest.mark.timeout(300)
def test_an_osd_that_is_away_for_half_a_minute_is_waited_for(
        house: House, tmp_path: pathlib.Path) -> None:
    """All strategies at once. (Stopped and started: one that only stood still
    for so long stays "laggy" where there is no second one, Ceph 16.2.)"""
    movers = {}
    for strategy in (*CREATES, *UPLOADS):
        (tmp_path / strategy).mkdir()
        mover = Mover(house, tmp_path / strategy)
        movers[strategy] = mover, mover.prepare(
            strategy, content.random_bytes(64 * MIB))
    has_begun = threading.Barrier(len(movers) + 1)

    def move(strategy: str) -> tuple[str, Result]:
        return movers[strategy][1](AtBytes(8 * MIB, has_begun.wait))

    with ThreadPoolExecutor(len(movers)) as threads, house.cluster.slow(
            'volumes', 16 * MIB), house.cluster.slow('images', 16 * MIB):
        running = {strategy: threads.submit(move, strategy)
                   for strategy in movers}
        has_begun.wait(60)
        house.sandbox.stop_process('osd')
        try:
            time.sleep(30)
            assert not any(each.done() for each in running.values())
        finally:
            house.sandbox.start_process('osd')
        done = {strategy: each.result(120)
                for strategy, each in running.items()}
    for strategy, (made, result) in done.items():
        movers[strategy][0].check(strategy, made, result)


# -- the source changes meanwhile ---------------------------------------------

@pytest.mark.parametrize('strategy', UPLOADS)
def test_a_volume_that_grows_and_is_written_to_makes_the_image_it_was(
        house: House, mover: Mover, strategy: str) -> None:
    move = mover.prepare(strategy, content.random_bytes(48 * MIB))

    def change() -> None:
        house.driver().volumes.extend(mover.volume, 96 * MIB)
        house.cluster.write('volumes', mover.volume, b'later' * 9999)

    made, result = move(AtBytes(8 * MIB, change))

    mover.check(strategy, made, result)
    assert house.cluster.size('volumes', mover.volume) == 96 * MIB


@pytest.mark.parametrize('strategy', UPLOADS)
def test_a_volume_that_shrinks_makes_the_image_it_was(
        house: House, mover: Mover, strategy: str) -> None:
    """By hand; the driver does not shrink volumes."""
    move = mover.prepare(strategy, content.random_bytes(48 * MIB))

    def shrink() -> None:
        with house.cluster.open('volumes', mover.volume) as image:
            image.resize(MIB)

    made, result = move(AtBytes(8 * MIB, shrink))

    mover.check(strategy, made, result)


@pytest.mark.parametrize('strategy', UPLOADS)
def test_a_volume_is_not_deleted_while_it_is_uploaded(
        house: House, mover: Mover, strategy: str) -> None:
    move = mover.prepare(strategy, content.random_bytes(48 * MIB))
    refused: list[exception.Conflict] = []

    def delete() -> None:
        with pytest.raises(exception.Conflict) as caught:
            house.driver().volumes.delete(mover.volume)
        refused.append(caught.value)

    made, result = move(AtBytes(8 * MIB, delete))

    mover.check(strategy, made, result)
    assert refused
    assert house.cluster.digest('volumes', mover.volume) == \
        content.digest_of_bytes(mover.disk)


@_sampled('strategy', CREATES, {'download'})
def test_an_image_that_is_deleted_while_it_is_read_is_there_or_said(
        house: House, mover: Mover, strategy: str) -> None:
    """Whoever streams it has it open, and goes on; or the error says that
    it went, and nothing stays."""
    move = mover.prepare(strategy, content.random_bytes(96 * MIB))
    report = AtBytes(
        8 * MIB, lambda: house.member.request(
            'DELETE', f'/images/{mover.image}') and None)
    before = house.cluster.names('volumes')
    try:
        made, result = move(report)
    except (exception.NotFound, exception.Unavailable, exception.Conflict,
            exception.DataCorrupted):
        assert house.cluster.names('volumes') == before
    else:
        mover.check(strategy, made, result)
    assert report.acted_at
    mover.wait_until_closed(strategy)
    house.member.delete(mover.image)


def test_an_image_that_grows_while_it_is_read_is_what_it_was(
        house: House, mover: Mover) -> None:
    """Its file, in Glance's own store."""
    move = mover.prepare('download', content.random_bytes(96 * MIB))
    [path] = [path for path in (house.sandbox.folder / 'glance' / 'file'
                                ).rglob(mover.image)]

    def grow() -> None:
        with path.open('ab') as stream:
            stream.write(b'more' * MIB)

    made, result = move(AtBytes(8 * MIB, grow))

    mover.check('download', made, result)


# -- Glance cuts the stream ---------------------------------------------------

@_sampled('tenth', range(11), {0, 5, 10})
@pytest.mark.parametrize('strategy', ['download', 'convert-staged'])
def test_a_stream_that_is_cut_is_said_and_nothing_stays(
        house: House, mover: Mover, proxy: Proxy, strategy: str, tenth: int
        ) -> None:
    disk = content.random_bytes(20 * MIB)
    mover.prepare(strategy, disk)
    size = house.member.get(mover.image)['size']
    # At the last one all but one byte has come.
    proxy.on('GET', '/file$', cut_at=min(size * tenth // 10, size - 1))
    driver = house.driver(DEFAULT={'glance_api_servers': proxy.url,
                                   'glance_num_retries': 1})

    with house.nothing_changes(), pytest.raises(
            (exception.GlanceUnavailable, exception.DataCorrupted)):
        house.create(mover.image, driver=driver)

    proxy.rules.clear()
    name, result = house.create(mover.image, driver=driver)
    mover.check(strategy, name, result)


# -- the object map -----------------------------------------------------------

@pytest.mark.parametrize('strategy', UPLOADS)
def test_an_object_map_that_is_not_valid_hides_nothing(
        house: House, mover: Mover, strategy: str) -> None:
    """It says that there is nothing; its flag, that it is not to be
    believed."""
    disk = content.sparse_bytes(24 * MIB)
    move = mover.prepare(strategy, disk)
    house.cluster.spoil_object_map('volumes', mover.volume)

    made, result = move(AtBytes(MIB, lambda: None))

    mover.check(strategy, made, result)
