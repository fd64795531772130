# SPDX-License-Identifier: Apache-2.0
"""Handles of rbd_images, and when it is safe to close them.

Where a snapshot is opened, the parent of a clone included, librbd completes
the call in one thread of librados, and in another one looks at the state of
the rbd_image once more. Who closes it at once takes that state away under the
second thread, and the process is aborted (decision 0021). The second thread
is the one that librados calls back in, one answer after the other: so when
what is asked now is answered, it is through.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from volume_rbd.ceph import bindings
from volume_rbd.ceph.session import PROBE_OBJECT

# Longer than anybody needs who is about to take a lock. Where no OSD answers
# it is closed all the same.
_SETTLED_WITHIN_S = 5.0
_PAUSES_S = 0.0002, 0.02


@contextlib.contextmanager
def opened(ioctx: Any, name: str | None = None, **options: Any
           ) -> Iterator[Any]:
    """A ``rbd.Image``.

    :param options: as it takes them.
    """
    raw = bindings.rbd().Image(ioctx, name, **options)
    try:
        yield raw
    finally:
        close(ioctx, raw)


def close(ioctx: Any, raw: Any) -> None:
    """Close *raw*, opened by *ioctx*, once librbd is through with it."""
    with contextlib.suppress(bindings.rados().Error):
        _settle(ioctx)
    raw.close()


def _settle(ioctx: Any) -> None:
    answers: list[object] = []
    ioctx.aio_stat(PROBE_OBJECT, lambda *_: answers.append(True))
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    pause_s, longest_s = _PAUSES_S
    while not answers and time.monotonic() < deadline:
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, longest_s)
