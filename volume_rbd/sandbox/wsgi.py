# SPDX-License-Identifier: Apache-2.0
"""An OpenStack API under gunicorn."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from volume_rbd.sandbox import files
from volume_rbd.sandbox import layout as layouts
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.process import ProcessSpec

# Glance drains its thread pool at exit, a hash of gigabytes included.
_GRACEFUL_S = 10
_STOP_TIMEOUT_S = 25.0


def prepare(layout: Layout, name: str, *, application: str, port: int,
            workers: int, threads: int, environment: Mapping[str, str],
            config: str, folder: Path | None = None,
            arguments: Sequence[str] = ()) -> ProcessSpec:
    """Write gunicorn's configuration; returns how to start it.

    :param folder: for that file; the one of the process's name by default.
    :param arguments: what the application finds in ``sys.argv``.
    :param config: text of the service's own configuration, which makes
        it another process when it changes.
    """
    settings = {
        'wsgi_app': application,
        'bind': f'127.0.0.1:{port}',
        'workers': workers,
        'worker_class': 'gthread',
        'threads': threads,
        'timeout': 120,
        'graceful_timeout': _GRACEFUL_S,
        'keepalive': 30,
        'proc_name': f'{layout.folder.name}-{name}',
        # Python looks for modules here first: a folder without any.
        'chdir': str(layout.run),
        # It would lie in the home folder, shared by every gunicorn.
        'control_socket_disable': True,
        'errorlog': '-',
    }
    text = ''.join(f'{k} = {v!r}\n' for k, v in settings.items())
    if arguments:
        # Before gunicorn forks, after it has read its own (none, see below).
        text += f'import sys\nsys.argv[1:] = {list(arguments)!r}\n'
    path = (folder or layout.folder / name) / 'gunicorn.conf.py'
    files.write_private(path, text)
    # Keystone and Cinder parse sys.argv, so gunicorn gets no argument at all.
    own_arguments = f'--config {shlex.quote(str(path))}'
    return ProcessSpec(
        name, [layouts.get_venv_program('gunicorn')],
        output=layout.output(name), config=text + config, ports=[port],
        folder=layout.run,
        environment=dict(environment) | {'GUNICORN_CMD_ARGS': own_arguments},
        logs=[layout.output(name), layout.log(name)],
        stop_timeout_s=_STOP_TIMEOUT_S,
    )

