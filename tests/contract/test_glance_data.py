# SPDX-License-Identifier: Apache-2.0
"""The bytes of images, in and out."""

from __future__ import annotations

import hashlib
import io
import random

import pytest

from tests.contract.glance_worlds import MIB, Maker, World, wait_until
from volume_rbd import exception

pytest_plugins = ('tests.contract.glance_fixtures',)


def some_bytes(length: int) -> bytes:
    return random.Random(length).randbytes(length)


class BrokenSource(io.RawIOBase):
    """Gives some bytes and then raises."""

    def __init__(self, length: int, error: BaseException) -> None:
        self._left = length
        self._error = error

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            raise self._error
        size = min(size, self._left)
        self._left -= size
        return bytes(size)


@pytest.mark.parametrize('store_id', ['rbd', 'file'])
@pytest.mark.parametrize('length', [
    1, 4 * MIB, 8 * MIB - 1, 8 * MIB + 1, 20 * MIB + 511])
def test_what_was_uploaded_comes_back(
        glance_world: World, images: Maker, store_id: str,
        length: int) -> None:
    data = some_bytes(length)
    image_id = images.active(glance_world.member, data, store_id)
    image = glance_world.member.get_image(image_id)
    assert (image.status, image.size_bytes) == ('active', length)
    assert image.stores == (store_id,)
    assert image.os_hash_algo == 'sha512'
    assert image.os_hash_value == hashlib.sha512(data).hexdigest()
    chunks = list(glance_world.member.download(image_id))
    assert {len(chunk) for chunk in chunks[:-1]} <= {4 * MIB}
    assert b''.join(chunks) == data


def test_the_chunks_are_as_long_as_was_asked(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, some_bytes(3 * MIB + 5))
    chunks = glance_world.member.download(image_id, chunk_bytes=MIB)
    assert [len(chunk) for chunk in chunks] == [MIB, MIB, MIB, 5]


def test_an_upload_goes_to_the_default_store(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    glance_world.member.upload(image_id, io.BytesIO(b'abc'), size_bytes=3)
    assert glance_world.member.get_image(image_id).stores == ('rbd',)


def test_an_empty_image_can_be_uploaded(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, b'', 'file')
    assert glance_world.member.get_image(image_id).size_bytes == 0
    assert list(glance_world.member.download(image_id)) == []


def test_an_unknown_store_is_named(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.StoreNotFound, match='tape'):
        glance_world.member.upload(image_id, io.BytesIO(b'abc'),
                                   size_bytes=3, store_id='tape')
    assert glance_world.member.get_image(image_id).status == 'queued'


def test_an_active_image_takes_no_more_data(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, b'abc')
    with pytest.raises(exception.GlanceConflict):
        glance_world.member.upload(image_id, io.BytesIO(b'def'),
                                   size_bytes=3)


@pytest.mark.parametrize('store_id', ['rbd', 'file'])
@pytest.mark.parametrize('error', [
    ValueError('the source broke'),
    ConnectionResetError(104, 'the source broke'),
    BrokenPipeError(32, 'the source broke'),
    exception.ClusterUnavailable('the source broke'),
    KeyboardInterrupt('the source broke'),
])
def test_an_error_of_the_source_ends_the_upload_and_surfaces(
        glance_world: World, images: Maker, store_id: str,
        error: BaseException) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(type(error), match='the source broke') as caught:
        glance_world.member.upload(
            image_id, BrokenSource(9 * MIB, error),
            size_bytes=20 * MIB, store_id=store_id)
    assert caught.value is error
    _expect_no_data(glance_world, image_id)


@pytest.mark.parametrize('store_id', ['rbd', 'file'])
def test_a_source_that_ends_early_makes_no_image(
        glance_world: World, images: Maker, store_id: str) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.DataCorrupted, match=str(20 * MIB)):
        glance_world.member.upload(
            image_id, io.BytesIO(bytes(9 * MIB)), size_bytes=20 * MIB,
            store_id=store_id)
    _expect_no_data(glance_world, image_id)


def _expect_no_data(world: World, image_id: str) -> None:
    def get_settled() -> str | None:
        status = world.member.get_image(image_id).status
        return None if status == 'saving' else status

    assert wait_until(get_settled) == 'queued'
    assert world.member.get_locations(image_id) == ()
    # And the upload can be done again.
    world.member.upload(image_id, io.BytesIO(b'again'), size_bytes=5)
    assert b''.join(world.member.download(image_id)) == b'again'


def test_an_image_without_data_cannot_be_downloaded(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.GlanceImageNotUsable, match='queued'):
        list(glance_world.member.download(image_id))


def test_a_deactivated_image_cannot_be_downloaded(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, b'abc')
    with glance_world.deactivated(image_id):
        image = glance_world.member.get_image(image_id)
        assert image.status == 'deactivated'
        with pytest.raises(exception.GlanceForbidden):
            list(glance_world.member.download(image_id))
    assert b''.join(glance_world.member.download(image_id)) == b'abc'


def test_a_download_may_be_left_in_the_middle(
        glance_world: World, images: Maker) -> None:
    data = some_bytes(20 * MIB)
    image_id = images.active(glance_world.member, data)
    for _ in range(3):
        chunks = glance_world.member.download(image_id)
        assert next(chunks) == data[:4 * MIB]
        chunks.close()
    assert b''.join(glance_world.member.download(image_id)) == data


def test_a_changed_byte_is_noticed(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, some_bytes(9 * MIB),
                             'file')
    glance_world.break_file(
        image_id, lambda data: data[:MIB] + b'!' + data[MIB + 1:])
    with pytest.raises(exception.DataCorrupted):
        list(glance_world.member.download(image_id))


def test_a_missing_end_is_noticed(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, some_bytes(9 * MIB),
                             'file')
    glance_world.break_file(image_id, lambda data: data[:-MIB])
    with pytest.raises(exception.DataCorrupted):
        list(glance_world.member.download(image_id))
