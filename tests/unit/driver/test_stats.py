# SPDX-License-Identifier: Apache-2.0
"""How much room a backend has, and what it costs to know."""

from __future__ import annotations

import threading

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception
from volume_rbd.driver import stats
from volume_rbd.model import GIB, VolumeSpec

TIB = 1024 * GIB


@pytest.fixture
def world() -> World:
    made = World()
    made.configure(is_exclusive_pool=False)
    return made


def _store(world: World, size_bytes: int) -> None:
    world.volumes.create('data', size_bytes)
    with world.volumes.open('data') as image:
        image.write(b'x' * size_bytes, 0)


# -- the figures, which are the stock driver's --------------------------------

@pytest.mark.parametrize(('is_dynamic', 'quota', 'total', 'free'), [
    (True, None, TIB, TIB - 4 * MIB),
    (False, None, TIB, TIB - 4 * MIB),
    (True, GIB, GIB, GIB - 4 * MIB),
    (False, GIB, GIB, GIB - 4 * MIB),
    # Less than the quota is left in the cluster.
    (True, 2 * TIB, TIB, TIB - 4 * MIB),
    (False, 2 * TIB, 2 * TIB, TIB - 4 * MIB),
    # The quota is used up, and more.
    (True, 1 * MIB, 4 * MIB, 0),
    (False, 1 * MIB, 1 * MIB, 0),
])
def test_total_and_free(world: World, is_dynamic: bool, quota: int | None,
                        total: int, free: int) -> None:
    _store(world, 4 * MIB)
    if quota:
        world.ceph.quotas['volumes'] = quota
    world.configure(report_dynamic_total=is_dynamic)
    with world.driver() as driver:
        found = driver.stats.get()
    assert (found.total_bytes, found.free_bytes) == (total, free)


def test_what_others_store_is_part_of_a_static_total_only(world: World
                                                          ) -> None:
    world.images.create('theirs', MIB)
    with world.images.open('theirs') as image:
        image.write(b'x' * MIB, 0)
    with world.driver() as driver:
        assert driver.stats.get().total_bytes == TIB - MIB
    world.configure(report_dynamic_total=False)
    with world.driver() as driver:
        assert driver.stats.get().total_bytes == TIB


def test_the_operators_figures_are_handed_on(world: World) -> None:
    world.configure(reserved_percentage=7, max_over_subscription_ratio='auto')
    with world.driver() as driver:
        found = driver.stats.get()
    assert found.reserved_percentage == 7
    assert found.max_over_subscription_ratio == 'auto'
    assert found.fsid == world.ceph.fsid


def test_of_a_pool_of_its_own_the_service_knows_what_is_provisioned(
        world: World) -> None:
    world.make_volume()
    world.configure(is_exclusive_pool=True)
    world.trace()
    with world.driver() as driver:
        assert driver.stats.get().provisioned_bytes is None
    assert world.end_trace()['ceph'] == ['usage', 'fsid']


@pytest.mark.parametrize('is_exclusive', [True, False])
def test_a_cluster_that_does_not_answer_is_told(world: World,
                                                is_exclusive: bool) -> None:
    world.configure(is_exclusive_pool=is_exclusive)
    world.ceph.is_reachable = False
    with world.driver() as driver, \
            pytest.raises(exception.ClusterUnavailable):
        driver.stats.get()


# -- what is provisioned ------------------------------------------------------

def test_everything_in_the_pool_is_provisioned(world: World) -> None:
    """Not only ours; not snapshots, and not what is in the trash."""
    world.volumes.create('theirs', 5 * GIB)
    world.images.create('elsewhere', 7 * GIB)
    world.volumes.create('trashed', 11 * GIB)
    world.volumes.trash_move('trashed')
    with world.driver() as driver:
        driver.volumes.create(VolumeSpec(VOLUME, GIB))
        driver.snapshots.create(VOLUME, 's')
        driver.volumes.create_from_volume(VolumeSpec('clone', 2 * GIB),
                                          VOLUME)
        assert driver.stats.get().provisioned_bytes == 8 * GIB


