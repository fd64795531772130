# SPDX-License-Identifier: Apache-2.0
"""qemu-img on the in-memory cluster: the contract of
:class:`volume_rbd.copying.qemu_img.Converter`.

It knows the files of :mod:`tests.fakes.disk_formats`.

    converter.fail_next(exception.NoSpace('full'))
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.fakes import disk_formats
from tests.fakes.ceph import FakeCeph
from volume_rbd import exception, progress
from volume_rbd.ceph.interface import Image
from volume_rbd.copying import luks
from volume_rbd.copying.qemu_img import FileDisk, RBDDisk

LUKS_MAGIC = b'LUKS\xba\xbe\x00\x01'
LUKS_HEADER_BYTES = 8192
_LENGTH_AT = 104  # in sectors
_PIECE = 1024 * 1024


class FakeQemuImg:
    """:ivar calls: what was asked for, in order.
    :ivar leaves_watch: what fails leaves a watch on its target behind, as a
        process that was killed does.
    """

    def __init__(self, ceph: FakeCeph) -> None:
        self._ceph = ceph
        self.calls: list[str] = []
        self.leaves_watch = False
        self._faults: list[BaseException] = []

    def fail_next(self, error: BaseException, times: int = 1) -> None:
        self._faults += [error] * times

    def to_disk(self, source: RBDDisk | FileDisk, disk_format: str,
                target: RBDDisk, *, is_zero: bool, size_bytes: int,
                report: progress.Progress, key: bytes | None = None) -> None:
        self.calls.append(f'to_disk {disk_format}')
        data = self._read(source)
        if disk_format in disk_formats.MAKERS:
            data = data[disk_formats.PAYLOAD:]
        start = LUKS_HEADER_BYTES if key is not None else 0
        pool = self._ceph.cluster(target.cluster.user or 'cinder').pool(
            target.pool)
        report.start(size_bytes)
        with pool.open(target.image) as disk:
            if key is not None:
                _open(disk, key)
            if start + len(data) > disk.size_bytes:
                raise exception.ConversionFailed('The target is too small.')
            for offset in range(0, len(data), _PIECE):
                self._check(target, report)
                piece = data[offset:offset + _PIECE]
                if any(piece) or not is_zero:
                    disk.write(piece, start + offset)
                report.advance(len(piece))
        self._check(target, report)

    def to_format(self, source: RBDDisk, target: RBDDisk, disk_format: str,
                  *, size_bytes: int, report: progress.Progress,
                  compress: bool = False, key: bytes | None = None) -> None:
        self.calls.append(f'to_format {disk_format}{" -c" * compress}')
        report.start(size_bytes)
        data = self._read(source)
        if key is not None:
            self.open_luks(source, key, report=report)
            data = data[LUKS_HEADER_BYTES:]
        if disk_format != 'raw':
            data = disk_formats.MAKERS[disk_format](data)
        self._make(target, data)
        self._check(target, report)
        report.advance(size_bytes)

    def to_file(self, source: FileDisk, disk_format: str, target: FileDisk,
                *, size_bytes: int, report: progress.Progress) -> None:
        self.calls.append(f'to_file {disk_format}')
        data = self._read(source)
        if disk_format in disk_formats.MAKERS:
            data = data[disk_formats.PAYLOAD:]
        report.start(size_bytes)
        with open(target.path, 'r+b') as disk:
            report.check()
            if self._faults:
                raise self._faults.pop(0)
            disk.write(data[:size_bytes])
        report.advance(size_bytes)

    def make_luks_header(self, target: RBDDisk,
                         encryption: luks.Encryption, *,
                         report: progress.Progress) -> None:
        cipher = luks.parse_cipher(encryption.cipher, encryption.key_size)
        self.calls.append(f'luks {cipher.options()}')
        header = (LUKS_MAGIC + _digest(encryption.key)).ljust(
            _LENGTH_AT, b'\0') + (LUKS_HEADER_BYTES // 512).to_bytes(4, 'big')
        self._make(target, header.ljust(LUKS_HEADER_BYTES, b'\0'))
        self._check(target, report)

    def open_luks(self, target: RBDDisk, key: bytes, *,
                  report: progress.Progress) -> None:
        self.calls.append('open_luks')
        self._check(target, report)
        pool = self._ceph.cluster(target.cluster.user or 'cinder').pool(
            target.pool)
        with pool.open(target.image, snapshot=target.snapshot,
                       read_only=True) as disk:
            _open(disk, key)

    def change_luks_key(self, target: RBDDisk, key: bytes, new_key: bytes, *,
                        report: progress.Progress) -> None:
        self.calls.append('change_luks_key')
        pool = self._ceph.cluster(target.cluster.user or 'cinder').pool(
            target.pool)
        self._check(target, report)
        with pool.open(target.image) as disk:
            _open(disk, key)
            disk.write(_digest(new_key), 8)

    def _check(self, target: RBDDisk, report: progress.Progress) -> None:
        try:
            report.check()
            if self._faults:
                raise self._faults.pop(0)
        except BaseException:
            if self.leaves_watch:
                [disk] = [disk for disk in self._ceph.disks.values()
                          if disk.name == target.image]
                disk.watchers.append('127.0.0.1:0/4711')
            raise

    def _make(self, target: RBDDisk, data: bytes) -> None:
        pool = self._ceph.cluster(target.cluster.user or 'cinder').pool(
            target.pool)
        pool.create(target.image, len(data))
        with pool.open(target.image) as disk:
            for offset in range(0, len(data), _PIECE):
                piece = data[offset:offset + _PIECE]
                if any(piece):
                    disk.write(piece, offset)

    def _read(self, source: RBDDisk | FileDisk) -> bytes:
        if isinstance(source, FileDisk):
            return Path(source.path).read_bytes()
        pool = self._ceph.cluster(source.cluster.user or 'cinder').pool(
            source.pool)
        with pool.open(source.image, snapshot=source.snapshot,
                       read_only=True) as disk:
            return disk.read(0, disk.size_bytes)


def _open(disk: Image, key: bytes) -> None:
    if disk.read(8, 32) != _digest(key):
        raise exception.WrongPassphrase('It does not open it.')


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
