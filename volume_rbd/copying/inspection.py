# SPDX-License-Identifier: Apache-2.0
"""Is a disk in a file what it is said to be, and harmless?

Asked before any program that interprets formats sees it, because the owner of
an image wrote every byte of it. The answer comes from the headers alone, read
at both ends: oslo.utils' inspectors run as they do over a whole stream. They
leave some things to a second look by ``qemu-img info``; here that look is
ours, so that nothing unchecked is opened at all:

* a vmdk descriptor is read by qemu case-sensitively and with ``strstr``, by
  the inspector in lower case and line by line: a second ``createType``, or a
  ``parentFileNameHint`` in a comment, would be seen by one of them only;
* encryption in the header of a qcow2, and the parent of a differencing vhd.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Protocol

from oslo_utils.imageutils import format_inspector

from volume_rbd import exception, model
from volume_rbd.model import MIB

#: So much of the beginning is looked at; every known writer of vhdx has its
#: metadata in the first 4 MiB.
HEAD_BYTES = 16 * MIB
_TAIL_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024

#: What the bytes of these formats may look like: whatever is in them, it is
#: not interpreted by us.
_PLAIN = {'raw': {'raw', 'gpt', 'iso', 'luks'}, 'iso': {'iso', 'gpt'}}

_VHD_DYNAMIC = 3
_PLOOP = {b'WithoutFreeSpace': 0xffffffff,
          b'WithouFreSpacExt': 0xffffffffffffffff}


class Readable(Protocol):
    """Random access to the bytes of the file."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes: ...


def inspect(source: Readable, disk_format: str, *,
            vmdk_types: Sequence[str] = ()) -> int:
    """Check that *source* is of *disk_format* (Glance's word) and refers to
    nothing outside of itself.

    :param vmdk_types: the createTypes that are allowed.
    :returns: the size in bytes of the disk inside.
    :raises ImageUnsafe: it is something else, or not safe.
    """
    found = _detect(source)
    names = {str(inspector) for inspector in found}
    if disk_format in _PLAIN:
        if not names <= _PLAIN[disk_format] or (
                disk_format == 'iso' and 'iso' not in names):
            raise _another(disk_format, names)
        return source.size_bytes
    if disk_format == 'ploop':
        if names != {'raw'}:
            raise _another(disk_format, names)
        return _check_size(_ploop_size(source))
    if names != {disk_format}:
        raise _another(disk_format, names)
    [inspector] = found
    try:
        inspector.safety_check()
        _CHECKS.get(disk_format, _nothing)(inspector)
        if isinstance(inspector, format_inspector.VMDKInspector):
            _check_vmdk(inspector, vmdk_types)
        size = inspector.virtual_size
    except format_inspector.SafetyCheckFailed as error:
        raise _unsafe('; '.join(
            str(why) for why in error.failures.values())) from error
    except exception.ImageUnsafe:
        raise
    except Exception as error:
        # The parser met what it did not expect: then it is not as it should.
        raise _unsafe(str(error) or type(error).__name__) from error
    return _check_size(size)


def inspect_head(head: bytes, size_bytes: int, disk_format: str, *,
                 vmdk_types: Sequence[str] = ()) -> int | None:
    """As :func:`inspect`, where only the beginning is at hand.

    :param size_bytes: of the whole.
    :returns: None where more must be seen.
    """
    try:
        return inspect(_Head(head, size_bytes), disk_format,
                       vmdk_types=vmdk_types)
    except _NeedsMore:
        return None


class _NeedsMore(BaseException):  # passes the inspectors' own nets
    """What was asked for has not arrived yet."""


class _Head:
    def __init__(self, head: bytes, size_bytes: int) -> None:
        self._head = head
        self.size_bytes = size_bytes

    def read(self, offset: int, length: int) -> bytes:
        data = self._head[offset:offset + length]
        if len(data) < length:
            raise _NeedsMore
        return data


# -- what is it ---------------------------------------------------------------

