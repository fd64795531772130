# SPDX-License-Identifier: Apache-2.0
"""Running an operation so that Ctrl-C and SIGTERM undo it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from volume_rbd import exception, progress

T = TypeVar('T')

_current: progress.Cancellable | None = None
# What was asked for has been done; only the telling is left.
_is_done = False


def install_handlers() -> None:
    """SIGINT and SIGTERM cancel what runs; where nothing runs, they end the
    program."""
    global _is_done
    _is_done = False
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)


def ignore_signals() -> None:
    """All is done and told; the interpreter only takes itself apart, and a
    signal now would change the exit code of what succeeded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _is_done
    if _is_done:
        # To stop here would look as if nothing had been done.
        sys.stderr.write('\nToo late to cancel: it is done. Once more stops '
                         'what follows it.\n')
        _is_done = False
        return
    if _current is None:
        raise KeyboardInterrupt
    if not _current.is_cancelled:
        sys.stderr.write('\nCancelling; what was made is being undone.\n')
    _current.cancel()


def run(operation: Callable[[], T], report: progress.Cancellable) -> T:
    """Run *operation* in a thread of its own, so that signals are heard while
    librados or Glance block; after one, wait until all is undone.

    :raises Cancelled: at once where no step had begun yet.
    """
    global _current, _is_done
    outcome: list[T] = []
    error: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(operation())
        except BaseException as problem:  # noqa: BLE001, raised again below
            error.append(problem)

    # A daemon: one that hangs before its first step must not keep us.
    worker = threading.Thread(target=work, name='operation', daemon=True)
    _is_done = False
    _current = report
    try:
        worker.start()
        while worker.is_alive():
            worker.join(0.1)
            if report.is_cancelled and not report.current_step:
                # Who had passed the check before has begun by then.
                worker.join(0.1)
                if not report.current_step:
                    raise exception.Cancelled(
                        'Cancelled before anything was done.')
    finally:
        _is_done = bool(outcome)
        _current = None
    if error:
        raise error[0]
    if report.is_cancelled:
        sys.stderr.write('It was too late to cancel: it is done.\n')
    return outcome[0]


def report_error(error: exception.VolumeRBDError) -> int:
    """Say it to a person; :returns: the exit code."""
    sys.stderr.write(f'volume-rbd: {error}\n')
    return error.exit_code
