# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import stat

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import state
from volume_rbd.sandbox.options import Options


def _make(tmp_path, **values):
    made = state.State('a', Options(**values), {'glance': 20000}, '/run/a')
    made.bind(tmp_path)
    return made


def test_there_is_no_state_where_there_is_no_sandbox(tmp_path):
    assert state.find_state(tmp_path) is None


def test_a_state_is_read_back_equal(tmp_path):
    made = _make(tmp_path, ceph_only=True, osd_size_gib=7)
    made.set_stage('ceph')
    made.set_process('mon', state.ProcessRecord(1, 2, 'boot', 'print'))
    assert state.find_state(tmp_path) == made


def test_a_process_is_forgotten_on_disk_at_once(tmp_path):
    made = _make(tmp_path)
    made.set_process('mon', state.ProcessRecord(1, 2, 'boot'))
    made.set_process('mon', None)
    assert state.find_state(tmp_path).processes == {}


def test_the_state_is_readable_by_its_owner_only(tmp_path):
    _make(tmp_path)
    mode = (tmp_path / state.FILE_NAME).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_every_account_has_a_password_of_its_own(tmp_path):
    passwords = _make(tmp_path).passwords
    assert set(passwords) == set(state.ACCOUNTS)
    assert len(set(passwords.values())) == len(state.ACCOUNTS)
    assert all(len(value) >= 32 for value in passwords.values())


def test_an_account_of_a_later_release_gets_a_password(tmp_path):
    made = _make(tmp_path)
    del made.passwords['other']
    made.save()
    read = state.find_state(tmp_path)
    assert read.passwords['other']
    assert read.passwords['cinder'] == made.passwords['cinder']


@pytest.mark.parametrize('text', ['', '{', '[]', '{"version": 99}', '{}'])
def test_a_state_that_is_not_understood_names_a_remedy(text, tmp_path):
    (tmp_path / state.FILE_NAME).write_text(text)
    with pytest.raises(exception.SandboxError) as caught:
        state.find_state(tmp_path)
    assert caught.value.remedy


def test_options_of_another_release_are_dropped():
    values = Options().to_json() | {'invented_later': 1}
    assert Options.from_json(values) == Options()


@pytest.mark.parametrize('name', ['osd_size_gib', 'glance_workers'])
def test_an_option_of_nothing_is_refused(name):
    with pytest.raises(exception.ConfigurationError):
        Options(**{name: 0})


def test_the_state_file_holds_no_type_that_json_lacks(tmp_path):
    made = _make(tmp_path)
    assert json.loads(json.dumps(made.to_json())) == made.to_json()
