# SPDX-License-Identifier: Apache-2.0
"""MariaDB on a folder and a port of its own, for the services' databases.

SQLite is not enough: with several registrations at once Glance's location
tasks die with "database is locked".
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from pathlib import Path

from volume_rbd.sandbox import command, files, packages
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.process import ProcessSpec
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

DATABASES = ('keystone', 'glance', 'volume_rbd')
_START_TIMEOUT_S = 60.0


def get_url(state: State, database: str) -> str:
    """The SQLAlchemy URL of a database, password included."""
    password = state.passwords[f'db_{database}']
    return (f'mysql+pymysql://{database}:{password}@127.0.0.1:'
            f'{state.ports["mariadb"]}/{database}?charset=utf8mb4')


class MariaDB:
    """The database server of a sandbox."""

    def __init__(self, layout: Layout, state: State, supervisor: Supervisor,
                 report: Report) -> None:
        self._layout = layout
        self._state = state
        self._supervisor = supervisor
        self._report = report

    @property
    def _data(self) -> str:
        return str(self._layout.mariadb / 'data')

    @property
    def _temporary(self) -> Path:
        return self._layout.mariadb / 'tmp'

    @property
    def _config(self) -> str:
        return str(self._layout.mariadb / 'my.cnf')

    def up(self) -> None:
        """Run the server, with its accounts and databases.

        :raises SandboxError: it does not start.
        """
        if 'mariadb' not in self._state.stages:
            self._make()
        self.start()
        if 'databases' not in self._state.stages:
            self._run_sql(''.join(map(self._render_database, DATABASES)))
            self._state.set_stage('databases')

    def start(self) -> bool:
        """Start the server if it does not run; True if started."""
        config = self._render_config()
        files.write_private(self._layout.mariadb / 'my.cnf', config)
        spec = ProcessSpec(
            'mariadb',
            [packages.get_program('mariadbd'),
             f'--defaults-file={self._config}'],
            output=self._layout.output('mariadb'), config=config,
            folder=self._layout.run,
            logs=[self._layout.log('mariadb')],
            ports=[self._state.ports['mariadb']],
        )
        return self._supervisor.ensure(spec, self._answers,
                                       timeout_s=_START_TIMEOUT_S)

    def empty(self, database: str) -> None:
        """Make a database anew: DDL has no transactions to go back by."""
        self._run_sql(f'DROP DATABASE IF EXISTS `{database}`;\n'
                      + self._render_database(database))

    def _make(self) -> None:
        shutil.rmtree(self._layout.mariadb, ignore_errors=True)
        files.make_private_folders([self._layout.mariadb, self._temporary])
        user = pwd.getpwuid(os.getuid()).pw_name
        command.run(
            [packages.get_program('mariadb-install-db'), '--no-defaults',
             f'--user={user}', f'--datadir={self._data}',
             f'--tmpdir={self._temporary}', '--skip-test-db',
             '--auth-root-authentication-method=socket',
             f'--auth-root-socket-user={user}'],
            timeout_s=_START_TIMEOUT_S,
        )
        self._state.set_stage('mariadb')
        self._report('mariadb: data folder made')

    def _render_config(self) -> str:
        return files.render_ini({'mysqld': {
            'user': pwd.getpwuid(os.getuid()).pw_name,
            'datadir': self._data,
            # Two servers that start at once take each other's names in /tmp.
            'tmpdir': self._temporary,
            'socket': self._layout.socket('mariadb'),
            'pid-file': self._layout.run / 'mariadb.pid',
            'log-error': self._layout.log('mariadb'),
            'bind-address': '127.0.0.1',
            'port': self._state.ports['mariadb'],
            'skip-name-resolve': 1,
            'character-set-server': 'utf8mb4',
            'max-connections': 400,
            'performance-schema': 'OFF',
            'innodb-buffer-pool-size': '64M',
            'innodb-log-file-size': '32M',
            # A crash of the host may cost the last second; never integrity.
            'innodb-flush-log-at-trx-commit': 0,
            'skip-log-bin': 1,
            # With the default, gap locks make Glance's inserts of twenty
            # registrations at once die of deadlocks (500).
            'transaction-isolation': 'READ-COMMITTED',
        }})

    def _answers(self) -> bool:
        """Whether the server greets; an overloaded one sends nothing."""
        address = ('127.0.0.1', self._state.ports['mariadb'])
        with socket.create_connection(address, timeout=5) as connection:
            return len(connection.recv(5)) > 4

    def _render_database(self, name: str) -> str:
        password = self._state.passwords[f'db_{name}']
        account = f"'{name}'@'127.0.0.1'"
        return (
            f'CREATE DATABASE IF NOT EXISTS `{name}`;\n'
            f"CREATE OR REPLACE USER {account} IDENTIFIED BY '{password}';\n"
            f'GRANT ALL ON `{name}`.* TO {account};\n'
        )

    def _run_sql(self, statements: str) -> None:
        command.run(
            [packages.get_program('mariadb'), '--no-defaults',
             f'--socket={self._layout.socket("mariadb")}'],
            stdin=statements, timeout_s=_START_TIMEOUT_S)
