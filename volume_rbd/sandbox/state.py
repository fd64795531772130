# SPDX-License-Identifier: Apache-2.0
"""What a sandbox remembers between two commands.

One JSON file, readable by its owner only: it holds the passwords. Writers
hold the sandbox's lock (see lock.py); threads of one writer share one State.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volume_rbd import exception
from volume_rbd.sandbox import files
from volume_rbd.sandbox.options import Options

FILE_NAME = 'state.json'
VERSION = 1

# Who has a password: database accounts (db_*), Keystone's users, the
# message broker's only user, and Erlang's nodes (their cookie).
ACCOUNTS = (
    'db_keystone', 'db_glance', 'db_volume_rbd',
    'admin', 'cinder', 'glance', 'nova', 'member', 'other',
    'db_cinder', 'rabbitmq', 'erlang',
)


@dataclasses.dataclass(frozen=True)
class ProcessRecord:
    """One process that the sandbox started, so that it is found again.

    A pid alone is recycled by the kernel. Together with the start time (clock
    ticks since boot) and the boot it is unique; wall-clock time is not used,
    for it may be set back.

    :param fingerprint: hash of the command and the configuration it runs.
    """

    pid: int
    start_ticks: int
    boot_id: str
    fingerprint: str = ''


@dataclasses.dataclass
class State:
    """The memory of one sandbox.

    :param stages: what has been made, with the version that made it.
    :param log_marks: where in its log, in bytes, the present run of a
        process begins.
    """

    name: str
    options: Options
    ports: dict[str, int]
    socket_folder: str
    fsid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    osd_uuid: str = dataclasses.field(
        default_factory=lambda: str(uuid.uuid4()))
    passwords: dict[str, str] = dataclasses.field(default_factory=dict)
    stages: dict[str, str] = dataclasses.field(default_factory=dict)
    processes: dict[str, ProcessRecord] = dataclasses.field(
        default_factory=dict)
    glance_overrides: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=dict)
    cinder_overrides: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=dict)
    log_marks: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._mutex = threading.Lock()
        self._path: Path | None = None
        for account in ACCOUNTS:
            # bcrypt takes 72 bytes; these are 32.
            self.passwords.setdefault(account, secrets.token_urlsafe(24))

    def bind(self, folder: Path) -> None:
        """Say where ``save`` writes; changes are saved from now on."""
        self._path = folder / FILE_NAME
        self.save()

    def save(self) -> None:
        """Write the file; a no-op before ``bind``."""
        with self._mutex:
            self._write()

    def _write(self) -> None:
        if self._path is not None:
            files.write_private(self._path, json.dumps(
                self.to_json(), indent=2, sort_keys=True))

    def set_process(self, name: str, record: ProcessRecord | None) -> None:
        """Remember or (None) forget a process, on disk at once."""
        with self._mutex:
            if record is None:
                self.processes.pop(name, None)
            else:
                self.processes[name] = record
            self._write()

    def set_stage(self, stage: str, version: str = 'done') -> None:
        """Remember that something has been made, on disk at once."""
        with self._mutex:
            self.stages[stage] = version
            self._write()

    def to_json(self) -> dict[str, Any]:
        """The state as plain values."""
        return {'version': VERSION} | {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> State:
        """The state out of the plain values of ``to_json``."""
        known = {field.name for field in dataclasses.fields(cls)}
        arguments = {k: v for k, v in values.items() if k in known}
        arguments['options'] = Options.from_json(arguments['options'])
        arguments['processes'] = {
            name: ProcessRecord(**record)
            for name, record in arguments['processes'].items()
        }
        return cls(**arguments)


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.to_json()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, ProcessRecord):
        return dataclasses.asdict(value)
    return value


def find_state(folder: Path) -> State | None:
    """The state kept in ``folder``, or None where there is no sandbox.

    :raises SandboxError: the file is there but cannot be understood.
    """
    path = folder / FILE_NAME
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        if values['version'] != VERSION:
            raise ValueError(f'version {values["version"]}')
        state = State.from_json(values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise exception.SandboxError(
            f'The state of the sandbox, {path}, is unreadable: {error}.',
            remedy=f'Stop what is left by hand, then remove {folder}.',
        ) from error
    state._path = path
    return state
