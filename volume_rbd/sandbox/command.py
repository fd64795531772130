# SPDX-License-Identifier: Apache-2.0
"""One-shot programs: run to their end, within a time, quietly."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from volume_rbd import exception

_SHOWN_LINES = 15
# When we are killed in the middle, a schema migration must not go on beside
# the one of the next attempt. (util-linux; preexec_fn is unsafe in threads.)
_DIE_WITH_US = ('/usr/bin/setpriv', '--pdeathsig', 'KILL', '--')


def run(command: Sequence[str], *, timeout_s: float, stdin: str = '',
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None) -> str:
    """Run a program and return what it wrote to standard output.

    :param stdin: fed to it; the way for anything secret, as argv is public.
    :param environment: added to a small clean environment.
    :raises SandboxError: it fails, or takes longer than ``timeout_s``.
    """
    clean = {k: os.environ[k] for k in ('PATH', 'HOME', 'TMPDIR')
             if k in os.environ}
    try:
        done = subprocess.run(
            [*_DIE_WITH_US, *command], input=stdin, text=True,
            capture_output=True, timeout=timeout_s, cwd=folder,
            start_new_session=True,
            env=clean | {'LANG': 'C.UTF-8'} | dict(environment or {}),
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise exception.SandboxError(
            f'{" ".join(command)} did not end in {timeout_s:.0f} s.',
            remedy='Look at the logs in the sandbox folder.',
        ) from error
    except subprocess.CalledProcessError as error:
        text = f'{error.stdout}\n{error.stderr}'.strip().splitlines()
        shown = '\n'.join(text[-_SHOWN_LINES:])
        raise exception.SandboxError(
            f'{" ".join(command)} failed with status {error.returncode}:\n'
            f'{shown}\n',
            remedy='Look at the logs in the sandbox folder.',
        ) from error
    except OSError as error:
        raise exception.SandboxError(
            f'{command[0]} cannot be executed: {error}.',
            remedy='Install what the sandbox needs with "make demo".',
        ) from error
    return done.stdout
