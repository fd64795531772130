# SPDX-License-Identifier: Apache-2.0
"""Hashes and verifiers that see a copy's bytes on their way."""

from __future__ import annotations

import hashlib
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.copying.memory import MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying import copy
from volume_rbd.copying.sinks import Feeder
from volume_rbd.model import GIB, MIB, Extent

GRAIN = 64 * 1024


class Kept:
    """A sink that keeps what it was fed."""

    def __init__(self) -> None:
        self.data = bytearray()

    def update(self, data: bytes) -> None:
        self.data += data


class Slow:
    """Takes its time; *began* is set when it has begun."""

    def __init__(self, pause_s: float = 0.05) -> None:
        self.began = threading.Event()
        self.calls = 0
        self._pause_s = pause_s

    def update(self, data: bytes) -> None:
        self.began.set()
        self.calls += 1
        time.sleep(self._pause_s)


class Refusing:
    def update(self, data: bytes) -> None:
        raise exception.SignatureInvalid('It is not what was signed.')


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 70)), max_size=5),
       st.integers(1, 5))
def test_a_sink_sees_every_byte_once_and_in_order(
        lengths: list[tuple[bool, int]], operations: int) -> None:
    content, extents = b'', []
    for number, (exists, length) in enumerate(lengths):
        extents.append(Extent(len(content), length * GRAIN, exists))
        content += bytes([number + 1 if exists else 0]) * (length * GRAIN)
    source = MemoryDisk(content, extents)
    made = MemoryDisk(source.size_bytes)
    kept, digest = Kept(), hashlib.sha256()
    copy.into_empty(source, made, operations=operations, sinks=[kept, digest],
                    report=progress.Silent())
    assert kept.data == content
    assert digest.digest() == hashlib.sha256(content).digest()
    assert made.data == source.data
    assert all(any(extent.exists and extent.offset <= offset < extent.end
                   for extent in extents) for offset, _ in source.reads)


def test_data_that_is_zeros_is_hashed_as_such_and_not_written() -> None:
    source = MemoryDisk(3 * MIB, [Extent(0, 3 * MIB, True)])
    made = MemoryDisk(3 * MIB)
    digest = hashlib.md5()
    copy.into_empty(source, made, operations=2, sinks=[digest],
                    report=progress.Silent())
    assert digest.digest() == hashlib.md5(bytes(3 * MIB)).digest()
    assert made.writes == []


def test_what_a_sink_raises_ends_the_copy() -> None:
    source = MemoryDisk(b'x' * (40 * MIB), [Extent(0, 40 * MIB, True)])
    made = MemoryDisk(40 * MIB)
    with pytest.raises(exception.SignatureInvalid):
        copy.into_empty(source, made, operations=2, sinks=[Refusing()],
                        report=progress.Silent())
    assert not source.in_flight
    assert not made.in_flight


def test_a_slow_sink_holds_the_copy_back_and_so_the_memory() -> None:
    slow = Slow(0.001)
    read = []

    class Counting(MemoryDisk):
        def aio_read(self, offset, length):  # type: ignore
            read.append(len(read) - slow.calls)
            return super().aio_read(offset, length)

    source = Counting(b'x' * (80 * MIB), [Extent(0, 80 * MIB, True)])
    copy.into_empty(source, MemoryDisk(80 * MIB), operations=2, sinks=[slow],
                    report=progress.Silent())
    assert slow.calls == 20
    assert max(read) <= 4 + 2 + 2  # waiting, in flight, in both hands


def test_a_copy_that_fails_does_not_wait_for_its_sinks() -> None:
    source = MemoryDisk(b'x' * (40 * MIB), [Extent(0, 40 * MIB, True)],
                        {5: exception.ClusterUnavailable('lost')})
    threads = threading.active_count()
    with pytest.raises(exception.ClusterUnavailable):
        copy.into_empty(source, MemoryDisk(40 * MIB), operations=2,
                        sinks=[hashlib.sha512()], report=progress.Silent())
    assert threading.active_count() == threads


def test_the_end_of_a_long_hole_can_be_cancelled() -> None:
    """All is read and written, and only the hash still runs."""
    report = progress.Cancellable()
    slow = Slow()

    def cancel() -> None:
        slow.began.wait()
        report.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    began = time.monotonic()
    with pytest.raises(exception.Cancelled), Feeder([slow], report) as feeder:
        feeder.skip(1024 * GIB)
    canceller.join()
    assert time.monotonic() - began < 1


def test_a_copy_that_waits_for_a_sink_can_be_cancelled() -> None:
    source = MemoryDisk(b'x' * 9, [Extent(at, 1, True) for at in range(9)])
    report = progress.Cancellable()

    class Cancelling(Slow):
        def update(self, data: bytes) -> None:
            report.cancel()
            time.sleep(0.3)

    with pytest.raises(exception.Cancelled):
        copy.into_empty(source, MemoryDisk(9), operations=1,
                        sinks=[Cancelling()], report=report)
    assert not source.in_flight


def test_nothing_to_feed_costs_no_thread() -> None:
    before = threading.active_count()
    with Feeder([], progress.Silent()) as feeder:
        feeder.skip(5)
        feeder.pass_on(b'x')
        assert threading.active_count() == before
