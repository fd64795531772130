# SPDX-License-Identifier: Apache-2.0
"""Extents from what librbd reports."""

import itertools

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
