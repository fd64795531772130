# SPDX-License-Identifier: Apache-2.0
"""How regularly eventlet's hub in cinder-volume beats.

oslo.service has a back door, a Python prompt on a socket, where
``backdoor_socket`` is set; through it a green thread is started that sleeps
10 ms and notes how late it wakes. Nothing of it is in the product.
"""

from __future__ import annotations

import pathlib
import socket
import time

import psutil

_START = (
    'exec("""import eventlet, time\\n'
    'gaps = []\\n'
    'def _beat():\\n'
    '    last = time.monotonic()\\n'
    '    while True:\\n'
    '        eventlet.sleep(0.01)\\n'
    '        now = time.monotonic()\\n'
    '        gaps.append(now - last)\\n'
    '        last = now\\n'
    'heart = eventlet.spawn(_beat)\\n""")\n')
_STOP = 'heart.kill(); print("GAP", max(gaps), len(gaps))\n'


def socket_of(folder: pathlib.Path, backend: str) -> pathlib.Path:
    """The back door of the service process that has *backend*'s child."""
    for process in psutil.process_iter(['cmdline']):
        words = process.info['cmdline'] or []
        if words[1:4] == ['-m', 'volume_rbd.process', backend]:
            parent = process.ppid()
            found = folder / f'backdoor-{parent}.sock'
            if found.exists():
                return found
    raise AssertionError(f'no process of backend {backend} with a back door')


class Heart:
    """Listens from entering to leaving its block.

    :ivar longest_gap_s: after it.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.longest_gap_s = 0.0
        self.beats = 0

    def __enter__(self) -> Heart:
        self._socket.sendall(_START.encode())
        time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendall(_STOP.encode())
        heard = ''
        while 'GAP ' not in heard or not heard.rstrip().endswith('>>>'):
            heard += self._socket.recv(65536).decode()
        words = heard.rpartition('GAP ')[2].split()
        self.longest_gap_s, self.beats = float(words[0]), int(words[1])
        self._socket.close()
