# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed wherever: a fresh process settles it, and nothing stays.

A sample in every run, everything with ``make faults``. A failure tells the
command that repeats it; all of it comes again with its seed::

    VOLUME_RBD_FAULTS_SEED=4711 VOLUME_RBD_FAULTS_COUNT=1000 \\
        pytest -s -m faults tests/faults/test_kill_points.py
"""

from __future__ import annotations

import json
import os
import pathlib
import re

import pytest

from tests.faults import choosing
from tests.faults import harness as harnesses
from tests.faults.broken import EXPECTED
from tests.faults.choosing import Task
from tests.faults.effects import AFTER, BEFORE, KillPoint
from tests.faults.harness import Harness
from tests.faults.judging import COMPLETE, GONE
from tests.faults.operations import OPERATIONS
from tests.faults.report import Report
from tests.faults.view import differences
from tests.functional import content
from tests.functional.house import House

SAMPLE = 69
#: Their result holds nothing; that of all others what the source holds.
EMPTY = {'create/blank': content.EMPTY[:16], 'create/sealed-blank': 'none'}
#: At least; every kill point comes once.
COUNT = int(os.environ.get('VOLUME_RBD_FAULTS_COUNT', '1000'))
REPORT = os.environ.get('VOLUME_RBD_FAULTS_REPORT')
_DEFAULT_WATCHES = 20


@pytest.fixture
def report(harness: Harness, seed: int) -> Report:
    """One for this test alone."""
    harness.report = Report(seed, harness.report.watch_timeout_s)
    return harness.report


# -- the harness itself -------------------------------------------------------

@pytest.mark.timeout(600)
def test_harm_is_found(harness: Harness, report: Report) -> None:
    """What breaks off with debris, a spoilt source or a lie about itself."""
    harness.run([Task(name, KillPoint(1, AFTER)) for name in EXPECTED])

    found = {kill.operation: kill.findings for kill in report.kills}
    for name, words in EXPECTED.items():
        assert any(text.startswith(words) for text in found[name]), (
            name, found[name])


def test_what_does_no_harm_is_not_blamed(harness: Harness, report: Report
                                         ) -> None:
    harness.run([Task('sound/extend', KillPoint(1, side))
                 for side in (BEFORE, AFTER)])

    assert [(kill.verdict, kill.findings) for kill in report.kills] == [
        (GONE, ()), (COMPLETE, ())]


def test_a_watch_that_lives_is_not_taken_for_a_lost_one(
        harness: Harness) -> None:
    lane = harness.lanes[0]
    lane.cluster.make(lane.pool, 'volume-open')
    with lane.cluster.open(lane.pool, 'volume-open'):
        assert lane.end_lost_watches('no run') == []
    lane.clear()


@pytest.mark.timeout(600)
def test_every_operation_goes_its_way_and_is_right(harness: Harness) -> None:
    """With what it does unless it is killed all else is compared."""
    right = harness.lanes[0].sources.content
    for name, reference in harness.references(list(OPERATIONS)).items():
        assert reference.strategy == OPERATIONS[name].strategy, name
        changed = differences(reference.before, reference.after)
        assert changed, name
        made = [json.loads(now) for key, (_, now) in changed.items()
                if re.fullmatch(r'(volumes/volume|images/|file .*/).*NEW',
                                key) and now]
        if name.startswith(('create', 'upload')):
            assert [each.get('content') or each['sealed content']
                    for each in made] == [EMPTY.get(name, right)], name


# -- kills --------------------------------------------------------------------

@pytest.mark.timeout(900)
def test_a_sample_of_kills_leaves_nothing(harness: Harness, report: Report,
                                          seed: int) -> None:
    """Over all operations and strategies, three each."""
    harness.run(choosing.spread(harness.references(list(OPERATIONS)), SAMPLE,
                                seed))
    assert len(report.kills) == SAMPLE
    _check(report)


@pytest.mark.faults
@pytest.mark.timeout(4 * 3600)
def test_no_kill_leaves_anything(harness: Harness, report: Report, seed: int
                                 ) -> None:
    """Every kill point once, and any again until there are enough; of those
    some have the recovery killed as well."""
    references = harness.references(list(OPERATIONS))
    tasks = choosing.everything(references)
    harness.run(tasks)
    harness.run(choosing.at_random(references, COUNT - len(tasks), seed))
    _publish(report)
    _check(report)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_nothing_stays_with_watches_of_the_usual_length(
        house: House, tmp_path: pathlib.Path, seed: int) -> None:
    """A killed client's watch lasts 30 s by default, and a lease 15: all the
    same it is settled within a minute of the restart."""
    with harnesses.opened(
            house, tmp_path, lanes=4, seed=seed,
            watch_timeout_s=harnesses.DEFAULT_WATCH_S) as harness:
        names = [name for name in OPERATIONS
                 if name.startswith(('create', 'upload'))]
        harness.run(choosing.spread(harness.references(names),
                                    _DEFAULT_WATCHES, seed))
        _publish(harness.report, '-default-watch')
        _check(harness.report)


def _check(report: Report) -> None:
    if report.findings:
        pytest.fail(report.render(), pytrace=False)
    print(report.render())


def _publish(report: Report, what: str = '') -> None:
    if REPORT:
        path = pathlib.Path(REPORT)
        report.write(path.with_stem(path.stem + what))
