# SPDX-License-Identifier: Apache-2.0
"""The child: takes calls until the service is gone."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import signal
import socket
import threading
import time
from typing import Any, Protocol

from volume_rbd import exception, model, opts, progress, signatures
from volume_rbd.driver import RBDDriver, upkeep
from volume_rbd.glance.interface import Glance
from volume_rbd.manager import VolumeManager
from volume_rbd.process import logs, operations, wire

LOG = logging.getLogger(__name__)

#: How long the undoing may take once the service is gone.
_DRAIN_S = 300.0


@dataclasses.dataclass(frozen=True)
class Hello:
    """The first message: which backend, and how it is set up.

    :param files: of the service's configuration, for Glance's credentials.
    :param log_level: of this project's loggers.
    """

    backend: opts.BackendConfig
    files: tuple[str, ...]
    folders: tuple[str, ...]
    log_level: int


def main(fd: int) -> None:
    """Serve the service at the other end of *fd* until it closes it."""
    # A service that is told to stop finishes what it has begun; it closes
    # the socket when it is done with us.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _take(fd) as control:
        try:
            hello = operations.unpack(Hello, wire.receive(control))
            forwarder = logs.Forwarder()
            forwarder.install(hello.log_level)
            server = _open(hello, forwarder)
        except wire.Closed:
            return
        except exception.VolumeRBDError as error:
            wire.send(control, _describe(error))
            return
        wire.send(control, {'result': None})
        server.serve(control)
    # librados' own threads may still run; they need not be taken apart.
    os._exit(0)


def _open(hello: Hello, forwarder: logs.Forwarder) -> Server:
    # Not as whoever the environment speaks of: it is a daemon's.
    manager = VolumeManager(hello.files, hello.folders, environ={})
    return Server(manager.open(hello.backend), manager, forwarder)


class Callers(Protocol):
    """What is opened anew for each caller; a VolumeManager does it."""

    def glance_for(self, caller: model.Caller | None) -> Glance: ...

    def certificates_for(self, caller: model.Caller | None
                         ) -> signatures.Certificates: ...


class Server:
    """Runs each call on a thread of its own."""

    def __init__(self, driver: RBDDriver, callers: Callers,
                 forwarder: logs.Forwarder) -> None:
        self._driver = driver
        self._callers = callers
        self._forwarder = forwarder
        self._running: set[_Call] = set()
        self._is_ending = threading.Event()

    def serve(self, control: socket.socket) -> None:
        """Until the other side is gone; then cancel and undo."""
        upkeep.keep_up(self._driver, self._is_ending)
        while True:
            data, fds, _, _ = socket.recv_fds(control, 1, 1)
            if not data:
                break
            for fd in fds:
                call = _Call(_take(fd))
                self._running.add(call)
                threading.Thread(target=self._run, args=(call,),
                                 name='call', daemon=True).start()
        self._is_ending.set()
        self._drain()
        self._driver.close(wait=False)

    def _drain(self) -> None:
        deadline = time.monotonic() + _DRAIN_S
        for call in list(self._running):
            call.cancel()
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)

    def _run(self, call: _Call) -> None:
        try:
            request = wire.receive(call.sock)
            call.watch()
            with self._forwarder.to(call.send):
                answer = self._answer(request, call)
            call.send(answer)
        except wire.Closed:
            LOG.debug('The service does not wait for the call any more')
        finally:
            self._running.discard(call)
            call.close()

    def _answer(self, request: dict[str, Any], call: _Call
                ) -> dict[str, Any]:
        try:
            return {'result': operations.pack(self._execute(request, call))}
        except exception.VolumeRBDError as error:
            return _describe(error)
        except Exception as error:
            LOG.exception('%s.%s failed', request.get('subject'),
                          request.get('method'))
            return _describe(exception.VolumeRBDError(
                f'Something unforeseen went wrong: {error!r}.'))

    def _execute(self, request: dict[str, Any], call: _Call) -> object:
        subject, method = request['subject'], request['method']
        function = operations.find(subject, method)
        arguments = operations.unpack_arguments(
            subject, method, request['arguments'])
        wanted = inspect.signature(function).parameters
        if 'report' in wanted:
            arguments['report'] = call.report
        if 'is_undone_when_lost' in wanted:
            # A service that was killed gives up the volume that it was
            # making: Cinder sets it to error when it is back.
            arguments['is_undone_when_lost'] = True
        caller = operations.unpack(model.Caller, request['caller'])
        if caller is not None:
            if 'glance' in wanted:
                arguments['glance'] = self._callers.glance_for(caller)
            if 'certificates' in wanted:
                arguments['certificates'] = (
                    self._callers.certificates_for(caller))
        owner = getattr(self._driver, subject) if subject else self._driver
        return getattr(owner, method)(**arguments)


def _take(fd: int) -> socket.socket:
    """A socket that the service made. Made by eventlet it does not block."""
    sock = socket.socket(fileno=fd)
    sock.setblocking(True)
    return sock


class _Call:
    """One call: its socket, and whether the service still waits for it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.report = progress.Cancellable()
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        with self._lock:
            wire.send(self.sock, message)

    def watch(self) -> None:
        """Cancel when the other side closes; it sends nothing more."""
        threading.Thread(target=self._watch, name='watch', daemon=True
                         ).start()

    def _watch(self) -> None:
        try:
            self.sock.recv(1)
        except OSError:
            LOG.debug('The socket of a call is gone')
        self.cancel()

    def cancel(self) -> None:
        self.report.cancel()

    def close(self) -> None:
        try:
            # Wakes the watching thread, which close() alone would not.
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            LOG.debug('The service has closed the call before us')
        self.sock.close()


def _describe(error: exception.VolumeRBDError) -> dict[str, Any]:
    return {'error': exception.describe(error)}
