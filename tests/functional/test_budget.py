# SPDX-License-Identifier: Apache-2.0
"""What is done in the background, on the real cluster: held to its
bandwidth and its hours, by the manager and by this service."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from collections.abc import Iterator

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd import model
from volume_rbd.driver import RBDDriver

DATA = content.random_bytes(48 * MIB)
DIGEST = content.digest_of_bytes(DATA)
LATER = {'flatten_when': 'background',
         'rbd_flatten_volume_from_snapshot': True}


def _driver(house: House, **options: object) -> RBDDriver:
    return house.driver('ceph', ceph={**LATER, **options})


def _clone(house: House, driver: RBDDriver) -> tuple[str, str]:
    """:returns: a volume, and a clone of it that is being flattened."""
    source = house.volume(DATA)
    clone = f'{source}-clone'
    driver.volumes.create_from_volume(model.VolumeSpec(clone), source)
    return source, clone


def test_a_flatten_is_held_to_its_bandwidth_and_holds_up_nobody(
        house: House) -> None:
    driver = _driver(house, background_bytes_per_s=4 * MIB)
    begin = time.monotonic()
    _, clone = _clone(house, driver)
    slowest_s = 0.0
    while (driver.volumes.show(clone).parent is not None
           and time.monotonic() - begin < 60):
        asked = time.monotonic()
        house.driver('ceph').volumes.show(clone)
        slowest_s = max(slowest_s, time.monotonic() - asked)
        time.sleep(0.05)
    took_s = time.monotonic() - begin
    # 48 MiB, of which the last five seconds' worth may run ahead.
    assert 5 < took_s < 30
    assert slowest_s < 3
    driver.flattener.wait()
    assert house.cluster.digest('volumes', clone) == DIGEST


def test_outside_of_its_hours_nothing_begins(house: House) -> None:
    hour = (time.localtime().tm_hour + 2) % 24
    driver = _driver(house, background_hours=f'{hour:02}:00-{hour:02}:01')
    source, clone = _clone(house, driver)
    driver.volumes.delete(source)
    driver.reclaimer.purge_due()
    time.sleep(2)
    assert driver.volumes.show(clone).parent is not None
    assert len(house.cluster.trash('volumes')) == 1
    # Who waits for it does not wait for the hour.
    driver.flattener.wait()
    driver.reclaimer.wait()
    assert driver.volumes.show(clone).parent is None
    assert house.cluster.trash('volumes') == []
    assert house.cluster.digest('volumes', clone) == DIGEST


def test_the_command_ends_outside_of_the_hours_and_leaves_the_rest(
        house: House) -> None:
    hour = (time.localtime().tm_hour + 2) % 24
    volume = house.volume(DATA)
    done = house.run('delete', volume, overrides={
        'ceph': {'background_hours': f'{hour:02}:00-{hour:02}:01'}})
    assert done.returncode == 0, done.stderr
    assert [entry['name'] for entry in house.cluster.trash('volumes')] == [
        volume]
    house.driver().reclaimer.purge_due()
    assert house.cluster.trash('volumes') == []


def test_hours_that_are_none_are_refused(house: House) -> None:
    done = house.run('list', overrides={
        'ceph': {'background_hours': '25:00-06:00'}})
    assert done.returncode != 0
    assert 'HH:MM-HH:MM' in done.stderr


# -- the manager --------------------------------------------------------------

def test_the_manager_flattens_and_removes(house: House) -> None:
    with house.nothing_changes():
        driver = _driver(house, background_tasks='mgr')
        source, clone = _clone(house, driver)
        driver.flattener.wait()
        assert driver.volumes.show(clone).parent is None
        assert house.cluster.digest('volumes', clone) == DIGEST
        for volume in (source, clone):
            driver.volumes.delete(volume)
        driver.reclaimer.wait()
        assert house.cluster.trash('volumes') == []


@pytest.fixture
def stopped_manager(house: House) -> Iterator[None]:
    conf = house.cluster.conf.encode()
    [manager] = [int(path.parent.name) for path in
                 pathlib.Path('/proc').glob('[0-9]*/cmdline')
                 if _words(path)[0].endswith(b'ceph-mgr')
                 and conf in _words(path)]
    os.kill(manager, signal.SIGSTOP)
    yield
    os.kill(manager, signal.SIGCONT)


def _words(path: pathlib.Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b'\0')
    except OSError:
        return [b'']


def test_without_a_manager_it_is_done_here(
        house: House, stopped_manager: None) -> None:
    driver = _driver(house, background_tasks='mgr', background_operations=2)
    volume = house.volume(DATA)
    driver.volumes.delete(volume)
    begin = time.monotonic()
    driver.reclaimer.wait()
    assert time.monotonic() - begin < 30
    assert house.cluster.trash('volumes') == []


def test_what_the_manager_was_given_it_does_without_us(house: House) -> None:
    """As if this process had ended right after it had asked."""
    volume = house.volume(DATA)
    with house.cluster.open('volumes', volume) as image:
        image_id = image.id()
    house.cluster.move_to_trash('volumes', volume)
    house.driver().cluster.tasks().remove_trashed('volumes', image_id)
    deadline = time.monotonic() + 30
    while house.cluster.trash('volumes'):
        assert time.monotonic() < deadline
        time.sleep(0.1)
