# SPDX-License-Identifier: Apache-2.0
"""A lease that was lost stays lost."""

from __future__ import annotations

import threading
import time

import pytest

from volume_rbd import exception
from volume_rbd.ceph.interface import LockHolder
from volume_rbd.jobs.lease import Lease

DURATION_S = 1


class Locks:
    """Nobody else wants them.

    :ivar slow_s: how long an answer takes.
    """

    def __init__(self) -> None:
        self.slow_s = 0.0
        self.holder: LockHolder | None = None
        self.asked = threading.Event()

    def lock(self, job_id: str, node: str, duration_s: int) -> bool:
        self.asked.set()
        time.sleep(self.slow_s)
        self.holder = LockHolder('client.1', node, 0.0, '')
        return True

    def unlock(self, job_id: str, node: str) -> None:
        self.holder = None

    def find_lock(self, job_id: str) -> LockHolder | None:
        return self.holder

    def break_lock(self, job_id: str, holder: LockHolder) -> None:
        self.holder = None


@pytest.fixture
def locks() -> Locks:
    return Locks()


def test_it_is_prolonged(locks: Locks) -> None:
    lease = Lease(locks, 'job', DURATION_S)
    assert lease.is_lost
    assert lease.take()
    time.sleep(2 * DURATION_S)
    lease.check()
    lease.let_go()
    assert lease.is_lost
    assert locks.holder is None


def test_what_somebody_was_told_to_be_lost_does_not_come_back(locks: Locks
                                                               ) -> None:
    """The lock is given all the same, only later: it is given back."""
    lease = Lease(locks, 'job', DURATION_S)
    assert lease.take()
    locks.asked.clear()
    locks.slow_s = 1.5 * DURATION_S
    assert locks.asked.wait(5)
    time.sleep(DURATION_S)
    with pytest.raises(exception.JobLost):
        lease.check()
    locks.slow_s = 0.0
    time.sleep(DURATION_S)
    assert lease.is_lost
    assert locks.holder is None
    lease.stop()


def test_who_only_waits_may_be_late(locks: Locks) -> None:
    lease = Lease(locks, 'job', DURATION_S, comes_back=True)
    assert lease.take()
    locks.asked.clear()
    locks.slow_s = 1.5 * DURATION_S
    assert locks.asked.wait(5)
    time.sleep(DURATION_S)
    assert lease.is_lost
    locks.slow_s = 0.0
    time.sleep(DURATION_S)
    assert not lease.is_lost
    lease.let_go()


def test_who_gives_up_does_not_wait_for_an_answer(locks: Locks) -> None:
    lease = Lease(locks, 'job', DURATION_S)
    assert lease.take()
    locks.asked.clear()
    locks.slow_s = 5
    assert locks.asked.wait(5)
    before = time.monotonic()
    lease.give_up()
    assert time.monotonic() - before < 1
    assert lease.is_lost
