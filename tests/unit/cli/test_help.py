# SPDX-License-Identifier: Apache-2.0
"""What the command line says of itself, without any service."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.unit.cli.conftest import Run
from volume_rbd.cli import __main__, main

every_command = pytest.mark.parametrize('command', main.COMMANDS)


def test_the_help_lists_every_command_and_every_exit_code(run: Run) -> None:
    ended = run('--help')
    assert ended.code == 0
    assert main.EXIT_CODES in ended.out
    for command in main.COMMANDS:
        assert f'  {command}  ' in ended.out
    for option in ('--config-file', '--backend'):
        assert option in ended.out


@every_command
def test_each_command_has_help(run: Run, command: str) -> None:
    ended = run(*command.split(), '--help')
    assert ended.code == 0, ended.err
    assert f'usage: volume-rbd {command}' in ended.out
    assert ended.err == ''


@every_command
def test_help_before_the_command_is_the_same(run: Run, command: str) -> None:
    words = command.split()
    assert run('help', *words).out == run(*words, '--help').out


@every_command
def test_each_command_says_what_it_is_for(run: Run, command: str) -> None:
    described = run(*command.split(), '--help').out.split('\n\n')[1]
    assert described[0].isupper()
    assert described.rstrip().endswith('.')


@every_command
def test_an_unknown_option_is_a_usage_error(run: Run, command: str) -> None:
    ended = run(*command.split(), '--no-such-option')
    assert ended.code == 2
    assert 'usage: volume-rbd' in ended.err


@pytest.mark.parametrize('command', ['nonsense', 'snapshots', '5'])
def test_an_unknown_command_is_a_usage_error(run: Run, command: str) -> None:
    ended = run(command)
    assert ended.code == 2
    assert f"'{command}' is not a volume-rbd command" in ended.out


def test_no_command_is_a_usage_error_that_lists_them(run: Run) -> None:
    ended = run()
    assert ended.code == 2
    assert 'Take a snapshot of a volume' in ended.out


def test_the_version_is_said(run: Run) -> None:
    ended = run('--version')
    assert ended.code == 0
    assert ended.out.startswith('volume-rbd ')


def test_the_table_of_commands_names_files_that_are_there() -> None:
    folder = pathlib.Path(main.__file__).parent
    for target in main.COMMANDS.values():
        assert (folder / f'{target.split(":")[0]}.py').is_file()


def test_help_needs_neither_ceph_nor_glanceclient() -> None:
    """A machine without them can still be told what there is."""
    script = (
        'import sys\n'
        'for name in ("rados", "rbd"): sys.modules[name] = None\n'
        'from volume_rbd.cli import main\n'
        'sys.exit(main.main(["create", "--help"]))\n')
    ended = subprocess.run([sys.executable, '-c', script], timeout=60,
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert '--image' in ended.stdout


def test_the_console_script_says_its_exit_code() -> None:
    script = pathlib.Path(sys.executable).with_name('volume-rbd')
    ended = subprocess.run([script, 'create', 'x', '--size', 'abc'],
                           timeout=60, capture_output=True, text=True,
                           check=False)
    assert ended.returncode == 2
    assert ended.stdout == ''
    assert ended.stderr.count('\n') == 1


def test_ctrl_c_is_heard_before_anything_is_imported(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
        ) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, 'main', interrupted)

    assert __main__.main() == 130
    assert capsys.readouterr().err == (
        'volume-rbd: Cancelled before anything was done.\n')
