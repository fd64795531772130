# SPDX-License-Identifier: Apache-2.0
"""Repeating what may be repeated."""

from __future__ import annotations

import pytest
from glanceclient import exc

from volume_rbd.glance import retry


class Flaky:
    """Raises *error* so many times, then answers."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.left = times
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return 'answer'


def run(flaky: Flaky, retries: int, pauses: list[float]) -> str:
    return retry.retrying(flaky, what='This', retries=retries,
                          sleep=pauses.append)


def test_a_transient_error_is_repeated() -> None:
    pauses: list[float] = []
    flaky = Flaky(exc.CommunicationError('reset'), 2)
    assert run(flaky, 3, pauses) == 'answer'
    assert flaky.calls == 3
    assert len(pauses) == 2


def test_the_last_error_is_raised_as_it_is() -> None:
    error = exc.HTTPServiceUnavailable()
    flaky = Flaky(error, 99)
    with pytest.raises(exc.HTTPServiceUnavailable) as caught:
        run(flaky, 3, [])
    assert caught.value is error
    assert flaky.calls == 4


@pytest.mark.parametrize('error', [
    exc.InvalidEndpoint('timeout'), exc.HTTPInternalServerError(),
    exc.HTTPNotFound(), ValueError()])
def test_other_errors_are_not_repeated(error: Exception) -> None:
    flaky = Flaky(error, 1)
    with pytest.raises(type(error)):
        run(flaky, 3, [])
    assert flaky.calls == 1


def test_no_retries_means_one_attempt() -> None:
    flaky = Flaky(exc.CommunicationError('reset'), 1)
    with pytest.raises(exc.CommunicationError):
        run(flaky, 0, [])
    assert flaky.calls == 1


def test_the_pauses_grow_and_are_bounded() -> None:
    pauses: list[float] = []
    run(Flaky(exc.CommunicationError('reset'), 40), 40, pauses)
    assert max(pauses[:2]) <= 0.8
    assert max(pauses) <= retry.LONGEST_PAUSE_S
