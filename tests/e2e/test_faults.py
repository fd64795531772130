# SPDX-License-Identifier: Apache-2.0
"""Whatever dies in the middle, what Cinder says is true in the end.

An ordinary run takes a sample. All of it: ``make faults``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import faults
from tests.e2e.faults import Fleet, Job, wait_until
from volume_rbd.sandbox import Sandbox

# Those of the ordinary run.
_SAMPLE = {('kill', 'from_qcow2'), ('kill', 'extend')}


@pytest.fixture(scope='module')
def whole_fleet(sandbox: Sandbox) -> Iterator[Fleet]:
    soon = {'deferred_deletion_purge_interval': 5}
    sandbox.configure_cinder({'on': soon, 'off': soon})
    try:
        with contextlib.closing(Fleet(sandbox)) as made:
            yield made
    finally:
        sandbox.configure_cinder({})


@pytest.fixture
def fleet(whole_fleet: Fleet) -> Iterator[Fleet]:
    """All services run before and after, and nothing is left behind."""
    before = whole_fleet.describe()
    yield whole_fleet
    for name in ('osd', 'glance', 'rabbitmq', 'mariadb', 'cinder-volume'):
        whole_fleet.sandbox.start_process(name)
    whole_fleet.check_nothing_left(before)


def _cases() -> list[Any]:
    cases = []
    for how in ('kill', 'service', 'term'):
        for name in faults.OPERATIONS:
            marks = [] if (how, name) in _SAMPLE else [pytest.mark.faults]
            cases.append(pytest.param(how, name, marks=marks,
                                      id=f'{how}-{name}'))
    return cases


@pytest.mark.parametrize(('how', 'name'), _cases())
def test_the_service_ends_in_the_middle(
        how: str, name: str, fleet: Fleet) -> None:
    job = _interrupt(fleet, faults.OPERATIONS[name](fleet), how)
    fleet.start()
    fleet.settle(job.volume)
    fleet.check_processes()
    fleet.check_truth(job.volume)
    _check_image(fleet, job)
    _check_goes_on(fleet, name, job)
    fleet.remove(job)


def _interrupt(fleet: Fleet, job: Job, how: str) -> Job:
    if not job.freezes:
        wait_until(job.moment, what='the operation is not seen')
        fleet.interrupt(how)
    elif how == 'term':
        with fleet.frozen():
            assert job.moment()
        fleet.interrupt(how)
    else:
        with fleet.frozen():
            assert job.moment()
            fleet.interrupt(how)
    return job


def _check_image(fleet: Fleet, job: Job) -> None:
    """An image is whole, gone, or the record that it was: its owner may
    delete it."""
    if job.image is not None:
        wait_until(lambda: fleet.glance.status(job.image or '') in (
            'active', 'queued', None), what='the image is on its way')


def _check_goes_on(fleet: Fleet, name: str, job: Job) -> None:
    """What was interrupted can be done once more."""
    if fleet.member.status(job.volume) != 'available':
        return
    if name == 'extend' and fleet.member.show(job.volume).size == 1:
        fleet.member.extend(job.volume, 2)
    elif name == 'revert' and job.snapshot:
        fleet.admin.client.volume_snapshots.reset_state(
            job.snapshot, 'available')
        fleet.member.revert(job.volume, job.snapshot)
    elif name == 'upload_by_clone':
        again = fleet.member.upload(job.volume)
        fleet.glance.wait_for_status(again, 'active')
        fleet.member.wait_for_status(job.volume, 'available')
        fleet.glance.delete(again)


# -- the process of one backend ----------------------------------------------

@pytest.mark.parametrize('name', [
    pytest.param('upload_in_chunks', marks=pytest.mark.faults),
    pytest.param('from_raw', marks=pytest.mark.faults),
    pytest.param('from_qcow2', marks=pytest.mark.faults),
    pytest.param('revert', marks=pytest.mark.faults)])
def test_a_backends_process_is_killed_in_the_middle(
        name: str, fleet: Fleet) -> None:
    mark = fleet.log_mark()
    job = faults.OPERATIONS[name](fleet)
    wait_until(job.moment)
    old = fleet.children()['off']
    fleet.kill_child('off')
    fleet.settle(job.volume, was_ended=False)
    assert "The process of backend 'off' ended during" in (
        fleet.log_since(mark))
    fleet.check_truth(job.volume)
    if name == 'upload_in_chunks':
        _check_image(fleet, job)
        assert fleet.member.messages(job.volume), 'the user is not told'
    # Another one does what comes next.
    fleet.member.delete(fleet.member.create('off'))
    assert fleet.children()['off'] != old
    fleet.remove(job)


# -- what else may go away ---------------------------------------------------

@pytest.mark.parametrize('process', [
    pytest.param('rabbitmq', marks=pytest.mark.faults),
    pytest.param('mariadb', marks=pytest.mark.faults),
    pytest.param('glance', marks=pytest.mark.faults)])
def test_a_service_is_restarted_in_the_middle_of_an_upload(
        process: str, fleet: Fleet) -> None:
    job = faults.upload_in_chunks(fleet)
    wait_until(job.moment)
    fleet.sandbox.stop_process(process)
    fleet.sandbox.start_process(process)
    assert fleet.settle(job.volume, was_ended=False) == 'available'
    fleet.check_truth(job.volume)
    if process == 'rabbitmq':
        assert fleet.glance.status(job.image or '') == 'active'
    else:
        # Glance keeps its records in MariaDB, too.
        _check_image(fleet, job)
    fleet.remove(job)


@pytest.mark.faults
def test_a_volume_is_deleted_while_its_upload_is_finished(
        fleet: Fleet) -> None:
    """It is given back after the restart, where the old process may still
    be undoing."""
    job = faults.upload_in_chunks(fleet)
    wait_until(job.moment)
    with fleet.frozen('glance'):
        fleet.interrupt('service')
    fleet.start()
    fleet.settle(job.volume)
    fleet.member.client.volumes.delete(job.volume)
    wait_until(lambda: fleet.member.status(job.volume) in (
        None, 'available'), 90)
    fleet.settle(job.volume)
    fleet.check_truth(job.volume)
    fleet.remove(job)
