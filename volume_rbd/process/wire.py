# SPDX-License-Identifier: Apache-2.0
"""Messages over a stream socket: JSON, its length in front.

Works on plain sockets and on eventlet's, whichever ``socket`` is in the
process at hand.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct('>I')


class Closed(Exception):
    """The other side is gone."""


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    """:raises Closed:"""
    data = json.dumps(message).encode()
    try:
        sock.sendall(_LENGTH.pack(len(data)) + data)
    except OSError as error:
        raise Closed from error


def receive(sock: socket.socket) -> dict[str, Any]:
    """The next message, however long it takes to come.

    :raises Closed:
    """
    (length,) = _LENGTH.unpack(_receive_exactly(sock, _LENGTH.size))
    message: dict[str, Any] = json.loads(_receive_exactly(sock, length))
    return message


def _receive_exactly(sock: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        try:
            piece = sock.recv(length - len(data))
        except OSError as error:
            raise Closed from error
        if not piece:
            raise Closed
        data += piece
    return bytes(data)
