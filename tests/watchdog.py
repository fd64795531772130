# SPDX-License-Identifier: Apache-2.0
"""Ends a test run that hangs where no signal is heard.

pytest-timeout raises in the main thread, which hears nothing while it is
inside of librados or librbd; and a test's teardown has no timer any more when
the test itself ran into its own. This thread waits longer than pytest-timeout
does, says where every thread stands, takes the sandboxes down and leaves.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
from collections.abc import Iterator

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import Sandbox

EXIT_STATUS = 70
_GRACE_S = 300
_running: list[Sandbox] = []


@contextlib.contextmanager
def guard(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A sandbox that must not outlive the test run."""
    _running.append(sandbox)
    try:
        yield sandbox
    finally:
        _running.remove(sandbox)


class Watchdog:
    """A pytest plugin. Tells of each failure at once, too: what is printed
    at the end only is lost when somebody else ends the run.

    :param stderr: a descriptor that pytest does not capture.
    :param tells: of failures; of several processes one does.
    """

    def __init__(self, stderr: int, *, tells: bool) -> None:
        self._stderr = stderr
        self._tells = tells

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self._tells:
            os.write(self._stderr, f'\n{report.nodeid} failed in '
                     f'{report.when}: {report.longreprtext}\n'.encode())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item
                                ) -> Iterator[None]:
        marker = item.get_closest_marker('timeout')
        asked = marker.args[0] if marker else item.config.getini('timeout')
        timer = threading.Timer(float(asked) + _GRACE_S, self._bark,
                                (item.nodeid,))
        timer.daemon = True
        timer.start()
        try:
            return (yield)
        finally:
            timer.cancel()

    def _bark(self, name: str) -> None:
        os.write(self._stderr, f'\n{name} hangs. Its threads:\n'.encode())
        faulthandler.dump_traceback(self._stderr)
        for sandbox in reversed(_running):
            with contextlib.suppress(exception.VolumeRBDError, OSError):
                sandbox.down()
        os._exit(EXIT_STATUS)
