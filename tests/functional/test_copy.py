# SPDX-License-Identifier: Apache-2.0
"""Images from volumes by a copy inside the cluster, on the real services."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.functional import content
from tests.functional.cluster import make_user, remove_user
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.proxy import Proxy
from tests.functional.steps import Steps
from volume_rbd import exception, progress
from volume_rbd.driver import RBDDriver

COMPARING = 'comparing the copy with its source'


def copying(house: House, **options: object) -> RBDDriver:
    """A backend that may clone nothing, and so copies."""
    return house.driver(optimized={'rbd_max_clone_depth': 0, **options})


def test_the_copy_has_the_bytes_of_the_volume_and_shares_none(
        house: House) -> None:
    data = content.sparse_bytes(24 * MIB)
    volume = house.volume(data)

    image, result = house.upload(volume, driver=copying(house))

    assert (result.strategy, result.reason) == ('copy', 'depth_reached')
    found = house.member.get(image)
    assert (found['status'], found['size']) == ('active', len(data))
    assert house.member.digest(image) == content.digest_of_bytes(data)
    assert house.service.locations(image) == [
        f'rbd://{house.cluster.fsid}/images/{image}/snap']
    assert house.cluster.parent('images', image) is None
    assert house.cluster.snapshots('volumes', volume) == []
    mark = json.loads(house.cluster.metadata('images', image)[
        'volume_rbd.lineage'])
    assert mark['image_id'] == house.cluster.image_id('images', image)
    assert (mark['kind'], mark['state'], mark['job']) == (
        'glance_image', 'complete', result.job)
    with house.cluster.open('images', image) as opened:
        assert opened.features() & 0xff == 1 | 4 | 8 | 16 | 32
        assert opened.is_protected_snap('snap')
    name, created = house.create(image)
    assert created.strategy == 'clone'
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)


@pytest.mark.parametrize('size', [1, 513, 4 * MIB - 1, 9 * MIB + 777])
def test_a_volume_of_odd_size_keeps_every_byte(
        house: House, size: int) -> None:
    data = content.random_bytes(size)
    volume = house.volume(data)

    image, result = house.upload(volume, driver=copying(
        house, verify_copies='true', glance_secure_hash='false'))

    assert result.strategy == 'copy'
    found = house.member.get(image)
    assert found['size'] == size
    assert found['os_hash_value'] == hashlib.sha512(data).hexdigest()
    assert house.member.digest(image) == content.digest_of_bytes(data)


def test_a_volume_a_quarter_full_costs_a_quarter(house: House) -> None:
    volume = house.volume(content.random_bytes(16 * MIB), 64 * MIB)
    report = progress.Cancellable()

    image, result = house.upload(volume, driver=copying(house),
                                 report=report)

    assert result.bytes_moved == report.done_bytes == 16 * MIB
    assert report.skipped_bytes == 48 * MIB
    with house.cluster.open('images', image) as opened:
        used: list[int] = []
        opened.diff_iterate(0, 64 * MIB, None,
                            lambda offset, length, exists: used.append(
                                length if exists else 0))
    assert sum(used) == 16 * MIB


def test_the_hash_is_there_at_once_where_glance_does_not_compute_it(
        house: House) -> None:
    data = content.sparse_bytes(20 * MIB) + bytes(8 * MIB)
    volume = house.volume(data[:20 * MIB], len(data))

    image, result = house.upload(volume, driver=copying(
        house, glance_secure_hash='false'))

    assert result.strategy == 'copy'
    found = house.member.get(image)
    assert found['os_hash_algo'] == 'sha512'
    assert found['os_hash_value'] == hashlib.sha512(data).hexdigest()
    assert house.member.digest(image) == content.digest_of_bytes(data)


@pytest.fixture
def hashing_glance(house: House) -> Iterator[None]:
    house.sandbox.configure_glance({'DEFAULT': {'do_secure_hash': True}})
    yield
    house.sandbox.configure_glance({})


@pytest.mark.usefixtures('hashing_glance')
def test_glance_hashes_a_copy_itself_or_compares(house: House) -> None:
    data = content.sparse_bytes(8 * MIB)
    volume = house.volume(data)
    wanted = hashlib.sha512(data).hexdigest()

    image, _ = house.upload(volume, driver=copying(house))
    assert house.member.wait_for(image, 'os_hash_value') == wanted
    again, result = house.upload(volume, driver=copying(
        house, glance_secure_hash='false'))

    assert result.strategy == 'copy'
    assert house.member.get(again)['os_hash_value'] == wanted


def test_the_copy_is_one_point_in_time(house: House) -> None:
    data = content.sparse_bytes(16 * MIB)
    volume = house.volume(data)

    def write() -> None:
        house.cluster.write('volumes', volume, b'later' * 9999)

    image, result = house.upload(
        volume, driver=copying(house),
        report=Steps('copying the volume', write))

    assert result.strategy == 'copy'
    assert house.member.digest(image) == content.digest_of_bytes(data)


def test_a_copy_that_differs_is_undone(house: House) -> None:
    volume = house.volume(content.random_bytes(9 * MIB))

    def spoil() -> None:
        (image,) = house.cluster.names('images')
        house.cluster.write('images', image, b'spoilt')

    with house.nothing_changes(), pytest.raises(
            exception.DataCorrupted, match='bytes at 0'):
        house.upload(volume, driver=copying(house, verify_copies='true'),
                     report=Steps(COMPARING, spoil))


def test_a_copy_is_cancelled_within_a_second_and_undone(house: House
                                                        ) -> None:
    """Held back to 8 MiB a second, it would take 8 s."""
    volume = house.volume(content.random_bytes(64 * MIB))
    driver = copying(house, copy_bandwidth=8, glance_secure_hash='false')
    cancelled = []

    class Report(progress.Cancellable):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            super().advance(done_bytes, skipped_bytes)
            if self.done_bytes >= 16 * MIB and not cancelled:
                cancelled.append(time.monotonic())
                self.cancel()

    with house.nothing_changes():
        with pytest.raises(exception.Cancelled):
            house.upload(volume, driver=driver, report=Report())
        # With the undoing: the snapshot, the record, the rbd_image.
        assert time.monotonic() - cancelled[0] < 5


def test_the_bandwidth_is_kept_to(house: House) -> None:
    volume = house.volume(content.random_bytes(32 * MIB))

    _, result = house.upload(volume, driver=copying(house,
                                                    copy_bandwidth=16))

    assert 1.5 < result.seconds < 6


def test_who_may_not_write_to_the_store_uploads(house: House) -> None:
    data = content.sparse_bytes(6 * MIB)
    entity = make_user(house.cluster, 'narrow-copy',
                       'profile rbd pool=volumes, '
                       'profile rbd-read-only pool=images')
    try:
        volume = house.volume(data)
        image, result = house.upload(volume, driver=copying(
            house, rbd_user='narrow-copy'))
    finally:
        remove_user(house.cluster, entity)

    assert (result.strategy, result.reason) == ('upload', 'clone_denied')
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'copy', 'upload']
    assert house.member.digest(image) == content.digest_of_bytes(data)


@pytest.fixture
def full_store(house: House) -> Iterator[None]:
    """The pool of Glance's store has reached its quota."""
    with house.cluster.full('images'):
        yield


@pytest.mark.timeout(200)
@pytest.mark.usefixtures('full_store')
def test_a_full_store_is_said_and_does_not_hang(house: House) -> None:
    volume = house.volume(content.random_bytes(8 * MIB))
    began = time.monotonic()

    with house.nothing_changes(), pytest.raises(exception.NoSpace):
        house.upload(volume, driver=copying(house))

    assert time.monotonic() - began < 40


@pytest.mark.parametrize(('status', 'reason'), [
    (400, 'location_refused'), (403, 'location_forbidden')])
def test_a_copy_that_glance_does_not_take_is_undone_and_uploaded(
        house: House, proxy: Proxy, status: int, reason: str) -> None:
    proxy.on('POST', '/locations$', status=status)
    data = content.sparse_bytes(6 * MIB)
    volume = house.volume(data)

    image, result = house.upload(volume, driver=house.driver(
        DEFAULT={'glance_api_servers': proxy.url},
        optimized={'rbd_max_clone_depth': 0}))

    assert (result.strategy, result.reason) == ('upload', reason)
    assert house.member.digest(image) == content.digest_of_bytes(data)
    assert house.cluster.parent('images', image) is None
