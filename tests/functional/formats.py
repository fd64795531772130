# SPDX-License-Identifier: Apache-2.0
"""Disks as files of formats, made and read by the real qemu-img."""

from __future__ import annotations

import pathlib
import subprocess

QEMU = {'vhd': 'vpc', 'ploop': 'parallels'}


def run(*words: str | pathlib.Path) -> None:
    subprocess.run(['qemu-img', *map(str, words)], check=True,
                   capture_output=True, timeout=120)


def make(folder: pathlib.Path, data: bytes, disk_format: str,
         *options: str) -> bytes:
    """The file of *disk_format* with the disk *data* inside."""
    raw, file = folder / 'raw', folder / f'file.{disk_format}'
    raw.write_bytes(data)
    run('convert', '-f', 'raw', '-O', QEMU.get(disk_format, disk_format),
        *options, raw, file)
    return file.read_bytes()


def read(folder: pathlib.Path, file: bytes, disk_format: str) -> bytes:
    """The disk inside of *file*."""
    raw, path = folder / 'inside', folder / f'given.{disk_format}'
    path.write_bytes(file)
    run('convert', '-f', QEMU.get(disk_format, disk_format), '-O', 'raw',
        path, raw)
    return raw.read_bytes()
