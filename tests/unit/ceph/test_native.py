# SPDX-License-Identifier: Apache-2.0
"""Locks between native threads under eventlet."""

import subprocess
import sys

from volume_rbd.ceph import native


def test_without_eventlet_it_is_an_ordinary_lock():
    lock = native.lock()
    with lock:
        assert not lock.acquire(blocking=False)


def test_under_eventlet_it_wakes_other_native_threads():
    code = """
import warnings
warnings.simplefilter('ignore')
import eventlet
eventlet.monkey_patch()
from eventlet import patcher
from volume_rbd.ceph import native
import time
threading = patcher.original('threading')
lock = native.lock()
got = []
def other():
    with lock:
        got.append(1)
with lock:
    thread = threading.Thread(target=other)
    thread.start()
thread.join(5)
print(got)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True, check=True, timeout=60)
    assert done.stdout.strip() == '[1]'
