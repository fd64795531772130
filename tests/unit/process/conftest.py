# SPDX-License-Identifier: Apache-2.0
"""A child that is a thread of the test, with a cloud in memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.unit.world import World
from volume_rbd import model, signatures
from volume_rbd.glance.interface import Glance
from volume_rbd.process import logs, wire
from volume_rbd.process.client import BackendProcess
from volume_rbd.process.server import Callers, Hello, Server


class ThreadChild:
    """Serves as the real child does, but for the hello."""

    pid = 1

    def __init__(self, world: World, control: socket.socket,
                 callers: Callers) -> None:
        self._world = world
        self._control = socket.socket(fileno=socket.dup(control.fileno()))
        self._callers = callers
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._control, self._world.driver() as driver:
            wire.receive(self._control)
            wire.send(self._control, {'result': None})
            Server(driver, self._callers, logs.Forwarder()).serve(
                self._control)

    def kill(self) -> None:
        """What the service sees of a crash."""
        self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def poll(self) -> int | None:
        return None

    def wait(self, timeout: float | None = None) -> int:
        self._thread.join(timeout)
        return 0


class Bench:
    """A backend process over a world.

    :ivar children: all that were started, the newest last.
    :ivar callers: for whom Glance was opened.
    """

    def __init__(self) -> None:
        self.world = World()
        self.children: list[ThreadChild] = []
        self.callers: list[model.Caller] = []
        self.process = BackendProcess(
            Hello(self.world.config, (), (), 20), self._launch)

    def _launch(self, name: str, control: socket.socket) -> ThreadChild:
        child = ThreadChild(self.world, control, self)
        self.children.append(child)
        return child

    def glance_for(self, caller: model.Caller | None) -> Glance:
        assert caller is not None
        self.callers.append(caller)
        return self.world.glance

    def certificates_for(self, caller: model.Caller | None
                         ) -> signatures.Certificates:
        return signatures.NoCertificates()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.process.close()
