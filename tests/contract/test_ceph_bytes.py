# SPDX-License-Identifier: Apache-2.0
"""Reading, writing, operations in flight, and extents."""

import random

import pytest

from volume_rbd import exception, model
from volume_rbd.ceph import interface

MIB = 1024 ** 2


def test_what_was_written_is_read(ceph):
    with ceph.volumes.open(ceph.new(size_bytes=3 * MIB)) as image:
        image.write(b'x' * 5000, MIB - 2500)
        image.flush()

        assert image.read(MIB - 2501, 5002) == (
            b'\0' + b'x' * 5000 + b'\0')
        assert image.read(2 * MIB, MIB) == bytes(MIB)


@pytest.mark.parametrize(('offset', 'length'), [
    (-1, 10), (MIB - 5, 10), (MIB + 1, 0), (2 * MIB, 10), (0, -1)])
def test_a_range_outside_of_the_image_is_refused(ceph, offset, length):
    with ceph.volumes.open(ceph.new(size_bytes=MIB)) as image:
        for action in (lambda: image.read(offset, length),
                       lambda: image.aio_read(offset, length),
                       lambda: image.extents(offset, length)):
            with pytest.raises(exception.InvalidSize):
                action()
        if length > 0:
            for write in (image.write, image.aio_write):
                with pytest.raises(exception.InvalidSize):
                    write(bytes(length), offset)


def test_nothing_can_be_read_and_written(ceph):
    with ceph.volumes.open(ceph.new(size_bytes=0)) as image:
        assert image.read(0, 0) == b''
        assert image.aio_read(0, 0).wait() == b''
        assert image.aio_write(b'', 0).wait() is None
        assert list(image.extents()) == []


def test_many_operations_are_in_flight_at_once(ceph):
    chunk = 256 * 1024
    parts = [random.randbytes(chunk) for _ in range(16)]
    with ceph.volumes.open(ceph.new(size_bytes=4 * MIB)) as image:
        writes = [image.aio_write(part, number * chunk)
                  for number, part in enumerate(parts)]
        for write in reversed(writes):
            assert write.wait() is None
        reads = [image.aio_read(number * chunk, chunk)
                 for number in range(16)]
        assert [read.wait() for read in reads] == parts


def test_a_completion_can_be_waited_for_twice(ceph):
    with ceph.volumes.open(ceph.new()) as image:
        write = image.aio_write(b'data', 0)
        write.wait()
        write.wait()
        read = image.aio_read(0, 4)
        assert read.wait() == read.wait() == b'data'


def test_a_write_in_flight_keeps_its_data(ceph):
    with ceph.volumes.open(ceph.new(size_bytes=64 * MIB)) as image:
        # No other reference than the completion's.
        writes = [image.aio_write(bytes([number]) * MIB, number * MIB)
                  for number in range(64)]
        for write in writes:
            write.wait()
        for number in range(64):
            assert image.read(number * MIB, MIB) == bytes([number]) * MIB


# -- extents ---------------------------------------------------------------
def _check_extents(image, start=0, end=None):
    """They cover the range, alternate, and no hole has data."""
    end = image.size_bytes if end is None else end
    at, before = start, None
    for extent in image.extents(start, end - start):
        assert extent.offset == at
        assert extent.length > 0
        assert extent.exists is not before
        at, before = extent.end, extent.exists
        if not extent.exists:
            data = image.read(extent.offset, extent.length)
            assert not data.strip(b'\0'), f'{extent} has data'
    assert at == end


def test_an_empty_image_is_one_hole(ceph):
    with ceph.volumes.open(ceph.new(size_bytes=5 * MIB + 7)) as image:
        assert list(image.extents()) == [
            model.Extent(0, 5 * MIB + 7, False)]


def test_extents_are_whole_objects_where_the_object_map_is_valid(ceph):
    with ceph.volumes.open(ceph.new(size_bytes=5 * MIB + 7)) as image:
        image.write(b'1', MIB + 5)
        image.write(b'2', 2 * MIB)
        image.write(b'3', 5 * MIB)

        assert list(image.extents()) == [
            model.Extent(0, MIB, False),
            model.Extent(MIB, 2 * MIB, True),
            model.Extent(3 * MIB, 2 * MIB, False),
            model.Extent(5 * MIB, 7, True)]
        assert list(image.extents(MIB + 3, 2 * MIB)) == [
            model.Extent(MIB + 3, 2 * MIB - 3, True),
            model.Extent(3 * MIB, 3, False)]


