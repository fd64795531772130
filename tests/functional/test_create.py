# SPDX-License-Identifier: Apache-2.0
"""Volumes from images, on the real services."""

from __future__ import annotations

import json

import pytest

from tests.functional import content
from tests.functional.content import GIB, MIB
from tests.functional.house import House
from volume_rbd import exception


def test_an_image_in_the_same_cluster_is_cloned(house: House) -> None:
    data = content.sparse_bytes(8 * MIB)
    image = house.member.make(data)

    name, result = house.create(image)

    assert (result.strategy, result.reason) == ('clone', 'same_cluster')
    assert result.bytes_moved == 0
    assert result.lineage['origin'] == f'rbd:images/{image}@snap'
    assert house.cluster.parent('volumes', name) == f'images/{image}'
    assert house.cluster.size('volumes', name) == GIB
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)


def test_a_clone_is_marked_with_its_own_id(house: House) -> None:
    image = house.member.make(content.sparse_bytes(MIB))

    name, result = house.create(image)

    mark = house.cluster.mark('volumes', name)
    assert mark is not None
    assert mark['image_id'] == house.cluster.image_id('volumes', name)
    assert mark['state'] == 'complete'
    assert mark['kind'] == 'volume'
    assert mark['job'] == result.job
    assert mark['origin'] == f'rbd:images/{image}@snap'


def test_inherited_marks_and_overrides_are_taken_off_a_clone(
        house: House) -> None:
    image = house.member.make(content.sparse_bytes(MIB))
    foreign = json.dumps({
        'image_id': 'somebody-elses', 'kind': 'volume', 'origin': 'blank',
        'job': 'theirs', 'state': 'trashed', 'created_at': 1.0})
    house.cluster.set_metadata('images', image, {
        'conf_rbd_qos_iops_limit': '1', 'volume_rbd.lineage': foreign,
        'volume_rbd.other': 'x', 'theirs': 'kept'})

    name, _ = house.create(image)

    found = house.cluster.metadata('volumes', name)
    assert not [key for key in found if key.startswith('conf_')]
    assert 'volume_rbd.other' not in found
    assert found['theirs'] == 'kept'
    mark = json.loads(found['volume_rbd.lineage'])
    assert mark['image_id'] == house.cluster.image_id('volumes', name)
    assert mark['job'] != 'theirs'


def test_an_image_in_the_file_store_is_downloaded(house: House) -> None:
    data = content.sparse_bytes(20 * MIB)
    image = house.member.make(data, 'file')

    name, result = house.create(image)

    assert (result.strategy, result.reason) == ('download', 'not_rbd')
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)
    assert house.cluster.parent('volumes', name) is None
    assert 0 < result.bytes_moved <= 5 * 64 * 1024 + 70_000 * 3
    mark = house.cluster.mark('volumes', name)
    assert mark is not None
    assert (mark['state'], mark['origin']) == ('complete', f'glance:{image}')


@pytest.mark.parametrize('store', ['rbd', 'file'])
@pytest.mark.parametrize('size', [
    1, 511, 512, 513, 4 * MIB - 1, 4 * MIB + 1, 9 * MIB + 777])
def test_an_image_of_odd_size_keeps_every_byte(
        house: House, store: str, size: int) -> None:
    data = content.random_bytes(size)
    image = house.member.make(data, store)

    name, result = house.create(image)

    assert result.strategy == ('clone' if store == 'rbd' else 'download')
    assert house.cluster.size('volumes', name) == GIB
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)


@pytest.mark.parametrize('store', ['rbd', 'file'])
def test_an_image_without_bytes_makes_an_empty_volume(
        house: House, store: str) -> None:
    image = house.member.make(b'', store)

    name, result = house.create(image)

    # An rbd store keeps an rbd_image of 0 bytes: there is nothing to share.
    assert (result.strategy, result.reason) == (
        ('copy', 'empty_image') if store == 'rbd'
        else ('download', 'not_rbd'))
    assert house.cluster.size('volumes', name) == GIB
    assert house.cluster.digest('volumes', name) == content.EMPTY


@pytest.mark.parametrize('store', ['rbd', 'file'])
def test_an_image_of_zeros_makes_a_volume_without_data(
        house: House, store: str) -> None:
    image = house.member.make(bytes(12 * MIB), store)

    name, result = house.create(image)

    assert result.bytes_moved == 0
    assert house.cluster.digest('volumes', name) == content.EMPTY


def test_the_size_asked_for_is_given(house: House) -> None:
    data = content.sparse_bytes(MIB)
    for store in ('rbd', 'file'):
        image = house.member.make(data, store)
        name, _ = house.create(image, size_bytes=300 * GIB)
        assert house.cluster.size('volumes', name) == 300 * GIB
        assert house.cluster.digest('volumes', name) == \
            content.digest_of_bytes(data)


def test_min_disk_makes_the_volume_larger_or_is_refused(
        house: House) -> None:
    image = house.member.make(content.sparse_bytes(MIB), min_disk=3)

    name, _ = house.create(image)
    assert house.cluster.size('volumes', name) == 3 * GIB

    with house.nothing_changes(), pytest.raises(
            exception.InvalidSize, match='needs 3 GiB'):
        house.create(image, size_bytes=2 * GIB)


def test_an_image_that_was_uploaded_by_clone_is_cloned_again(
        house: House) -> None:
    data = content.sparse_bytes(8 * MIB)
    volume = house.volume(data, GIB)
    image, uploaded = house.upload(volume)
    assert uploaded.strategy == 'clone'

    name, result = house.create(image)

    assert result.strategy == 'clone'
    assert house.cluster.parent('volumes', name) == f'images/{image}'
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)
    # What is written to the one is not seen by the others.
    house.cluster.write('volumes', name, b'changed' * 1000)
    house.cluster.write('volumes', volume, b'otherwise' * 1000, MIB)
    assert house.member.digest(image) == content.digest_of_bytes(data)


def test_the_depth_is_counted_across_pools(house: House) -> None:
    image = house.member.make(content.sparse_bytes(MIB))
    first, _ = house.create(image)
    second_image, _ = house.upload(first)
    limited = house.driver(optimized={'rbd_max_clone_depth': 2})

    name, result = house.create(second_image, driver=limited)

    assert (result.strategy, result.reason) == ('copy', 'depth_reached')
    assert house.cluster.parent('volumes', name) is None
    assert house.cluster.digest('volumes', name) == \
        house.cluster.digest('volumes', first)
