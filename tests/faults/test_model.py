# SPDX-License-Identifier: Apache-2.0
"""Anything in any order, in two processes at once that are killed at random,
against what it should have come to.

What was killed is done as a whole or not at all once somebody has recovered
it; which of the two is looked up, and the rest must fit. A failure tells its
seed::

    VOLUME_RBD_FAULTS_SEED=4711 VOLUME_RBD_FAULTS_OPERATIONS=6000 \\
        pytest -s -m faults tests/faults/test_model.py
"""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from tests.faults.harness import Harness
from tests.faults.random_model import KilledModel

SAMPLE = 40
REPORT = os.environ.get('VOLUME_RBD_FAULTS_REPORT')
OPERATIONS = int(os.environ.get('VOLUME_RBD_FAULTS_OPERATIONS', '6000'))


def _run(harness: Harness, seed: int, operations: int) -> None:
    print(f'VOLUME_RBD_FAULTS_SEED={seed}')
    model = KilledModel(harness, seed)
    try:
        model.run(operations)
        model.tear_down()
    finally:
        print(*model.log[-2 * SAMPLE:], sep='\n')
        harness.lanes[0].restore(model.tag)
    print(f'{len(model.log)} steps, {model.kills} of them killed')
    if REPORT:
        path = pathlib.Path(REPORT)
        path.with_stem(f'{path.stem}-model').write_text(json.dumps({
            'command': f'VOLUME_RBD_FAULTS_SEED={seed} make faults',
            'seed': seed, 'steps': len(model.log), 'kills': model.kills,
            'processes': 2}, indent=2) + '\n')
    assert model.kills


@pytest.mark.timeout(900)
def test_a_few_steps_of_two_processes_that_are_killed(
        harness: Harness, seed: int) -> None:
    _run(harness, seed, SAMPLE)


@pytest.mark.faults
@pytest.mark.timeout(6 * 3600)
def test_many_steps_of_two_processes_that_are_killed(
        harness: Harness, seed: int) -> None:
    _run(harness, seed, OPERATIONS)
