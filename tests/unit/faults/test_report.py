# SPDX-License-Identifier: Apache-2.0
"""Which kills are done, and what is said of them."""

from __future__ import annotations

import collections
import json
import pathlib

from tests.faults import choosing
from tests.faults.effects import AFTER, BEFORE, KillPoint
from tests.faults.judging import Reference
from tests.faults.report import Kill, Report


def _reference(name: str, count: int) -> Reference:
    return Reference(name, tuple(f'effect {number}' for number
                                 in range(count)), {}, {})


REFERENCES = {name: _reference(name, count)
              for name, count in (('a', 2), ('b', 5), ('c', 40))}


def test_everything_is_every_point_once() -> None:
    tasks = choosing.everything(REFERENCES)
    assert len(tasks) == len(set(tasks)) == 2 * (2 + 5 + 40)


def test_a_sample_is_spread_over_all_operations() -> None:
    tasks = choosing.spread(REFERENCES, 12, seed=1)
    assert collections.Counter(task.operation for task in tasks) == {
        'a': 4, 'b': 4, 'c': 4}
    assert len(set(tasks)) == 12


def test_points_come_again_only_when_all_have_come() -> None:
    tasks = choosing.spread({'a': REFERENCES['a']}, 8, seed=1)
    assert collections.Counter(task.point for task in tasks) == {
        KillPoint(at, side): 2 for at in (1, 2) for side in (BEFORE, AFTER)}


def test_a_seed_makes_the_same_choice() -> None:
    for choose in (choosing.spread, choosing.at_random):
        assert choose(REFERENCES, 30, 7) == choose(REFERENCES, 30, 7)
        assert choose(REFERENCES, 30, 7) != choose(REFERENCES, 30, 8)


def test_some_recoveries_are_killed_too() -> None:
    tasks = choosing.at_random(REFERENCES, 100, 1)
    assert 5 < sum(task.again is not None for task in tasks) < 50


def _report() -> Report:
    report = Report(4711, 5)
    report.add(Kill('a', KillPoint(1, AFTER), 'RBD.create', 'gone', 2.0))
    report.add(Kill('a', KillPoint(2, AFTER), '', 'complete', 1.0))
    report.add(Kill('b', KillPoint(7, BEFORE), 'RBD.clone', 'wrong', 61.0,
                    again=3, findings=(
                        'leak: x', 'leak: y', 'slow: recovered after 61 s')))
    return report


def test_figures_count_kills_and_not_what_was_never_reached() -> None:
    figures = _report().figures()
    assert figures['kills'] == 2
    assert figures['leaks'] == figures['slow'] == 1
    assert figures['mismatches'] == 0
    assert figures['slowest_recovery_s'] == 61
    assert figures['operations']['a']['kills'] == 1
    assert figures['operations']['b']['leaks'] == 1


def test_a_finding_tells_the_command_that_repeats_it(tmp_path: pathlib.Path
                                                     ) -> None:
    report = _report()
    command = ('python -m tests.faults --operation b --at 7 --side before '
               '--again 3')
    assert command in report.render()
    report.write(tmp_path / 'kills.json')
    [finding] = json.loads((tmp_path / 'kills.json').read_text())['findings']
    assert finding['command'] == command
    assert finding['effect'] == 'RBD.clone'


def test_the_seed_is_told() -> None:
    assert 'seed 4711' in _report().render()
    assert _report().figures()['seed'] == 4711
