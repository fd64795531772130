# SPDX-License-Identifier: Apache-2.0
"""A cluster of one monitor, one manager and one OSD on a sparse file."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from volume_rbd import exception
from volume_rbd.sandbox import (
    admin_socket,
    caps,
    ceph_files,
    command,
    files,
    packages,
)
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.process import ProcessSpec
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

_IDS = {'mon': 'a', 'mgr': 'a', 'osd': '0'}
_PG_NUM = {'volumes': 16, 'images': 16, 'vms': 8,
           'volumes-off': 8, 'volumes-stock': 8}
_COMMAND_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 60.0
_POLL_S = 0.3


class Ceph:
    """The Ceph part of a sandbox. Not thread-safe; one per sandbox."""

    def __init__(self, layout: Layout, state: State, supervisor: Supervisor,
                 report: Report) -> None:
        self._layout = layout
        self._state = state
        self._supervisor = supervisor
        self._report = report

    def up(self) -> None:
        """Bring the cluster up, from whatever there is of it.

        :raises SandboxError: a part does not start.
        """
        if 'ceph' not in self._state.stages:
            self._make()
        else:
            self._write_conf()
        self.start('mon')
        # The OSD's first boot takes longest and does not need the manager.
        with futures.ThreadPoolExecutor(2) as pool:
            manager = pool.submit(self.start, 'mgr')
            storage = pool.submit(self._start_storage)
        manager.result()
        storage.result()
        self.apply_caps()
        self._wait_served()

    def start(self, name: str) -> bool:
        """Start mon, mgr or osd if it does not run; True if started."""
        return self._supervisor.ensure(
            self._get_spec(name), self._get_probe(name),
            timeout_s=_START_TIMEOUT_S)

    def apply_caps(self) -> None:
        """Give the clients the caps that the options say, at once."""
        wanted = _describe_caps(self._state.options)
        if self._state.stages.get('caps') == wanted:
            return
        clients = caps.get_client_caps(self._state.options)
        del clients['client.admin']
        with futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(self._set_caps, clients, clients.values()))
        self._state.set_stage('caps', wanted)

    def _set_caps(self, entity: str, allowed: caps.Caps) -> None:
        arguments = caps.to_arguments(allowed)
        keyring = self._layout.ceph / f'ceph.{entity}.keyring'
        if keyring.exists():
            self.command(['auth', 'caps', entity, *arguments])
        else:  # made before this client was thought of
            files.write_private(keyring, self.command(
                ['auth', 'get-or-create', entity, *arguments]))

    def command(self, words: Sequence[str], *,
                timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
        """Output of ``ceph WORDS`` as client.admin.

        :raises SandboxError: it fails or takes too long.
        """
        return self._run('ceph', words, timeout_s)

    def get_health(self, *, timeout_s: float = 10.0) -> str:
        """HEALTH_OK, HEALTH_WARN or HEALTH_ERR."""
        answer = json.loads(self.command(
            ['health', '--format', 'json'], timeout_s=timeout_s))
        return str(answer['status'])

    def _run(self, program: str, words: Sequence[str], timeout_s: float
             ) -> str:
        return command.run(
            [packages.get_program(program), '--conf',
             str(self._layout.ceph_conf), *words], timeout_s=timeout_s)

    def _write_conf(self) -> None:
        files.write_private(self._layout.ceph_conf,
                            ceph_files.render_conf(self._layout, self._state))

    def _make(self) -> None:
        """Make the cluster's files anew; an unfinished attempt is wiped."""
        layout, state = self._layout, self._state
        shutil.rmtree(layout.ceph, ignore_errors=True)
        files.make_private_folders(
            [layout.ceph / part for part in ('mon', 'mgr', 'osd', 'crash')])
        self._write_conf()
        ceph_files.write_keyrings(layout, state.options)
        monmap = str(layout.ceph / 'monmap')
        self._run_plain('monmaptool', [
            '--create', '--fsid', state.fsid, '--addv', 'a',
            ceph_files.get_mon_addresses(state.ports), monmap])
        initial = layout.ceph / 'initial.keyring'
        # -f: without it even a mkfs works in a child, which outlives us.
        self._run('ceph-mon', ['-f', '-i', 'a', '--mkfs', '--monmap', monmap,
                               '--keyring', str(initial)], _START_TIMEOUT_S)
        initial.unlink()
        # The monitor does not run yet: it must not be asked for a config.
        self._run('ceph-osd', ['-f', '-i', '0', '--mkfs', '--monmap', monmap,
                               '--osd-uuid', state.osd_uuid,
                               '--no-mon-config'], _START_TIMEOUT_S)
        state.set_stage('ceph')
        state.set_stage('caps', _describe_caps(state.options))
        self._report('ceph: cluster made')

    def _run_plain(self, program: str, words: Sequence[str]) -> None:
        command.run([packages.get_program(program), *words],
                    timeout_s=_COMMAND_TIMEOUT_S)

    def _get_spec(self, name: str) -> ProcessSpec:
        return ProcessSpec(
            name,
            [packages.get_program(f'ceph-{name}'), '-f', '-i', _IDS[name],
             '--conf', str(self._layout.ceph_conf)],
            output=self._layout.output(name),
            folder=self._layout.run,
            logs=[self._layout.log(name)],
            ports=[port for key, port in self._state.ports.items()
                   if key.startswith(f'{name}_')],
        )

    def _get_probe(self, name: str) -> Callable[[], bool]:
        return {'mon': self._has_quorum, 'mgr': self._mgr_answers,
                'osd': self._osd_is_active}[name]

    def _has_quorum(self) -> bool:
        answer = admin_socket.ask(self._layout.socket('mon'), 'mon_status')
        return answer['state'] in ('leader', 'peon')

    def _mgr_answers(self) -> bool:
        # Whether it is the active one is asked once, in _wait_served.
        return bool(admin_socket.ask(self._layout.socket('mgr'), 'version'))

    def _osd_is_active(self) -> bool:
        answer = admin_socket.ask(self._layout.socket('osd'), 'status')
        return bool(answer['state'] == 'active')

    def _start_storage(self) -> None:
        self.start('osd')
        if 'pools' not in self._state.stages:
            self._make_pools('pools', caps.POOLS)
        if self._state.options.cinder and (
                'cinder_pools' not in self._state.stages):
            self._make_pools('cinder_pools', caps.CINDER_POOLS)

    def _make_pools(self, stage: str, names: Sequence[str]) -> None:
        with futures.ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(self._make_pool, names))
        self._state.set_stage(stage)
        self._report(f'ceph: pools {", ".join(names)} made')

    def _make_pool(self, name: str) -> None:
        number = str(_PG_NUM[name])
        self.command(['osd', 'pool', 'create', name, number, number])
        self._run('rbd', ['pool', 'init', name], _COMMAND_TIMEOUT_S)

    def _wait_served(self) -> None:
        """Wait until the pools answer and the manager runs rbd's tasks."""
        with futures.ThreadPoolExecutor(2) as pool:
            # A listing waits for the placement groups to have peered.
            listed = pool.submit(self._run, 'rbd', ['ls', 'volumes'],
                                 _COMMAND_TIMEOUT_S)
            ready = pool.submit(self._wait_tasks)
        listed.result()
        ready.result()

    def _wait_tasks(self) -> None:
        """Wait until ``rbd task`` works.

        A manager that is active but has not loaded the module yet says
        EINVAL (no such command), then for a while EAGAIN.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                self.command(['rbd', 'task', 'list'])
                return
            except exception.SandboxError:
                if time.monotonic() > deadline:
                    raise
            self._supervisor.check_cancelled()
            time.sleep(_POLL_S)


def _describe_caps(options: Options) -> str:
    return json.dumps(caps.get_client_caps(options), sort_keys=True)
