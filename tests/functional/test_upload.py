# SPDX-License-Identifier: Apache-2.0
"""Images from volumes, on the real services."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.steps import Steps
from volume_rbd import exception

BACKENDS = ['optimized', 'ceph']
STRATEGIES = {'optimized': ('clone', 'same_cluster'),
              'ceph': ('upload', 'clone_disabled')}


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_image_has_the_bytes_of_the_volume(
        house: House, backend: str) -> None:
    data = content.sparse_bytes(24 * MIB)
    volume = house.volume(data)

    image, result = house.upload(volume, driver=house.driver(backend))

    assert (result.strategy, result.reason) == STRATEGIES[backend]
    found = house.member.get(image)
    assert found['status'] == 'active'
    assert found['size'] == len(data)
    assert found['min_disk'] == 1
    assert found['owner'] == house.member.get(image)['owner']
    assert (found['disk_format'], found['container_format']) == (
        'raw', 'bare')
    assert house.member.digest(image) == content.digest_of_bytes(data)
    assert house.cluster.snapshots('volumes', volume) == []
    assert house.cluster.snapshots('images', image) == ['snap']


def test_a_clone_moves_no_byte_and_an_upload_only_data(house: House) -> None:
    volume = house.volume(content.random_bytes(4 * MIB), 64 * MIB)

    _, cloned = house.upload(volume)
    _, uploaded = house.upload(volume, driver=house.driver('ceph'))

    assert cloned.bytes_moved == 0
    assert uploaded.bytes_moved == 4 * MIB


def test_the_clone_is_registered_marked_and_independent_of_the_name(
        house: House) -> None:
    volume = house.volume(content.sparse_bytes(4 * MIB))
    house.cluster.set_metadata('volumes', volume, {
        'conf_rbd_qos_iops_limit': '100000', 'volume_rbd.other': 'x'})

    image, result = house.upload(volume)

    assert house.service.locations(image) == [
        f'rbd://{house.cluster.fsid}/images/{image}/snap']
    assert house.cluster.parent('images', image) == f'volumes/{volume}'
    found = house.cluster.metadata('images', image)
    assert not [key for key in found if key.startswith('conf_')]
    assert 'volume_rbd.other' not in found
    mark = json.loads(found['volume_rbd.lineage'])
    assert mark['image_id'] == house.cluster.image_id('images', image)
    assert (mark['kind'], mark['state'], mark['job']) == (
        'glance_image', 'complete', result.job)
    with house.cluster.open('images', image) as opened:
        # Beside bit 8, which says that it is a clone of format 2.
        assert opened.features() & 0xff == 1 | 4 | 8 | 16 | 32
        assert opened.is_protected_snap('snap')


def test_the_store_asked_for_gets_the_image(house: House) -> None:
    data = content.sparse_bytes(12 * MIB + 5)
    volume = house.volume(data)

    image, result = house.upload(volume, store_id='file')

    assert (result.strategy, result.reason) == ('upload', 'store_not_rbd')
    assert house.member.get(image)['stores'] == 'file'
    assert house.member.digest(image) == content.digest_of_bytes(data)
    assert image not in house.cluster.names('images')


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('size', [1, 513, 4 * MIB - 1, 9 * MIB + 777])
def test_a_volume_of_odd_size_keeps_every_byte(
        house: House, backend: str, size: int) -> None:
    data = content.random_bytes(size)
    volume = house.volume(data)

    image, _ = house.upload(volume, driver=house.driver(backend))

    assert house.member.get(image)['size'] == size
    assert house.member.digest(image) == content.digest_of_bytes(data)


@pytest.mark.parametrize('backend', BACKENDS)
def test_an_empty_volume_makes_an_image_of_zeros(
        house: House, backend: str) -> None:
    volume = house.volume(size_bytes=32 * MIB)

    image, result = house.upload(volume, driver=house.driver(backend))

    assert result.bytes_moved == 0
    assert house.member.get(image)['size'] == 32 * MIB
    assert house.member.digest(image) == content.EMPTY


def test_a_volume_of_0_bytes_is_uploaded_as_one(house: House) -> None:
    house.cluster.make('volumes', 'volume-without-bytes')

    image, result = house.upload('volume-without-bytes')

    assert (result.strategy, result.reason) == ('upload', 'empty_volume')
    assert house.member.get(image)['status'] == 'active'
    assert house.member.get(image)['size'] == 0


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_image_is_one_point_in_time_while_the_volume_is_written(
        house: House, backend: str) -> None:
    """Each write fills 64 KiB with its number, in ascending order: an image
    of one moment has ascending numbers and no mixture within a block."""
    blocks = 64
    volume = house.volume(bytes(blocks * 65536) or b'', blocks * 65536)
    stop = threading.Event()
    rounds = [0]

    def keep_writing() -> None:
        with house.cluster.open('volumes', volume) as opened:
            number = 0
            while not stop.is_set():
                number += 1
                for block in range(blocks):
                    opened.write(number.to_bytes(4, 'big') * 16384,
                                 block * 65536)
                rounds[0] = number

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        while rounds[0] < 2:
            assert writer.is_alive()
        image, _ = house.upload(volume, driver=house.driver(backend))
    finally:
        stop.set()
        writer.join()

    answer = house.member.request('GET', f'/images/{image}/file')
    numbers = []
    for at in range(0, len(answer.content), 65536):
        block = answer.content[at:at + 65536]
        assert block == block[:4] * 16384, 'two writes in one block'
        numbers.append(int.from_bytes(block[:4], 'big'))
    # All of round n in front, all of round n - 1 behind.
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] - numbers[-1] <= 1
    assert numbers[0] > 1


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_image_has_the_hash_of_the_snapshot(
        house: House, backend: str) -> None:
    volume = house.volume(content.sparse_bytes(16 * MIB))
    seen = []

    def look() -> None:
        (snapshot,) = house.cluster.snapshots('volumes', volume)
        assert snapshot.startswith('volume_rbd.upload-')
        seen.append(house.cluster.digest('volumes', volume, snapshot))
        house.cluster.write('volumes', volume, b'later' * 9999)

    report = Steps('choosing a strategy', look)
    image, _ = house.upload(volume, driver=house.driver(backend),
                            report=report)

    assert seen == [house.member.digest(image)]
    assert house.cluster.digest('volumes', volume) != seen[0]


@pytest.fixture
def hashing_glance(house: House) -> Iterator[None]:
    # Off elsewhere: a delete at the moment when the hash is done may answer
    # 500 after half a minute (Glance 33).
    house.sandbox.configure_glance({'DEFAULT': {'do_secure_hash': True}})
    yield
    house.sandbox.configure_glance({})


@pytest.mark.usefixtures('hashing_glance')
def test_glance_hashes_a_clone_later(house: House) -> None:
    data = content.sparse_bytes(8 * MIB)
    volume = house.volume(data)

    image, _ = house.upload(volume)

    found = house.member.wait_for(image, 'os_hash_value')
    assert found == hashlib.sha512(data).hexdigest()
    assert house.member.get(image)['os_hash_algo'] == 'sha512'
    name, result = house.create(image)
    assert result.strategy == 'clone'
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)


def test_an_uploaded_image_has_its_hash_at_once(house: House) -> None:
    data = content.sparse_bytes(8 * MIB + 1)
    volume = house.volume(data)

    image, _ = house.upload(volume, driver=house.driver('ceph'))

    assert house.member.get(image)['os_hash_value'] == \
        hashlib.sha512(data).hexdigest()


@pytest.mark.parametrize('when', ['before_register', 'background'])
def test_a_flattened_clone_depends_on_nothing(
        house: House, when: str) -> None:
    data = content.sparse_bytes(16 * MIB)
    volume = house.volume(data)
    driver = house.driver(optimized={'clone_upload_flatten': when})

    image, result = house.upload(volume, driver=driver)
    driver.close()  # waits for what is in the background
    house._managers.clear()

    assert result.strategy == 'clone'
    assert house.cluster.parent('images', image) is None
    with house.cluster.open('images', image, 'snap',
                            read_only=True) as opened:
        assert opened.parent_info is not None
        with pytest.raises(Exception, match=r'not found|No such'):
            opened.get_parent_image_spec()
    assert house.member.digest(image) == content.digest_of_bytes(data)
    # The volume can go for good.
    assert not house.driver().volumes.delete(volume).is_trashed
    assert house.member.digest(image) == content.digest_of_bytes(data)


def test_properties_of_the_request_reach_the_image(house: House) -> None:
    volume = house.volume(content.sparse_bytes(MIB))

    image, _ = house.upload(volume, name='a title',
                            properties={'hw_disk_bus': 'scsi'})

    found = house.member.get(image)
    assert (found['name'], found['hw_disk_bus']) == ('a title', 'scsi')


def test_the_record_of_a_caller_is_used_and_stays_after_a_failure(
        house: House) -> None:
    volume = house.volume(content.sparse_bytes(MIB))
    image = house.member.create()

    with house.nothing_changes(), pytest.raises(exception.StoreNotFound):
        house.upload(volume, image_id=image, store_id='none-such')

    made, _ = house.upload(volume, image_id=image)
    assert made == image
    assert house.member.status(image) == 'active'


def test_only_raw_and_bare_are_made(house: House) -> None:
    volume = house.volume(content.sparse_bytes(MIB))

    for request in ({'disk_format': 'iso'}, {'container_format': 'ovf'}):
        with house.nothing_changes(), pytest.raises(exception.NotSupported):
            house.upload(volume, **request)
