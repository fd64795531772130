# SPDX-License-Identifier: Apache-2.0
"""Locks between operating system threads, whatever was monkey-patched.

cinder-volume patches ``threading`` with eventlet. A green lock shared by
native threads (tpool) never wakes the other side, so what is shared here is
guarded by the original one. In return nobody may yield while holding it:
calls into librados do not, ``time.sleep`` would.
"""

from __future__ import annotations

import sys
import threading
from typing import Any


def lock() -> threading.Lock:
    patcher: Any = sys.modules.get('eventlet.patcher')
    if patcher is None:
        return threading.Lock()
    original: threading.Lock = patcher.original('threading').Lock()
    return original
