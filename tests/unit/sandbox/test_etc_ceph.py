# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import stat

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import ceph_files, etc_ceph, process
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.state import ProcessRecord, State

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


def _write_state(layout, boot_id):
    """A sandbox whose monitor is this process, or was one before a boot."""
    with open('/proc/self/stat') as file:
        start_ticks = int(file.read().rpartition(')')[2].split()[19])
    state = State('a', Options(cinder=True), {}, '')
    state.bind(layout.folder)
    state.set_process('mon', ProcessRecord(
        os.getpid(), start_ticks, boot_id))


def _names(folder):
    return {path.name for path in folder.iterdir()}


def test_the_keyrings_are_copied_for_root_only(layout, folder):
    etc_ceph.install(layout, folder)
    assert _names(folder) == _NAMES
    for name in _NAMES:
        first, keyring = (folder / name).read_text().split('\n', 1)
        assert first == f'# volume-rbd sandbox {layout.folder}'
        assert keyring == (layout.ceph / name).read_text()
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


def test_another_sandbox_that_runs_is_somebody_else(
        layout, folder, tmp_path):
    _write_state(layout, process.get_boot_id())
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


@pytest.mark.parametrize('has_state', [True, False])
def test_what_a_killed_sandbox_left_is_replaced(
        layout, folder, tmp_path, has_state):
    if has_state:
        _write_state(layout, boot_id='before the reboot')
    etc_ceph.install(layout, folder)
    other = _make_layout(tmp_path / 'b')
    etc_ceph.install(other, folder)
    etc_ceph.remove(layout, folder)
    assert _names(folder) == _NAMES
    etc_ceph.remove(other, folder)
    assert not _names(folder)
