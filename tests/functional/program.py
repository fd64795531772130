# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd`` in a process of its own, while it runs."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.functional.house import PROGRAM, House

_PATIENCE_S = 60.0


class Program:
    """:param words: of the command; the rest as in :meth:`House.run`.
    :param program: another one than volume-rbd.

    :ivar stderr: what it has said so far: its steps, a line each.
    """

    def __init__(self, house: House, *words: str, program: str = PROGRAM,
                 **options: Any) -> None:
        self._house = house
        self.stdout = self.stderr = ''
        self.process = subprocess.Popen(
            [program, *words], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=house.environ(**options))
        self._readers = [threading.Thread(target=self._read, args=(name,),
                                          daemon=True)
                         for name in ('stdout', 'stderr')]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        with getattr(self.process, name) as stream:
            for line in stream:
                setattr(self, name, getattr(self, name) + line)

    def wait_for(self, pattern: str) -> None:
        """It has said so, in a line on stderr."""
        deadline = time.monotonic() + _PATIENCE_S
        while not re.search(pattern, self.stderr):
            assert self.process.poll() is None, self.stderr
            assert time.monotonic() < deadline, self.stderr
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a power failure would; waits until it is gone."""
        self.process.kill()
        self.end()

    def end(self) -> int:
        """Wait for it; :returns: its exit code."""
        code = self.process.wait(_PATIENCE_S)
        for reader in self._readers:
            reader.join(_PATIENCE_S)
        self._house.check_output(self.stdout + self.stderr)
        return code


@contextlib.contextmanager
def started(house: House, *words: str, **options: Any) -> Iterator[Program]:
    """Ends with the block, if it has not by itself."""
    program = Program(house, *words, **options)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.signal(signal.SIGCONT)
            program.process.kill()
            program.end()
