# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of the real Glance that can be slow, broken or away.

What passes through is real; only what a test asks for is made up.
"""

from __future__ import annotations

import dataclasses
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

# Their names, not the modules: eventlet, which Cinder imports, puts its own
# copies of these into the package http, where threads hang.
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_PIECE = 256 * 1024
_HOP_BY_HOP = ('connection', 'keep-alive', 'transfer-encoding', 'host')


@dataclasses.dataclass
class Rule:
    """What happens to the requests that match.

    :param status: is answered, with *body*, and Glance never hears of the
        request.
    :param before: is called before Glance is asked.
    :param after: is called when Glance has answered.
    :param reset: the connection is reset 'before' or 'after' Glance heard.
    :param cut_at: so many bytes of the answer's body pass before the
        connection is reset.
    :param times: how often the rule holds; None: always.
    """

    method: str
    pattern: str
    status: int | None = None
    body: bytes = b'the test said so'
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    reset: str | None = None
    delay_s: float = 0
    cut_at: int | None = None
    times: int | None = None
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        return (self.method in (method, '*')
                and re.search(self.pattern, path) is not None
                and (self.times is None or self.hits < self.times))


class Proxy:
    """:param target: the URL of Glance."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix('http://').partition(':')
        self.target = (host, int(port))
        self.rules: list[Rule] = []
        self.seen: list[str] = []
        self._open: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._port}'

    def on(self, method: str, pattern: str, **what: Any) -> Rule:
        rule = Rule(method, pattern, **what)
        self.rules.append(rule)
        return rule

    def start(self) -> None:
        """Listen; after :meth:`stop` on the same port as before."""
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(('127.0.0.1', self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,),
                         daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and cut off those that are open."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in list(self._open):
            reset(connection)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Broken connections are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    owner: Proxy
    protocol_version = 'HTTP/1.1'

    def setup(self) -> None:
        super().setup()
        self.owner._open.add(self.connection)

    def finish(self) -> None:
        self.owner._open.discard(self.connection)
        try:
            super().finish()
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        self.owner.seen.append(f'{self.command} {self.path}')
        rule = next((each for each in self.owner.rules
                     if each.matches(self.command, self.path)), None)
        if rule is not None:
            rule.hits += 1
            time.sleep(rule.delay_s)
            if rule.before:
                rule.before()
            if rule.reset == 'before':
                return self._reset()
            if rule.status is not None:
                return self._answer(rule.status, rule.body)
        self._forward(rule)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

    def _reset(self) -> None:
        self.close_connection = True
        reset(self.connection)

    def _answer(self, status: int, body: bytes) -> None:
        for _ in self._body():
            pass
        self.send_response(status)
        is_json = body.startswith(b'{')
        self.send_header('Content-Type', 'application/json' if is_json
                         else 'text/plain')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self, rule: Rule | None) -> None:
        glance = HTTPConnection(*self.owner.target, timeout=300)
        try:
            self._send(glance)
            answer = glance.getresponse()
            if rule is not None and rule.after:
                rule.after()
            if rule is not None and rule.reset == 'after':
                return self._reset()
            self._relay(answer, rule.cut_at if rule else None)
        except (OSError, ValueError, HTTPException):
            self._reset()
        finally:
            glance.close()

    def _send(self, glance: HTTPConnection) -> None:
        glance.putrequest(self.command, self.path, skip_host=True,
                          skip_accept_encoding=True)
        glance.putheader('Host', '{}:{}'.format(*self.owner.target))
        for key, value in self.headers.items():
            if key.lower() not in _HOP_BY_HOP:
                glance.putheader(key, value)
        if self._is_chunked():
            glance.putheader('Transfer-Encoding', 'chunked')
        glance.endheaders()
        if not self._is_chunked():
            for piece in self._body():
                glance.send(piece)
            return
        for piece in self._body():
            glance.send(b'%x\r\n%s\r\n' % (len(piece), piece))
        glance.send(b'0\r\n\r\n')

    def _is_chunked(self) -> bool:
        coding = str(self.headers.get('Transfer-Encoding') or '')
        return coding.lower() == 'chunked'

    def _body(self) -> Iterator[bytes]:
        """The request's, however it is sent.

        :raises ConnectionResetError: it ends before its end.
        """
        if not self._is_chunked():
            yield from self._pieces(int(
                self.headers.get('Content-Length') or 0))
            return
        while length := int(self.rfile.readline().strip() or b'x', 16):
            yield from self._pieces(length)
            self.rfile.readline()
        self.rfile.readline()

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left > 0:
            piece = self.rfile.read(min(left, _PIECE))
            if not piece:
                raise ConnectionResetError
            left -= len(piece)
            yield piece

    def _relay(self, answer: HTTPResponse, cut_at: int | None) -> None:
        self.send_response(answer.status)
        length = answer.getheader('Content-Length')
        for key, value in answer.getheaders():
            if key.lower() not in (*_HOP_BY_HOP, 'date', 'server'):
                self.send_header(key, value)
        if length is None and answer.status != 204:
            self.close_connection = True
            self.send_header('Connection', 'close')
        self.end_headers()
        passed = 0
        while piece := answer.read(_PIECE):
            if cut_at is not None and passed + len(piece) > cut_at:
                self.wfile.write(piece[:cut_at - passed])
                return self._reset()
            passed += len(piece)
            self.wfile.write(piece)


def reset(connection: socket.socket) -> None:
    """Close with RST, as a killed server does."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack('ii', 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    try:
        connection.close()
    except OSError:
        return
