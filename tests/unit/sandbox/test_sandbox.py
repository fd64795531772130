# SPDX-License-Identifier: Apache-2.0
"""The sandbox's rules, without any daemon."""

from __future__ import annotations

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import (
    Options,
    Sandbox,
    command,
    packages,
    ports,
)
from volume_rbd.sandbox.state import FILE_NAME, State


@pytest.fixture
def box(tmp_path, monkeypatch):
    monkeypatch.setattr(
        ports, 'get_registry_path', lambda: tmp_path / 'ports')
    return Sandbox('a', tmp_path)


def _make(box, **options):
    box.folder.mkdir()
    state = State('a', Options(**options), {
        'mon_v2': 1, 'mon_v1': 2, 'mariadb': 3, 'keystone': 4, 'glance': 5,
        'cinder': 6,
    }, str(box.folder / 'run'))
    state.bind(box.folder)
    return state


def test_a_sandbox_that_was_never_made_is_absent(box):
    assert box.status().state == 'absent'
    assert not box.folder.exists()


def test_stopping_an_absent_sandbox_is_no_error(box):
    box.down()
    box.down(destroy=True)


def test_an_absent_sandbox_has_no_environment(box):
    with pytest.raises(exception.SandboxError, match='no sandbox'):
        box.env()


@pytest.mark.parametrize('name', ['mon', 'glance'])
def test_an_absent_sandbox_has_no_processes(name, box):
    with pytest.raises(exception.SandboxError, match='no sandbox'):
        box.stop_process(name)


def test_a_sandbox_without_processes_is_down(box):
    _make(box)
    status = box.status()
    assert (status.state, status.is_up, status.health) == ('down', False, None)
    assert [p.name for p in status.processes] == [
        'mon', 'mgr', 'osd', 'mariadb', 'keystone', 'glance']


def test_a_lone_cluster_has_three_processes(box):
    _make(box, ceph_only=True)
    assert len(box.status().processes) == 3
    with pytest.raises(exception.InvalidName):
        box.stop_process('glance')


def test_with_cinder_there_are_five_processes_more(box):
    _make(box, cinder=True)
    assert [p.name for p in box.status().processes][6:] == [
        'epmd', 'rabbitmq', 'cinder-api', 'cinder-scheduler',
        'cinder-volume']


def test_without_cinder_it_cannot_be_configured(box):
    _make(box)
    with pytest.raises(exception.InvalidName):
        box.configure_cinder({})


def test_a_user_nobody_made_is_refused(box):
    _make(box)
    with pytest.raises(exception.InvalidName):
        box.env('nobody')


def test_signalling_what_does_not_run_says_so(box):
    _make(box)
    with pytest.raises(exception.SandboxError, match='does not run'):
        box.signal_process('mon', 9)


def test_destroy_removes_the_folder(box):
    _make(box)
    box.down(destroy=True)
    assert not box.folder.exists()
    assert box.status().state == 'absent'


def test_down_keeps_the_data(box):
    _make(box)
    box.down()
    assert (box.folder / FILE_NAME).exists()


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(packages, 'require', lambda **_: None)


@pytest.mark.usefixtures('installed')
def test_a_folder_with_other_things_is_left_alone(box):
    box.folder.mkdir()
    (box.folder / 'thesis.tex').touch()
    with pytest.raises(exception.SandboxError, match='not empty'):
        box.up()
    box.down(destroy=True)
    assert (box.folder / 'thesis.tex').exists()


@pytest.mark.usefixtures('installed')
@pytest.mark.parametrize('changed', [{'ceph_only': True},
                                     {'osd_size_gib': 1}])
def test_what_is_settled_cannot_be_changed(changed, box):
    _make(box)
    with pytest.raises(exception.SandboxError, match='settled'):
        box.up(Options(**changed))


# -- what must be installed -----------------------------------------------

def test_missing_packages_are_named_in_one_command():
    with pytest.raises(exception.SandboxError) as caught:
        packages.require(ceph_only=False, which=lambda name: None)
    assert caught.value.remedy == (
        'Run: apt-get install --no-install-recommends ceph-common ceph-mgr '
        'ceph-mon ceph-osd mariadb-client mariadb-server qemu-utils')


def test_a_broker_is_needed_for_cinder_only():
    for cinder in (True, False):
        with pytest.raises(exception.SandboxError) as caught:
            packages.require(ceph_only=False, cinder=cinder,
                             which=lambda name: None)
        assert ('rabbitmq-server' in caught.value.remedy) is cinder


def test_a_lone_cluster_needs_no_database():
    with pytest.raises(exception.SandboxError) as caught:
        packages.require(ceph_only=True, which=lambda name: None)
    assert 'mariadb' not in caught.value.remedy


# -- one-shot programs ----------------------------------------------------

def test_a_program_is_fed_by_its_standard_input():
    assert command.run(['cat'], stdin='hush', timeout_s=10) == 'hush'


def test_a_failing_program_shows_what_it_said():
    with pytest.raises(exception.SandboxError) as caught:
        command.run(['sh', '-c', 'echo no room >&2; exit 4'], timeout_s=10)
    assert 'status 4' in caught.value.message
    assert 'no room' in caught.value.message


def test_a_program_that_hangs_is_bounded():
    with pytest.raises(exception.SandboxError, match='did not end'):
        command.run(['sleep', '60'], timeout_s=0.2)


def test_what_a_failing_program_was_given_is_not_shown():
    with pytest.raises(exception.SandboxError) as caught:
        command.run(['false'], stdin='hush', environment={'P': 'hush'},
                    timeout_s=10)
    assert 'hush' not in str(caught.value)


# -- several parts at once ------------------------------------------------

@pytest.fixture
def built(box):
    return box._build(_make(box))


def test_the_first_failure_is_reported_and_not_what_it_cancelled(built):
    def fail():
        raise exception.SandboxError('the disk is full')

    def wait():
        while True:
            built.supervisor.check_cancelled()

    with pytest.raises(exception.SandboxError, match='the disk is full'):
        built._run_together(wait, fail)


def test_all_parts_run_when_none_fails(built):
    done = []
    built._run_together(lambda: done.append(1), lambda: done.append(2))
    assert sorted(done) == [1, 2]
