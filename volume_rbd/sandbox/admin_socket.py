# SPDX-License-Identifier: Apache-2.0
"""Ceph's admin socket: the state of a daemon from the daemon itself.

The monitor goes on believing in an OSD that was killed until its grace time
is over; the OSD's own socket does not lie. It is also a hundred times faster
than starting the ``ceph`` program.
"""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any


def ask(path: Path, prefix: str, *, timeout_s: float = 5.0) -> dict[str, Any]:
    """The answer of the daemon behind ``path`` to a command.

    :raises OSError: nobody listens, or no answer in time.
    :raises ValueError: the answer is no JSON object.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        command = json.dumps({'prefix': prefix, 'format': 'json'})
        connection.sendall(command.encode() + b'\0')
        with connection.makefile('rb') as stream:
            header = stream.read(4)
            if len(header) < 4:
                raise ConnectionResetError('the daemon closed its socket')
            (length,) = struct.unpack('>I', header)
            answer = json.loads(stream.read(length))
    if not isinstance(answer, dict):
        raise ValueError(f'{prefix} answered {answer!r}')
    return answer
