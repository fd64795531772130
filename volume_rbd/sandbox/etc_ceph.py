# SPDX-License-Identifier: Apache-2.0
"""Keyrings outside of the sandbox: where os-brick looks for them.

Cinder puts no key into connection info (OSSN-0085), and os-brick's connector
for RBD reads /etc/ceph/<cluster>.client.<user>.keyring, nothing else.
"""

from __future__ import annotations

from pathlib import Path

from volume_rbd import exception
from volume_rbd.sandbox import files, process
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.state import find_state

FOLDER = Path('/etc/ceph')
USERS = ('cinder', 'hypervisor')
_MARK = '# volume-rbd sandbox '


def install(layout: Layout, folder: Path = FOLDER) -> None:
    """Put the sandbox's keyrings there.

    What a sandbox left that was killed before it could clean up is
    replaced: its first line names the sandbox, which no longer runs.

    :raises SandboxError: a keyring that is not of this sandbox is there
        already, or the folder cannot be written.
    """
    keyrings = _find_keyrings(layout)
    for name, content in keyrings.items():
        found = _read(folder / name)
        if found not in (None, content) and not _is_forsaken(found):
            raise exception.SandboxError(
                f'{folder / name} is not of this sandbox.',
                remedy='Take it away if nothing needs it, or leave '
                       '--etc-ceph out.')
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        for name, content in keyrings.items():
            files.write_private(folder / name, content)
    except OSError as error:
        raise exception.SandboxError(
            f'The keyrings cannot be put into {folder}: {error}.',
            remedy='Run as root, or leave --etc-ceph out.') from error


def remove(layout: Layout, folder: Path = FOLDER) -> None:
    """Take away what ``install`` put there, and nothing else.

    :raises SandboxError: it may not be removed.
    """
    for name, content in _find_keyrings(layout).items():
        if _read(folder / name) == content:
            try:
                (folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise exception.SandboxError(
                    f'{folder / name} cannot be removed: {error}.',
                    remedy='Remove it as root.') from error


def _find_keyrings(layout: Layout) -> dict[str, str]:
    """File name -> content; the first line tells whose it is."""
    found = {}
    for user in USERS:
        name = f'ceph.client.{user}.keyring'
        content = _read(layout.ceph / name)
        if content is not None:
            found[name] = f'{_MARK}{layout.folder}\n{content}'
    return found


def _is_forsaken(content: str) -> bool:
    mark, *_ = content.splitlines() or ['']
    if not mark.startswith(_MARK):
        return False
    try:
        state = find_state(Path(mark.removeprefix(_MARK)))
    except exception.SandboxError:
        return False
    monitor = state.processes.get('mon') if state else None
    return monitor is None or not process.is_alive(monitor)


def _read(path: Path) -> str | None:
    """None where there is none, or none that we may read."""
    try:
        return path.read_text(encoding='utf-8')
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return ''
