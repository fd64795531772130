# SPDX-License-Identifier: Apache-2.0
"""Threads of the operating system and their locks, whatever was patched.

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
    made: threading.Lock = threads().Lock()
    return made


def threads() -> Any:
    """The module threading as it was before it was patched."""
    patcher: Any = sys.modules.get('eventlet.patcher')
    return threading if patcher is None else patcher.original('threading')
