# SPDX-License-Identifier: Apache-2.0
"""Migrating between the pools of the real cluster."""

from __future__ import annotations

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd import exception, model, progress

DATA = content.sparse_bytes(5 * MIB)


@pytest.fixture
def vms(house: House) -> object:
    """Whatever is migrated goes again; the next test wants it empty."""
    yield
    driver = house.driver('ceph', ceph={'rbd_pool': 'vms'})
    for name in driver.volumes.names():
        for snapshot in driver.snapshots.list(name):
            driver.snapshots.delete(name, snapshot.name)
        driver.volumes.delete(name)
    driver.reclaimer.purge()


def _with_history(house: House, name: str | None = None) -> str:
    driver = house.driver()
    volume = house.volume(DATA, 16 * MIB, name=name)
    driver.snapshots.create(volume, 'one')
    with house.cluster.open('volumes', volume) as image:
        image.discard(0, 4 * MIB)
        image.write(b'between' * 1000, 9 * MIB + 5)
    driver.snapshots.create(volume, 'two')
    with house.cluster.open('volumes', volume) as image:
        image.resize(6 * MIB)
        image.resize(24 * MIB)
        image.write(b'now', 20 * MIB)
        image.metadata_set('conf_rbd_qos_iops_limit', '1000')
    return volume


def _digests(house: House, pool: str, volume: str) -> list[str]:
    return [house.cluster.digest(pool, volume, snapshot)
            for snapshot in ('one', 'two', None)]


@pytest.mark.usefixtures('vms')
def test_snapshots_holes_and_limits_move_along(house: House) -> None:
    volume = _with_history(house)
    before = _digests(house, 'volumes', volume)
    used = _used(house, 'volumes', volume)
    house.driver().migration.migrate(volume, 'vms')
    assert _digests(house, 'vms', volume) == before
    assert _used(house, 'vms', volume) <= used
    with house.cluster.open('vms', volume, read_only=True) as image:
        assert image.is_protected_snap('two')
        assert dict(image.metadata_list())['conf_rbd_qos_iops_limit'] == \
            '1000'
    mark = house.cluster.mark('vms', volume)
    assert mark is not None
    assert mark['state'] == 'complete'
    house.driver().reclaimer.wait()
    assert house.cluster.names('volumes') == []
    assert house.cluster.trash('volumes') == []


def _used(house: House, pool: str, volume: str) -> int:
    found: list[int] = []
    with house.cluster.open(pool, volume, read_only=True) as image:
        image.diff_iterate(0, image.size(), None,
                           lambda start, length, exists: found.append(
                               length * exists), whole_object=True)
    return sum(found)


@pytest.mark.usefixtures('vms')
def test_a_clone_of_a_removed_snapshot_moves(house: House) -> None:
    """librbd's own deep copy says that it is not there."""
    driver = house.driver()
    source = house.volume(DATA, 8 * MIB)
    clone = f'{source}-clone'
    driver.volumes.create_from_volume(model.VolumeSpec(clone), source)
    driver.volumes.delete(source)
    driver.migration.migrate(clone, 'vms')
    assert house.cluster.digest('vms', clone) == \
        content.digest_of_bytes(DATA)
    assert house.cluster.parent('vms', clone) is None
    driver.reclaimer.wait()
    assert house.cluster.trash('volumes') == []


@pytest.mark.usefixtures('vms')
def test_its_clones_go_on_living(house: House) -> None:
    driver = house.driver()
    volume = _with_history(house)
    clone = f'{volume}-clone'
    driver.volumes.create_from_snapshot(
        model.VolumeSpec(clone), volume, 'one')
    before = house.cluster.digest('volumes', clone)
    driver.migration.migrate(volume, 'vms')
    driver.reclaimer.wait()
    assert house.cluster.digest('volumes', clone) == before
    assert [e['name'] for e in house.cluster.trash('volumes')] == [volume]
    driver.volumes.delete(clone)
    driver.reclaimer.wait()
    assert house.cluster.trash('volumes') == []


def test_one_that_was_there_before_is_not_touched(house: House) -> None:
    volume = _with_history(house)
    house.cluster.make('vms', volume, b'precious')
    with house.nothing_changes(), pytest.raises(exception.ImageExists):
        house.driver().migration.migrate(volume, 'vms')
    assert house.cluster.digest('vms', volume) == \
        content.digest_of_bytes(b'precious')
    house.cluster.remove('vms', volume)
    house.driver().snapshots.delete(volume, 'two')


def test_one_that_is_cancelled_leaves_all_as_it_was(house: House) -> None:
    volume = _with_history(house)

    class Stop(progress.Cancellable):
        def step(self, name: str) -> None:
            super().step(name)
            if name.endswith('two'):
                self.cancel()

    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.driver().migration.migrate(volume, 'vms', report=Stop())


def test_one_that_is_open_stays_and_says_where(house: House) -> None:
    volume = _with_history(house)
    with house.cluster.open('volumes', volume), pytest.raises(
            exception.ImageBusy, match=r'127\.0\.0\.1'):
        house.driver().migration.migrate(volume, 'vms')
