# SPDX-License-Identifier: Apache-2.0
"""What was there is gone: all of it reads as zeros."""

from __future__ import annotations

import functools

from volume_rbd import model, progress
from volume_rbd.copying.protocols import Rewritable
from volume_rbd.copying.window import Window

# What aio_write_zeroes takes at once.
_PIECE_BYTES = model.GIB
_OPERATIONS = 4


def clear(disk: Rewritable, report: progress.Progress) -> None:
    """Let all of *disk* read as zeros; its snapshots keep what they have."""
    size_bytes = disk.size_bytes
    with Window(_OPERATIONS) as window:
        for offset in range(0, size_bytes, _PIECE_BYTES):
            report.check()
            window.push(functools.partial(
                disk.aio_write_zeroes, offset,
                min(_PIECE_BYTES, size_bytes - offset)))
    disk.flush()
