# SPDX-License-Identifier: Apache-2.0
"""Tests in several processes at once (pytest-xdist), each with a sandbox.

A file goes to one process as a whole, for the sake of its fixtures; so do all
end-to-end tests: there is one ``/etc/ceph``. Whoever ends the run ends its
daemons, by way of the fixtures: xdist itself would kill its processes after
ten seconds.
"""

from __future__ import annotations

import signal

import psutil
import pytest

_TAKEN_DOWN_WITHIN_S = 120.0


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, 'workerinput')


def handle_signals(config: pytest.Config) -> None:
    signal.signal(signal.SIGTERM, _end)
    if is_worker(config):
        # A Ctrl-C is for all of the terminal's processes; the one that has
        # started the others tells them.
        signal.signal(signal.SIGINT, lambda *_: None)
    elif config.getoption('numprocesses', None):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end_workers)


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    pytest.exit('terminated', 143)


def _end_workers(*_: object) -> None:
    workers = psutil.Process().children()
    for worker in workers:
        worker.terminate()
    psutil.wait_procs(workers, _TAKEN_DOWN_WITHIN_S)
    pytest.exit('terminated', 143)


def group(items: list[pytest.Item]) -> None:
    """Tests of one group are of one process."""
    for item in items:
        parts = item.path.parts
        item.add_marker(pytest.mark.xdist_group(
            'e2e' if 'e2e' in parts else '-'.join(parts[-2:])))
