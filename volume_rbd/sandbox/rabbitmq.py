# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ on a folder and ports of its own, for Cinder's messages.

Debian's ``rabbitmq-server`` program changes to the user rabbitmq and logs to
/var: the script behind it is run instead, as whoever runs the sandbox.

Erlang's name server, epmd, is a process of ours, too. RabbitMQ looks for one
every minute and would start a daemon of it that outlives the sandbox.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterable

import amqp

from volume_rbd.sandbox import files, packages
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.process import ProcessSpec
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

USER = 'openstack'

_START_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 5.0
_SCRIPT = '/usr/lib/rabbitmq/bin/rabbitmq-server'


def get_url(state: State) -> str:
    """oslo.messaging's transport URL, password included."""
    return (f'rabbit://{USER}:{state.passwords["rabbitmq"]}@127.0.0.1:'
            f'{state.ports["rabbitmq"]}//')


def count_consumers(state: State, queues: Iterable[str]) -> dict[str, int]:
    """How many processes wait for messages in each queue.

    A service declares its queue once it is initialised; 0 where it has not.

    :raises OSError: RabbitMQ does not serve.
    """
    counts = {}
    with _connect(state) as connection:
        for queue in queues:
            # A refused declaration closes the channel: one for each.
            try:
                counts[queue] = connection.channel().queue_declare(
                    queue, passive=True).consumer_count
            except amqp.NotFound:
                counts[queue] = 0
            except amqp.AMQPError as error:
                raise ConnectionResetError(str(error)) from error
    return counts


def _connect(state: State) -> amqp.Connection:
    connection = amqp.Connection(
        f'127.0.0.1:{state.ports["rabbitmq"]}', userid=USER,
        password=state.passwords['rabbitmq'],
        connect_timeout=_CONNECT_TIMEOUT_S, read_timeout=_CONNECT_TIMEOUT_S)
    try:
        connection.connect()
    except amqp.AMQPError as error:
        raise ConnectionResetError(str(error)) from error
    return connection


class RabbitMQ:
    """The message broker of a sandbox."""

    def __init__(self, layout: Layout, state: State, supervisor: Supervisor,
                 report: Report) -> None:
        self._layout = layout
        self._state = state
        self._supervisor = supervisor
        self._report = report

    def up(self) -> None:
        """Run the broker.

        :raises SandboxError: it does not start.
        """
        if 'rabbitmq' not in self._state.stages:
            # The user is made by the first start only, if that comes so far.
            self._supervisor.stop('rabbitmq')
            shutil.rmtree(self._layout.rabbitmq, ignore_errors=True)
        self.start_names()
        self.start()
        if 'rabbitmq' not in self._state.stages:
            self._state.set_stage('rabbitmq')

    def start_names(self) -> bool:
        """Start Erlang's name server if it does not run; True if started."""
        spec = ProcessSpec(
            'epmd', [packages.get_program('epmd')],
            output=self._layout.output('epmd'), folder=self._layout.run,
            environment=self._get_erlang_environment(),
            ports=[self._state.ports['epmd']])
        return self._supervisor.ensure(spec, self._knows_names,
                                       timeout_s=_START_TIMEOUT_S)

    def start(self) -> bool:
        """Start the broker if it does not run; True if started."""
        folder = self._layout.rabbitmq
        files.make_private_folders([folder])
        files.write_private(folder / '.erlang.cookie',
                            self._state.passwords['erlang'])
        config = self._render_config()
        files.write_private(folder / 'rabbitmq.conf', config)
        spec = ProcessSpec(
            'rabbitmq', [_SCRIPT], output=self._layout.output('rabbitmq'),
            folder=self._layout.run, config=config,
            environment=self._get_environment(),
            logs=[self._layout.log('rabbitmq'),
                  self._layout.output('rabbitmq')],
            ports=[self._state.ports['rabbitmq'],
                   self._state.ports['rabbitmq_nodes']])
        return self._supervisor.ensure(spec, self._answers,
                                       timeout_s=_START_TIMEOUT_S)

    def _render_config(self) -> str:
        settings = {
            'listeners.tcp.1': f'127.0.0.1:{self._state.ports["rabbitmq"]}',
            'default_user': USER,
            'default_pass': self._state.passwords['rabbitmq'],
            'log.file.level': 'info',
            # A laptop's disk is not our business; an empty one stops us.
            'disk_free_limit.absolute': '50MB',
        }
        return ''.join(f'{k} = {v}\n' for k, v in settings.items())

    def _get_erlang_environment(self) -> dict[str, str]:
        return {'ERL_EPMD_PORT': str(self._state.ports['epmd']),
                'ERL_EPMD_ADDRESS': '127.0.0.1',
                # Where Erlang looks for the cookie.
                'HOME': str(self._layout.rabbitmq)}

    def _get_environment(self) -> dict[str, str]:
        folder = self._layout.rabbitmq
        # A node's name is an Erlang atom without quotes.
        name = re.sub(r'\W', '_', f'sandbox_{self._state.name}')
        port = self._state.ports['rabbitmq_nodes']
        return self._get_erlang_environment() | {
            # Become the broker instead of waiting for it as a shell.
            'RUNNING_UNDER_SYSTEMD': 'true',
            'RABBITMQ_CONF_ENV_FILE': '/dev/null',
            'RABBITMQ_NODENAME': f'{name}@localhost',
            'RABBITMQ_CONFIG_FILE': str(folder / 'rabbitmq.conf'),
            'RABBITMQ_ADVANCED_CONFIG_FILE': str(folder / 'advanced.config'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(folder / 'enabled_plugins'),
            'RABBITMQ_MNESIA_BASE': str(folder / 'data'),
            'RABBITMQ_LOG_BASE': str(self._layout.logs),
            'RABBITMQ_LOGS': str(self._layout.log('rabbitmq')),
            'RABBITMQ_NODE_PORT': str(self._state.ports['rabbitmq']),
            'RABBITMQ_DIST_PORT': str(port),
            # For the node itself; and it skips RabbitMQ's own check of the
            # name, which starts another Erlang.
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS':
                f'-sname {name}@localhost',
            'ERL_AFLAGS': '-kernel inet_dist_use_interface {127,0,0,1} '
                          f'-kernel inet_dist_listen_min {port} '
                          f'-kernel inet_dist_listen_max {port}',
        }

    def _answers(self) -> bool:
        with _connect(self._state):
            return True

    def _knows_names(self) -> bool:
        address = ('127.0.0.1', self._state.ports['epmd'])
        with socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S):
            return True
