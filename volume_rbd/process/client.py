# SPDX-License-Identifier: Apache-2.0
"""The service's side: starts the child, and calls it.

Uses nothing but sockets and locks by their plain names, which eventlet
patches where it is used: a call then waits without holding anybody up.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from volume_rbd import exception
from volume_rbd.driver import RBDDriver
from volume_rbd.model import Caller
from volume_rbd.process import logs, operations, wire
from volume_rbd.process.server import Hello

LOG = logging.getLogger(__name__)

_END_TIMEOUT_S = 60.0


class Child(Protocol):
    """What is needed of a :class:`subprocess.Popen`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Launch = Callable[[str, socket.socket], Child]


def launch(name: str, control: socket.socket) -> Child:
    """Start a child that serves *control*."""
    return subprocess.Popen(
        [sys.executable, '-m', 'volume_rbd.process', name,
         str(control.fileno())],
        stdin=subprocess.DEVNULL, pass_fds=(control.fileno(),),
        # A Ctrl-C is the service's to handle.
        start_new_session=True)


class BackendProcess:
    """The child of one backend; started when it is first needed, and again
    where it has died.

    :param launch: starts it; for tests.
    """

    def __init__(self, hello: Hello, launch: Launch = launch) -> None:
        self._hello = hello
        self._launch = launch
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: Child | None = None

    @property
    def pid(self) -> int | None:
        """None while there is no child."""
        return self._process.pid if self._process else None

    def driver(self, caller: Caller | None = None) -> RBDDriver:
        """What has the driver's methods and runs them in the child.

        :param caller: whose token Glance is to see; None for the service.
        """
        return cast(RBDDriver, _Remote(self, caller))

    def close(self) -> None:
        """Let the child undo what it does, and end."""
        with self._lock:
            control, self._control = self._control, None
            process, self._process = self._process, None
        if control is not None:
            control.close()
        if process is not None:
            try:
                process.wait(timeout=_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                LOG.warning('The process %d of backend %s is still undoing '
                            'what it was at', process.pid, self._name)

    def call(self, subject: str, method: str, arguments: dict[str, Any],
             caller: Caller | None) -> Any:
        """Run ``driver.subject.method(**arguments)`` in the child.

        To leave this call early, by whatever exception, cancels it there.

        :raises VolumeRBDError: what the method raised.
        :raises BackendProcessLost: the child died.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._hand_over(theirs)
            try:
                wire.send(ours, {
                    'subject': subject, 'method': method,
                    'arguments': operations.pack(arguments),
                    'caller': operations.pack(caller)})
                answer = _receive_answer(ours)
            except wire.Closed:
                raise self._lost(f'{subject}.{method}') from None
        return operations.unpack_result(subject, method, answer)

    @property
    def _name(self) -> str:
        return self._hello.backend.name

    def _lost(self, during: str) -> exception.BackendProcessLost:
        return exception.BackendProcessLost(
            f'The process of backend {self._name!r} ended during {during}.')

    # -- the child -----------------------------------------------------------
    def _hand_over(self, theirs: socket.socket) -> None:
        """Give the child its end of a call; start it where there is none."""
        with self._lock:
            for _ in range(2):
                if self._control is None:
                    self._start()
                try:
                    self._send_fd(theirs)
                except OSError as error:
                    LOG.error('The process of backend %s has died (%s); it '
                              'is started again', self._name, error)
                    self._bury()
                else:
                    return
        raise self._lost('its start')

    def _send_fd(self, theirs: socket.socket) -> None:
        assert self._control is not None  # noqa: S101, for the type checker
        while True:
            try:
                socket.send_fds(self._control, [b'c'], [theirs.fileno()])
            except BlockingIOError:
                # Green sockets do not wait by themselves in sendmsg().
                time.sleep(0.01)
            else:
                return

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._launch(self._name, theirs)
        try:
            wire.send(ours, operations.pack(self._hello))
            _receive_answer(ours)
        except wire.Closed:
            ours.close()
            raise self._lost('its start') from None
        except exception.VolumeRBDError:
            ours.close()
            raise
        self._control = ours
        LOG.info('Backend %s runs in process %d', self._name,
                 self._process.pid)

    def _bury(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.poll()


def _receive_answer(sock: socket.socket) -> Any:
    """The result, or the error raised; what was logged goes to the log."""
    while True:
        message = wire.receive(sock)
        if 'log' in message:
            logs.replay(message['log'])
        elif 'error' in message:
            name, args = message['error']
            raise (exception.from_name(name, tuple(args))
                   or exception.VolumeRBDError(*args[:1]))
        else:
            return message['result']


@dataclasses.dataclass(frozen=True)
class _RemoteSubject:
    process: BackendProcess
    caller: Caller | None
    subject: str

    def __getattr__(self, method: str) -> Any:
        return functools.partial(self._call, method)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        function = operations.find(self.subject, method)
        # Names, so that both sides mean the same. The first is self.
        bound = inspect.signature(function).bind(None, *args, **kwargs)
        arguments = dict(list(bound.arguments.items())[1:])
        return self.process.call(
            self.subject, method, arguments, self.caller)


class _Remote(_RemoteSubject):
    """Has a subject for each of the driver's."""

    def __init__(self, process: BackendProcess, caller: Caller | None
                 ) -> None:
        super().__init__(process, caller, '')
        for subject in operations.OPERATIONS:
            if subject:
                object.__setattr__(
                    self, subject, _RemoteSubject(process, caller, subject))
