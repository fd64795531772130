# SPDX-License-Identifier: Apache-2.0
"""The beginnings of files of disk formats, made by hand; good and forged.

Behind :data:`PAYLOAD` lies the disk inside as it is, which no real format
does: only :class:`tests.fakes.qemu_img.FakeQemuImg` finds it there.
"""

from __future__ import annotations

import struct
import uuid

PAYLOAD = 3 * 1024 * 1024
SECTOR = 512


def _filled(header: bytes, data: bytes) -> bytes:
    return header.ljust(PAYLOAD, b'\0') + data


def qcow2(data: bytes = b'', *, size: int | None = None, version: int = 3,
          backing_offset: int = 0, incompatible: int = 0, crypt: int = 0
          ) -> bytes:
    header = struct.pack(
        '>4sIQIIQIIQQIIQQQQII', b'QFI\xfb', version, backing_offset, 0, 16,
        len(data) if size is None else size, crypt, 0, 0, 0, 0, 0, 0,
        incompatible, 0, 0, 4, 104)
    return _filled(header, data)


VMDK_TEXT = '''# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW {sectors} SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.adapterType = "ide"
'''


def vmdk(data: bytes = b'', *, size: int | None = None,
         text: str = VMDK_TEXT, sectors: int | None = None) -> bytes:
    """:param sectors: of the sparse header; 0: qemu reads the text."""
    count = (len(data) if size is None else size) // SECTOR
    header = struct.pack(
        '<4sIIQQQQIQQ', b'KDMV', 1, 3, count if sectors is None else sectors,
        128, 1, 20, 512, 21, 26)
    described = text.format(sectors=count).encode()
    return _filled(header.ljust(SECTOR, b'\0') + described, data)


def vhd(data: bytes = b'', *, size: int | None = None, kind: int = 3
        ) -> bytes:
    length = len(data) if size is None else size
    header = bytearray(SECTOR)
    header[:8] = b'conectix'
    header[40:56] = struct.pack('>QQ', length, length)
    header[60:64] = struct.pack('>I', kind)
    return _filled(bytes(header), data)


def vdi(data: bytes = b'', *, size: int | None = None) -> bytes:
    header = bytearray(SECTOR)
    header[0x40:0x44] = struct.pack('<I', 0xbeda107f)
    header[0x170:0x178] = struct.pack(
        '<Q', len(data) if size is None else size)
    return _filled(bytes(header), data)


def vhdx(data: bytes = b'', *, size: int | None = None,
         metadata_at: int = 2 * 1024 * 1024) -> bytes:
    """:param metadata_at: where the region table says the metadata is."""
    head = bytearray(PAYLOAD)
    head[:8] = b'vhdxfile'
    table = struct.pack('<IIII', 0x69676572, 0, 1, 0)
    table += uuid.UUID('8B7CA206-4790-4B9A-B8FE-575F050F886E').bytes_le
    table += struct.pack('<QII', metadata_at, 1024 * 1024, 1)
    head[192 * 1024:192 * 1024 + len(table)] = table
    entries = struct.pack('<8sHH', b'metadata', 0, 1).ljust(32, b'\0')
    entries += uuid.UUID('2FA54224-CD1B-4876-B211-5DBED83BF4B8').bytes_le
    entries += struct.pack('<IIII', 65536, 8, 0, 0)
    at = min(metadata_at, 2 * 1024 * 1024)
    head[at:at + len(entries)] = entries
    head[at + 65536:at + 65544] = struct.pack(
        '<Q', len(data) if size is None else size)
    return bytes(head) + data


def ploop(data: bytes = b'', *, size: int | None = None) -> bytes:
    header = b'WithouFreSpacExt' + struct.pack('<IIIII', 2, 16, 1, 2048, 1)
    header += struct.pack(
        '<Q', (len(data) if size is None else size) // SECTOR)
    return _filled(header, data)


def iso(blocks: int = 100) -> bytes:
    disc = bytearray(blocks * 2048)
    disc[0x8000:0x8006] = b'\x01CD001'
    disc[0x8000 + 80:0x8000 + 84] = struct.pack('<I', blocks)
    disc[0x8000 + 128:0x8000 + 130] = struct.pack('<H', 2048)
    return bytes(disc)


def partitioned(size: int) -> bytes:
    """A raw disk with a partition table."""
    disk = bytearray(size)
    disk[446:462] = struct.pack(
        '<B3BB3BII', 0x80, 0, 2, 0, 0x83, 0, 0, 0, 2048, 4096)
    disk[510:512] = b'\x55\xaa'
    return bytes(disk)


MAKERS = {'qcow2': qcow2, 'vmdk': vmdk, 'vhd': vhd, 'vdi': vdi,
          'vhdx': vhdx, 'ploop': ploop}
