# SPDX-License-Identifier: Apache-2.0
"""What may be converted, and what must not be opened."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import disk_formats
from tests.fakes.disk_formats import VMDK_TEXT, qcow2, vhd, vhdx, vmdk
from volume_rbd import exception, opts
from volume_rbd.copying import inspection

MIB = 1024 ** 2
GIB = 1024 ** 3
TYPES = opts.VMDK_ALLOWED_TYPES


class Bytes:
    """A file in memory, maybe with a hole behind.

    :ivar read_bytes: so many were asked for.
    """

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self._data = data
        self.size_bytes = len(data) if size is None else size
        self.read_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset + length <= self.size_bytes
        self.read_bytes += length
        return self._data[offset:offset + length].ljust(length, b'\0')


def inspect(data: bytes, disk_format: str, size: int | None = None) -> int:
    return inspection.inspect(Bytes(data, size), disk_format,
                              vmdk_types=TYPES)


def refused(data: bytes, disk_format: str, match: str = '.',
            size: int | None = None) -> None:
    with pytest.raises(exception.ImageUnsafe, match=match):
        inspect(data, disk_format, size)


every_format = pytest.mark.parametrize('name', sorted(disk_formats.MAKERS))


@every_format
def test_the_size_of_the_disk_inside_is_told(name: str) -> None:
    assert inspect(disk_formats.MAKERS[name](size=5 * GIB), name) == 5 * GIB


@every_format
def test_a_huge_file_is_not_read_whole(name: str) -> None:
    source = Bytes(disk_formats.MAKERS[name](size=GIB), 900 * GIB)
    assert inspection.inspect(source, name, vmdk_types=TYPES) == GIB
    assert source.read_bytes <= inspection.HEAD_BYTES + MIB


@every_format
def test_the_size_is_told_by_the_beginning_alone(name: str) -> None:
    data = disk_formats.MAKERS[name](size=GIB)
    assert inspection.inspect_head(
        data[:3 * MIB], len(data), name, vmdk_types=TYPES) == GIB


def test_where_the_beginning_is_not_enough_it_says_so() -> None:
    data = vhdx(size=GIB)
    assert inspection.inspect_head(data[:MIB], len(data), 'vhdx') is None


@every_format
@pytest.mark.parametrize('size', [0, 2 ** 62, 2 ** 63])
def test_a_forged_size_is_refused(name: str, size: int) -> None:
    refused(disk_formats.MAKERS[name](size=size), name)


@every_format
@pytest.mark.parametrize('said', [*sorted(disk_formats.MAKERS), 'raw',
                                  'iso'])
def test_a_file_that_is_not_what_it_is_said_to_be_is_refused(
        name: str, said: str) -> None:
    if said in (name, 'raw') and name == 'ploop':
        return  # nothing but its first bytes tell it from a raw disk
    if said != name:
        refused(disk_formats.MAKERS[name](size=GIB), said, 'not used')


@pytest.mark.parametrize('data', [
    b'', b'\0', b'x' * 511, bytes(MIB), b'QFI', b'KDMV', b'conectix'[:7],
    b'WithoutFreeSpac', b'vhdxfile'])
@every_format
def test_what_is_cut_short_is_refused(name: str, data: bytes) -> None:
    refused(data, name)


@every_format
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_garbage_is_refused_or_has_a_possible_size(
        name: str, data: st.DataObject) -> None:
    head = bytearray(disk_formats.MAKERS[name](size=GIB)[:300 * 1024])
    for _ in range(data.draw(st.integers(1, 8))):
        head[data.draw(st.integers(0, 1200))] = data.draw(
            st.integers(0, 255))
    with contextlib.suppress(exception.ImageUnsafe):
        assert 0 < inspect(bytes(head), name) <= 2 ** 50


# -- raw ----------------------------------------------------------------------

@pytest.mark.parametrize('data', [
    b'', b'x', bytes(MIB), disk_formats.partitioned(MIB), disk_formats.iso(),
    b'LUKS\xba\xbe\x00\x01' + bytes(4096)])
def test_a_raw_disk_may_hold_anything_that_no_format_begins_with(
        data: bytes) -> None:
    assert inspect(data, 'raw') == len(data)


def test_an_iso_has_the_size_of_its_file() -> None:
    disc = disk_formats.iso()
    assert inspect(disc + b'tail', 'iso') == len(disc) + 4


def test_an_iso_that_also_boots_from_a_stick_is_one() -> None:
    disc = bytearray(disk_formats.iso())
    disc[:512] = disk_formats.partitioned(512)
    assert inspect(bytes(disc), 'iso') == len(disc)


def test_what_could_be_two_formats_is_refused() -> None:
    disc = bytearray(disk_formats.iso())
    disc[:104] = qcow2(size=GIB)[:104]
    for name in ('iso', 'qcow2', 'raw'):
        refused(bytes(disc), name, 'could be read as iso and as qcow2')


# -- qcow2 --------------------------------------------------------------------

@pytest.mark.parametrize(('change', 'why'), [
    ({'backing_offset': 112}, 'backing file'),
    ({'incompatible': 4}, 'data_file'),
    ({'incompatible': 1 << 40}, 'features'),
    ({'version': 1}, 'version'),
    ({'version': 9}, 'version'),
    ({'crypt': 1}, 'encrypted'),
    ({'crypt': 2}, 'encrypted'),
])
def test_a_qcow2_that_needs_anything_else_is_refused(
        change: dict[str, int], why: str) -> None:
    refused(qcow2(size=GIB, **change), 'qcow2', why)


def test_a_qcow2_of_version_2_is_taken() -> None:
    assert inspect(qcow2(size=GIB, version=2), 'qcow2') == GIB


# -- vmdk ---------------------------------------------------------------------

def _with(line: str) -> str:
    return VMDK_TEXT.replace('version=1\n', f'version=1\n{line}\n')


@pytest.mark.parametrize(('text', 'why'), [
    (VMDK_TEXT.replace('"disk.vmdk"', '"/etc/shadow"'), 'extent'),
    (VMDK_TEXT.replace('SPARSE "disk.vmdk"', 'FLAT "disk-flat.vmdk" 0'),
     'outside'),
    (VMDK_TEXT.replace('"disk.vmdk"', '"nbd:host"'), 'outside'),
    (VMDK_TEXT + 'RW 8 SPARSE "second.vmdk"\n', 'outside'),
    (VMDK_TEXT.replace('RW {sectors} SPARSE "disk.vmdk"', ''), 'extents'),
    (VMDK_TEXT.replace('monolithicSparse', 'monolithicFlat'), 'subformat'),
    (VMDK_TEXT.replace('monolithicSparse', 'twoGbMaxExtentSparse'),
     'subformat'),
    (VMDK_TEXT.replace('createType', 'kind'), 'subformat'),
    # what is seen by one of two readers only
    (_with('CREATETYPE="monolithicSparse"').replace(
        'createType="monolithicSparse"', 'createType="monolithicFlat"'),
     'more than once'),
    (_with('# parentFileNameHint="/etc/shadow"'), 'parent'),
    (_with('parentFileNameHint="/etc/shadow"'), 'parent'),
    (VMDK_TEXT.replace('ffffffff', '12345678'), 'parent'),
    (_with('anything at all'), 'descriptor'),
])
def test_a_vmdk_that_refers_to_what_lies_outside_is_refused(
        text: str, why: str) -> None:
    refused(vmdk(size=GIB, text=text), 'vmdk', f'(?i){why}')


def test_a_vmdk_whose_text_alone_would_count_is_refused() -> None:
    refused(vmdk(size=GIB, sectors=0), 'vmdk', '0 bytes')
    refused(VMDK_TEXT.format(sectors=8).encode(), 'vmdk')


def test_only_the_allowed_types_of_vmdk_are_taken() -> None:
    source = Bytes(vmdk(size=GIB))
    for types in ((), ('streamOptimized',)):
        with pytest.raises(exception.ImageUnsafe, match='vmdk_allowed'):
            inspection.inspect(source, 'vmdk', vmdk_types=types)


# -- the others ---------------------------------------------------------------

@pytest.mark.parametrize('kind', [0, 2, 4])
def test_only_a_vhd_that_stands_alone_is_taken(kind: int) -> None:
    refused(vhd(size=GIB, kind=kind), 'vhd', f'type {kind}')


def test_the_metadata_of_a_vhdx_is_not_believed_where_it_was_not_seen(
        ) -> None:
    """The end of the file is seen too, and must not pass for its middle."""
    far = 64 * MIB
    tail = vhdx(size=GIB)[2 * MIB:2 * MIB + 64 * 1024]
    data = vhdx(size=GIB, metadata_at=far)
    refused(data.ljust(far, b'\0') + tail, 'vhdx')


def test_a_vmdk_with_its_directory_at_the_end_is_taken() -> None:
    text = VMDK_TEXT.replace('monolithicSparse', 'streamOptimized')
    data = bytearray(vmdk(size=GIB, text=text))
    data[56:64] = struct.pack('<Q', 2 ** 64 - 1)
    footer = bytearray(data[:512])
    footer[56:64] = struct.pack('<Q', 7)
    marker = struct.pack('<QII', 1, 0, 3).ljust(512, b'\0')
    end = marker + bytes(footer) + bytes(512)
    assert inspect(bytes(data) + end, 'vmdk') == GIB
    assert inspect(bytes(data).ljust(40 * MIB, b'\0') + end, 'vmdk') == GIB
    refused(bytes(data) + bytes(1536), 'vmdk')