def test_what_comes_and_goes_is_seen_at_once(world: World) -> None:
    with world.driver() as driver:
        for name, expected in (('a', 1), ('b', 2), ('c', 3)):
            world.volumes.create(name, GIB)
            assert driver.stats.get().provisioned_bytes == expected * GIB
        world.volumes.remove('b')
        assert driver.stats.get().provisioned_bytes == 2 * GIB
        world.volumes.create('b', 9 * GIB)
        assert driver.stats.get().provisioned_bytes == 11 * GIB


def _asked(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sizes each call asks for."""
    counts: list[int] = []
    kind = type(world.volumes)
    sizes = kind.sizes

    def counting(self: object, image_ids: object) -> object:
        ids = list(image_ids)  # type: ignore[call-overload]
        counts.append(len(ids))
        return sizes(self, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, 'sizes', counting)
    return counts


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, 'REFRESHED_AT_ONCE', 3)


@pytest.mark.usefixtures('few_at_once')
def test_a_full_pool_costs_one_listing_and_a_few_sizes(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        world.volumes.create(f'v{number}', GIB)
    counts = _asked(world, monkeypatch)
    with world.driver() as driver:
        driver.stats.get()
        world.trace()
        for _ in range(3):
            driver.stats.get()
    assert counts == [100, 3, 3, 3]
    assert world.end_trace()['ceph'] == 3 * [
        'usage', 'fsid', 'images', 'sizes']


@pytest.mark.usefixtures('few_at_once')
def test_the_growth_of_a_volume_of_ours_is_seen_at_once(world: World
                                                        ) -> None:
    for number in range(50):
        world.volumes.create(f'v{number}', GIB)
    with world.driver() as driver:
        driver.stats.get()
        driver.snapshots.create('v40', 's')
        driver.volumes.extend('v40', 2 * GIB)
        assert driver.stats.get().provisioned_bytes == 51 * GIB
        driver.snapshots.revert('v40', 's')
        assert driver.stats.get().provisioned_bytes == 50 * GIB


@pytest.mark.usefixtures('few_at_once')
def test_what_others_resize_is_seen_in_the_end(world: World) -> None:
    for number in range(10):
        world.volumes.create(f'v{number}', GIB)
    with world.driver() as driver:
        driver.stats.get()
        for number in range(10):
            with world.volumes.open(f'v{number}') as image:
                image.resize(2 * GIB)
        seen = [driver.stats.get().provisioned_bytes for _ in range(4)]
    assert seen == [13 * GIB, 16 * GIB, 19 * GIB, 20 * GIB]


@pytest.mark.usefixtures('few_at_once')
def test_a_volume_that_was_listed_while_it_was_made_is_asked_again(
        world: World) -> None:
    """A clone is made as large as its parent and then grown."""
    for number in range(10):
        world.volumes.create(f'v{number}', GIB)
    with world.driver() as driver:
        driver.stats.get()
        driver.stats.get()
        world.volumes.create('making', GIB)
        assert driver.stats.get().provisioned_bytes == 11 * GIB
        with world.volumes.open('making') as image:
            image.resize(5 * GIB)
        assert driver.stats.get().provisioned_bytes == 15 * GIB


def test_a_failed_call_forgets_nothing(world: World,
                                       monkeypatch: pytest.MonkeyPatch
                                       ) -> None:
    monkeypatch.setattr(stats, 'REFRESHED_AT_ONCE', 0)
    world.volumes.create('a', GIB)
    world.volumes.create('b', GIB)
    with world.driver() as driver:
        driver.stats.get()
        driver.volumes.extend('a', 2 * GIB)
        for method in ('images', 'sizes'):
            world.ceph.fail_next(method, exception.OperationTimeout('slow'))
            with pytest.raises(exception.OperationTimeout):
                driver.stats.get()
        assert driver.stats.get().provisioned_bytes == 3 * GIB


def test_many_threads_get_the_same_figures(world: World) -> None:
    for number in range(200):
        world.volumes.create(f'v{number}', GIB)
    seen: set[int | None] = set()
    with world.driver() as driver:
        def ask() -> None:
            for _ in range(20):
                seen.add(driver.stats.get().provisioned_bytes)
                driver.stats.forget('v7')

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == {200 * GIB}
