# SPDX-License-Identifier: Apache-2.0
"""The sandbox that all tests with real parts share.

It is made for the test run and destroyed after it. To keep one over several
runs while writing tests, name the folder and the name of one that is up::

    VOLUME_RBD_TEST_SANDBOX=.sandbox/default pytest tests/functional
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests import parallel, sandboxes, watchdog
from volume_rbd.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    # Before pytest captures what is written to descriptor 2.
    config.pluginmanager.register(watchdog.Watchdog(
        os.dup(2), tells=not parallel.is_worker(config)))
    parallel.configure(config)


@pytest.fixture(scope='session')
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A running sandbox. Fails, not skips, where it does not start."""
    kept = os.environ.get('VOLUME_RBD_TEST_SANDBOX')
    if kept and not parallel.is_worker(request.config):
        folder = pathlib.Path(kept).resolve()
        running = Sandbox(folder.name, folder.parent)
        running.up()
        yield running
        return
    with sandboxes.opened() as running:
        yield running


def pytest_collection_modifyitems(config: pytest.Config,
                                  items: list[pytest.Item]) -> None:
    """Unit tests first: they fail in seconds. In several processes what
    takes longest begins first, too."""
    order = ['unit', 'contract', 'functional', 'faults', 'e2e', 'benchmark']
    if parallel.is_worker(config):
        order.insert(0, 'e2e')

    def rank(item: pytest.Item) -> int:
        parts = item.path.parts
        return next((place for place, name in enumerate(order)
                     if name in parts), len(order))

    items.sort(key=rank)
