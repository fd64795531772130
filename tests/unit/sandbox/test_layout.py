# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import layout


def test_the_folder_is_below_the_current_one_by_default(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(layout.BASE_VARIABLE, raising=False)
    assert layout.get_folder('a') == tmp_path / '.sandbox' / 'a'


def test_the_variable_moves_all_sandboxes(tmp_path, monkeypatch):
    monkeypatch.setenv(layout.BASE_VARIABLE, str(tmp_path))
    assert layout.get_folder('a') == tmp_path / 'a'


def test_an_argument_wins_over_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv(layout.BASE_VARIABLE, '/nowhere')
    assert layout.get_folder('a', tmp_path) == tmp_path / 'a'


@pytest.mark.parametrize(
    'name', ['', '.', '..', 'a/b', '-a', 'a b', 'a\n', 'x' * 60])
def test_a_name_that_is_no_plain_component_is_refused(name, tmp_path):
    with pytest.raises(exception.InvalidName):
        layout.get_folder(name, tmp_path)


@pytest.mark.parametrize('part', ['a b', 'a$b', 'a;b', 'a#b', 'a%b'])
def test_a_path_that_configuration_cannot_carry_is_refused(part, tmp_path):
    with pytest.raises(exception.InvalidName):
        layout.get_folder('a', tmp_path / part)


def test_a_deep_folder_does_not_fit_sockets():
    assert layout.fits_sockets(Path('/tmp/sandbox/run'))
    assert not layout.fits_sockets(Path('/' + 'x' * 100))


def test_the_longest_path_that_fits_has_107_bytes():
    name = len('/mariadb.sock')
    assert layout.fits_sockets(Path('/' + 'x' * (106 - name)))
    assert not layout.fits_sockets(Path('/' + 'x' * (107 - name)))


def test_every_path_lies_in_the_folder(tmp_path):
    paths = layout.Layout(tmp_path, tmp_path / 'run')
    for path in (paths.ceph_conf, paths.log('mon'), paths.socket('mon'),
                 paths.config, paths.mariadb, paths.glance, paths.keystone,
                 paths.rabbitmq, paths.cinder, paths.cinder_conf):
        assert os.path.commonpath([path, tmp_path]) == str(tmp_path)