def test_a_parents_data_is_data_of_its_clone(ceph):
    parent = ceph.new_parent(b'1', size_bytes=4 * MIB)
    with ceph.images.open(ceph.new_clone(parent)) as image:
        image.write(b'2', 2 * MIB)

        assert [extent.offset for extent in image.extents()
                if extent.exists] == [0, 2 * MIB]


def test_a_snapshots_extents_are_those_of_its_moment(ceph):
    parent = ceph.new_parent(b'1', size_bytes=4 * MIB)
    with ceph.volumes.open(parent.image) as image:
        image.write(b'2', 2 * MIB)
        image.resize(8 * MIB)
        number = image.find_snapshot('snap').id
    child = ceph.new_clone(parent)
    with ceph.volumes.open(parent.image) as image:
        image.remove_snapshot('snap')

    with ceph.volumes.open_by_id(image.id, snapshot_id=number) as image:
        assert list(image.extents()) == [
            model.Extent(0, MIB, True), model.Extent(MIB, 3 * MIB, False)]
    with ceph.images.open(child) as image:
        assert list(image.extents()) == [
            model.Extent(0, MIB, True), model.Extent(MIB, 3 * MIB, False)]


@pytest.mark.parametrize('features', [
    interface.CLONE_FEATURES, interface.LAYERING,
    interface.LAYERING | interface.EXCLUSIVE_LOCK | interface.OBJECT_MAP],
    ids=['fast-diff', 'layering', 'no-fast-diff'])
@pytest.mark.parametrize('seed', [1, 2])
def test_no_hole_has_data_whatever_was_written(ceph, features, seed):
    dice = random.Random(seed)
    names = [ceph.new(size_bytes=5 * MIB + 4711, features=features)]
    for generation in range(3):
        with ceph.volumes.open(names[-1]) as image:
            _scribble(dice, image)
            _check_extents(image)
            image.create_snapshot('s')
            _scribble(dice, image)
            image.create_snapshot('snap')
            if dice.random() < 0.5:
                image.resize(dice.randrange(1, 8 * MIB), allow_shrink=True)
            _scribble(dice, image)
            start = dice.randrange(image.size_bytes)
            _check_extents(image, start,
                           dice.randrange(start, image.size_bytes) + 1)
        for snapshot in ('s', 'snap'):
            with ceph.volumes.open(names[-1], snapshot=snapshot) as image:
                _check_extents(image)
        if generation < 2:
            names.append(ceph.new_clone(
                model.SnapSpec('volumes', names[-1], 'snap'), ceph.volumes,
                features=features))


def _scribble(dice, image):
    for _ in range(dice.randrange(4)):
        offset = dice.randrange(image.size_bytes)
        length = min(dice.choice([1, 512, 4096, 100_000, 2 * MIB]),
                     image.size_bytes - offset)
        image.write(dice.randbytes(length), offset)
    image.flush()


@pytest.mark.real
def test_an_invalid_object_map_is_not_believed(real_world):
    """Its flag is set as librbd does it, on the image's header."""
    import struct
    import uuid
    pool = real_world.cluster().pool('volumes')
    name = f'test-{uuid.uuid4()}'
    pool.create(name, 4 * MIB, layout=model.Layout(MIB))
    try:
        with pool.open(name) as image:
            image.write(b'data', 2 * MIB)
            image.flush()
            image_id = image.id
        with pool._use() as (_session, ioctx):
            # set_flags(flags, mask): object map and fast-diff are invalid;
            # and an object map that says there is nothing.
            ioctx.execute(f'rbd_header.{image_id}', 'rbd', 'set_flags',
                          struct.pack('<QQ', 3, 3))
        with pool.open(name, read_only=True) as image:
            assert [e.offset for e in image.extents() if e.exists] == [
                2 * MIB]
            assert any(e.length == 4 for e in image.extents()), (
                'only librbd without the object map is that exact')
    finally:
        pool.remove(name)
