# SPDX-License-Identifier: Apache-2.0
"""Between an rbd_image on the real cluster and a local file."""

from __future__ import annotations

import hashlib
import os
import pathlib
import time
from contextlib import AbstractContextManager

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd import exception, progress
from volume_rbd.ceph.interface import Image
from volume_rbd.copying import compare, copy, local_file

SILENT = progress.Silent()
ODD = [0, 1, 513, 4 * MIB - 1, 9 * MIB + 777]


def snapshot_of(house: House, volume: str) -> AbstractContextManager[Image]:
    house.cluster.take_snapshot('volumes', volume, 's')
    return house.driver().cluster.pool('volumes').open(
        volume, read_only=True, snapshot='s')


def volume_of(house: House, data: bytes, size_bytes: int | None = None
              ) -> str:
    """Also one of 0 bytes, which the driver does not make."""
    if data or size_bytes:
        return house.volume(data, size_bytes)
    house.cluster.make('volumes', 'volume-without-bytes')
    return 'volume-without-bytes'


def to_file(house: House, volume: str, path: pathlib.Path,
            report: progress.Progress = SILENT, **options: object) -> int:
    with snapshot_of(house, volume) as source, local_file.created(
            str(path), source.size_bytes) as made:
        return copy.into_empty(source, made, operations=16, report=report,
                               **options)


def to_volume(house: House, path: pathlib.Path, volume: str,
              report: progress.Progress = SILENT, **options: object) -> int:
    with local_file.opened(str(path)) as source, house.driver().cluster.pool(
            'volumes').open(volume) as made:
        return copy.into_empty(source, made, operations=16, report=report,
                               **options)


class CancelsIn(progress.Cancellable):
    """:ivar cancelled_at: when a part of the bytes had passed."""

    cancelled_at = 0.0

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        if self.done_bytes >= 32 * MIB and not self.is_cancelled:
            self.cancelled_at = time.monotonic()
            self.cancel()


@pytest.mark.parametrize('size', ODD)
def test_every_byte_of_a_volume_comes_into_the_file(
        house: House, tmp_path: pathlib.Path, size: int) -> None:
    data = content.random_bytes(size)
    volume = volume_of(house, data)

    to_file(house, volume, tmp_path / 'file')

    assert (tmp_path / 'file').read_bytes() == data


@pytest.mark.parametrize('size', ODD)
def test_every_byte_of_a_file_comes_into_the_volume(
        house: House, tmp_path: pathlib.Path, size: int) -> None:
    data = content.random_bytes(size)
    (tmp_path / 'file').write_bytes(data)
    volume = volume_of(house, b'', size)

    to_volume(house, tmp_path / 'file', volume)

    assert house.cluster.size('volumes', volume) == size
    assert house.cluster.digest('volumes', volume) == \
        content.digest_of_bytes(data)


def test_what_is_a_quarter_full_costs_a_quarter_there_and_back(
        house: House, tmp_path: pathlib.Path) -> None:
    """Holes between data, and data that is zeros."""
    data = (bytes(20 * MIB) + content.random_bytes(16 * MIB)
            + bytes(20 * MIB) + content.random_bytes(9 * MIB + 5)
            + bytes(35 * MIB + 507))
    volume = house.volume(b'', len(data))
    house.cluster.write('volumes', volume, data)
    with house.cluster.open('volumes', volume) as image:
        image.write(bytes(4 * MIB), 40 * MIB)
    path, report = tmp_path / 'file', progress.Cancellable()

    written = to_file(house, volume, path, report)

    assert content.digest_of_bytes(path.read_bytes()) == \
        content.digest_of_bytes(data)
    assert path.stat().st_size == len(data)
    assert 25 * MIB <= path.stat().st_blocks * 512 <= 26 * MIB
    assert written == report.done_bytes <= 26 * MIB
    assert report.done_bytes + report.skipped_bytes == len(data)

    again = house.volume(b'', len(data))
    report = progress.Cancellable()
    written = to_volume(house, path, again, report)

    assert house.cluster.digest('volumes', again) == \
        content.digest_of_bytes(data)
    assert written == report.done_bytes <= 26 * MIB
    assert report.done_bytes + report.skipped_bytes == len(data)
    with local_file.opened(str(path)) as source, snapshot_of(
            house, again) as made:
        compare.check_same(source, made, operations=16, report=SILENT)


