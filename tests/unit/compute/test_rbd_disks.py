# SPDX-License-Identifier: Apache-2.0
"""Disks in RBD by the in-memory cluster: what libvirt is asked, and when."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.compute.conftest import Compute
from volume_rbd import exception, model
from volume_rbd.compute.disks import Disks
from volume_rbd.compute.pools import teller
from volume_rbd.compute.pools.rbd_disks import RBDDisks
from volume_rbd.driver import RBDDriver

GUEST = '0f0e0d0c-0b0a-4908-8706-050403020100'


class Counted:
    """A storage_pool that counts how often libvirt looks at it."""

    def __init__(self, driver: RBDDriver) -> None:
        self.name = 'disks'
        self._driver = driver
        self.known: set[str] = set()
        self.refreshes = 0
        self.error: exception.VolumeRBDError | None = None

    def start(self) -> bool:
        return False

    def refresh(self) -> None:
        if self.error:
            raise self.error
        self.refreshes += 1
        self.known = set(self._driver.volumes.names())
        time.sleep(0.05)


class Kept:
    """Secrets that are there, or are not."""

    is_there = True

    def has(self, uuid: str) -> bool:
        return self.is_there


@pytest.fixture
def volumes(compute: Compute) -> Iterator[Disks]:
    with compute.disks() as made:
        yield made


@pytest.fixture
def driver(volumes: Disks) -> RBDDriver:
    return volumes._driver


@pytest.fixture
def pool(driver: RBDDriver) -> Counted:
    return Counted(driver)


@pytest.fixture
def secrets() -> Kept:
    return Kept()


@pytest.fixture
def disks(volumes: Disks, driver: RBDDriver, pool: Counted, secrets: Kept
          ) -> Iterator[RBDDisks]:
    as_pool: Any = pool
    as_secrets: Any = secrets
    made = RBDDisks(as_pool, as_secrets, volumes, driver)
    yield made
    made.settle()


def test_looking_refreshes_nothing(
        disks: RBDDisks, pool: Counted, driver: RBDDriver) -> None:
    driver.volumes.create(model.VolumeSpec(f'{GUEST}_disk', model.GIB))
    assert disks.get(GUEST, 'disk').volume.capacity_bytes == model.GIB
    assert disks.find(GUEST, 'none') is None
    assert pool.refreshes == 0


def test_few_refreshes_tell_of_many(disks: RBDDisks, pool: Counted,
                                    driver: RBDDriver) -> None:
    threads = [threading.Thread(target=disks.create, args=(
        str(uuid.uuid4()), 'disk', model.GIB)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disks.settle()

    assert 1 <= pool.refreshes <= 3
    assert pool.known == set(driver.volumes.names())


def test_whoever_settles_does_not_wait_for_the_rest_between(
        disks: RBDDisks, pool: Counted, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    monkeypatch.setattr(teller, '_REST', 1e6)
    for name in ('disk', 'disk.local'):
        disks.create(GUEST, name, model.GIB)
        time.sleep(0.02)
    disks.settle()
    assert pool.known == {f'{GUEST}_disk', f'{GUEST}_disk.local'}


def test_libvirt_is_told_and_does_not_listen(
        disks: RBDDisks, pool: Counted, caplog: pytest.LogCaptureFixture
        ) -> None:
    pool.error = exception.LibvirtUnavailable('It is gone.')
    assert disks.create(GUEST, 'disk', model.GIB).volume.name == (
        f'{GUEST}_disk')
    disks.settle()
    assert 'It is gone' in caplog.text
    pool.error = None
    disks.create(GUEST, 'disk.local', model.GIB)
    disks.settle()
    assert pool.known == {f'{GUEST}_disk', f'{GUEST}_disk.local'}


def test_without_a_secret_nothing_is_touched(
        disks: RBDDisks, secrets: Kept, driver: RBDDriver) -> None:
    secrets.is_there = False
    with pytest.raises(exception.SecretNotFound, match='pool ensure'):
        disks.create(GUEST, 'disk', model.GIB)
    assert not driver.volumes.names()
