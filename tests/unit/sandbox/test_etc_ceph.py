# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import ceph_files, etc_ceph
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.options import Options

_NAMES = {'ceph.client.cinder.keyring', 'ceph.client.hypervisor.keyring'}


@pytest.fixture
def layout(tmp_path):
    return _make_layout(tmp_path / 'a')


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'etc'


def _make_layout(folder):
    made = Layout(folder, folder / 'run')
    made.ceph.mkdir(parents=True)
    ceph_files.write_keyrings(made, Options(cinder=True))
    return made


def _names(folder):
    return {path.name for path in folder.iterdir()}


def test_the_keyrings_are_copied_for_root_only(layout, folder):
    etc_ceph.install(layout, folder)
    assert _names(folder) == _NAMES
    for name in _NAMES:
        assert (folder / name).read_text() == (layout.ceph / name).read_text()
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_they_are_taken_away_again_and_nothing_else(layout, folder):
    etc_ceph.install(layout, folder)
    (folder / 'ceph.conf').touch()
    etc_ceph.remove(layout, folder)
    assert _names(folder) == {'ceph.conf'}


def test_installing_and_removing_twice_is_no_error(layout, folder):
    for action in (etc_ceph.remove, etc_ceph.install, etc_ceph.install,
                   etc_ceph.remove, etc_ceph.remove):
        action(layout, folder)


def test_a_keyring_of_somebody_else_is_left_alone(layout, folder):
    folder.mkdir()
    theirs = folder / 'ceph.client.hypervisor.keyring'
    theirs.write_text('[client.hypervisor]\n\tkey = theirs\n')
    with pytest.raises(exception.SandboxError, match='not of this sandbox'):
        etc_ceph.install(layout, folder)
    assert _names(folder) == {theirs.name}
    etc_ceph.remove(layout, folder)
    assert 'theirs' in theirs.read_text()


def test_another_sandbox_is_somebody_else(layout, folder, tmp_path):
    etc_ceph.install(layout, folder)
    other = _make_layout(tmp_path / 'b')
    with pytest.raises(exception.SandboxError):
        etc_ceph.install(other, folder)
    etc_ceph.remove(other, folder)
    assert _names(folder) == _NAMES


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(layout, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(exception.SandboxError, match='cannot be put'):
        etc_ceph.install(layout, tmp_path / 'file')
