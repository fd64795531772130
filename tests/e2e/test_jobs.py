# SPDX-License-Identifier: Apache-2.0
"""Jobs inside cinder-volume: whatever of it is killed, another process goes
on with them, and what Cinder and Glance say is true in the end."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e import faults, jobs
from tests.e2e.faults import POOLS, Fleet, Job, wait_until
from tests.e2e.pair import Second
from volume_rbd.sandbox import Sandbox

#: A job is over so long after there is somebody to take it up.
_SETTLED_S = 60.0

#: With the options below the backend "off" has a reason to copy.
_OPERATIONS = {
    'upload_by_clone': faults.upload_by_clone,
    'upload_by_copy': faults.upload_in_chunks,
    'from_raw': faults.from_raw,
    'from_qcow2': faults.from_qcow2,
}
_PURGED_SOON = {'deferred_deletion_purge_interval': 5}
_COPIES = {'enable_clone_optimization': True, 'rbd_max_clone_depth': 0,
           'copy_bandwidth': 100}


@pytest.fixture(scope='module')
def whole_fleet(sandbox: Sandbox) -> Iterator[Fleet]:
    sandbox.configure_cinder({'on': _PURGED_SOON,
                              'off': _PURGED_SOON | _COPIES})
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
    whole_fleet.start()
    whole_fleet.check_nothing_left(before)


def _begin(fleet: Fleet, name: str) -> Job:
    """An operation whose job is under way."""
    job = _OPERATIONS[name](fleet)
    wait_until(job.moment, what='the operation is not seen')
    assert jobs.unfinished(fleet.cluster), 'it was over too soon'
    return job


def _kill(fleet: Fleet, how: str, backend: str) -> None:
    """:param how: 'both': the service and its children; 'child': that of
        *backend*, and the service starts another one when it needs it."""
    if how == 'child':
        fleet.kill_child(backend)
    else:
        fleet.interrupt('kill')
        fleet.start()


def _settle(fleet: Fleet) -> None:
    began = time.monotonic()
    jobs.wait_for_end(fleet.cluster, _SETTLED_S)
    print(f'settled after {time.monotonic() - began:.1f} s')


def _wait_for_image(fleet: Fleet, job: Job) -> str | None:
    """No image stays on its way for ever."""
    image = str(job.image)
    found = wait_until(
        lambda: (status,) if (status := fleet.glance.status(image)) in (
            'active', None) else None, _SETTLED_S, 'the image is on its way')
    return str(found[0]) if found[0] else None


def _digest(fleet: Fleet, volume: str) -> str:
    return fleet.cluster.digest(fleet.pool_of(volume), f'volume-{volume}')


# -- uploads -----------------------------------------------------------------

@pytest.mark.parametrize(('how', 'name'), [
    ('both', 'upload_by_clone'),
    pytest.param('both', 'upload_by_copy', marks=pytest.mark.faults),
    pytest.param('child', 'upload_by_clone', marks=pytest.mark.faults),
    pytest.param('child', 'upload_by_copy', marks=pytest.mark.faults)])
def test_an_upload_is_finished_or_undone_after_a_kill(
        how: str, name: str, fleet: Fleet) -> None:
    job = _begin(fleet, name)
    _kill(fleet, how, 'on' if name == 'upload_by_clone' else 'off')
    _settle(fleet)
    status = _wait_for_image(fleet, job)
    fleet.member.wait_for_status(job.volume, 'available')
    fleet.check_truth(job.volume)
    assert not fleet.own_snapshots(fleet.pool_of(job.volume),
                                   f'volume-{job.volume}')
    if how == 'both':
        assert status == 'active'
    if status == 'active':
        assert fleet.glance.digest(str(job.image)) == _digest(
            fleet, job.volume)
    fleet.remove(job)


@pytest.mark.faults
@pytest.mark.parametrize('name', ['upload_by_clone', 'upload_by_copy'])
def test_a_volume_may_be_deleted_while_its_upload_is_taken_up(
        name: str, fleet: Fleet) -> None:
    """Cinder gives it back as soon as its service is there again."""
    job = _begin(fleet, name)
    fleet.interrupt('kill')
    fleet.start()
    wait_until(lambda: fleet.member.status(job.volume) == 'available',
               _SETTLED_S, 'the volume is not given back')
    fleet.member.client.volumes.delete(job.volume)
    _settle(fleet)
    wait_until(lambda: fleet.member.status(job.volume) in (
        None, 'available'), 90, 'the volume is between two states')
    fleet.check_truth(job.volume)
    if _wait_for_image(fleet, job) == 'active':
        fleet.glance.digest(str(job.image))
    fleet.remove(job)
    # What a clone needed is looked at again in ten minutes, or at the start.
    fleet.interrupt('term')
    fleet.start()


# -- volumes -----------------------------------------------------------------

@pytest.mark.faults
@pytest.mark.parametrize('how', ['both', 'child'])
@pytest.mark.parametrize('name', ['from_qcow2', 'from_raw'])
def test_a_volume_that_cinder_gave_up_is_undone(
        name: str, how: str, fleet: Fleet) -> None:
    job = _begin(fleet, name)
    _kill(fleet, how, 'off')
    jobs.wait_for_end(fleet.cluster, _SETTLED_S)
    # Cinder itself tries again where its service lives.
    wanted = ('error',) if how == 'both' else ('error', 'available')
    wait_until(lambda: fleet.member.status(job.volume) in wanted, 90,
               'the volume is between two states')
    _settle(fleet)
    fleet.check_truth(job.volume)
    if fleet.member.status(job.volume) == 'error':
        wait_until(lambda: not any(
            job.volume in line for line in fleet.describe()), _SETTLED_S,
            'something is left of it')
    fleet.remove(job)


# -- what is written down ----------------------------------------------------

@pytest.mark.faults
def test_no_record_has_the_token_of_who_asked(fleet: Fleet) -> None:
    volume = fleet.full('off')
    token = fleet.member.session.get_token()
    image = fleet.member.upload(volume)
    seen = ''
    while fleet.glance.status(image) in ('queued', 'saving'):
        seen += str(jobs.texts(fleet.cluster, POOLS['off']))
        assert token not in seen
    project = fleet.member.session.get_project_id()
    assert image in seen
    assert project in seen, 'the job was not seen'
    fleet.remove(Job(volume, lambda: True, image=image))


# -- two services ------------------------------------------------------------

def test_another_member_of_the_cluster_settles_what_the_killed_one_left(
        sandbox: Sandbox, second: Second) -> None:
    """The last one here: the backends have no options of ours after it."""
    with contextlib.closing(Fleet(sandbox)) as fleet:
        before = fleet.describe()
        job = _begin(fleet, 'upload_by_clone')
        [found] = jobs.unfinished(fleet.cluster)
        restart = _kill_owner(fleet, second, jobs.owner(found))
        _settle(fleet)
        assert _wait_for_image(fleet, job) == 'active'
        digest = fleet.glance.digest(str(job.image))
        restart()
        # Its own start gives the volume back, and touches nothing else.
        fleet.member.wait_for_status(job.volume, 'available')
        fleet.check_truth(job.volume)
        assert fleet.glance.status(str(job.image)) == 'active'
        assert fleet.glance.digest(str(job.image)) == digest == _digest(
            fleet, job.volume)
        fleet.remove(job)
        fleet.check_nothing_left(before)


def _kill_owner(fleet: Fleet, second: Second, pid: int) -> Callable[[], None]:
    """:returns: what starts that service again."""
    if pid in {process.pid for process in second.processes()}:
        second.kill()
        return second.start
    fleet.sandbox.signal_process('cinder-volume', signal.SIGKILL)
    return fleet.start
