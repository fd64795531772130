# SPDX-License-Identifier: Apache-2.0
"""A cluster of two cinder-volume services: the sandbox's own and a second one
beside it, as on another host."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pymysql

from tests.e2e.cinder import CinderAPI
from tests.e2e.traces import soon
from volume_rbd.sandbox import Sandbox, layout
from volume_rbd.sandbox.state import find_state

SECOND = 'second'


@contextlib.contextmanager
def clustered(sandbox: Sandbox) -> Iterator[None]:
    """The sandbox's service is a member of a cluster."""
    sandbox.configure_cinder({'DEFAULT': {'cluster': 'pair'}})
    try:
        yield
    finally:
        _leave_cluster(sandbox)
        sandbox.configure_cinder({})


def _leave_cluster(sandbox: Sandbox) -> None:
    """Cinder has no way back: a service stays in the cluster that it joined.
    """
    sandbox.stop_process('cinder-volume')
    state = find_state(sandbox.folder)
    assert state is not None
    with contextlib.closing(pymysql.connect(
            host='127.0.0.1', port=state.ports['mariadb'], user='cinder',
            database='cinder', password=state.passwords['db_cinder'])
            ) as connection, connection.cursor() as cursor:
        cursor.execute('UPDATE services SET cluster_name = NULL')
        cursor.execute('DELETE FROM clusters')
        connection.commit()


class Second:
    """The service beside the sandbox's own.

    :param folder: for its configuration and its log.
    """

    def __init__(self, sandbox: Sandbox, admin: CinderAPI, folder: Path
                 ) -> None:
        self._admin = admin
        self._log = folder / 'log'
        self._conf = folder / 'cinder.conf'
        mine = (sandbox.folder / 'cinder' / 'cinder.conf').read_text()
        self._conf.write_text(mine.replace(
            'host = sandbox\n', f'host = {SECOND}\n'))
        self._conf.chmod(0o600)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        is_off = os.environ.get('VOLUME_RBD_TEST_CINDER') == 'threads'
        self._process = subprocess.Popen(
            [layout.get_venv_program('cinder-volume'), '--config-file',
             self._conf, '--log-file', self._log],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, 'OS_CINDER_DISABLE_EVENTLET_PATCHING':
                 str(is_off).lower()})
        assert soon(self._is_up, 60), self.logged()[-2000:]

    def _is_up(self) -> bool:
        return any(service.host == f'{SECOND}@on' and service.state == 'up'
                   for service in self._admin.client.services.list(
                       binary='cinder-volume'))

    def processes(self) -> list[psutil.Process]:
        """It and all that it has started."""
        assert self._process is not None
        leader = psutil.Process(self._process.pid)
        return [leader, *leader.children(recursive=True)]

    def kill(self) -> None:
        """With all of its processes."""
        assert self._process is not None
        victims = self.processes()
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.kill()
        self._process.wait()
        psutil.wait_procs(victims, timeout=10)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        for backend in ('stock', 'off', 'on'):
            self._admin.client.services.disable(
                f'{SECOND}@{backend}', 'cinder-volume')

    def logged(self) -> str:
        return self._log.read_text(errors='replace')
