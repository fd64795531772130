# SPDX-License-Identifier: Apache-2.0
"""Anything in any order, in two processes at once that are killed at random,
against what it should have come to.

What was killed is done as a whole or not at all once somebody has recovered
it; which of the two is looked up, and the rest must fit. Many steps are those
of several such worlds side by side, each with a pool and a seed of its own: it
is mostly leases that are waited for. A failure tells its seed::

    VOLUME_RBD_FAULTS_SEED=4711 VOLUME_RBD_FAULTS_OPERATIONS=6000 \\
        pytest -s -m faults tests/faults/test_model.py
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib

import pytest

from tests.faults.harness import Harness
from tests.faults.random_model import KilledModel

SAMPLE = 40
WORLDS = 6
REPORT = os.environ.get('VOLUME_RBD_FAULTS_REPORT')
OPERATIONS = int(os.environ.get('VOLUME_RBD_FAULTS_OPERATIONS', '6000'))


def _run(harness: Harness, seed: int, operations: int, worlds: int) -> None:
    models = [KilledModel(harness, lane, seed + number)
              for number, lane in enumerate(harness.lanes[:worlds])]
    with concurrent.futures.ThreadPoolExecutor(len(models)) as executor:
        running = [executor.submit(_run_one, model,
                                   operations // len(models))
                   for model in models]
    steps = sum(len(model.log) for model in models)
    kills = sum(model.kills for model in models)
    lost = sum(model.lost_watches for model in models)
    print(f'{steps} steps, {kills} of them killed, {lost} lost watches')
    failed = [model.seed for model, future in zip(
        models, running, strict=True) if future.exception()]
    if REPORT:
        path = pathlib.Path(REPORT)
        path.with_stem(f'{path.stem}-model').write_text(json.dumps({
            'command': f'VOLUME_RBD_FAULTS_SEED={seed} make faults',
            'seed': seed, 'worlds': len(models), 'failed': failed,
            'steps': steps, 'kills': kills, 'lost_watches': lost,
            'processes': 2}, indent=2) + '\n')
    for future in running:
        future.result()
    assert kills


def _run_one(model: KilledModel, operations: int) -> None:
    print(f'VOLUME_RBD_FAULTS_SEED={model.seed}', flush=True)
    try:
        model.run(operations)
        model.tear_down()
    except BaseException as error:
        print(f'seed {model.seed} failed: {error}', *model.log[-2 * SAMPLE:],
              sep='\n', flush=True)
        raise
    finally:
        model.restore()


@pytest.mark.timeout(900)
def test_a_few_steps_of_two_processes_that_are_killed(
        harness: Harness, seed: int) -> None:
    _run(harness, seed, SAMPLE, 1)


@pytest.mark.faults
@pytest.mark.timeout(6 * 3600)
def test_many_steps_of_two_processes_that_are_killed(
        harness: Harness, seed: int) -> None:
    _run(harness, seed, OPERATIONS, WORLDS)
