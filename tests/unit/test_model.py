# SPDX-License-Identifier: Apache-2.0
"""Names, sizes and locations."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from volume_rbd import exception, model

GIB = model.GIB

# -- locations ----------------------------------------------------------------

#: Whatever can name something in RBD once it is unquoted.
parts = st.text(min_size=1, max_size=40).filter(
    lambda text: not any(c in '/@' or ord(c) < 32 for c in text))


@given(parts, parts, parts, parts)
@example('f', 'p ool', 'i?x=1#y', '%2F')
@example('ü', '日本', '💾', '\x7f')
def test_a_location_survives_its_url(fsid: str, pool: str, image: str,
                                     snapshot: str) -> None:
    location = model.RBDLocation(fsid, pool, image, snapshot)
    assert location.url.count('/') == 5
    assert location.url.isascii()
    assert model.RBDLocation.from_url(location.url) == location


@given(st.text(max_size=80))
@example('/@/@')
def test_any_text_is_a_location_or_invalid(text: str) -> None:
    try:
        location = model.RBDLocation.from_url('rbd://' + text)
    except exception.InvalidLocation:
        return
    for part in dataclasses.astuple(location):
        assert part
        assert '/' not in part
        assert '@' not in part


@given(parts, st.sampled_from(['/', '@', '\0', '\n', '\x1f']), parts,
       st.integers(0, 3))
def test_a_separator_or_control_character_is_refused_in_every_part(
        before: str, bad: str, after: str, position: int) -> None:
    quoted = ['f', 'p', 'i', 's']
    quoted[position] = model.RBDLocation(
        before + bad + after, 'p', 'i', 's').url[6:].split('/')[0]
    with pytest.raises(exception.InvalidLocation):
        model.RBDLocation.from_url('rbd://' + '/'.join(quoted))


@pytest.mark.parametrize('url', [
    '', 'rbd:', 'rbd:/', 'rbd://', 'rbd:///', 'rbd://////',
    'file:///var/lib/glance/images/1', 'http://a/b/c/d',
    'RBD://f/p/i/s', 'Rbd://f/p/i/s', ' rbd://f/p/i/s',
    'rbd:f/p/i/s', 'rbd:/f/p/i/s',
    'rbd://image',  # glance_store's oldest form: no cluster, no pool
    'rbd://f/p/i', 'rbd://f/p/i/s/more', 'rbd://f/p/i/s/', 'rbd:///p/i/s',
    'rbd://f//i/s', 'rbd://f/p//s', 'rbd://f/p/i/',
    'rbd://f/p/i%2Fj/s', 'rbd://f/p%2fns/i/s', 'rbd://f/p/i%40old/s',
    'rbd://f/p/i@old/s', 'rbd://f/p/i%00/s', 'rbd://f/p/i/s%0a',
])
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(exception.InvalidLocation) as caught:
        model.RBDLocation.from_url(url)
    assert repr(url) in caught.value.message


def test_a_query_string_is_part_of_the_snapshots_name() -> None:
    """glance_store splits at slashes only; so do we, or the two would read
    one URL as two things."""
    location = model.RBDLocation.from_url('rbd://f/p/i/snap?pool=other')
    assert location.snapshot == 'snap?pool=other'


def test_a_part_is_unquoted_only_once() -> None:
    location = model.RBDLocation.from_url('rbd://f/p/i%252Fj/s')
    assert location.image == 'i%2Fj'


def test_a_location_names_its_snapshot_and_image() -> None:
    location = model.RBDLocation.from_url('rbd://f/p/i/s')
    assert str(location.snap_spec) == 'p/i@s'
    assert str(location.snap_spec.image_spec) == 'p/i'
    assert location.snap_spec.image_spec == model.ImageSpec('p', 'i')


# -- sizes --------------------------------------------------------------------

@given(st.integers(1, model.MAX_GIB))
def test_a_size_in_gib_becomes_bytes(number: int) -> None:
    assert model.size_bytes_from_gib(number) == number * GIB
    assert model.size_bytes_from_gib(str(number)) == number * GIB
    assert model.gib_for(number * GIB) == number


@pytest.mark.parametrize('size', [
    0, -1, '0', '-5', 'abc', '1.5', 1.5, '', ' ', None, True, 'nan', 'inf',
    '1e3', '0x10', '10G', '1 0', [], 1_000_001, 2 ** 63, 10 ** 30,
    '9' * 5000])
def test_what_is_no_positive_whole_number_is_no_size(size: object) -> None:
    with pytest.raises(exception.InvalidSize) as caught:
        model.size_bytes_from_gib(size)
    assert 'whole number' in caught.value.remedy


def test_the_largest_size_is_that_of_a_full_object_map() -> None:
    """cls_rbd holds 256,000,000 objects; a volume has 4 MiB ones."""
    assert (model.size_bytes_from_gib(model.MAX_GIB)
            == 256_000_000 * 4 * model.MIB)
    with pytest.raises(exception.InvalidSize, match='object map'):
        model.size_bytes_from_gib(model.MAX_GIB + 1)


@given(st.integers(0, 2 ** 63))
def test_gib_for_is_the_smallest_number_that_holds_the_bytes(
        size_bytes: int) -> None:
    gib = model.gib_for(size_bytes)
    assert gib * GIB >= size_bytes
    assert (gib - 1) * GIB < size_bytes


# -- names --------------------------------------------------------------------

@pytest.mark.parametrize('name', [
    'a', 'volume-8d0f', 'A.b_c:d+e f', '0', '.hidden', '_x', 'x' * 250])
def test_an_ordinary_name_is_taken_as_it_is(name: str) -> None:
    assert model.check_name(name) == name


@pytest.mark.parametrize('name', [
    '', '-', '-x', '--help', ' x', '+x', ':x', 'a/b', 'a@b', '/', '@',
    'a\n', 'a\nb', 'a\0', 'a\tb', 'ä', '💾', 'x' * 251, 'a\\b', 'a*', "a'b",
    'a"b', 'a;b', 'a$b', '../x/../../y'])
def test_a_name_that_tools_would_misread_is_refused(name: str) -> None:
    with pytest.raises(exception.InvalidName) as caught:
        model.check_name(name)
    assert caught.value.remedy


def test_the_error_says_what_the_name_was_meant_for() -> None:
    with pytest.raises(exception.InvalidName, match='name of a snapshot'):
        model.check_name('a@b', 'snapshot')


@given(st.text(max_size=260))
def test_a_taken_name_never_holds_a_separator(name: str) -> None:
    try:
        model.check_name(name)
    except exception.InvalidName:
        return
    assert not set(name) & set('/@')
    assert name.isprintable()
    assert name.isascii()
    assert not name.startswith('-')


# -- images and extents -------------------------------------------------------

@given(st.one_of(st.none(), st.integers(0, 2 ** 50)),
       st.one_of(st.none(), st.integers(0, 2 ** 50)))
def test_an_image_needs_the_larger_of_its_two_sizes(
        size: int | None, virtual: int | None) -> None:
    image = model.GlanceImage('i', None, 'active', size_bytes=size,
                              virtual_size_bytes=virtual)
    assert image.needed_bytes == max(size or 0, virtual or 0)


@pytest.mark.parametrize('key', [
    'cinder_encryption_key_id', 'os_encrypt_format', 'os_decrypt_size'])
def test_an_image_with_a_key_is_encrypted(key: str) -> None:
    image = model.GlanceImage('i', None, 'active', disk_format='raw')
    assert not image.is_encrypted
    assert dataclasses.replace(image, properties={key: 'x'}).is_encrypted
    assert not dataclasses.replace(image, properties={key: ''}).is_encrypted


def test_a_luks_image_is_encrypted() -> None:
    assert model.GlanceImage('i', None, 'active',
                             disk_format='luks').is_encrypted


@pytest.mark.parametrize('value', [
    model.ImageSpec('p', 'i'), model.SnapSpec('p', 'i', 's'),
    model.RBDLocation('f', 'p', 'i', 's'), model.StoreInfo('s', 'rbd'),
    model.GlanceImage('i', None, 'active'), model.VolumeSpec('v'),
    model.Extent(0, 1, True)], ids=lambda value: type(value).__name__)
def test_facts_are_frozen(value: object) -> None:
    field = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 'x')


@given(st.integers(0, 2 ** 40), st.integers(0, 2 ** 40))
def test_an_extent_ends_where_the_next_one_begins(offset: int, length: int
                                                  ) -> None:
    assume(length)
    assert model.Extent(offset, length, True).end - offset == length
