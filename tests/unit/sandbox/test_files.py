# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser
import stat
from concurrent import futures

import pytest

from volume_rbd.sandbox import files


def test_a_private_file_is_readable_by_its_owner_only(tmp_path):
    path = tmp_path / 'secret'
    files.write_private(path, 'x')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_private_file_is_replaced_whole_and_leaves_nothing(tmp_path):
    path = tmp_path / 'secret'
    path.write_text('a longer text than before')
    files.write_private(path, 'new')
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


def test_threads_may_write_the_same_private_file_at_once(tmp_path):
    path = tmp_path / 'secret'
    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: files.write_private(path, text),
                      'x' * 200))
    assert list(tmp_path.iterdir()) == [path]


def test_an_ini_file_is_read_back_as_it_was_meant():
    text = files.render_ini({'a': {'x': 1, 'on': True, 'off': False}})
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert dict(parser['a']) == {'x': '1', 'on': 'true', 'off': 'false'}


def test_a_value_cannot_smuggle_in_another_line():
    with pytest.raises(ValueError):
        files.render_ini({'a': {'x': 'y\nz = 1'}})


def test_overrides_change_add_and_remove():
    before = {'a': {'x': 1, 'y': 2}}
    after = files.apply_overrides(before, {
        'a': {'x': 9, 'y': None, 'absent': None}, 'b': {'z': 3}})
    assert after == {'a': {'x': 9}, 'b': {'z': 3}}
    assert before == {'a': {'x': 1, 'y': 2}}


def test_the_tail_of_a_log_is_its_last_lines(tmp_path):
    path = tmp_path / 'log'
    path.write_text('\n'.join(map(str, range(100))))
    assert files.read_tail(path, lines=2) == '98\n99'


def test_the_tail_of_a_log_that_is_not_there_is_empty(tmp_path):
    assert files.read_tail(tmp_path / 'log') == ''


def test_the_cause_is_the_last_exception_but_not_gunicorns(tmp_path):
    path = tmp_path / 'log'
    path.write_text(
        'Traceback (most recent call last):\n'
        '  File "a.py", line 1, in f\n'
        '    load()\n'
        'store.UnknownScheme: no such store\n'
        'Traceback (most recent call last):\n'
        '  File "arbiter.py", line 2, in g\n'
        '    raise HaltServer\n'
        'gunicorn.errors.HaltServer: Worker failed to boot.\n')
    assert files.find_cause(path) == 'store.UnknownScheme: no such store'
