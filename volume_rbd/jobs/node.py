# SPDX-License-Identifier: Apache-2.0
"""Which process this is, in a word that others can look at.

``HOST/BOOT/NAMESPACE/PID/STARTED``: on the same host another process can see
at once that the one of that word is gone, and need not wait for its lease to
end. BOOT and NAMESPACE (of process ids) tell containers and restarts apart.
"""

from __future__ import annotations

import os
import socket

from volume_rbd.ceph.interface import LockHolder


def describe() -> str:
    """The word of this process."""
    return '/'.join((*_place(), str(os.getpid()), _started(os.getpid())))


def works(holder: LockHolder) -> bool:
    """Whether somebody may be at work under that lease. Not so a process of
    this host that is gone, nor a lock without an end, as none of ours is."""
    return bool(holder.expires_s) and not is_gone(holder.owner)


def is_gone(word: str) -> bool:
    """Whether that process is gone for sure; False where it cannot be seen
    from here."""
    parts = word.split('/')
    if len(parts) != 5:
        return False  # anybody may have written it
    *place, pid, started = parts
    if tuple(place) != _place() or not pid.isdecimal():
        return False
    try:
        return _started(int(pid)) != started
    except OSError:
        return True
    except ValueError:
        return False  # of thousands of digits


def host(word: str) -> str:
    """For a person."""
    parts = word.split('/')
    return f'{parts[0]} (process {parts[3]})' if len(parts) == 5 else word


def _place() -> tuple[str, str, str]:
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
        boot = file.read().strip()
    namespace = os.readlink('/proc/self/ns/pid')
    return (socket.gethostname().replace('/', '_'), boot,
            namespace.replace('/', '_'))


def _started(pid: int) -> str:
    """In clock ticks since the host was started; a zombie has ended."""
    with open(f'/proc/{pid}/stat', encoding='utf-8',
              errors='replace') as file:
        # The name in parentheses may have blanks and parentheses itself.
        fields = file.read().rpartition(')')[2].split()
    if fields[0] in ('Z', 'X'):
        raise ProcessLookupError(pid)
    return fields[19]
