# SPDX-License-Identifier: Apache-2.0
"""A server on a port of its own that behaves as badly as a test wants."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from volume_rbd import opts
from volume_rbd.glance import client, session

IMAGE_ID = '11111111-2222-3333-4444-555555555555'
IMAGE = {'id': IMAGE_ID, 'status': 'queued', 'name': 'test',
         'disk_format': 'raw', 'container_format': 'bare'}


class Request:
    """What came in on *connection*; its body is still to be read."""

    def __init__(self, connection: socket.socket, head: bytes,
                 rest: bytes) -> None:
        lines = head.decode('latin-1').split('\r\n')
        self.method, self.path, _ = lines[0].split(' ')
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(':') for line in lines[1:])}
        self.connection = connection
        self._is_chunked = 'transfer-encoding' in self.headers
        self._left = int(self.headers.get('content-length', 0)) - len(rest)
        self._tail = rest

    @property
    def _has_all(self) -> bool:
        # The bodies of these tests are zero bytes: the end shows.
        if self._is_chunked:
            return self._tail.endswith(b'0\r\n\r\n')
        return self._left <= 0

    def read(self, length: int) -> bool:
        """Take in at most so much of the body; False at its end."""
        if self._has_all:
            return False
        data = self.connection.recv(
            length if self._is_chunked else min(self._left, length))
        self._left -= len(data)
        self._tail = self._tail[-5:] + data[-5:]
        return bool(data)

    def read_body(self) -> None:
        while self.read(1 << 20):
            pass

    def read_json(self) -> Any:
        """The whole body, where it has a length."""
        data = self._tail
        while self._left > 0:
            piece = self.connection.recv(self._left)
            data += piece
            self._left -= len(piece)
        return json.loads(data)

    def answer(self, status: int = 200, body: Any = None,
               **headers: str) -> None:
        content = b'' if body is None else (
            body if isinstance(body, bytes) else json.dumps(body).encode())
        lines = {'Content-Length': str(len(content))}
        if content:
            lines['Content-Type'] = 'application/json'
        lines |= {name.replace('_', '-'): value
                  for name, value in headers.items()}
        head = ''.join(f'{name}: {value}\r\n'
                       for name, value in lines.items())
        self.connection.sendall(
            f'HTTP/1.1 {status} Word\r\n{head}\r\n'.encode() + content)

    def reset(self) -> None:
        """Close the connection as a crash does."""
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.connection.close()


Handler = Callable[[Request], None]


class Server:
    """Calls *handle* for each request; keeps connections alive."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._socket = socket.create_server(('127.0.0.1', 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.requests: list[str] = []
        self.is_closing = threading.Event()
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._socket.getsockname()[1]}'

    def close(self) -> None:
        self.is_closing.set()
        for each in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._open.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while True:
                request = _receive(connection)
                if request is None:
                    return
                self.requests.append(f'{request.method} {request.path}')
                self._handle(request)
                request.read_body()  # or it would pass for a request


def _receive(connection: socket.socket) -> Request | None:
    data = b''
    while b'\r\n\r\n' not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, rest = data.partition(b'\r\n\r\n')
    return Request(connection, head, rest)


@contextlib.contextmanager
def serving(handle: Handler) -> Iterator[Server]:
    server = Server(handle)
    try:
        yield server
    finally:
        server.close()


def open_client(url: str, *, retries: int = 2, timeout_s: int = 30,
                pauses: list[float] | None = None) -> client.GlanceClient:
    """A client without Keystone; it notes its pauses and makes none."""
    config = opts.GlanceConfig(endpoint=url, retries=retries,
                               request_timeout_s=timeout_s)
    user = session.user_session(
        {'OS_AUTH_TYPE': 'none', 'OS_ENDPOINT': url}, config)
    noted = pauses if pauses is not None else []
    return client.GlanceClient(config, user, sleep=noted.append)
