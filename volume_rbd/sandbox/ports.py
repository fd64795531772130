# SPDX-License-Identifier: Apache-2.0
"""TCP ports on loopback that no two sandboxes share.

A port is chosen once, by binding it, and kept for the sandbox's life: the
monitor's is part of the monmap, the others are written into Keystone's
catalogue. A registry under the temporary folder, changed only under a lock,
keeps two sandboxes that come up at the same time, or one that is down just
now, from being given the same port.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from volume_rbd import exception
from volume_rbd.sandbox import lock

# Below the ephemeral range of Linux (32768 …): no outgoing connection ever
# sits on a port of ours while the sandbox is down.
PORT_RANGE = range(20000, 32000)
_LOCK_TIMEOUT_S = 30.0


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: sockets in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def get_registry_path() -> Path:
    """The file of all reserved ports of this user on this host."""
    return Path(tempfile.gettempdir()) / f'volume-rbd-ports-{os.getuid()}'


def reserve(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Reserve one free port for each name, for the sandbox in ``folder``.

    What the folder had reserved before is given back. A reservation ends
    with ``release``, or with the folder.

    :raises SandboxError: the registry stays locked, or no port is left.
    """
    with lock.hold(get_registry_path(), timeout_s=_LOCK_TIMEOUT_S) as handle:
        taken = _without(_read(handle), folder)
        chosen = _choose(names, set(taken))
        taken |= {port: str(folder) for port in chosen.values()}
        _write(handle, taken)
    return chosen


def add(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Reserve one more port for each name, beside those of the folder.

    :raises SandboxError: as ``reserve``.
    """
    with lock.hold(get_registry_path(), timeout_s=_LOCK_TIMEOUT_S) as handle:
        taken = _read(handle)
        chosen = _choose(names, set(taken))
        taken |= {port: str(folder) for port in chosen.values()}
        _write(handle, taken)
    return chosen


def release(folder: Path) -> None:
    """Give back the ports of the sandbox in ``folder``."""
    with lock.hold(get_registry_path(), timeout_s=_LOCK_TIMEOUT_S) as handle:
        _write(handle, _without(_read(handle), folder))


def _choose(names: Iterable[str], taken: set[int]) -> dict[str, int]:
    candidates = list(PORT_RANGE)
    secrets.SystemRandom().shuffle(candidates)
    free = (p for p in candidates if p not in taken and is_free(p))
    try:
        return {name: next(free) for name in names}
    except StopIteration:
        raise exception.SandboxError(
            f'No free TCP port between {PORT_RANGE.start} and '
            f'{PORT_RANGE.stop} is left.',
            remedy='Destroy sandboxes that are no longer needed.',
        ) from None


def _without(taken: Mapping[int, str], folder: Path) -> dict[int, str]:
    return {
        port: owner for port, owner in taken.items()
        if owner != str(folder) and Path(owner).is_dir()
    }


def _read(handle: int) -> dict[int, str]:
    text = os.pread(handle, os.fstat(handle).st_size, 0)
    try:
        return {int(k): str(v) for k, v in json.loads(text or b'{}').items()}
    except (ValueError, AttributeError):
        # A torn write: the ports are still probed by binding.
        return {}


def _write(handle: int, taken: Mapping[int, str]) -> None:
    data = json.dumps(taken).encode()
    os.ftruncate(handle, 0)
    os.pwrite(handle, data, 0)
