# SPDX-License-Identifier: Apache-2.0
"""Starting and stopping the sandbox's processes, each by its own identity.

A process is never looked for by name. It is known by pid, start time and
boot; a signal goes through a pidfd that was opened before the identity was
checked, so that a recycled pid cannot be hit even in the instant between.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from volume_rbd.sandbox.state import ProcessRecord

_POLL_S = 0.05
_KILL_TIMEOUT_S = 10.0
_DETACHED_TIMEOUT_S = 5.0
_ENV = '/usr/bin/env'
_PASSED_ON = ('PATH', 'HOME', 'TMPDIR', 'TZ')


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """How to start one process.

    :param folder: its working directory. Not the caller's: that could be
        unmounted, and Python would import from it (we have a ``glance``).
    :param environment: added to a small clean environment; nothing else of
        the caller's is inherited (proxies, PYTHONPATH).
    :param config: the text of its configuration: when it changes, the
        process is another one and is restarted.
    :param ports: loopback ports it listens on.
    :param logs: files that tell why it failed, the most telling one first.
    :param stop_timeout_s: time between SIGTERM and SIGKILL.
    """

    name: str
    command: Sequence[str]
    output: Path
    folder: Path = Path('/')
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config: str = ''
    ports: Sequence[int] = ()
    logs: Sequence[Path] = ()
    stop_timeout_s: float = 20.0

    @property
    def fingerprint(self) -> str:
        """A hash of everything that makes this process what it is."""
        parts = [*self.command, *map(repr, sorted(self.environment.items())),
                 self.config]
        return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class _Stat:
    state: str
    parent: int
    session: int
    start_ticks: int


def get_boot_id() -> str:
    """The kernel's name for the time since it booted."""
    return Path('/proc/sys/kernel/random/boot_id').read_text().strip()


def _find_stat(pid: int) -> _Stat | None:
    try:
        text = Path(f'/proc/{pid}/stat').read_text(errors='replace')
    except OSError:
        return None
    # The name, in parentheses, may itself hold blanks and parentheses.
    fields = text.rpartition(')')[2].split()
    return _Stat(fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def spawn(spec: ProcessSpec) -> ProcessRecord:
    """Start a process in a session of its own, away from our terminal.

    :raises OSError: the program cannot be executed.
    """
    if shutil.which(spec.command[0]) is None:
        raise FileNotFoundError(f'no program {spec.command[0]}')
    environment = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    environment |= {'LANG': 'C.UTF-8'} | dict(spec.environment)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # Not subprocess.Popen: the process outlives us, and Popen wants to wait.
    # env changes the folder and becomes the program, under the same pid.
    pid = os.posix_spawn(
        _ENV, [_ENV, f'--chdir={spec.folder}', *spec.command], environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(spec.output), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGHUP],
    )
    stat = _find_stat(pid)
    # A child of ours stays in /proc until we reap it, even when it is dead.
    start_ticks = stat.start_ticks if stat else 0
    return ProcessRecord(pid, start_ticks, get_boot_id(), spec.fingerprint)


def find_state(record: ProcessRecord) -> str | None:
    """The state letter in /proc of exactly this process; None if it ended.

    ``T`` is a stopped (paused) process. A zombie has ended; if it is our
    child it is reaped here.
    """
    if record.boot_id != get_boot_id():
        return None
    stat = _find_stat(record.pid)
    if stat is None or stat.start_ticks != record.start_ticks:
        return None
    if stat.state in 'ZX':
        with contextlib.suppress(ChildProcessError):
            os.waitpid(record.pid, os.WNOHANG)
        return None
    return stat.state


def is_alive(record: ProcessRecord) -> bool:
    """Whether exactly this process is there (paused counts as alive)."""
    return find_state(record) is not None


def send_signal(record: ProcessRecord, number: int) -> bool:
    """Send a signal to exactly this process; False when it has ended."""
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(record):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def signal_session(record: ProcessRecord, number: int) -> bool:
    """Signal a process and all it has started; False when it has ended."""
    members = find_session(record)
    for member in members:
        send_signal(member, number)
    return bool(members)


def stop(record: ProcessRecord, *, folder: Path, timeout_s: float) -> bool:
    """Stop a process and what is left of its session.

    SIGTERM first; SIGKILL once ``timeout_s`` has passed. A paused process is
    woken, for it could not act on SIGTERM.

    :param folder: the sandbox's; see ``find_leftovers``.
    :returns: False when something would not even die.
    """
    family = find_session(record)
    if send_signal(record, signal.SIGTERM):
        signal_session(record, signal.SIGCONT)
    if not wait_ended(record, timeout_s):
        send_signal(record, signal.SIGKILL)
        if not wait_ended(record, _KILL_TIMEOUT_S):
            return False
    return _kill([*find_leftovers(record, folder),
                  *_wait_for_detached(record, family)])


def wait_ended(record: ProcessRecord, timeout_s: float) -> bool:
    """Wait until the process has ended; False if ``timeout_s`` passed."""
    deadline = time.monotonic() + timeout_s
    while is_alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def find_session(record: ProcessRecord) -> list[ProcessRecord]:
    """The process, while it lives, and all it has started: gunicorn's workers.

    Descendants in sessions of their own count: a backend of cinder-volume
    is one. Empty when it has ended; see ``find_leftovers`` for what it left
    then.
    """
    return _scan_session(record) if is_alive(record) else []


def find_leftovers(record: ProcessRecord, folder: Path
                   ) -> list[ProcessRecord]:
    """Children that outlived a dead leader: gunicorn's workers after kill -9.

    They are in the leader's session *and* work in the sandbox's folder: the
    session's number alone could have been recycled, too.
    """
    if record.boot_id != get_boot_id() or _find_stat(record.pid) is not None:
        return []
    return [item for item in _scan_session(record)
            if _works_in(item.pid, folder)]


def _scan_session(leader: ProcessRecord) -> list[ProcessRecord]:
    stats = {}
    for entry in os.scandir('/proc'):
        stat = _find_stat(int(entry.name)) if entry.name.isdigit() else None
        if stat and stat.state not in 'ZX':
            stats[int(entry.name)] = stat
    members = {pid for pid, stat in stats.items()
               if stat.session == leader.pid}
    size = 0
    while size < len(members):
        size = len(members)
        members |= {pid for pid, stat in stats.items()
                    if stat.parent in members}
    return [ProcessRecord(pid, stats[pid].start_ticks, leader.boot_id)
            for pid in sorted(members)]


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f'/proc/{pid}/cwd').readlink().is_relative_to(folder)
    except OSError:
        return False


def _wait_for_detached(leader: ProcessRecord, family: list[ProcessRecord]
                       ) -> list[ProcessRecord]:
    """Those in sessions of their own that do not end after the leader.

    They notice by a closed pipe, and may have something to bring to its end.
    """
    detached = []
    for member in family:
        stat = _find_stat(member.pid)
        if stat and stat.session != leader.pid and is_alive(member):
            detached.append(member)
    return [member for member in detached
            if not wait_ended(member, _DETACHED_TIMEOUT_S)]


def _kill(processes: list[ProcessRecord]) -> bool:
    for each in processes:
        send_signal(each, signal.SIGKILL)
    return all(wait_ended(each, _KILL_TIMEOUT_S) for each in processes)
