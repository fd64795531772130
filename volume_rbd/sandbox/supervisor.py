# SPDX-License-Identifier: Apache-2.0
"""Keeps the processes of one sandbox: start, wait until ready, stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from volume_rbd import exception
from volume_rbd.sandbox import files, ports, process
from volume_rbd.sandbox.process import ProcessSpec
from volume_rbd.sandbox.state import ProcessRecord, State

_POLL_S = 0.1

# Says whether a process serves; False or OSError: not yet.
Probe = Callable[[], bool]
Report = Callable[[str], None]


def is_ready(probe: Probe) -> bool:
    """Whether the probe succeeds now; a refused connection is a no."""
    try:
        return probe()
    except (OSError, ValueError):
        return False


class Supervisor:
    """Starts and stops processes and writes them into the state.

    Used from several threads at a time, each for processes of its own.

    :param report: is told each step in one line.
    """

    def __init__(self, state: State, folder: Path, report: Report) -> None:
        self._state = state
        self._folder = folder
        self._report = report
        self._cancelled = threading.Event()
        self.started: list[str] = []

    def cancel(self) -> None:
        """Make every waiting ``ensure`` of the other threads give up."""
        self._cancelled.set()

    def ensure(self, spec: ProcessSpec, probe: Probe, *, timeout_s: float
               ) -> bool:
        """Make the process run as specified and serve; True if started.

        One that runs with another configuration is restarted, one that is
        paused goes on.

        :raises SandboxError: it does not start, or serve, in ``timeout_s``.
        """
        record = self._state.processes.get(spec.name)
        if record and process.is_alive(record):
            if record.fingerprint == spec.fingerprint:
                process.signal_session(record, signal.SIGCONT)
                self._wait_ready(spec, record, probe, timeout_s)
                return False
            self._report(f'{spec.name} has a new configuration')
        self.stop(spec.name, timeout_s=spec.stop_timeout_s)
        begin = time.monotonic()
        self._wait_ready(spec, self._start(spec), probe, timeout_s)
        seconds = time.monotonic() - begin
        self._report(f'{spec.name} is up ({seconds:.1f} s)')
        return True

    def _start(self, spec: ProcessSpec) -> ProcessRecord:
        self.check_cancelled()
        for port in spec.ports:
            _check_port(spec.name, port)
        try:
            record = process.spawn(spec)
        except OSError as error:
            raise exception.SandboxError(
                f'{spec.name} cannot be executed: {error}.',
                remedy='Install what the sandbox needs with "make demo".',
            ) from error
        self._state.set_process(spec.name, record)
        self.started.append(spec.name)
        return record

    def _wait_ready(self, spec: ProcessSpec, record: ProcessRecord,
                    probe: Probe, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            alive = process.is_alive(record)
            if alive and is_ready(probe):
                return
            if not alive:
                raise _failure(spec, 'ended instead of serving')
            if time.monotonic() > deadline:
                raise _failure(spec, f'did not serve in {timeout_s:.0f} s')
            self.check_cancelled()
            time.sleep(_POLL_S)

    def check_cancelled(self) -> None:
        """:raises Cancelled: another part of the sandbox has failed."""
        if self._cancelled.is_set():
            raise exception.Cancelled('Another part did not start.')

    def stop(self, name: str, *, timeout_s: float = 20.0) -> bool:
        """Stop a process; True if there was one to stop.

        :raises SandboxError: it cannot even be killed.
        """
        record = self._state.processes.get(name)
        if record is None:
            return False
        was_alive = process.is_alive(record)
        if not process.stop(record, folder=self._folder, timeout_s=timeout_s):
            raise exception.SandboxError(
                f'{name} (pid {record.pid}) does not die.',
                remedy='It hangs in the kernel: look at its disk, or reboot.',
            )
        self._state.set_process(name, None)
        if was_alive:
            self._report(f'{name} is stopped')
        return was_alive


def _check_port(name: str, port: int) -> None:
    # A stranger's server could even pass for ours when it is probed.
    if not ports.is_free(port):
        raise exception.SandboxError(
            f'The port {port} of {name} is used by another program.',
            remedy=f'Stop that program ("ss -ltnp sport = :{port}" names '
                   'it), or destroy the sandbox to get other ports.',
        )


def _failure(spec: ProcessSpec, what: str) -> exception.SandboxError:
    for path in (*spec.logs, spec.output):
        tail = files.read_tail(path)
        if tail:
            cause = files.find_cause(path)
            return exception.SandboxError(
                f'{spec.name} {what}. The end of {path}:\n{tail}\n'
                + (f'The last error in it: {cause}\n' if cause else ''),
                remedy=f'Mend what the log names ({path}), then run '
                       '"volume-rbd sandbox up" again.',
            )
    return exception.SandboxError(
        f'{spec.name} {what} and logged nothing.',
        remedy=f'Run it by hand: {" ".join(spec.command)}',
    )
