# SPDX-License-Identifier: Apache-2.0
"""Real processes, but tiny ones."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time

import pytest

from volume_rbd.sandbox import process

_STUBBORN = ('import signal, time; '
             'signal.signal(signal.SIGTERM, signal.SIG_IGN); '
             'print("ready", flush=True); time.sleep(60)')
# A leader with a child in its session, as gunicorn has workers.
_FAMILY = ('import os, sys, time\n'
           'os.chdir(sys.argv[1])\n'
           'os.fork()\n'
           'print("ready", flush=True)\n'
           'time.sleep(60)\n')

# The same, with a child that has left the session.
_DETACHED = _FAMILY.replace('os.fork()', 'os.fork() or os.setsid()')


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*command):
        spec = process.ProcessSpec('p', command, output=tmp_path / 'out')
        started.append(process.spawn(spec))
        return started[-1]

    yield run
    for record in started:
        process.stop(record, folder=tmp_path, timeout_s=0)


def _wait_for(text, path, count=1):
    deadline = time.monotonic() + 20
    while path.read_text().count(text) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_lives_in_a_session_of_its_own(start):
    record = start('sleep', '60')
    assert process.is_alive(record)
    assert os.getsid(record.pid) == record.pid != os.getsid(0)


def test_a_process_inherits_no_proxy_and_no_terminal(
        start, tmp_path, monkeypatch):
    monkeypatch.setenv('http_proxy', 'http://nowhere')
    monkeypatch.setenv('PYTHONPATH', '/nowhere')
    start('sh', '-c', 'env; readlink /proc/self/fd/0; echo ready')
    _wait_for('ready', tmp_path / 'out')
    text = (tmp_path / 'out').read_text()
    assert '/dev/null' in text
    assert 'nowhere' not in text


def test_a_process_does_not_work_in_our_folder(start, tmp_path):
    start('sh', '-c', 'pwd; echo ready')
    _wait_for('ready', tmp_path / 'out')
    assert (tmp_path / 'out').read_text().startswith('/\n')


def test_a_program_that_is_not_there_is_an_oserror(start):
    with pytest.raises(OSError):
        start('/no/such/program')


def test_an_ended_process_is_not_alive(start):
    record = start('true')
    assert process.wait_ended(record, 10)


def test_stop_asks_and_then_is_sure(start, tmp_path):
    record = start('sleep', '60')
    assert process.stop(record, folder=tmp_path, timeout_s=10)
    assert not process.is_alive(record)


def test_stop_kills_what_does_not_listen(start, tmp_path):
    record = start(sys.executable, '-c', _STUBBORN)
    _wait_for('ready', tmp_path / 'out')
    assert process.stop(record, folder=tmp_path, timeout_s=0.2)
    assert not process.is_alive(record)


def test_stop_works_on_a_paused_process(start, tmp_path):
    record = start('sleep', '60')
    process.send_signal(record, signal.SIGSTOP)
    begin = time.monotonic()
    assert process.stop(record, folder=tmp_path, timeout_s=20)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize('change', [
    {'start_ticks': 1}, {'boot_id': 'another boot'}])
def test_a_recycled_pid_is_never_signalled(change, start, tmp_path):
    record = start('sleep', '60')
    stranger = dataclasses.replace(record, **change)
    assert not process.is_alive(stranger)
    assert not process.send_signal(stranger, signal.SIGKILL)
    assert process.find_session(stranger) == []
    assert process.find_leftovers(stranger, tmp_path) == []
    assert process.stop(stranger, folder=tmp_path, timeout_s=0)
    assert process.is_alive(record)


def test_a_session_is_the_process_and_its_children(start, tmp_path):
    record = start(sys.executable, '-c', _FAMILY, str(tmp_path))
    _wait_for('ready', tmp_path / 'out', count=2)
    assert len(process.find_session(record)) == 2


def test_a_child_in_a_session_of_its_own_is_of_the_family(start, tmp_path):
    record = start(sys.executable, '-c', _DETACHED, str(tmp_path))
    _wait_for('ready', tmp_path / 'out', count=2)
    child, = (p for p in process.find_session(record)
              if p.pid != record.pid)
    assert os.getsid(child.pid) == child.pid
    process.signal_session(record, signal.SIGKILL)
    assert process.wait_ended(record, 10)
    assert process.wait_ended(child, 10)


def test_stop_kills_a_detached_child_that_stays(
        start, tmp_path, monkeypatch):
    monkeypatch.setattr(process, '_DETACHED_TIMEOUT_S', 0.1)
    record = start(sys.executable, '-c', _DETACHED, str(tmp_path))
    _wait_for('ready', tmp_path / 'out', count=2)
    family = process.find_session(record)
    assert process.stop(record, folder=tmp_path, timeout_s=10)
    assert not any(map(process.is_alive, family))


def test_stop_takes_the_children_of_a_killed_leader_along(start, tmp_path):
    record = start(sys.executable, '-c', _FAMILY, str(tmp_path))
    _wait_for('ready', tmp_path / 'out', count=2)
    process.send_signal(record, signal.SIGKILL)
    assert process.wait_ended(record, 10)
    (orphan,) = process.find_leftovers(record, tmp_path)
    assert process.stop(record, folder=tmp_path, timeout_s=1)
    assert not process.is_alive(orphan)


def test_children_that_work_elsewhere_are_left_alone(start, tmp_path):
    record = start(sys.executable, '-c', _FAMILY, '/')
    _wait_for('ready', tmp_path / 'out', count=2)
    (child,) = (p for p in process.find_session(record) if p != _bare(record))
    process.send_signal(record, signal.SIGKILL)
    assert process.wait_ended(record, 10)
    try:
        assert process.find_leftovers(record, tmp_path) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def _bare(record):
    return dataclasses.replace(record, fingerprint='')


def test_the_fingerprint_changes_with_all_that_matters(tmp_path):
    spec = process.ProcessSpec('p', ['a'], output=tmp_path, config='x')
    others = [
        dataclasses.replace(spec, command=['a', 'b']),
        dataclasses.replace(spec, config='y'),
        dataclasses.replace(spec, environment={'A': '1'}),
    ]
    prints = {spec.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 4
