# SPDX-License-Identifier: Apache-2.0
"""Health, and what the manager does in the background."""

import os
import pathlib
import signal
import time

import pytest

from volume_rbd import exception

MIB = 1024 ** 2


def _wait(tasks, task):
    deadline = time.monotonic() + 60
    while (found := tasks.find(task.id)) is not None:
        assert found.problem == ''
        assert 0 <= found.progress <= 1
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_health_is_told_to_a_client_of_profile_rbd(ceph):
    health = ceph.cluster.health()

    assert health.status in ('HEALTH_OK', 'HEALTH_WARN')
    assert health.errors == frozenset()
    assert ceph.world.cluster('glance').health().status == health.status


def test_the_manager_flattens(ceph):
    child = ceph.new_clone(ceph.new_parent(), ceph.volumes)
    tasks = ceph.cluster.tasks()

    _wait(tasks, tasks.flatten('volumes', child))

    with ceph.volumes.open(child) as image:
        assert image.parent is None
        assert image.read(0, 6) == b'parent'


def test_the_manager_removes_what_is_in_the_trash(ceph):
    name = ceph.new()
    ceph.volumes.trash_move(name)
    [entry] = [each for each in ceph.volumes.trash() if each.name == name]
    tasks = ceph.cluster.tasks()

    _wait(tasks, tasks.remove_trashed('volumes', entry.id))

    assert ceph.volumes.find_trashed(entry.id) is None


def test_what_is_not_there_the_manager_does_not_find(ceph):
    tasks = ceph.cluster.tasks()
    for add in (lambda: tasks.flatten('volumes', ceph.name()),
                lambda: tasks.flatten('volumes', ceph.new()),
                lambda: tasks.remove_trashed('volumes', 'abcd')):
        with pytest.raises(exception.ImageNotFound):
            add()
    assert tasks.find('no-such-task') is None
    tasks.cancel('no-such-task')


def test_a_pool_of_others_is_denied(ceph):
    name = ceph.new_clone(ceph.new_parent(), ceph.volumes)
    with pytest.raises(exception.CephPermissionDenied):
        ceph.world.cluster('nova').tasks().flatten('volumes', name)


def test_what_is_cancelled_is_gone_from_the_list(ceph):
    name = ceph.new_clone(ceph.new_parent(), ceph.volumes)
    tasks = ceph.cluster.tasks()
    task = tasks.flatten('volumes', name)

    tasks.cancel(task.id)

    deadline = time.monotonic() + 10
    while tasks.find(task.id) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.real
def test_a_manager_that_has_stopped_is_given_up_within_seconds(real_world):
    tasks = real_world.cluster().tasks()
    tasks.find('connects')
    manager = _manager_of(real_world.ceph_conf)
    os.kill(manager, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        with pytest.raises(exception.OperationTimeout):
            tasks.find('x')
        assert time.monotonic() - begin < 15
    finally:
        os.kill(manager, signal.SIGCONT)
    tasks.find('x')


def _manager_of(conf):
    [found] = [int(path.parent.name)
               for path in pathlib.Path('/proc').glob('[0-9]*/cmdline')
               if _is_manager(path, conf)]
    return found


def _is_manager(path, conf):
    try:
        words = path.read_bytes().split(b'\0')
    except OSError:
        return False
    return words[0].endswith(b'ceph-mgr') and conf.encode() in words
