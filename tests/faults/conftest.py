# SPDX-License-Identifier: Apache-2.0
"""A harness for all kills of a module, and the cluster back afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import warnings
from collections.abc import Iterator

import pytest

with warnings.catch_warnings():
    # Libraries about each other, while they are imported.
    warnings.simplefilter('ignore')
    from tests.faults import harness as harnesses
    from tests.functional.house import House
from volume_rbd.sandbox import Sandbox

SEED = int(os.environ.get('VOLUME_RBD_FAULTS_SEED', '0'))
LANES = int(os.environ.get('VOLUME_RBD_FAULTS_LANES', '8'))


@pytest.fixture(scope='session')
def seed() -> int:
    return SEED or random.randrange(2 ** 32)


@pytest.fixture(scope='module')
def house(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
          ) -> Iterator[House]:
    """At the end everything is as it was, things without a name included."""
    with contextlib.closing(House(
            sandbox, tmp_path_factory.mktemp('config'))) as made:
        before = made.describe()
        yield made
        try:
            made.check_same(before)
        except AssertionError:
            made.scrub(before)
            raise


@pytest.fixture(scope='module')
def harness(house: House, tmp_path_factory: pytest.TempPathFactory, seed: int
            ) -> Iterator[harnesses.Harness]:
    with harnesses.opened(house, tmp_path_factory.mktemp('faults'),
                          lanes=LANES, seed=seed) as made:
        yield made
