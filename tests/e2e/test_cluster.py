# SPDX-License-Identifier: Apache-2.0
"""Two cinder-volume services of one cluster, both of which may serve any of
its volumes: ``cluster =`` in cinder.conf."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from tests.e2e.cinder import CinderAPI
from tests.e2e.estate import soon
from tests.e2e.traces import Traces, opened
from volume_rbd.sandbox import Sandbox, layout
from volume_rbd.sandbox.state import find_state

SECOND = 'second'


@pytest.fixture
def clustered(sandbox: Sandbox) -> Iterator[None]:
    sandbox.configure_cinder({'DEFAULT': {'cluster': 'pair'}})
    yield
    # Cinder has no way back: a service stays in the cluster that it joined.
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
    sandbox.configure_cinder({})


@pytest.fixture
def traces(sandbox: Sandbox, clustered: None) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


@pytest.fixture
def second(sandbox: Sandbox, admin: CinderAPI, clustered: None,
           tmp_path: Path) -> Iterator[None]:
    """A service beside the sandbox's own, as on another host."""
    mine = (sandbox.folder / 'cinder' / 'cinder.conf').read_text()
    conf = tmp_path / 'cinder.conf'
    conf.write_text(mine.replace('host = sandbox\n', f'host = {SECOND}\n'))
    conf.chmod(0o600)
    is_off = os.environ.get('VOLUME_RBD_TEST_CINDER') == 'threads'
    with subprocess.Popen(
            [layout.get_venv_program('cinder-volume'), '--config-file', conf,
             '--log-file', tmp_path / 'log'], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, 'OS_CINDER_DISABLE_EVENTLET_PATCHING':
                 str(is_off).lower()}) as process:
        try:
            assert soon(lambda: _is_up(admin, f'{SECOND}@on'), 60), (
                tmp_path / 'log').read_text()[-2000:]
            yield
        finally:
            process.terminate()
            process.wait(60)
            for backend in ('stock', 'off', 'on'):
                admin.client.services.disable(
                    f'{SECOND}@{backend}', 'cinder-volume')


def _is_up(admin: CinderAPI, host: str) -> bool:
    return any(service.host == host and service.state == 'up'
               for service in admin.client.services.list(
                   binary='cinder-volume'))


@pytest.mark.usefixtures('second')
def test_what_one_service_has_made_the_other_serves(
        sandbox: Sandbox, traces: Traces, admin: CinderAPI) -> None:
    volume = traces.volume('on')
    image = traces.image(b'x' * 2 ** 20)
    assert admin.show(volume).cluster_name.startswith('pair@on')
    sandbox.stop_process('cinder-volume')
    try:
        snapshot = traces.snapshot(volume)
        clone = traces.volume('on', source_volid=volume)
        made = traces.volume('on', imageRef=image)
        assert traces.parent(made)
        traces.cinder.extend(clone, 2)
        traces.upload(volume)
        traces.cinder.delete_snapshot(snapshot)
    finally:
        sandbox.start_process('cinder-volume')
