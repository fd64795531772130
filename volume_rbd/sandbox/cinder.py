# SPDX-License-Identifier: Apache-2.0
"""Cinder: the API, the scheduler and one volume service."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import volume_rbd
from volume_rbd.sandbox import (
    cinder_config,
    command,
    files,
    http_json,
    keystone,
    mariadb,
    process,
    rabbitmq,
    wsgi,
)
from volume_rbd.sandbox import layout as layouts
from volume_rbd.sandbox.block_storage import BlockStorage
from volume_rbd.sandbox.cinder_config import HOST
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.process import ProcessSpec
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

API, SCHEDULER, VOLUME = 'cinder-api', 'cinder-scheduler', 'cinder-volume'
PROCESSES = (API, SCHEDULER, VOLUME)

_MANAGE_TIMEOUT_S = 180.0
_START_TIMEOUT_S = 120.0
# cinder-volume gives its work 10 s, then ends it.
_STOP_TIMEOUT_S = 25.0
_KNOWN_TIMEOUT_S = 30.0
_POLL_S = 0.3
_WORKERS = 2
_THREADS = 8

# Cinder's own words for a backend whose class cannot be made, and for one
# whose set-up failed. Such a backend is left out, and said.
_NOT_LOADED = f'Volume service {HOST}@%s failed to start'
_NOT_SET_UP = "driver isn't initialized properly"


def get_url(state: State) -> str:
    """Cinder's URL, version included."""
    return f'http://127.0.0.1:{state.ports["cinder"]}/v3'


