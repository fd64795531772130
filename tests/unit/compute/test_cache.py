# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from volume_rbd import exception, progress
from volume_rbd.compute import cache
from volume_rbd.compute.record import Record

SILENT = progress.Silent()
RECORD = Record('image', 'raw', 5, 5)


def make(slot: cache.Slot) -> None:
    with slot.part.emptied(5) as file:
        file.write(b'bytes', 0)
    slot.part.publish(slot.path, RECORD)


def fail(slot: cache.Slot) -> None:
    slot.add_converted()
    raise KeyError


def hold(path: Path, report: progress.Progress = SILENT) -> cache.Slot:
    slot = cache.hold(path, report)
    assert slot is not None
    return slot


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    with hold(path) as slot:
        assert not path.exists()
        make(slot)
        assert path.read_bytes() == b'bytes'
    assert os.listdir(tmp_path) == ['file']
    assert cache.hold(path, SILENT) is None
    assert Record.find(path) == RECORD


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold(tmp_path / 'file') as slot:
        fail(slot)
    assert os.listdir(tmp_path) == []


def test_the_second_one_waits_and_finds_it(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    waits = threading.Event()

    class Waiting(progress.Silent):
        def step(self, name: str) -> None:
            assert 'waiting' in name
            waits.set()

    found: list[object] = []
    other = threading.Thread(
        target=lambda: found.append(cache.hold(path, Waiting())))
    with hold(path) as slot:
        other.start()
        assert waits.wait(10)
        assert not found
        make(slot)
    other.join(10)
    assert found == [None]
    assert os.listdir(tmp_path) == ['file']


def test_the_second_one_makes_it_where_the_first_one_fails(tmp_path: Path
                                                           ) -> None:
    path = tmp_path / 'file'
    slots: list[cache.Slot] = []
    other = threading.Thread(target=lambda: slots.append(hold(path)))
    with hold(path) as slot:
        other.start()
        with slot.part.emptied(9):
            pass
    other.join(10)
    with slots[0] as slot:
        make(slot)
    assert path.read_bytes() == b'bytes'


def test_who_waits_can_be_cancelled(tmp_path: Path) -> None:
    class Cancelling(progress.Cancellable):
        def step(self, name: str) -> None:
            self.cancel()

    path = tmp_path / 'file'
    with hold(path) as slot:
        with pytest.raises(exception.Cancelled):
            cache.hold(path, Cancelling())
        make(slot)
    assert path.exists()


_DIES = """
import os, pathlib, sys
from volume_rbd import progress
from volume_rbd.compute import cache
slot = cache.hold(pathlib.Path(sys.argv[1]), progress.Silent())
with slot.part.emptied(99):
    slot.add_converted()
    os.kill(os.getpid(), 9)
"""


def die(path: Path) -> None:
    done = subprocess.run([sys.executable, '-c', _DIES, path], env={
        **os.environ, 'PYTHONPATH': str(Path(__file__).parents[3])})
    assert done.returncode == -9


def test_what_a_killed_one_left_is_cleaned_up_by_the_next(tmp_path: Path
                                                          ) -> None:
    path = tmp_path / 'file'
    die(path)
    assert not path.exists()
    assert len(os.listdir(tmp_path)) == 2

    with hold(path) as slot:
        slot.add_converted()
        make(slot)

    assert os.listdir(tmp_path) == ['file']
    assert path.read_bytes() == b'bytes'


def test_what_a_killed_one_left_of_another_file_goes_too(tmp_path: Path
                                                         ) -> None:
    die(tmp_path / 'another')
    (tmp_path / '.mine').touch()
    with hold(tmp_path / 'file') as slot:
        cache.clean(tmp_path)
        # What is being made stays.
        make(slot)
    assert sorted(os.listdir(tmp_path)) == ['.mine', 'file']


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / 'other').write_bytes(b'other')
    (tmp_path / '.file.volume_rbd-part').symlink_to(tmp_path / 'other')
    with pytest.raises(exception.InvalidInput):
        cache.hold(tmp_path / 'file', SILENT)
    assert (tmp_path / 'other').read_bytes() == b'other'


def test_a_name_that_leads_nowhere_is_taken(tmp_path: Path) -> None:
    (tmp_path / 'file').symlink_to(tmp_path / 'nothing')
    assert cache.hold(tmp_path / 'file', SILENT) is None


def test_a_record_counts_for_its_own_file_only(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    assert Record.find(path) is None
    path.write_bytes(b'bytes')
    assert Record.find(path) is None
    RECORD.write(path)
    assert Record.find(path) == RECORD
    path.write_bytes(b'more bytes')
    assert Record.find(path) is None
    os.setxattr(path, 'user.volume_rbd', b'{')
    assert Record.find(path) is None
