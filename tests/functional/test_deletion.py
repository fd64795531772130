# SPDX-License-Identifier: Apache-2.0
"""Deleting in any order, and chains of clones."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import PROGRAM, House
from volume_rbd import model

DATA = content.sparse_bytes(5 * MIB)
DIGEST = content.digest_of_bytes(DATA)
THINGS = ('source', 'image', 'volume')
ORDERS = ['-'.join(order) for order in itertools.permutations(THINGS)]


def make_chain(house: House, backend: str) -> dict[str, str]:
    """A volume, an image of it and a volume of that."""
    driver = house.driver(backend)
    source = house.volume(DATA, 8 * MIB)
    image, uploaded = house.upload(source, driver=driver)
    assert uploaded.strategy == (
        'clone' if backend == 'optimized' else 'upload')
    volume, created = house.create(image, driver=driver)
    assert created.strategy == 'clone'
    return {'source': source, 'image': image, 'volume': volume}


def check(house: House, chain: dict[str, str], left: set[str]) -> None:
    """What was not deleted has its bytes, and its name."""
    if 'source' in left:
        assert house.cluster.digest('volumes', chain['source']) == DIGEST
    if 'volume' in left:
        assert house.cluster.digest('volumes', chain['volume']) == DIGEST
    if 'image' in left:
        assert house.member.status(chain['image']) == 'active'
        assert house.cluster.digest(
            'images', chain['image'], 'snap') == DIGEST


def nothing_is_renamed(house: House, chains: list[dict[str, str]]) -> None:
    names = {name for chain in chains for name in chain.values()}
    for pool in ('volumes', 'images'):
        shown = house.cluster.names(pool) + [
            entry['name'] for entry in house.cluster.trash(pool)]
        assert set(shown) <= names, 'something was renamed'


def delete(house: House, chain: dict[str, str], what: str) -> None:
    if what == 'image':
        house.member.delete(chain['image'])
    else:
        house.driver().volumes.delete(chain[what])
        # Until it is gone for good, Glance minds a clone of format 1.
        house.driver().reclaimer.wait()


@pytest.mark.parametrize('order', ORDERS)
def test_source_image_and_volume_go_in_any_order(
        house: House, order: str) -> None:
    with house.nothing_changes():
        with futures.ThreadPoolExecutor(2) as pool:
            chains = list(pool.map(lambda backend: make_chain(house, backend),
                                   ('optimized', 'ceph')))
        left = set(THINGS)
        for what in order.split('-'):
            left.discard(what)
            for chain in chains:
                delete(house, chain, what)
            for chain in chains:
                check(house, chain, left)
            nothing_is_renamed(house, chains)
        house.purge()


def test_the_seeds_first_case_upload_then_delete_the_volume(
        house: House) -> None:
    volume = house.volume(DATA, 8 * MIB)
    image, _ = house.upload(volume)

    deletion = house.driver().volumes.delete(volume)

    assert deletion.is_trashed
    assert house.cluster.names('volumes') == []
    assert house.member.digest(image) == DIGEST
    # The same name can be used at once.
    house.volume(b'new', 8 * MIB, name=volume)
    assert house.cluster.digest('volumes', volume) == \
        content.digest_of_bytes(b'new')


def test_the_seeds_second_case_delete_volume_then_create_then_delete_image(
        house: House) -> None:
    volume = house.volume(DATA, 8 * MIB)
    image, _ = house.upload(volume)
    house.driver().volumes.delete(volume)
    made, result = house.create(image)
    assert result.strategy == 'clone'
    house.member.delete(image)
    assert house.member.status(image) is None
    assert house.cluster.digest('volumes', made) == DIGEST
    # The last one to go takes what it kept alive along.
    house.driver().volumes.delete(made)
    house.driver().reclaimer.wait()
    assert house.cluster.trash('volumes') == []
    assert house.cluster.trash('images') == []


@pytest.mark.parametrize('forwards', [True, False])
def test_a_deep_chain_goes_from_either_end(
        house: House, forwards: bool) -> None:
    """volume → image → volume → image → volume"""
    with house.nothing_changes():
        first = house.volume(DATA, 8 * MIB)
        image_1, _ = house.upload(first)
        second, _ = house.create(image_1)
        image_2, uploaded = house.upload(second)
        third, created = house.create(image_2)
        assert (uploaded.strategy, created.strategy) == ('clone', 'clone')
        volumes = house.driver().volumes
        assert volumes.show(third).depth == 4
        steps: list[Callable[[], object]] = [
            lambda: volumes.delete(first),
            lambda: house.member.delete(image_1),
            lambda: volumes.delete(second),
            lambda: house.member.delete(image_2),
            lambda: volumes.delete(third)]
        for position, step in enumerate(steps if forwards else steps[::-1]):
            step()
            if forwards and position < 4:
                assert house.cluster.digest('volumes', third) == DIGEST
        house.purge()


def test_snapshots_and_clones_of_a_volume_go_in_any_order(
        house: House) -> None:
    with house.nothing_changes():
        driver = house.driver()
        source = house.volume(DATA, 8 * MIB)
        driver.snapshots.create(source, 'mine')
        copy, other = f'{source}-1', f'{source}-2'
        driver.volumes.create_from_snapshot(
            model.VolumeSpec(copy), source, 'mine')
        driver.volumes.create_from_volume(model.VolumeSpec(other), source)
        driver.snapshots.delete(source, 'mine')
        image, _ = house.upload(copy)
        driver.volumes.delete(source)
        driver.volumes.delete(copy)
        assert house.cluster.digest('volumes', other) == DIGEST
        assert house.cluster.digest('images', image, 'snap') == DIGEST
        house.member.delete(image)
        driver.volumes.delete(other)
        house.purge()


def test_an_image_deleted_while_it_is_cloned_many_times(
        house: House) -> None:
    with house.nothing_changes():
        image = house.member.make(DATA)
        with futures.ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: house.create(image)[0], range(4)))
        house.member.delete(image)
        for name in made:
            assert house.cluster.digest('volumes', name) == DIGEST
            house.driver().volumes.delete(name)
        house.driver().reclaimer.wait()
        assert house.cluster.trash('images') == []


def test_many_uploads_of_one_volume_at_once(house: House) -> None:
    with house.nothing_changes():
        volume = house.volume(DATA, 8 * MIB)
        with futures.ThreadPoolExecutor(6) as pool:
            images = [image for image, result in
                      pool.map(lambda _: house.upload(volume), range(6))
                      if result.strategy == 'clone']
        assert len(images) == 6
        house.driver().volumes.delete(volume)
        for image in images:
            assert house.cluster.digest('images', image, 'snap') == DIGEST
            house.member.delete(image)
        house.purge()


def test_reclaim_by_command_lists_first_and_removes_with_yes(
        house: House) -> None:
    with house.nothing_changes():
        volume = house.volume(DATA, 8 * MIB)
        image, _ = house.upload(volume)
        house.driver().volumes.delete(volume)
        assert house.run_json('reclaim') == []
        house.member.delete(image)

        found = house.run_json('reclaim')
        assert [row['state'] for row in found] == ['found']
        assert house.cluster.trash('volumes') != []
        removed = house.run_json('reclaim', '--yes')
        assert [row['state'] for row in removed] == ['removed']
        assert house.run_json('reclaim') == []


# -- through the trash --------------------------------------------------------

def _fill(house: House, volume: str, size_bytes: int) -> None:
    data = b'x' * (4 * MIB)
    with house.cluster.open('volumes', volume) as image:
        flying: list[Any] = []
        for offset in range(0, size_bytes, len(data)):
            flying.append(image.aio_write(data, offset, lambda *_: None))
            if len(flying) > 16:
                flying.pop(0).wait_for_complete_and_cb()
        for completion in flying:
            completion.wait_for_complete_and_cb()


@pytest.mark.parametrize(('size_bytes', 'is_full'), [
    (2 * content.GIB, True), (1024 * content.GIB, False)])
def test_a_large_volume_is_gone_in_well_under_a_second(
        house: House, size_bytes: int, is_full: bool) -> None:
    with house.nothing_changes():
        volume = house.volume(b'', size_bytes)
        if is_full:
            _fill(house, volume, size_bytes)
        started = time.monotonic()
        house.driver().volumes.delete(volume)
        assert time.monotonic() - started < 1
        assert house.cluster.names('volumes') == []
        house.driver().reclaimer.wait()


def test_a_removal_that_was_killed_is_finished_later(house: House) -> None:
    with house.nothing_changes():
        volume = house.volume(b'', content.GIB)
        _fill(house, volume, content.GIB)
        process = subprocess.Popen(
            [PROGRAM, 'delete', volume], env=house.environ(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while volume in house.cluster.names('volumes'):
            time.sleep(0.01)
        process.kill()
        process.wait()
        driver = house.driver()
        # The watch of a client that was killed lasts half a minute.
        deadline = time.monotonic() + 60
        while house.cluster.trash('volumes'):
            assert time.monotonic() < deadline, 'it is still in the trash'
            driver.reclaimer.purge_due()
            time.sleep(1)


def test_with_deferral_a_volume_can_be_brought_back(house: House) -> None:
    driver = house.driver('ceph', ceph={'enable_deferred_deletion': True,
                                        'deferred_deletion_delay': 3})
    volume = house.volume(DATA, 8 * MIB)
    assert driver.volumes.delete(volume).is_trashed
    driver.reclaimer.purge_due()
    [entry] = house.cluster.trash('volumes')
    house.cluster.restore('volumes', entry['id'], volume)
    assert house.cluster.digest('volumes', volume) == DIGEST

    driver.volumes.delete(volume)
    time.sleep(4.2)
    assert [item.name for item in driver.reclaimer.purge_due()] == [volume]
    assert house.cluster.trash('volumes') == []


def test_what_others_have_in_the_trash_stays_there(house: House) -> None:
    theirs = house.volume(DATA, 8 * MIB)
    house.cluster.move_to_trash('volumes', theirs)
    house.driver().reclaimer.purge_due()
    house.purge()
    [entry] = house.cluster.trash('volumes')
    house.cluster.restore('volumes', entry['id'], theirs)


# -- what the stock driver leaves ---------------------------------------------

class Stock:
    """What the stock driver does, call for call, with its clone format."""

    def __init__(self, house: House, clone_format: int) -> None:
        self.cluster = house.cluster
        self.house = house
        self.clone_format = clone_format

    def clone(self, source: str, name: str) -> None:
        snapshot = f'{name}.clone_snap'
        self.cluster.take_snapshot('volumes', source, snapshot, protect=True)
        self.cluster.clone(('volumes', source, snapshot), 'volumes', name,
                           clone_format=self.clone_format)

    def delete(self, name: str) -> None:
        self.cluster.rename('volumes', name, f'{name}.deleted')


@pytest.mark.parametrize('clone_format', [1, 2])
def test_clones_of_the_stock_driver_go_without_a_trace(
        house: House, clone_format: int) -> None:
    with house.nothing_changes():
        stock = Stock(house, clone_format)
        source = house.volume(DATA, 8 * MIB)
        one, two, three = (f'{source}-{number}' for number in (1, 2, 3))
        stock.clone(source, one)
        stock.clone(source, two)
        stock.clone(two, three)
        driver = house.driver()

        driver.volumes.delete(one)
        driver.reclaimer.wait()
        assert house.cluster.snapshots('volumes', source) == [
            f'{two}.clone_snap']
        # One is deleted by us, the other had been by the stock driver.
        stock.delete(two)
        assert driver.volumes.delete(source).is_trashed
        driver.reclaimer.wait()
        assert house.cluster.digest('volumes', three) == DIGEST
        driver.volumes.delete(three)
        driver.reclaimer.wait()


@pytest.mark.parametrize('clone_format', [1, 2])
def test_a_snapshot_of_the_stock_driver_is_deleted_with_clones(
        house: House, clone_format: int) -> None:
    source = house.volume(DATA, 8 * MIB)
    house.cluster.take_snapshot('volumes', source, 'snapshot-1',
                                protect=True)
    clone = f'{source}-clone'
    house.cluster.clone(('volumes', source, 'snapshot-1'), 'volumes', clone,
                        clone_format=clone_format)
    house.driver().snapshots.delete(source, 'snapshot-1')
    assert house.cluster.snapshots('volumes', source) == []
    assert house.cluster.digest('volumes', clone) == DIGEST


# -- clones of format 1 -------------------------------------------------------

@pytest.mark.parametrize('order', ORDERS)
def test_clones_of_format_1_go_in_any_order(house: House, order: str) -> None:
    """The pools themselves can ask for format 1, and win over what a
    connection asks for."""
    for pool in ('volumes', 'images'):
        _pool_setting(house, 'set', pool, '1')
    try:
        source = house.volume(DATA, 8 * MIB)
        image, uploaded = house.upload(source)
        assert uploaded.strategy == 'clone'
        volume, created = house.create(image)
        assert created.strategy == 'clone'
        with house.cluster.open('images', image) as opened:
            assert not opened.op_features(), 'not of format 1'
        chain = {'source': source, 'image': image, 'volume': volume}
        left = set(THINGS)
        waiting = []
        for what in order.split('-'):
            if what == 'image' and 'volume' in left:
                # Glance removes no image with clones of format 1.
                answer = house.member.request('DELETE', f'/images/{image}')
                assert answer.status_code == 409
                waiting.append(what)
                continue
            delete(house, chain, what)
            left.discard(what)
            check(house, chain, left)
            nothing_is_renamed(house, [chain])
        for what in waiting:
            delete(house, chain, what)
        house.purge()
        assert house.cluster.names('volumes') == []
        assert house.cluster.names('images') == []
        assert house.cluster.trash('volumes') == []
        assert house.cluster.trash('images') == []
    finally:
        for pool in ('volumes', 'images'):
            _pool_setting(house, 'remove', pool)


def _pool_setting(house: House, verb: str, pool: str, *value: str) -> None:
    subprocess.run(
        ['rbd', '--conf', house.cluster.conf, 'config', 'pool', verb, pool,
         'rbd_default_clone_format', *value], check=True, timeout=60,
        capture_output=True)
