# SPDX-License-Identifier: Apache-2.0
"""Commands to the manager run in a process that may come to grief."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

from volume_rbd import exception
from volume_rbd.ceph import tasks
from volume_rbd.ceph.interface import TaskInfo

CONNECTION = {'name': 'client.cinder', 'conf': {}, 'conffile': '',
              'clustername': 'ceph'}


def _let_it_be(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path,
               body: str) -> tasks.ManagerTasks:
    """The process of a command is this shell script."""
    script = folder / 'python'
    script.write_text(f'#!/bin/sh\n{body}\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(script))
    return tasks.ManagerTasks(CONNECTION)


def test_a_process_that_crashes_takes_nobody_along(
        monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    manager = _let_it_be(monkeypatch, tmp_path, 'kill -SEGV $$')
    with pytest.raises(exception.VolumeRBDError, match='rbd task list'):
        manager.find('x')


def test_a_process_that_hangs_is_killed(
        monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(tasks, '_PROCESS_TIMEOUT_S', 0.2)
    manager = _let_it_be(monkeypatch, tmp_path, 'exec sleep 60')
    with pytest.raises(exception.OperationTimeout, match=r'0\.2 s'):
        manager.find('x')


@pytest.mark.parametrize(('code', 'kind'), [
    (-2, exception.ImageNotFound), (-13, exception.CephPermissionDenied),
    (110, exception.OperationTimeout)])
def test_a_code_becomes_an_error_of_ours_whatever_its_sign(
        monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, code: int,
        kind: type[exception.VolumeRBDError]) -> None:
    manager = _let_it_be(monkeypatch, tmp_path,
                         f"echo '{json.dumps({'code': code, 'output': ''})}'")
    with pytest.raises(kind):
        manager.flatten('volumes', 'x')


def test_without_a_connection_the_cluster_is_unavailable(
        monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    manager = _let_it_be(monkeypatch, tmp_path,
                         "echo '{\"error\": \"TimedOut: no\"}'")
    with pytest.raises(exception.ClusterUnavailable, match='TimedOut'):
        manager.remove_trashed('volumes', 'abc')


def test_the_request_goes_by_standard_input_and_says_how_long(
        monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    told = json.dumps([{'id': 'x', 'in_progress': True, 'progress': 0.25,
                        'retry_message': 'busy'}])
    answer = json.dumps({'code': 0, 'output': told})
    (tmp_path / 'answer').write_text(answer)
    manager = _let_it_be(
        monkeypatch, tmp_path, f'echo "$@" > {tmp_path}/words; '
        f'cat > {tmp_path}/asked; cat {tmp_path}/answer')

    assert manager.find('x') == TaskInfo('x', True, 0.25, 'busy')
    asked = json.loads((tmp_path / 'asked').read_text())
    assert asked['command']['prefix'] == 'rbd task list'
    assert asked['rados']['conf']['rados_mon_op_timeout'] == '5'
    assert (tmp_path / 'words').read_text().split() == [
        '-m', 'volume_rbd.ceph.mgr_command']
