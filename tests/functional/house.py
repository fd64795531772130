# SPDX-License-Identifier: Apache-2.0
"""The sandbox as one object of the tests: who acts, and what is left.

Every test begins and ends with the same state of everything: rbd_images,
snapshots (those in the trash namespace too), children, trashes and RADOS
objects of the three pools, Glance's records and files, and the records of
running flows. :meth:`House.nothing_changes` says so in the middle of a test.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pymysql

from tests.functional.api import GlanceAPI
from tests.functional.cluster import Cluster
from tests.zygote import Zygote
from volume_rbd import manager, model
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.base import Result
from volume_rbd.progress import Progress
from volume_rbd.sandbox import Sandbox, mariadb
from volume_rbd.sandbox.state import find_state

PROGRAM = str(Path(sys.prefix) / 'bin' / 'volume-rbd')
_SETTLED_WITHIN_S = 20.0
Overrides = Mapping[str, Mapping[str, object | None]]

# Quick where something is away, patient where the machine is busy.
_DEFAULTS: Overrides = {
    'DEFAULT': {'glance_num_retries': 1},
    'ceph': {'rados_connect_timeout': 20, 'rados_connection_retries': 0},
    'optimized': {'rados_connect_timeout': 20,
                  'rados_connection_retries': 0},
    'libvirt': {'rbd_connect_timeout': 20},
}
#: Whoever has no credentials of a service beside the user's.
NO_SERVICE: Overrides = {'glance': {'auth_type': None},
                         'service_user': {'auth_type': None}}


class House:
    """:param folder: for configuration files."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self.cluster = Cluster(sandbox.env()['CEPH_CONF'])
        self.member = GlanceAPI(sandbox.env('member'))
        self.other = GlanceAPI(sandbox.env('other'))
        self.service = GlanceAPI(sandbox.env('service'))
        self._managers: dict[str, manager.VolumeManager] = {}
        self._commands = Zygote('tests.functional.commands',
                                folder / 'commands.log')

    def close(self) -> None:
        self._commands.close()
        for each in self._managers.values():
            each.close()
        self.cluster.close()

    # -- who acts ----------------------------------------------------------
    def config(self, overrides: Overrides | None = None) -> str:
        """The path of a configuration file with *overrides*; None removes
        an option."""
        parser = configparser.RawConfigParser(default_section='-')
        parser.read(self.sandbox.env()['VOLUME_RBD_CONFIG'])
        for layer in (_DEFAULTS, overrides or {}):
            for section, values in layer.items():
                if not parser.has_section(section):
                    parser.add_section(section)
                for key, value in values.items():
                    if value is None:
                        parser.remove_option(section, key)
                    else:
                        parser.set(section, key, str(value))
        path = self.folder / f'{uuid.uuid4()}.conf'
        with path.open('w') as stream:
            parser.write(stream)
        path.chmod(0o600)
        return str(path)

    def driver(self, backend: str = 'optimized', *, role: str = 'member',
               **overrides: Mapping[str, object | None]) -> RBDDriver:
        """A backend as *role*; equal ones are the same."""
        key = json.dumps([role, overrides], sort_keys=True, default=str)
        if key not in self._managers:
            self._managers[key] = manager.VolumeManager(
                [self.config(overrides)], environ=self.sandbox.env(role))
        return self._managers[key].backend(backend)

    def run(self, *words: str, role: str = 'member',
            overrides: Overrides | None = None,
            environ: Mapping[str, str] | None = None,
            config: str | None = None, timeout_s: float = 120
            ) -> subprocess.CompletedProcess[str]:
        """``volume-rbd WORDS``; never with a traceback or a secret."""
        outputs = {name: self.folder / f'{uuid.uuid4()}.{name}'
                   for name in ('stdout', 'stderr')}
        for path in outputs.values():
            path.touch()
        told = self._commands.run(
            'command', timeout_s, words=words,
            environ=self.environ(role, overrides, environ, config),
            **{name: str(path) for name, path in outputs.items()}).told
        texts = {name: path.read_text() for name, path in outputs.items()}
        self.check_output(''.join(texts.values()))
        return subprocess.CompletedProcess(
            [PROGRAM, *words], told.get('code', -signal.SIGKILL), **texts)

    def environ(self, role: str = 'member',
                overrides: Overrides | None = None,
                environ: Mapping[str, str] | None = None,
                config: str | None = None) -> dict[str, str]:
        path = config or self.config(overrides)
        return {'PATH': os.environ['PATH'], 'LANG': 'C.UTF-8',
                'PYTHONPATH': os.environ.get('PYTHONPATH', ''),
                **self.sandbox.env(role), 'VOLUME_RBD_CONFIG': path,
                **(environ or {})}

    def run_json(self, *words: str, **options: Any) -> Any:
        done = self.run(*words, '-f', 'json', **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def check_output(self, text: str) -> None:
        """No traceback and no secret in what people see."""
        assert 'Traceback' not in text, text
        assert 'gAAAA' not in text, text
        for secret in self.secrets():
            assert secret not in text, 'a secret was printed'

    def secrets(self) -> set[str]:
        state = find_state(self.sandbox.folder)
        assert state is not None
        found = set(state.passwords.values())
        for path in Path(self.cluster.conf).parent.glob('*.keyring'):
            found |= set(re.findall(r'key = (\S+)', path.read_text()))
        return found

    # -- volumes and images ------------------------------------------------
    def volume(self, data: bytes = b'', size_bytes: int | None = None, *,
               name: str | None = None) -> str:
        """A volume of ours with this content."""
        name = name or f'volume-{uuid.uuid4()}'
        size = len(data) if size_bytes is None else size_bytes
        self.driver().volumes.create(model.VolumeSpec(name, size))
        if data:
            self.cluster.write('volumes', name, data)
        return name

    def create(self, image_id: str, *, size_bytes: int | None = None,
               driver: RBDDriver | None = None,
               report: Progress | None = None, name: str | None = None
               ) -> tuple[str, Result]:
        """A volume from an image; :returns: its name and what was done."""
        name = name or f'volume-{uuid.uuid4()}'
        result = (driver or self.driver()).images.create(
            model.VolumeSpec(name, size_bytes), image_id, report=report)
        return name, result

    def upload(self, volume: str, *, driver: RBDDriver | None = None,
               report: Progress | None = None, **request: Any
               ) -> tuple[str, Result]:
        """An image of a volume; :returns: its id and what was done."""
        request.setdefault('name', 'functional')
        result = (driver or self.driver()).images.upload(
            model.VolumeSpec(volume), ImageRequest(**request),
            report=report)
        return str(result.values['image_id']), result

    def replace_location(self, image_id: str, url: str) -> None:
        """In Glance's database, which takes what its API would not."""
        self._sql('glance', 'UPDATE image_locations SET value = %s '
                  'WHERE image_id = %s', url, image_id)

    def forget_locations(self, image_id: str) -> None:
        """So that Glance deletes the record and nothing else."""
        self._sql('glance', 'DELETE FROM image_locations '
                  'WHERE image_id = %s', image_id)

    # -- what is left ------------------------------------------------------
    def describe(self) -> set[str]:
        return (self.cluster.describe() | self._records() | self._files()
                | self._flows())

    @contextlib.contextmanager
    def nothing_changes(self) -> Iterator[None]:
        """What happens inside, expected errors included, leaves nothing."""
        before = self.describe()
        yield
        self.check_same(before)

    def check_same(self, before: set[str]) -> None:
        """The OSD trims what removed snapshots held in its own time: objects
        of ours are waited for, and those of an earlier test may go."""
        deadline = time.monotonic() + 30
        new, gone = self._changes(before)
        while (new and not gone and time.monotonic() < deadline
               and all(' object: ' in line for line in new)):
            time.sleep(0.3)
            new, gone = self._changes(before)
        assert not new | gone, '\n'.join(
            ['this changed:']
            + [f'  new:  {line}' for line in sorted(new)]
            + [f'  gone: {line}' for line in sorted(gone)])

    def _changes(self, before: set[str]) -> tuple[set[str], set[str]]:
        after = self.describe()
        return after - before, {line for line in before - after
                                if ' object: ' not in line}

    def purge(self) -> None:
        self.driver().reclaimer.purge()

    def clean_up(self, before: set[str]) -> None:
        """Delete what tests made, as its owners would."""
        for name in self.cluster.names('volumes'):
            if f'volumes: {name}' in before:
                continue
            for snapshot in self.cluster.snapshots('volumes', name):
                if not snapshot.startswith('volume_rbd.'):
                    self.driver().snapshots.delete(name, snapshot)
        for image_id in self._image_ids():
            if not any(line.startswith(f'glance: {image_id}')
                       for line in before):
                self.service.delete(image_id)
        # Of what was waited for, nobody can be waiting any more.
        self.driver().jobs.recover_until_idle(_SETTLED_WITHIN_S)
        for name in self.cluster.names('volumes'):
            if f'volumes: {name}' not in before:
                self.driver().volumes.delete(name)
        self.purge()

    def scrub(self, before: set[str]) -> None:
        """Delete by force, so that the next test starts clean."""
        for image_id in self._image_ids():
            if not any(line.startswith(f'glance: {image_id}')
                       for line in before):
                with contextlib.suppress(AssertionError):
                    self.service.delete(image_id)
        self.cluster.scrub(before)

    def _image_ids(self) -> list[str]:
        return [str(row[0]) for row in self._sql(
            'glance', 'SELECT id FROM images WHERE deleted = 0')]

    def _records(self) -> set[str]:
        return {f'glance: {identity} {status}'
                for identity, status in self._sql(
                    'glance',
                    'SELECT id, status FROM images WHERE deleted = 0')}

    def _flows(self) -> set[str]:
        """Records of flows, where there is a database for them."""
        tables = {str(row[0]) for row in
                  self._sql('volume_rbd', 'SHOW TABLES')}
        found = set()
        for table in tables & {'logbooks', 'flowdetails', 'atomdetails'}:
            for (identity,) in self._sql(
                    'volume_rbd', f'SELECT uuid FROM {table}'):
                found.add(f'flow record: {table} {identity}')
        return found

    def _files(self) -> set[str]:
        folder = Path(self.sandbox.folder) / 'glance'
        return {f'file: {path.relative_to(folder)}'
                for part in ('file', 'staging', 'tasks')
                for path in (folder / part).rglob('*') if path.is_file()}

    def _sql(self, database: str, query: str, *values: str
             ) -> list[tuple[Any, ...]]:
        state = find_state(self.sandbox.folder)
        assert state is not None
        with contextlib.closing(pymysql.connect(
                host='127.0.0.1', port=state.ports['mariadb'],
                user=database, database=database,
                password=state.passwords[f'db_{database}'])
                ) as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            connection.commit()
            return list(cursor.fetchall())

    @property
    def database_url(self) -> str:
        state = find_state(self.sandbox.folder)
        assert state is not None
        return mariadb.get_url(state, 'volume_rbd')
