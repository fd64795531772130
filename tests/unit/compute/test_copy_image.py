# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from tests.fakes.glance import FakeGlance
from tests.unit.compute.conftest import DISK, Compute
from tests.unit.world import OnStep, StoringGlance, content
from volume_rbd import exception, model, plan
from volume_rbd.compute import copy_image

STEP = 'waiting for Glance to copy the image into rbd'


@pytest.fixture
def compute() -> Compute:
    made = Compute()
    made.configure(copy_store='rbd')
    made.world.glance = StoringGlance(made.world.server, roles=('admin',))
    return made


def test_an_image_elsewhere_is_copied_by_glance_and_cloned(compute: Compute
                                                           ) -> None:
    image_id = compute.world.make_image(store_id='file')
    report = OnStep()

    with compute.disks() as disks:
        result = disks.create(DISK, image_id, report=report)

    assert result.strategy == 'clone'
    assert result.values['copied_to_store'] == 'rbd'
    assert STEP in report.steps
    assert compute.world.glance.get_image(image_id).stores == ('file', 'rbd')
    assert compute.world.read('vms', DISK, length=5) == content()[:5]


def test_an_image_that_can_be_cloned_is_not_copied(compute: Compute) -> None:
    image_id = compute.world.make_image()
    compute.world.server.calls.clear()
    with compute.disks() as disks:
        result = disks.create(DISK, image_id)
    assert result.strategy == 'clone'
    assert 'copied_to_store' not in result.values
    assert 'copy_image' not in compute.world.server.calls


def test_a_copy_does_not_help_what_is_not_raw(compute: Compute) -> None:
    with compute.disks() as disks:
        decided = disks.plan_create(DISK, compute.world.make_image(
            disk_format='qcow2', store_id='file'))
    assert decided.reason is plan.Reason.NOT_RAW
    assert not copy_image.would_help(decided.reason)


def test_who_may_not_have_it_copied_gets_its_bytes_and_the_reason(
        compute: Compute) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.glance = StoringGlance(compute.world.server)

    with compute.disks() as disks:
        result = disks.create(DISK, image_id)

    assert result.strategy == 'download'
    assert 'copy_image' in result.values['not_copied']
    assert result.values['not_copied'] in result.sentence


def test_or_nothing_by_policy(compute: Compute) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.configure(must_clone=True)
    compute.world.glance = StoringGlance(compute.world.server)

    with compute.disks() as disks, pytest.raises(exception.GlanceForbidden):
        disks.create(DISK, image_id)
    assert compute.names() == []


# -- the wait -----------------------------------------------------------------

def _ensure(compute: Compute, image_id: str, *, store: str = 'rbd',
            report: OnStep | None = None, glance: FakeGlance | None = None,
            timeout_s: float = 5) -> bool:
    return copy_image.ensure(
        glance or compute.world.glance, image_id, store,
        fsid=compute.cluster.fsid, poll_s=0.001, timeout_s=timeout_s,
        report=report or OnStep())


def test_what_is_there_is_not_copied(compute: Compute) -> None:
    image_id = compute.world.make_image()
    assert not _ensure(compute, image_id)


def test_two_agents_wait_for_one_copy(compute: Compute) -> None:
    """The second one meets 409."""
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.copy_polls = 10
    compute.world.glance.copy_image(image_id, ['rbd'])
    compute.world.server.calls.clear()

    assert _ensure(compute, image_id)

    assert compute.world.glance.get_image(image_id).stores == ('file', 'rbd')


def test_a_copy_into_another_store_is_waited_for_and_then_it_is_our_turn(
        compute: Compute) -> None:
    compute.world.server.stores['third'] = model.StoreInfo('third', 'file')
    image_id = compute.world.make_image(store_id='file')
    compute.world.glance.copy_image(image_id, ['third'])

    assert _ensure(compute, image_id)

    assert compute.world.glance.get_image(image_id).stores == (
        'file', 'third', 'rbd')


def test_that_it_is_there_by_now_is_no_error(compute: Compute) -> None:
    image_id = compute.world.make_image(store_id='file')

    def copied(method: str) -> None:
        if method == 'copy_image':
            compute.world.server.hook = lambda method: None
            record = compute.world.server.get_record(image_id)
            record.change(stores=('file', 'rbd'))

    compute.world.server.hook = copied
    assert _ensure(compute, image_id)


@pytest.mark.parametrize('polls', [0, 3])
@pytest.mark.parametrize('how', ['told', 'untold'])
def test_a_copy_that_fails_is_an_error(compute: Compute, how: str,
                                       polls: int) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.copies_fail = how
    compute.world.server.copy_polls = polls

    with pytest.raises(exception.ImageNotCopied, match='No room'):
        _ensure(compute, image_id)


def test_after_a_copy_that_failed_there_may_be_another(compute: Compute
                                                       ) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.copies_fail = 'untold'
    with pytest.raises(exception.ImageNotCopied):
        _ensure(compute, image_id)

    compute.world.server.copies_fail = ''
    assert _ensure(compute, image_id)


def test_an_earlier_failure_does_not_count(compute: Compute) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.get_record(image_id).tell(failed=['rbd'])

    assert _ensure(compute, image_id)


def test_a_copy_that_does_not_end_is_given_up(compute: Compute) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.copy_polls = None

    with pytest.raises(exception.OperationTimeout, match='rbd'):
        _ensure(compute, image_id, timeout_s=0.02)


def test_a_wait_can_be_cancelled(compute: Compute) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.copy_polls = None
    report = OnStep({STEP: lambda: report.cancel()})

    with pytest.raises(exception.Cancelled):
        _ensure(compute, image_id, report=report)


def test_how_far_it_is_is_told(compute: Compute) -> None:
    image_id = compute.world.make_image(store_id='file')
    compute.world.server.copy_polls = 10
    compute.world.glance.copy_image(image_id, ['rbd'])
    compute.world.server.get_record(image_id).tasks[-1]['message'] = (
        'Copied 1 MiB')
    report = OnStep()

    assert _ensure(compute, image_id, report=report)
    assert (report.total_bytes, report.done_bytes) == (
        model.MIB, model.MIB)


@pytest.mark.parametrize(('store', 'error'), [
    ('nowhere', exception.StoreNotFound),
    ('file', exception.ConfigurationError)])
def test_a_store_that_would_not_help(compute: Compute, store: str,
                                     error: type[Exception]) -> None:
    image_id = compute.world.make_image()
    with pytest.raises(error, match=store):
        _ensure(compute, image_id, store=store)


def test_a_store_in_another_cluster_would_not_help(compute: Compute
                                                   ) -> None:
    image_id = compute.world.make_image(store_id='file')
    with pytest.raises(exception.ConfigurationError):
        copy_image.ensure(compute.world.glance, image_id, 'rbd', fsid='x',
                          poll_s=1, timeout_s=1, report=OnStep())
