# SPDX-License-Identifier: Apache-2.0
"""Files get another name and nothing is lost on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volume_rbd import exception
from volume_rbd.compute.pools import files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'source'
    path.write_bytes(b'data')
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / 'there').mkdir()
    return tmp_path / 'there' / 'target'


def test_a_file_is_moved(source: Path, target: Path) -> None:
    inode = source.stat().st_ino
    files.move(source, target)
    assert target.stat().st_ino == inode
    assert not source.exists()


def test_what_is_there_is_not_replaced(source: Path, target: Path) -> None:
    target.write_bytes(b'another')
    for act in (files.move, files.link):
        with pytest.raises(exception.StorageVolumeExists):
            act(source, target)
    assert (source.read_bytes(), target.read_bytes()) == (b'data', b'another')


def test_the_second_run_finishes_the_first(source: Path, target: Path
                                           ) -> None:
    files.link(source, target)
    files.link(source, target)
    assert source.exists()
    files.move(source, target)
    assert target.read_bytes() == b'data'
    assert not source.exists()


def test_a_link_to_it_is_another_file(source: Path, target: Path) -> None:
    """Else the move would leave a link to nothing."""
    target.symlink_to(source)
    with pytest.raises(exception.StorageVolumeExists):
        files.move(source, target)
    assert source.read_bytes() == b'data'


def test_a_kill_between_leaves_both_names(
        source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'unlink', killed)
    with pytest.raises(KeyboardInterrupt):
        files.move(source, target)
    assert source.samefile(target)
