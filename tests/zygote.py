# SPDX-License-Identifier: Apache-2.0
"""A process that has imported everything and forks one child for each run.

To start the interpreter and import OpenStack takes seconds, a fork none. The
parent has no thread and no connection to anything: both do not survive a
fork. A child writes lines of JSON to its socket; when that ends without
``{"done": …}`` it was killed.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import stevedore

ROOT = pathlib.Path(__file__).resolve().parents[1]
_MOST_BYTES = 64 * 1024

Tell = Callable[..., None]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a child ended.

    :param told: every line that it wrote, as one mapping.
    :param is_killed: it did not come to its end.
    """

    told: Mapping[str, Any]
    is_killed: bool
    seconds: float


class Zygote:
    """The parent, seen from the process that asks for children. May be used
    by several threads.

    :param children: the name of the module whose functions children run.
    :param log: the file that children write their logs and tracebacks to.
    """

    def __init__(self, children: str, log: pathlib.Path) -> None:
        self._ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs, log.open('ab') as stream:
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'tests.zygote', children,
                 str(theirs.fileno())], cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=stream, stderr=stream, pass_fds=[theirs.fileno()],
                env={**os.environ, 'PYTHONPATH': str(ROOT)})

    def run(self, task: str, timeout_s: float, /, **arguments: Any
            ) -> Ended:
        """Let a child run the function *task*.

        :raises TimeoutError: it did not end in time, and was killed.
        """
        started = time.monotonic()
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                socket.send_fds(self._ours, [json.dumps(
                    {'task': task, 'arguments': arguments}).encode()],
                    [theirs.fileno()])
            told = _listen(ours, started + timeout_s)
        return Ended(told, 'done' not in told, time.monotonic() - started)

    def close(self) -> None:
        self._ours.close()
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listen(ours: socket.socket, deadline: float) -> dict[str, Any]:
    told: dict[str, Any] = {}
    pending = b''
    # Not select(), which knows descriptors up to 1023 only.
    readable = select.poll()
    readable.register(ours, select.POLLIN)
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not readable.poll(1000 * left_s):
            if 'pid' in told:
                os.kill(told['pid'], signal.SIGKILL)
            raise TimeoutError(f'A child did not end; it had told {told}.')
        data = ours.recv(_MOST_BYTES)
        if not data:
            return told
        *lines, pending = (pending + data).split(b'\n')
        for line in lines:
            told |= json.loads(line)


# -- the parent ---------------------------------------------------------------

def main(name: str, fd: int) -> None:
    # Children that have ended are nobody's concern.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Who is interrupted at the terminal closes us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children = importlib.import_module(name)
    # All entry points are read here, once; it takes half a second.
    stevedore.ExtensionManager('taskflow.engines')
    with socket.socket(fileno=fd) as control:
        while True:
            message, fds, _, _ = socket.recv_fds(control, _MOST_BYTES, 1)
            if not message:
                return
            if os.fork() == 0:
                control.close()
                _be_child(fds[0], json.loads(message), children)
            os.close(fds[0])


def _be_child(fd: int, request: Mapping[str, Any], children: Any) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        lock = threading.Lock()

        def tell(**facts: Any) -> None:
            with lock:
                os.write(fd, json.dumps(facts).encode() + b'\n')

        tell(pid=os.getpid())
        getattr(children, request['task'])(tell, **request['arguments'])
        tell(done=True)
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
