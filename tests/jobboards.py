# SPDX-License-Identifier: Apache-2.0
"""Real servers of jobboards, each on a free port of the loopback."""

from __future__ import annotations

import abc
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

_STARTS_WITHIN_S = 30.0


class Server(abc.ABC):
    """:param folder: where it keeps what it has, over a restart too."""

    scheme: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f'{self.scheme}://127.0.0.1:{self.port}'

    def start(self) -> None:
        program, *arguments = self._command()
        path = shutil.which(program)
        assert path, f'{program} is missing: run tools/install'
        with (self._folder / 'log').open('ab') as log:
            self._process = subprocess.Popen(
                [path, *arguments], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=self._folder)
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, self._log()
            assert time.monotonic() < deadline, self._log()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(('127.0.0.1', self.port), 1):
                return True
        except OSError:
            return False

    def _log(self) -> str:
        return (self._folder / 'log').read_text(errors='replace')[-2000:]

    @abc.abstractmethod
    def _command(self) -> list[str]: ...

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Redis(Server):
    """Keeps nothing: what was posted is gone with it."""

    scheme = 'redis'

    def _command(self) -> list[str]:
        return ['redis-server', '--bind', '127.0.0.1', '--port',
                str(self.port), '--save', '', '--appendonly', 'no']


class Etcd(Server):
    scheme = 'etcd'

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._peer_port = _free_port()

    def _command(self) -> list[str]:
        client = f'http://127.0.0.1:{self.port}'
        peer = f'http://127.0.0.1:{self._peer_port}'
        return ['etcd', '--data-dir', str(self._folder / 'data'),
                '--listen-client-urls', client,
                '--advertise-client-urls', client,
                '--listen-peer-urls', peer,
                '--initial-advertise-peer-urls', peer,
                '--initial-cluster', f'default={peer}']


SERVERS: dict[str, type[Server]] = {'redis': Redis, 'etcd': Etcd}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return int(found.getsockname()[1])
