# SPDX-License-Identifier: Apache-2.0
"""The bounded number of operations in flight."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.copying.memory import MemoryDisk
from volume_rbd import exception
from volume_rbd.copying.window import Window


def _write(disk: MemoryDisk, number: int) -> functools.partial:
    return functools.partial(disk.aio_write, bytes([number + 1]), number)


def _write_all(disk: MemoryDisk, bound: int,
               error: Exception | None = None) -> None:
    with Window(bound) as window:
        for number in range(disk.size_bytes):
            window.push(_write(disk, number))
        if error is not None:
            raise error


@given(st.integers(1, 8), st.integers(0, 20))
def test_no_more_than_the_bound_is_in_flight(bound: int, count: int) -> None:
    disk = MemoryDisk(count)
    with Window(bound) as window:
        for number in range(count):
            window.push(_write(disk, number))
            assert len(window) <= bound
    assert disk.most_in_flight == min(bound, count)
    assert bytes(disk.data) == bytes(range(1, count + 1))


def test_operations_are_finished_in_the_order_they_began() -> None:
    disk = MemoryDisk(bytes(range(5)))
    with Window(5) as window:
        for number in range(5):
            window.push(functools.partial(disk.aio_read, number, 1))
        assert window.is_full
        assert [window.pop() for _ in range(5)] == [
            bytes([number]) for number in range(5)]
        assert not window.is_full


def test_nothing_is_begun_while_the_oldest_of_a_full_window_fails() -> None:
    disk = MemoryDisk(3, failures={0: exception.NoSpace('full')})
    with pytest.raises(exception.NoSpace):
        _write_all(disk, 1)
    assert disk.writes == [(0, 1)]


def test_leaving_the_block_waits_for_everything() -> None:
    disk = MemoryDisk(4)
    with Window(9) as window:
        for number in range(4):
            window.push(_write(disk, number))
        assert len(disk.in_flight) == 4
    assert not disk.in_flight
    assert len(window) == 0


def test_leaving_by_an_error_waits_and_keeps_that_error() -> None:
    disk = MemoryDisk(4, failures={1: exception.NoSpace('full')})
    with pytest.raises(ZeroDivisionError):
        _write_all(disk, 9, ZeroDivisionError())
    assert not disk.in_flight
    assert disk.waited == 4


def test_the_first_of_several_errors_surfaces_and_the_rest_is_waited_for(
        ) -> None:
    disk = MemoryDisk(5, failures={1: exception.NoSpace('full'),
                                   3: exception.OperationTimeout('slow')})
    with pytest.raises(exception.NoSpace):
        _write_all(disk, 9)
    assert not disk.in_flight
    assert bytes(disk.data) == b'\x01\0\x03\0\x05'


def test_an_error_that_is_not_ours_leaves_nothing_in_flight_either() -> None:
    disk = MemoryDisk(4, failures={1: ValueError('a bug')})
    with pytest.raises(ValueError, match='a bug'):
        _write_all(disk, 9)
    assert not disk.in_flight
