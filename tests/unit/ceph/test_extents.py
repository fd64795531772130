# SPDX-License-Identifier: Apache-2.0
"""Extents from what librbd reports."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volume_rbd.ceph import extents
from volume_rbd.model import Extent

_ranges = st.lists(st.tuples(
    st.integers(0, 60), st.integers(0, 20))).map(
        lambda pairs: sorted((a, a + n) for a, n in pairs))


@given(_ranges, st.integers(0, 60), st.integers(0, 40))
def test_they_cover_the_range_and_tell_each_byte_right(data, start, length):
    end = start + length
    found = list(extents.merged(extents.covering(data, start, end)))

    at = start
    for extent in found:
        assert extent.offset == at
        assert extent.length > 0
        at = extent.end
        for byte in range(extent.offset, extent.end):
            assert extent.exists == any(a <= byte < b for a, b in data)
    assert at == end
    assert all(one.exists != two.exists
               for one, two in itertools.pairwise(found))


def test_neighbours_of_two_windows_are_merged():
    assert list(extents.merged([
        Extent(0, 2, True), Extent(2, 3, True), Extent(5, 1, False)])) == [
            Extent(0, 5, True), Extent(5, 1, False)]


class _Image:
    """A librbd image of 40 objects of 4 bytes; every third has data."""

    def __init__(self, flags):
        self._flags = flags
        self.asked = []

    def stat(self):
        return {'obj_size': 4}

    def stripe_count(self):
        return 1

    def size(self):
        return 159

    def features(self):
        return 61

    def flags(self):
        return self._flags

    def diff_iterate(self, offset, length, from_snapshot, callback,
                     include_parent, whole_object):
        self.asked.append((offset, length, whole_object))
        assert include_parent
        assert offset % 4 == 0
        assert offset + length <= self.size()
        for start in range(offset, offset + length, 4):
            if start % 12 == 0:
                callback(start, min(4, self.size() - start), True)


def test_windows_change_nothing_but_the_number_of_questions(monkeypatch):
    whole = list(extents.extents(_Image(0), 5, 150))

    monkeypatch.setattr(extents, '_WINDOW_OBJECTS', 7)
    image = _Image(0)

    assert list(extents.extents(image, 5, 150)) == whole
    assert len(image.asked) == 6
    assert whole[0] == Extent(5, 7, False)
    assert whole[-1] == Extent(148, 7, False)


def test_an_object_map_is_believed_while_it_is_valid():
    for flags, believed in ((0, True), (1, False), (2, False), (3, False)):
        image = _Image(flags)
        list(extents.extents(image, 0, 8))
        assert image.asked == [(0, 159, believed)]


class _Laid:
    """A librbd image with data and holes anywhere.

    :param data: (start, end) of what is there, sorted.
    :param has_map: asked for whole objects it gives whole objects.
    """

    def __init__(self, size, object_size, data, *, has_map):
        self._size = size
        self._object_size = object_size
        self._data = data
        self._has_map = has_map

    def stat(self):
        return {'obj_size': self._object_size}

    def stripe_count(self):
        return 1

    def size(self):
        return self._size

    def features(self):
        return 61 if self._has_map else 1

    def flags(self):
        return 0

    def diff_iterate(self, offset, length, from_snapshot, callback,
                     include_parent, whole_object):
        assert 0 <= offset <= offset + length <= self._size
        assert whole_object == self._has_map
        found = set()
        for start, end in self._data:
            if whole_object:
                start = start // self._object_size * self._object_size
                end = -(-end // self._object_size) * self._object_size
            start, end = max(start, offset), min(
                end, offset + length, self._size)
            if start < end:
                found.add((start, end))
        for start, end in sorted(found, reverse=True):  # as striping has it
            callback(start, end - start, True)


@st.composite
def _laid(draw):
    size = draw(st.integers(0, 60))
    cuts = sorted(draw(st.sets(st.integers(0, size), max_size=10)))
    data = list(zip(cuts[::2], cuts[1::2], strict=False))
    return _Laid(size, draw(st.integers(1, 8)), data,
                 has_map=draw(st.booleans())), data


@given(_laid(), st.data(), st.integers(1, 5))
def test_every_byte_of_data_is_in_an_extent_whatever_the_windows(
        laid, numbers, window):
    image, data = laid
    start = numbers.draw(st.integers(0, image.size()))
    length = numbers.draw(st.integers(0, image.size() - start))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extents, '_WINDOW_OBJECTS', window)
        found = list(extents.extents(image, start, length))
    at = start
    for extent in found:
        assert extent.offset == at
        assert extent.length > 0
        at = extent.end
    assert at == start + length
    assert all(one.exists != two.exists
               for one, two in itertools.pairwise(found))
    kept = {byte for extent in found if extent.exists
            for byte in range(extent.offset, extent.end)}
    there = {byte for a, b in data for byte in range(a, b)
             if start <= byte < start + length}
    assert kept >= there
    if not image.features() & 16:
        assert kept == there


@given(_laid(), st.integers(1, 5))
def test_every_byte_that_changed_is_in_one_extent_ascending(laid, window):
    image, data = laid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extents, '_WINDOW_OBJECTS', window)
        found = list(extents.changes(image, 'earlier'))
    # Whole objects are told once for each that is in them.
    told = [byte for extent in found
            for byte in range(extent.offset, extent.end)]
    assert set(told) >= {byte for a, b in data for byte in range(a, b)}
    assert [extent.offset for extent in found] == sorted(
        extent.offset for extent in found)
    assert all(0 <= byte < image.size() for byte in told)
    if not image.features() & 16:
        assert len(told) == len(set(told))
