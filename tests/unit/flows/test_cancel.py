# SPDX-License-Identifier: Apache-2.0
"""Somebody asks to stop, before each step, within each step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.flows import checks, test_faults
from tests.unit.world import OnStep, StoringGlance, content
from volume_rbd import exception, model, progress
from volume_rbd.model import MIB

UPLOAD_STEPS = [
    'creating the image record', 'taking a snapshot of the volume',
    'choosing a strategy', 'cloning the volume',
    'taking the snapshot of the image', 'registering the image',
    'waiting for the image to be active',
    'removing the snapshot of the volume']


class CancelsAtStep(OnStep):
    """:param number: of the step that is told to stop as it begins."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def step(self, name: str) -> None:
        super().step(name)
        if len(self.steps) > self._number:
            self.cancel()


class CancelsAtAdvance(progress.Cancellable):
    """:param number: of the piece after which it is told to stop; 0: none.
    :ivar count: how many pieces there were.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.count = 0
        self._number = number

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        self.count += 1
        if self.count == self._number:
            self.cancel()


def test_the_steps_are_told_in_order() -> None:
    report = OnStep()
    checks.upload().go(report).check_done()
    assert report.steps == UPLOAD_STEPS


@pytest.mark.parametrize('name', test_faults.OPERATIONS)
def test_cancelling_in_any_step_leaves_all_or_nothing(name: str) -> None:
    make = test_faults.OPERATIONS[name]
    whole = OnStep()
    make().go(whole).check_done()
    outcomes = []
    for number in range(len(whole.steps)):
        operation = make().go(CancelsAtStep(number))
        outcomes.append(type(operation.outcome).__name__)
        if isinstance(operation.outcome, exception.Cancelled):
            operation.check_untouched()
        else:
            operation.check_done()
    # At first it stops; from some step on it is too late for that.
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == 'Cancelled'


def test_cancelled_before_it_begins_it_does_nothing() -> None:
    report = progress.Cancellable()
    report.cancel()
    operation = checks.upload().go(report)
    assert isinstance(operation.error, exception.Cancelled)
    operation.check_untouched()
    assert 'create_image' not in operation.calls['glance']
    assert 'create_snapshot' not in operation.calls['ceph']


def test_once_glance_has_taken_it_it_is_too_late_to_stop() -> None:
    """An undo could leave an active image without data."""
    number = UPLOAD_STEPS.index('waiting for the image to be active')
    report = CancelsAtStep(number)
    checks.upload().go(report).check_done()
    assert report.is_cancelled


def test_just_before_glance_is_asked_it_can_still_be_stopped() -> None:
    number = UPLOAD_STEPS.index('registering the image')
    operation = checks.upload().go(CancelsAtStep(number))
    assert isinstance(operation.error, exception.Cancelled)
    assert 'register_location' not in operation.calls['glance']
    operation.check_untouched()


def test_cancelling_while_glance_is_asked_is_too_late() -> None:
    report = progress.Cancellable()

    class Glance(StoringGlance):
        def register_location(self, image_id: str, url: str,
                              hashes: model.Hashes | None = None) -> None:
            report.cancel()
            super().register_location(image_id, url, hashes)

    operation = checks.upload()
    operation.world.glance = Glance(operation.world.server)
    operation.go(report)
    operation.check_done()
    assert operation.result.strategy == 'clone'


def _upload_chunks() -> checks.Operation:
    return checks.upload(size_bytes=10 * MIB,
                         enable_clone_optimization=False)


def _upload_copy() -> checks.Operation:
    return checks.upload(size_bytes=40 * MIB, max_clone_depth=0)


def _create_copy() -> checks.Operation:
    return checks.create(data=content(40 * MIB), max_clone_depth=0)


def _download_chunks() -> checks.Operation:
    return checks.create(store_id='file', data=content(10 * MIB))


@pytest.mark.parametrize('make', [_upload_chunks, _upload_copy,
                                  _create_copy, _download_chunks])
def test_a_transfer_stops_after_any_piece(
        make: Callable[[], checks.Operation]) -> None:
    pieces = CancelsAtAdvance(0)
    make().go(pieces).check_done()
    assert pieces.count > 2
    for number in range(1, pieces.count):
        operation = make().go(CancelsAtAdvance(number))
        assert isinstance(operation.error, exception.Cancelled), number
        operation.check_untouched()


def test_a_flatten_stops_when_it_is_told() -> None:
    number = 1 + UPLOAD_STEPS.index('cloning the volume')
    report = CancelsAtStep(number)
    operation = checks.upload(clone_upload_flatten='before_register')
    operation.go(report)
    assert report.steps[-1] == 'flattening the clone'
    assert isinstance(operation.error, exception.Cancelled)
    operation.check_untouched()
    assert 'flatten' in operation.calls['ceph']
    assert 'protect_snapshot' not in operation.calls['ceph']


def test_a_transfer_counts_every_byte_once() -> None:
    report = progress.Cancellable()
    operation = checks.upload(size_bytes=10 * MIB,
                              enable_clone_optimization=False).go(report)
    assert report.total_bytes == 10 * MIB
    assert report.done_bytes == operation.result.bytes_moved
    assert report.done_bytes + report.skipped_bytes == 10 * MIB
