# SPDX-License-Identifier: Apache-2.0
"""When handles are closed; that it prevents a crash, the contract shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from volume_rbd.ceph import bindings, handle


class _Ioctx:
    """One whose answer comes after *wait_s*; None: never."""

    def __init__(self, log: list[str], wait_s: float | None) -> None:
        self._log = log
        self._wait_s = wait_s

    def aio_stat(self, name: str, callback: Callable[..., None]) -> None:
        def answer() -> None:
            self._log.append('answered')
            callback(None, None, None)

        self._log.append('asked')
        if self._wait_s is not None:
            threading.Timer(self._wait_s, answer).start()


class _Refusing:
    def aio_stat(self, name: str, callback: Callable[..., None]) -> None:
        raise bindings.rados().Error('there is no connection')


class _Raw:
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def close(self) -> None:
        self._log.append('closed')


@pytest.mark.parametrize('wait_s', [0.0, 0.1])
def test_it_is_closed_after_the_answer(wait_s: float) -> None:
    log: list[str] = []

    handle.close(_Ioctx(log, wait_s), _Raw(log))

    assert log == ['asked', 'answered', 'closed']


def test_where_nobody_answers_it_is_closed_all_the_same(
        monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(handle, '_SETTLED_WITHIN_S', 0.05)

    handle.close(_Ioctx(log, None), _Raw(log))

    assert log == ['asked', 'closed']


def test_where_nobody_can_be_asked_it_is_closed_all_the_same() -> None:
    log: list[str] = []

    handle.close(_Refusing(), _Raw(log))

    assert log == ['closed']


def test_what_fails_inside_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class _Bindings:
        @staticmethod
        def Image(*_: Any, **__: Any) -> _Raw:
            return _Raw(log)

    monkeypatch.setattr(bindings, 'rbd', lambda: _Bindings)

    with pytest.raises(ValueError, match='inside'), \
            handle.opened(_Ioctx(log, 0.0), 'x'):
        raise ValueError('inside')

    assert log == ['asked', 'answered', 'closed']
