# SPDX-License-Identifier: Apache-2.0
"""The room of a backend, against what the cluster itself says."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.functional.content import GIB, MIB
from tests.functional.house import House
from volume_rbd.driver.stats import BackendStats

#: Between two looks at the cluster others may write a little.
CLOSE = 64 * MIB


@contextlib.contextmanager
def _quota(house: House, size_bytes: int) -> Iterator[None]:
    def set_quota(value: int) -> None:
        house.cluster.ceph('osd', 'pool', 'set-quota', 'volumes',
                           'max_bytes', str(value))

    set_quota(size_bytes)
    try:
        yield
    finally:
        set_quota(0)


def _get(house: House, **overrides: object) -> BackendStats:
    return house.driver(optimized=overrides).stats.get()


def _as_the_stock_driver(house: House, *, is_dynamic: bool
                         ) -> tuple[int, int]:
    """Total and free, from the same two answers of the monitors."""
    known = json.loads(house.cluster.ceph('df', '--format', 'json'))
    [pool] = [entry['stats'] for entry in known['pools']
              if entry['name'] == 'volumes']
    quota = json.loads(house.cluster.ceph(
        'osd', 'pool', 'get-quota', 'volumes', '--format', 'json')
        )['quota_max_bytes']
    total, free = known['stats']['total_bytes'], pool['max_avail']
    if quota:
        total = quota
        free = max(min(quota - pool['stored'], free), 0)
    if is_dynamic:
        total = free + pool['stored']
    return total, free


@pytest.mark.parametrize('is_dynamic', [True, False])
@pytest.mark.parametrize('quota', [0, 20 * GIB, 1024 * GIB])
def test_total_and_free_are_those_of_the_stock_driver(
        house: House, is_dynamic: bool, quota: int) -> None:
    house.volume(b'x' * MIB, MIB)
    with _quota(house, quota):
        expected = _as_the_stock_driver(house, is_dynamic=is_dynamic)
        found = _get(house, report_dynamic_total_capacity=is_dynamic)
    assert found.total_bytes == pytest.approx(expected[0], abs=CLOSE)
    assert found.free_bytes == pytest.approx(expected[1], abs=CLOSE)
    assert found.provisioned_bytes is None


def test_of_a_shared_pool_everything_counts_and_changes_are_seen(
        house: House) -> None:
    driver = house.driver(optimized={'rbd_exclusive_cinder_pool': False})
    before = driver.stats.get().provisioned_bytes
    assert before is not None
    mine = house.volume(size_bytes=GIB)
    theirs = f'theirs-{uuid.uuid4()}'
    house.cluster.make('volumes', theirs, size_bytes=2 * GIB)
    assert driver.stats.get().provisioned_bytes == before + 3 * GIB
    driver.volumes.extend(mine, 4 * GIB)
    with house.cluster.open('volumes', theirs) as image:
        image.resize(5 * GIB)
    assert driver.stats.get().provisioned_bytes == before + 9 * GIB
    house.cluster.remove('volumes', theirs)
    assert driver.stats.get().provisioned_bytes == before + 4 * GIB


@pytest.mark.long
def test_a_pool_with_many_volumes_is_asked_in_no_time(house: House) -> None:
    """The stock driver opens each of them, every time."""
    names = [f'many-{uuid.uuid4()}' for _ in range(300)]
    driver = house.driver(optimized={'rbd_exclusive_cinder_pool': False})
    try:
        for name in names:
            house.cluster.make('volumes', name, size_bytes=GIB, features=1)
        first = driver.stats.get().provisioned_bytes
        started = time.monotonic()
        assert driver.stats.get().provisioned_bytes == first
        seconds = time.monotonic() - started
    finally:
        for name in names:
            house.cluster.remove('volumes', name)
    assert seconds < 0.5
