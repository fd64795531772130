# SPDX-License-Identifier: Apache-2.0
"""What may be there after a kill, and what is said of the rest."""

from __future__ import annotations

import pytest

from tests.faults import judging
from tests.faults.judging import COMPLETE, GONE, WRONG, Reference, judge
from tests.faults.view import View

SOURCE = {'volumes/source': 'a'}
REFERENCE = Reference('x', ('one',), SOURCE, {
    **SOURCE, 'volumes/NEW': '"state": "complete"', 'glance NEW': 'active'})


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, '_PAUSE_S', 0)
    monkeypatch.setattr(judging, '_TRIMMED_WITHIN_S', 0.01)


def verdict(**after: str) -> tuple[str, list[str]]:
    return judge(REFERENCE, SOURCE, lambda: {
        key.replace('__', '/').replace('_', ' '): value
        for key, value in after.items()})


def test_what_it_was_before_is_right() -> None:
    assert verdict(volumes__source='a') == (GONE, [])


def test_what_it_makes_when_nobody_kills_it_is_right() -> None:
    assert judge(REFERENCE, SOURCE, lambda: dict(REFERENCE.after)) == (
        COMPLETE, [])


def test_a_source_that_changed_is_a_mismatch() -> None:
    found, words = verdict(volumes__source='b')
    assert found == WRONG
    assert words == ['mismatch: volumes/source was a, is b, should be a']


def test_a_source_that_is_gone_is_a_mismatch() -> None:
    assert verdict()[1] == [
        'mismatch: volumes/source was a, is gone, should be a']


def test_what_is_strange_is_a_leak() -> None:
    assert verdict(volumes__source='a', volumes__debris='x') == (
        WRONG, ['leak: volumes/debris x'])


def test_a_part_of_the_result_is_a_leak() -> None:
    found, words = verdict(volumes__source='a', glance_NEW='active')
    assert found == WRONG
    assert words == ['leak: glance NEW of a result that is not complete']


def test_a_result_that_does_not_claim_to_be_complete_is_a_leak() -> None:
    assert verdict(volumes__source='a', volumes__NEW='"state": "pending"')[
        1] == ['leak: volumes/NEW "state": "pending"']


def test_a_result_that_is_not_what_it_claims_is_a_mismatch() -> None:
    [words] = verdict(volumes__source='a', volumes__NEW='complete, other')[1]
    assert words.startswith('mismatch: volumes/NEW')


def test_a_record_that_stays_is_a_job_that_is_not_finished() -> None:
    assert verdict(volumes__source='a', record_job='there')[1] == [
        'unfinished: record job']


def test_a_complete_result_with_debris_is_not_right() -> None:
    after: View = {**REFERENCE.after, 'volumes/debris': 'x'}
    assert judge(REFERENCE, SOURCE, lambda: after) == (
        WRONG, ['leak: volumes/debris x'])


def test_objects_that_are_still_trimmed_are_waited_for() -> None:
    looks = [{**SOURCE, 'object rbd_data.1': 'there'}, SOURCE]
    assert judge(REFERENCE, SOURCE, lambda: looks.pop(0)) == (GONE, [])


def test_objects_that_stay_are_a_leak() -> None:
    after = {**SOURCE, 'object rbd_data.1': 'there'}
    assert judge(REFERENCE, SOURCE, lambda: after) == (
        WRONG, ['leak: object rbd_data.1 there'])


def test_nothing_less_than_the_result_is_complete() -> None:
    """An operation that takes away: a half of that is wrong."""
    reference = Reference('x', (), {'a': '1', 'b': '2'}, {})
    found, words = judge(reference, {'a': '1', 'b': '2'}, lambda: {'b': '2'})
    assert found == WRONG
    assert words
