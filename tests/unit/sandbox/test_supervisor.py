# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import socket

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import process
from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.process import ProcessSpec
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Supervisor


@pytest.fixture
def state():
    return State('a', Options(), {}, '/nowhere')


@pytest.fixture
def lines():
    return []


@pytest.fixture
def supervisor(state, tmp_path, lines):
    made = Supervisor(state, tmp_path, lines.append)
    yield made
    for name in list(state.processes):
        made.stop(name, timeout_s=0)


@pytest.fixture
def spec(tmp_path):
    return ProcessSpec('p', ['sleep', '60'], output=tmp_path / 'out')


def _yes():
    return True


def test_what_is_missing_is_started_and_remembered(supervisor, state, spec):
    assert supervisor.ensure(spec, _yes, timeout_s=10)
    assert process.is_alive(state.processes['p'])
    assert supervisor.started == ['p']


def test_what_runs_is_left_alone(supervisor, state, spec):
    supervisor.ensure(spec, _yes, timeout_s=10)
    before = state.processes['p']
    assert not supervisor.ensure(spec, _yes, timeout_s=10)
    assert state.processes['p'] == before


def test_another_configuration_means_a_restart(supervisor, state, spec):
    supervisor.ensure(spec, _yes, timeout_s=10)
    before = state.processes['p']
    other = dataclasses.replace(spec, config='new')
    assert supervisor.ensure(other, _yes, timeout_s=10)
    assert not process.is_alive(before)
    assert process.is_alive(state.processes['p'])


def test_what_was_killed_is_started_again(supervisor, state, spec):
    supervisor.ensure(spec, _yes, timeout_s=10)
    record = state.processes['p']
    process.send_signal(record, 9)
    process.wait_ended(record, 10)
    assert supervisor.ensure(spec, _yes, timeout_s=10)


def test_a_paused_process_goes_on(supervisor, state, spec):
    supervisor.ensure(spec, _yes, timeout_s=10)
    record = state.processes['p']
    process.send_signal(record, 19)
    supervisor.ensure(spec, lambda: process.find_state(record) != 'T',
                      timeout_s=10)
    assert process.find_state(record) != 'T'


def test_a_process_that_ends_shows_the_end_of_its_log(
        supervisor, spec, tmp_path):
    failing = dataclasses.replace(
        spec, command=['sh', '-c', 'echo the disk is full; exit 3'])
    with pytest.raises(exception.SandboxError) as caught:
        supervisor.ensure(failing, lambda: False, timeout_s=10)
    assert 'p ended instead of serving' in caught.value.message
    assert 'the disk is full' in caught.value.message
    assert str(tmp_path / 'out') in caught.value.remedy


def test_a_process_that_never_serves_is_bounded(supervisor, spec):
    def refuse():
        raise ConnectionRefusedError

    with pytest.raises(exception.SandboxError, match='did not serve'):
        supervisor.ensure(spec, refuse, timeout_s=0.2)


def test_a_program_that_is_missing_is_named(supervisor, spec):
    absent = dataclasses.replace(spec, command=['/no/such/program'])
    with pytest.raises(exception.SandboxError, match='cannot be executed'):
        supervisor.ensure(absent, _yes, timeout_s=1)


def test_a_stranger_on_the_port_is_not_taken_for_ours(supervisor, spec):
    with socket.socket() as stranger:
        stranger.bind(('127.0.0.1', 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(exception.SandboxError, match='another program'):
            supervisor.ensure(dataclasses.replace(spec, ports=[port]), _yes,
                              timeout_s=1)


def test_after_cancel_nothing_is_started(supervisor, spec, state):
    supervisor.cancel()
    with pytest.raises(exception.Cancelled):
        supervisor.ensure(spec, _yes, timeout_s=1)
    assert state.processes == {}


def test_stopping_what_does_not_run_is_no_error(supervisor):
    assert not supervisor.stop('p')
