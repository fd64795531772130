# SPDX-License-Identifier: Apache-2.0
"""Keyrings outside of the sandbox: where os-brick looks for them.

Cinder puts no key into connection info (OSSN-0085), and os-brick's connector
for RBD reads /etc/ceph/<cluster>.client.<user>.keyring, nothing else.
"""

from __future__ import annotations

from pathlib import Path

from volume_rbd import exception
from volume_rbd.sandbox import files
from volume_rbd.sandbox.layout import Layout

FOLDER = Path('/etc/ceph')
USERS = ('cinder', 'hypervisor')


def install(layout: Layout, folder: Path = FOLDER) -> None:
    """Put the sandbox's keyrings there.

    :raises SandboxError: a keyring that is not of this sandbox is there
        already, or the folder cannot be written.
    """
    keyrings = _find_keyrings(layout)
    for name, content in keyrings.items():
        if _read(folder / name) not in (None, content):
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
    """File name -> content; a random key inside tells whose it is."""
    found = {}
    for user in USERS:
        name = f'ceph.client.{user}.keyring'
        content = _read(layout.ceph / name)
        if content is not None:
            found[name] = content
    return found


def _read(path: Path) -> str | None:
    """None where there is none, or none that we may read."""
    try:
        return path.read_text(encoding='utf-8')
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return ''