class _Ends:
    """The beginning of a file, and if more is asked for its end."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._size = source.size_bytes
        self._offset = 0

    def read(self, size: int) -> bytes:
        if self._offset == HEAD_BYTES:
            self._offset = max(HEAD_BYTES, self._size - _TAIL_BYTES)
        end = self._size
        if self._offset < HEAD_BYTES:
            end = min(end, HEAD_BYTES)
        data = self._source.read(self._offset, min(size, end - self._offset))
        self._offset += len(data)
        return data


def _detect(source: Readable) -> list[format_inspector.FileInspector]:
    """:raises ImageUnsafe: it could be read as several formats."""
    wrapper = format_inspector.InspectWrapper(_Ends(source))
    while wrapper.formats is None and wrapper.read(_CHUNK_BYTES):
        pass
    wrapper.close()
    found: list[format_inspector.FileInspector] = wrapper.formats or []
    if len(found) > 1 and {str(each) for each in found} != {'iso', 'gpt'}:
        # A disc that also boots from a stick is both, and raw all the same.
        raise _unsafe('It could be read as '
                      + ' and as '.join(sorted(str(each) for each in found)))
    return found


def _another(disk_format: str, names: set[str]) -> exception.ImageUnsafe:
    return _unsafe(f'It is said to be {disk_format} and looks like '
                   f'{" and ".join(sorted(names))}')


def _unsafe(why: str) -> exception.ImageUnsafe:
    return exception.ImageUnsafe(
        f'The image is not used: {why.rstrip(".")}.')


def _check_size(size_bytes: int) -> int:
    if not 0 < size_bytes <= model.MAX_GIB * model.GIB:
        raise _unsafe(f'The disk inside has {size_bytes} bytes')
    return size_bytes


# -- is it harmless -----------------------------------------------------------

def _nothing(inspector: format_inspector.FileInspector) -> None:
    pass


def _check_qcow2(inspector: format_inspector.FileInspector) -> None:
    (method,) = struct.unpack('>I', inspector.region('header').data[32:36])
    if method:
        raise _unsafe('It is encrypted')


def _check_vhd(inspector: format_inspector.FileInspector) -> None:
    (kind,) = struct.unpack('>I', inspector.region('header').data[60:64])
    if kind != _VHD_DYNAMIC:
        raise _unsafe(f'It is a vhd of type {kind}, and only dynamic ones '
                      '(3) stand alone')


def _check_vhdx(inspector: format_inspector.FileInspector) -> None:
    for name in ('metadata', 'vds'):
        region = inspector.region(name)
        if region.offset + region.length > HEAD_BYTES:
            # What lies further on was not seen where it is.
            raise _unsafe('Its metadata lies too far inside')


def _check_vmdk(inspector: format_inspector.VMDKInspector,
                vmdk_types: Sequence[str]) -> None:
    text = inspector.desc_text or ''
    kind = inspector.vmdktype
    if kind not in {allowed.lower() for allowed in vmdk_types}:
        raise _unsafe(f'vmdk_allowed_types does not have its type {kind!r}')
    if not inspector.has_region('header'):
        raise _unsafe('It is only the description of a disk')
    if text.count('createtype') != 1:
        raise _unsafe('It names its type more than once')
    if 'parentfilenamehint' in text or not re.search(
            r'^\s*parentcid\s*=\s*"?ffffffff"?\s*$', text, re.MULTILINE):
        raise _unsafe('It has a parent')
    extents = re.findall(r'^\s*(?:rw|rdonly|noaccess)\s.*$', text,
                         re.MULTILINE)
    if len(extents) != 1 or not re.fullmatch(
            r'\s*rw\s+\d+\s+sparse\s+"[^":/\\]*"\s*', extents[0]):
        raise _unsafe('It has data outside of itself')


_CHECKS = {'qcow2': _check_qcow2, 'vhd': _check_vhd, 'vhdx': _check_vhdx}


def _ploop_size(source: Readable) -> int:
    header = source.read(0, min(64, source.size_bytes)).ljust(64, b'\0')
    mask = _PLOOP.get(header[:16])
    if mask is None:
        raise _unsafe('It is said to be ploop and does not begin like it')
    (sectors,) = struct.unpack('<Q', header[36:44])
    return int(sectors & mask) * 512
