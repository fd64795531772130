# SPDX-License-Identifier: Apache-2.0
"""Deleting in any order, and chains of clones."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from concurrent import futures

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
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