class Cinder:
    """The Block Storage service of a sandbox."""

    def __init__(self, layout: Layout, state: State, supervisor: Supervisor,
                 report: Report, database: mariadb.MariaDB) -> None:
        self._layout = layout
        self._state = state
        self._supervisor = supervisor
        self._report = report
        self._database = database

    def prepare(self) -> None:
        """Make folders, configuration and tables; needs only MariaDB.

        :raises SandboxError: cinder-manage fails.
        """
        self._write_config()
        version = importlib.metadata.version('cinder')
        if self._state.stages.get('cinder') == version:
            return
        if 'cinder' not in self._state.stages:
            self._database.empty('cinder')
        self._supervisor.check_cancelled()
        command.run(
            [layouts.get_venv_program('cinder-manage'), '--config-file',
             str(self._layout.cinder_conf), 'db', 'sync'],
            timeout_s=_MANAGE_TIMEOUT_S, folder=self._layout.run)
        self._state.set_stage('cinder', version)
        self._report('cinder: database made')

    def start(self, name: str) -> bool:
        """Start one of PROCESSES; True if it did not run as configured.

        :raises SandboxError: it does not start.
        """
        self._write_config()
        starters: dict[str, Callable[[], bool]] = {
            API: self._start_api, SCHEDULER: self._start_scheduler,
            VOLUME: self._start_volume}
        return starters[name]()

    def start_api(self) -> None:
        """Run the API, with its volume types."""
        self.start(API)
        if 'cinder_types' not in self._state.stages:
            with self._open_api() as api:
                api.ensure_types(cinder_config.BACKENDS)
            self._state.set_stage('cinder_types')
            self._report('cinder: volume types made')

    def wait_connected(self) -> None:
        """Wait until what runs has found a broker that was restarted.

        What is sent to a service before that is lost: its queue, which is
        not durable, is not there yet.

        :raises SandboxError: it does not find it.
        """
        for name in (SCHEDULER, VOLUME):
            if self._runs(name):
                self.start(name)

    def wait_known(self) -> None:
        """Wait until the scheduler knows the backends, and say which not.

        No error: a backend of ours that refuses its options is a case that
        tests look at. Nothing is done while a part is stopped.
        """
        needed = ('mariadb', 'rabbitmq', 'keystone', *PROCESSES)
        if not all(self._runs(name) for name in needed):
            return
        expected = set(cinder_config.get_enabled(self._layout, self._state))
        deadline = time.monotonic() + _KNOWN_TIMEOUT_S
        with self._open_api() as api:
            while True:
                missing = expected - {
                    host.partition('@')[2] for host in api.get_serving()}
                if (len(missing) <= self._count_failed(missing)
                        or time.monotonic() > deadline):
                    break
                self._supervisor.check_cancelled()
                time.sleep(_POLL_S)
        for name in sorted(missing):
            self._report(f'cinder-volume: the backend {name} does not serve; '
                         f'see {self._layout.log(VOLUME)}')

    # -- the processes ----------------------------------------------------

    def _start_api(self) -> bool:
        arguments = self._get_arguments(API)
        spec = wsgi.prepare(
            self._layout, API, folder=self._layout.cinder,
            config=self._render_common(), arguments=arguments,
            application='cinder.wsgi.api:application', workers=_WORKERS,
            threads=_THREADS, port=self._state.ports['cinder'],
            environment=self._get_environment())
        return self._supervisor.ensure(spec, self._api_answers,
                                       timeout_s=_START_TIMEOUT_S)

    def _start_scheduler(self) -> bool:
        spec = self._get_spec(SCHEDULER, self._render_common())
        queue = f'cinder-scheduler.{HOST}'
        return self._supervisor.ensure(
            spec, lambda: self._are_served([queue]) == [],
            timeout_s=_START_TIMEOUT_S)

    def _start_volume(self) -> bool:
        enabled = cinder_config.get_enabled(self._layout, self._state)
        before = self._state.processes.get(VOLUME)
        begin = self._mark_log()

        def serves() -> bool:
            queues = {f'cinder-volume.{HOST}@{name}': name
                      for name in enabled}
            missing = [queues[q] for q in self._are_served(list(queues))]
            ran = self._state.processes.get(VOLUME) == before
            said = self._read_log(
                self._state.log_marks.get(VOLUME, 0) if ran else begin)
            return all(_NOT_LOADED % name in said for name in missing)

        spec = self._get_spec(VOLUME, cinder_config.render(
            self._layout, self._state))
        started = self._supervisor.ensure(spec, serves,
                                          timeout_s=_START_TIMEOUT_S)
        if started:
            self._state.log_marks[VOLUME] = begin
            self._state.save()
        return started

    def _are_served(self, queues: Sequence[str]) -> list[str]:
        """Those of the queues that nobody waits at."""
        counts = rabbitmq.count_consumers(self._state, queues)
        return [queue for queue in queues if not counts[queue]]

    def _get_spec(self, name: str, config: str) -> ProcessSpec:
        return ProcessSpec(
            name, [layouts.get_venv_program(name),
                   *self._get_arguments(name)],
            output=self._layout.output(name), folder=self._layout.run,
            environment=self._get_environment(), config=config,
            logs=[self._layout.log(name), self._layout.output(name)],
            stop_timeout_s=_STOP_TIMEOUT_S)

    def _get_arguments(self, name: str) -> list[str]:
        return ['--config-file', str(self._layout.cinder_conf),
                '--log-file', str(self._layout.log(name))]

    def _get_environment(self) -> dict[str, str]:
        # Both ways are said, whatever Cinder's default may become.
        is_off = not self._state.options.cinder_eventlet
        return {'OS_CINDER_DISABLE_EVENTLET_PATCHING': str(is_off).lower(),
                # The driver of whoever started the sandbox, and no other
                # copy that is installed beside it.
                'PYTHONPATH': str(Path(volume_rbd.__file__).parents[1])}

    def _api_answers(self) -> bool:
        # 300 Multiple Choices is how Cinder lists its API versions.
        return http_json.get_status(
            self._state.ports['cinder'], '/') in (200, 300)

    def _runs(self, name: str) -> bool:
        record = self._state.processes.get(name)
        return record is not None and process.find_state(record) not in (
            None, 'T')

    # -- configuration, log, API ------------------------------------------

    def _write_config(self) -> None:
        folder = self._layout.cinder
        files.make_private_folders(
            folder / part
            for part in ('state', 'conversion', 'coordination', 'locks',
                         'keys'))
        files.write_private(self._layout.cinder_conf, cinder_config.render(
            self._layout, self._state))

    def _render_common(self) -> str:
        return cinder_config.render_common(self._layout, self._state)

    def _mark_log(self) -> int:
        """Where the log ends now, in bytes."""
        path = self._layout.log(VOLUME)
        return path.stat().st_size if path.exists() else 0

    def _read_log(self, begin: int) -> str:
        return _read_from(self._layout.log(VOLUME), begin)

    def _count_failed(self, backends: set[str]) -> int:
        """How many of these have said that they will never serve."""
        text = self._read_log(self._state.log_marks.get(VOLUME, 0))
        not_loaded = sum(_NOT_LOADED % name in text for name in backends)
        return not_loaded + text.count(_NOT_SET_UP)

    @contextmanager
    def _open_api(self) -> Iterator[BlockStorage]:
        with keystone.open_identity(self._state) as identity:
            api = BlockStorage(self._state.ports['cinder'], identity.token)
        try:
            yield api
        finally:
            api.close()


def _read_from(path: Path, begin: int) -> str:
    try:
        with path.open('rb') as stream:
            stream.seek(begin, os.SEEK_SET)
            return stream.read().decode('utf-8', 'replace')
    except FileNotFoundError:
        return ''
