# SPDX-License-Identifier: Apache-2.0
"""Tests in several processes at once (pytest-xdist), each with a sandbox.

Whoever ends the run ends its daemons, by way of the fixtures: xdist itself
would kill its processes after ten seconds.
"""

from __future__ import annotations

import signal
import time
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

_TAKEN_DOWN_WITHIN_S = 120.0
_PAUSE_S = 0.2
_E2E = 'tests/e2e/'


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """A file goes to one process as a whole, for the sake of its fixtures; so
    do all end-to-end tests: there is one ``/etc/ceph``."""

    def _split_scope(self, nodeid: str) -> str:
        return _E2E if nodeid.startswith(_E2E) else nodeid.partition('::')[0]


class Parallel:
    """A pytest plugin of the process that starts the others."""

    @staticmethod
    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any
                                    ) -> Scheduling:
        return Scheduling(config, log)


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, 'workerinput')


def configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGTERM, _end)
    if is_worker(config):
        # A Ctrl-C is for all of the terminal's processes; the one that has
        # started the others tells them.
        signal.signal(signal.SIGINT, _ignore)
    elif config.getoption('numprocesses', None):
        config.pluginmanager.register(Parallel())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end_workers)


def _ignore(*_: object) -> None:
    """Not SIG_IGN, which would be handed on to every process we start."""


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, _ignore)
    pytest.exit('terminated', 143)


def _end_workers(*_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    workers = psutil.Process().children()
    for worker in workers:
        worker.terminate()
    # They themselves stay until they are told to go.
    deadline = time.monotonic() + _TAKEN_DOWN_WITHIN_S
    while _have_daemons(workers) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    pytest.exit('terminated', 143)


def _have_daemons(workers: list[psutil.Process]) -> bool:
    return any(child.status() != psutil.STATUS_ZOMBIE
               for worker in workers if worker.is_running()
               for child in worker.children(recursive=True))
