# SPDX-License-Identifier: Apache-2.0
"""What goes past the page cache, on the file system that is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from volume_rbd.copying import direct
from volume_rbd.copying.direct import DirectWriter
from volume_rbd.copying.local_file import created
from volume_rbd.model import MIB

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'file'


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    found = os.open(path, os.O_CREAT | os.O_RDWR)
    yield found
    os.close(found)


@pytest.fixture
def writer(descriptor: int) -> Iterator[DirectWriter]:
    found = DirectWriter.find(descriptor)
    assert found is not None, 'the file system of the tests cannot do that'
    yield found
    found.close()


@pytest.mark.parametrize(('length', 'offset', 'written'), [
    (PAGE, 0, PAGE), (3 * PAGE, PAGE, 3 * PAGE), (PAGE + 1, 0, PAGE),
    (PAGE - 1, 0, 0), (PAGE, 512, 0), (0, 0, 0),
    (9 * MIB + 7, PAGE, 9 * MIB)])
def test_whole_pages_are_written(path: Path, writer: DirectWriter,
                                 length: int, offset: int, written: int
                                 ) -> None:
    data = os.urandom(length)

    assert writer.write(memoryview(data), offset) == written

    assert path.read_bytes() == (bytes(offset) + data[:written]
                                 if written else b'')


def test_each_thread_has_a_buffer_of_its_own(path: Path, writer: DirectWriter
                                             ) -> None:
    data = os.urandom(32 * MIB)
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda at: writer.write(
            memoryview(data)[at:at + MIB], at), range(0, len(data), MIB)))
    assert done == [MIB] * 32
    assert path.read_bytes() == data


def test_a_file_system_that_wants_more_is_written_to_the_usual_way(
        path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(2 * MIB + 5)
    refused: list[int] = []
    pwrite = os.pwrite

    def picky(descriptor: int, piece: memoryview, offset: int) -> int:
        if not refused:
            refused.append(offset)
            raise OSError(errno.EINVAL, 'Invalid argument')
        return pwrite(descriptor, piece, offset)

    monkeypatch.setattr(direct.os, 'pwrite', picky)
    with created(str(path), len(data)) as file:
        file.write(data, 0)
    assert refused
    assert path.read_bytes() == data


def test_a_short_write_is_gone_on_with(path: Path,
                                       monkeypatch: pytest.MonkeyPatch
                                       ) -> None:
    data = os.urandom(2 * MIB)
    pwrite = os.pwrite
    monkeypatch.setattr(
        direct.os, 'pwrite', lambda descriptor, piece, offset: pwrite(
            descriptor, piece[:512 * 1024], offset))
    with created(str(path), len(data)) as file:
        file.write(data, 0)
    assert path.read_bytes() == data


def test_other_errors_are_raised(writer: DirectWriter,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(direct.os, 'pwrite', full)
    with pytest.raises(OSError, match='No space'):
        writer.write(memoryview(bytes(PAGE)), 0)


def test_where_it_cannot_be_done_nobody_fails(path: Path,
                                              monkeypatch: pytest.MonkeyPatch
                                              ) -> None:
    monkeypatch.setattr(DirectWriter, 'find', classmethod(lambda *_: None))
    with created(str(path), 5) as file:
        file.write(b'bytes', 0)
    assert path.read_bytes() == b'bytes'


def test_a_file_that_cannot_be_opened_so_has_no_writer() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    os.close(reader)
    assert DirectWriter.find(reader) is None