def test_the_file_is_the_snapshot_whatever_is_written_meanwhile(
        house: House, tmp_path: pathlib.Path) -> None:
    data = content.random_bytes(64 * MIB)
    volume = house.volume(data)

    class Writes(progress.Silent):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            house.cluster.write('volumes', volume, b'later' * 9999)

    to_file(house, volume, tmp_path / 'file', Writes())

    assert (tmp_path / 'file').read_bytes() == data


def test_sinks_see_all_of_it_in_order(house: House, tmp_path: pathlib.Path
                                      ) -> None:
    data = content.sparse_bytes(70 * MIB + 3)
    volume = house.volume(data)
    path, again = tmp_path / 'file', house.volume(b'', len(data))

    for move in (
            lambda sinks: to_file(house, volume, path, sinks=sinks),
            lambda sinks: to_volume(house, path, again, sinks=sinks)):
        hashes = [hashlib.new(name) for name in ('md5', 'sha512')]
        move(hashes)
        assert [found.hexdigest() for found in hashes] == [
            hashlib.new(found.name, data).hexdigest() for found in hashes]


def test_a_volume_with_data_becomes_the_file(house: House,
                                             tmp_path: pathlib.Path) -> None:
    """And a file with data the volume: holes go over what is there."""
    old, new = content.random_bytes(12 * MIB), content.sparse_bytes(12 * MIB)
    volume, path = house.volume(old), tmp_path / 'file'
    path.write_bytes(new)
    with local_file.opened(str(path)) as source, house.driver().cluster.pool(
            'volumes').open(volume) as made:
        copy.changes(source, made, source.extents(), operations=16,
                     report=SILENT)
    assert house.cluster.digest('volumes', volume) == \
        content.digest_of_bytes(new)

    path.write_bytes(old)
    with snapshot_of(house, volume) as source, local_file.opened(
            str(path), is_writable=True) as made:
        copy.changes(source, made, source.extents(), operations=16,
                     report=SILENT)
    assert path.read_bytes() == new


def test_a_copy_into_a_file_is_cancelled_within_a_second_and_gone(
        house: House, tmp_path: pathlib.Path) -> None:
    volume = house.volume(content.random_bytes(256 * MIB))
    report = CancelsIn()

    with pytest.raises(exception.Cancelled):
        to_file(house, volume, tmp_path / 'file', report)

    assert time.monotonic() - report.cancelled_at < 1
    assert os.listdir(tmp_path) == []


def test_a_copy_from_a_file_is_cancelled_within_a_second(
        house: House, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'file').write_bytes(content.random_bytes(256 * MIB))
    volume, report = house.volume(b'', 256 * MIB), CancelsIn()

    with pytest.raises(exception.Cancelled):
        to_volume(house, tmp_path / 'file', volume, report)

    assert time.monotonic() - report.cancelled_at < 1


def test_a_full_file_system_is_said_and_nothing_stays(
        house: House, small_disk: pathlib.Path) -> None:
    volume = house.volume(content.random_bytes(24 * MIB))

    with pytest.raises(exception.NoSpace, match='No space left') as caught:
        to_file(house, volume, small_disk / 'file')

    assert str(small_disk) in caught.value.message
    assert 'file system' in caught.value.remedy
    assert os.listdir(small_disk) == []


def test_what_is_sparse_needs_room_for_its_data_only(
        house: House, small_disk: pathlib.Path) -> None:
    data = content.sparse_bytes(200 * MIB)
    volume = house.volume(data)

    to_file(house, volume, small_disk / 'file')

    assert content.digest_of_bytes((small_disk / 'file').read_bytes()) == \
        content.digest_of_bytes(data)


def test_a_volume_that_is_too_small_for_the_file_is_an_error(
        house: House, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'file').write_bytes(content.random_bytes(9 * MIB))
    volume = house.volume(b'', 8 * MIB)

    with pytest.raises(exception.InvalidSize):
        to_volume(house, tmp_path / 'file', volume)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(
        house: House, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(content.random_bytes(128 * MIB))
    volume = house.volume(b'', 128 * MIB)

    class Cuts(progress.Silent):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            os.truncate(path, 16 * MIB)

    with pytest.raises(exception.DataCorrupted):
        to_volume(house, path, volume, Cuts())
