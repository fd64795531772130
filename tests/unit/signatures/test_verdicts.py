# SPDX-License-Identifier: Apache-2.0
"""Of many who want to know the same at once, one looks."""

from __future__ import annotations

import threading
import time
from concurrent import futures

import pytest

from volume_rbd.signatures import Verdicts


def test_many_at_once_verify_once() -> None:
    verdicts, calls = Verdicts(), []

    def verify() -> None:
        calls.append(threading.get_ident())
        time.sleep(0.05)

    with futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(
            lambda _: verdicts.ensure('x', verify), range(8)))
    assert len(calls) == 1
    assert sorted(answers) == [False] * 7 + [True]


def test_a_failure_is_nobody_elses() -> None:
    verdicts = Verdicts()
    with pytest.raises(ZeroDivisionError):
        verdicts.ensure('x', lambda: 1 // 0)
    assert verdicts.ensure('x', lambda: None)


def test_different_things_do_not_wait_for_each_other() -> None:
    verdicts, met = Verdicts(), threading.Barrier(2)
    with futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda key: verdicts.ensure(
            key, lambda: met.wait(5) and None), ('x', 'y')))


def test_the_oldest_are_forgotten() -> None:
    verdicts = Verdicts(limit=2)
    for key in ('a', 'b', 'a', 'c'):
        verdicts.ensure(key, lambda: None)
    assert not verdicts.ensure('a', lambda: None)
    assert verdicts.ensure('b', lambda: None)
    assert not verdicts._running
