# SPDX-License-Identifier: Apache-2.0
"""Local files as disks, on the file system that is there."""

from __future__ import annotations

import errno
import itertools
import os
import pathlib
import resource
import stat
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.copying.memory import CancelsAt, MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import compare, copy, inspection, local_file
from volume_rbd.copying.local_file import created, opened
from volume_rbd.model import MIB, Extent

BLOCK = 64 * 1024
SILENT = progress.Silent()
every_layout = settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture])
layouts = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=8)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / 'disk')


def _write(path: str, lengths: list[tuple[bool, int]], odd: int = 0
           ) -> bytes:
    """Data and holes by turns, in blocks, and *odd* bytes."""
    pathlib.Path(path).unlink(missing_ok=True)
    content = b''
    with open(path, 'wb') as stream:
        for number, (exists, blocks) in enumerate(lengths):
            part = bytes([number + 1 if exists else 0]) * (blocks * BLOCK)
            if exists:
                stream.seek(len(content))
                stream.write(part)
            content += part
        content += b'x' * odd
        stream.seek(len(content) - odd)
        stream.write(b'x' * odd)
        stream.truncate(len(content))
    return content


@pytest.fixture
def no_larger_files() -> Iterator[None]:
    """Than 1 MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- reading ------------------------------------------------------------------

@every_layout
@given(layouts, st.integers(0, 700))
def test_extents_cover_the_file_and_holes_are_zeros(
        path: str, lengths: list[tuple[bool, int]], odd: int) -> None:
    content = _write(path, lengths, odd)
    with opened(path) as file:
        assert file.size_bytes == len(content)
        found = list(file.extents())
        assert [extent.offset for extent in found] == [0, *(
            extent.end for extent in found)][:len(found)]
        assert sum(extent.length for extent in found) == len(content)
        assert all(one.exists != two.exists
                   for one, two in itertools.pairwise(found))
        for extent in found:
            part = file.aio_read(extent.offset, extent.length).wait()
            assert part == content[extent.offset:extent.end]
            assert extent.exists or not any(part)


def test_a_part_has_the_extents_of_that_part(path: str) -> None:
    _write(path, [(False, 4), (True, 4), (False, 4)])
    with opened(path) as file:
        assert list(file.extents(3 * BLOCK, 2 * BLOCK)) == [
            Extent(3 * BLOCK, BLOCK, False), Extent(4 * BLOCK, BLOCK, True)]
        assert list(file.extents(9 * BLOCK, BLOCK)) == [
            Extent(9 * BLOCK, BLOCK, False)]
        assert list(file.extents(5, 0)) == []


@pytest.mark.parametrize('size', [0, 5])
def test_a_file_that_changes_its_size_is_found_out(path: str, size: int
                                                   ) -> None:
    _write(path, [(True, 1), (False, 1), (True, 1)])
    with opened(path) as file:
        extents = file.extents()
        next(extents)
        os.truncate(path, size or 4 * BLOCK)
        with pytest.raises(exception.DataCorrupted, match='Somebody writes'):
            list(extents)


def test_a_file_that_is_cut_while_it_is_copied_ends_the_copy(path: str
                                                             ) -> None:
    pathlib.Path(path).write_bytes(b'x' * (2 * MIB))
    with opened(path) as file:
        made = MemoryDisk(file.size_bytes)
        extents = list(file.extents())
        os.truncate(path, MIB)
        file.extents = lambda *_: iter(extents)  # type: ignore
        with pytest.raises(exception.DataCorrupted, match='bytes came'):
            copy.into_empty(file, made, operations=2, report=SILENT)


def test_a_file_is_inspected_as_it_is(path: str) -> None:
    pathlib.Path(path).write_bytes(b'nothing' * 99)
    with opened(path) as file:
        assert inspection.inspect(file, 'raw') == 7 * 99


# -- writing ------------------------------------------------------------------

@every_layout
@given(layouts, st.integers(0, 700), st.integers(1, 9))
def test_a_copy_is_the_source_and_has_its_holes(
        path: str, lengths: list[tuple[bool, int]], odd: int,
        operations: int) -> None:
    content = _write(path, lengths, odd)
    made = f'{path}-made'
    pathlib.Path(made).unlink(missing_ok=True)
    with opened(path) as source, created(made, len(content)) as file:
        copy.into_empty(source, file, operations=operations, report=SILENT)
        compare.check_same(source, file, operations=operations,
                           report=SILENT)
    found = os.stat(made)
    assert pathlib.Path(made).read_bytes() == content
    # What lies in several pieces may need a block that says where they are.
    assert found.st_blocks <= os.stat(path).st_blocks + 8
    assert stat.S_IMODE(found.st_mode) == 0o600


@every_layout
@given(layouts, layouts)
def test_a_file_with_data_becomes_the_source_where_it_changed(
        path: str, before: list[tuple[bool, int]],
        after: list[tuple[bool, int]]) -> None:
    old = _write(path, before)
    content = _write(f'{path}-source', after)[:len(old)]
    os.truncate(f'{path}-source', len(content))
    with opened(f'{path}-source') as source, opened(
            path, is_writable=True) as file:
        copy.changes(source, file, source.extents(), operations=3,
                     report=SILENT)
    assert pathlib.Path(path).read_bytes() == content + old[len(content):]


def test_zeros_over_a_hole_take_no_room(path: str) -> None:
    with created(path, 5 * MIB + 7) as file:
        file.aio_write(b'data', 4 * MIB).wait()
        file.aio_write_zeroes(0, file.size_bytes).wait()
        file.flush()
    assert os.stat(path).st_blocks * 512 <= BLOCK
    assert pathlib.Path(path).read_bytes() == bytes(5 * MIB + 7)


def test_what_the_system_writes_in_parts_is_written(
        path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, 'pwrite', lambda descriptor, data, offset: whole(
        descriptor, data[:3], offset))
    with created(path, 10) as file:
        file.aio_write(b'0123456789', 0).wait()
    assert pathlib.Path(path).read_bytes() == b'0123456789'


def test_what_the_system_reads_in_parts_is_read(
        path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pathlib.Path(path).write_bytes(b'0123456789')
    whole = os.pread
    monkeypatch.setattr(os, 'pread', lambda descriptor, length, offset: whole(
        descriptor, min(length, 3), offset))
    with opened(path) as file:
        assert file.aio_read(1, 8).wait() == b'12345678'


@pytest.mark.parametrize(('offset', 'length'), [(-1, 2), (9, 2), (11, 0)])
def test_nothing_is_written_outside_of_the_file(
        path: str, offset: int, length: int) -> None:
    with created(path, 10) as file:
        for write in (lambda: file.aio_write(bytes(length), offset),
                      lambda: file.aio_write_zeroes(offset, length)):
            with pytest.raises(exception.InvalidSize, match='not within'):
                write()


# -- what is left -------------------------------------------------------------

def _copy_into(path: str, report: progress.Progress) -> None:
    source = MemoryDisk(b'x' * (40 * MIB), [Extent(0, 40 * MIB, True)])
    with created(path, source.size_bytes) as file:
        copy.into_empty(source, file, operations=4, report=report)


def test_a_copy_that_is_cancelled_leaves_no_file(path: str) -> None:
    with pytest.raises(exception.Cancelled):
        _copy_into(path, CancelsAt(8 * MIB))
    assert not os.path.lexists(path)


@pytest.mark.usefixtures('no_larger_files')
def test_a_file_that_may_not_grow_is_said_and_gone(path: str) -> None:
    with pytest.raises(exception.LimitExceeded, match='ulimit'):
        _copy_into(path, SILENT)
    assert not os.path.lexists(path)


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_file_system_is_said_and_the_file_is_gone(
        path: str, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'pwrite', refuse)
    with pytest.raises(exception.NoSpace, match='file system') as caught:
        _copy_into(path, SILENT)
    assert path in caught.value.message
    assert 'ceph' not in caught.value.remedy
    assert not os.path.lexists(path)


def test_what_somebody_put_in_its_place_stays(path: str) -> None:
    class Replaces(progress.Silent):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            os.unlink(path)
            pathlib.Path(path).write_bytes(b'theirs')
            raise exception.Cancelled('Now.')

    with pytest.raises(exception.Cancelled):
        _copy_into(path, Replaces())
    assert pathlib.Path(path).read_bytes() == b'theirs'


# -- what cannot be opened ----------------------------------------------------

def test_nothing_that_is_there_is_written_over(path: str) -> None:
    victim = pathlib.Path(f'{path}-victim')
    victim.write_bytes(b'theirs')
    os.symlink(victim, path)
    for name in (path, str(victim)):
        with pytest.raises(exception.Conflict), created(name, 5):
            pass
    with pytest.raises(exception.InvalidInput), opened(
            path, is_writable=True):
        pass
    assert victim.read_bytes() == b'theirs'
    os.symlink(f'{path}-nowhere', f'{path}-dangling')
    with pytest.raises(exception.Conflict), created(f'{path}-dangling', 5):
        pass
    assert not os.path.exists(f'{path}-nowhere')


def test_what_is_no_file_is_not_opened(path: str) -> None:
    os.mkfifo(path)
    for name in (path, '/dev/null', os.path.dirname(path)):
        with pytest.raises(exception.InvalidInput, match='regular file'), \
                opened(name):
            pass


@pytest.mark.parametrize('open_it', [
    opened, lambda path: created(path, 5)], ids=['opened', 'created'])
def test_a_folder_that_is_not_there_is_said(
        path: str, open_it: object) -> None:
    with pytest.raises(exception.NotFound, match='Check the path'), \
            open_it(f'{path}/none/such'):  # type: ignore
        pass


def test_every_error_has_a_remedy_of_a_files_own() -> None:
    for code, (kind, remedy) in local_file.BY_ERRNO.items():
        error = local_file._translate('read', 'x', OSError(
            code, os.strerror(code)))
        assert type(error) is kind
        assert error.remedy == remedy
        assert remedy
        assert 'ceph' not in str(error)
    other = local_file._translate('read', 'x', OSError(errno.EIO, 'broken'))
    assert (type(other), other.message) == (
        exception.VolumeRBDError, 'Cannot read x: broken.')
