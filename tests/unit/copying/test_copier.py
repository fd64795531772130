# SPDX-License-Identifier: Apache-2.0
"""Copies as the options of a backend say."""

from __future__ import annotations

import contextlib

import pytest

from tests.unit.copying.memory import MemoryDisk
from volume_rbd import exception, progress
from volume_rbd.copying.bandwidth import Bandwidth
from volume_rbd.copying.copier import Copier
from volume_rbd.model import MIB, Extent

WHOLE = [Extent(0, MIB, True)]


class Lossy(MemoryDisk):
    """Says that it has written, and has not."""

    def aio_write(self, data, offset):  # type: ignore
        return super().aio_write(bytes(len(data)), offset)


def _source() -> MemoryDisk:
    return MemoryDisk(b'x' * MIB, WHOLE)


def test_a_copy_that_differs_is_found_where_that_is_wanted() -> None:
    made = Lossy(MIB, WHOLE)
    opened = []

    def reopen() -> contextlib.nullcontext[MemoryDisk]:
        opened.append(made.flushes)
        return contextlib.nullcontext(made)

    Copier().fill(_source(), made, reopen=reopen, report=progress.Silent())
    assert opened == []
    with pytest.raises(exception.DataCorrupted):
        Copier(is_verifying=True).fill(_source(), made, reopen=reopen,
                                       report=progress.Silent())
    with pytest.raises(exception.DataCorrupted):
        Copier(is_verifying=True).change(
            _source(), made, WHOLE, reopen=reopen, report=progress.Silent())
    assert opened == [2, 3], 'it is looked at after the flush'


def test_a_copy_that_is_right_passes() -> None:
    made = MemoryDisk(MIB, WHOLE)
    written = Copier(is_verifying=True).fill(
        _source(), made, reopen=lambda: contextlib.nullcontext(made),
        report=progress.Silent())
    assert written == MIB


def test_all_copies_of_a_backend_share_its_bandwidth() -> None:
    clock = [100.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    copier = Copier(bandwidth=Bandwidth(MIB, clock=lambda: clock[0],
                                        sleep=sleep))
    for _ in range(3):
        copier.fill(_source(), MemoryDisk(MIB), report=progress.Silent(),
                    reopen=lambda: contextlib.nullcontext(_source()))
    # The first passes at once; each later one waits for those before it.
    for _ in range(2):
        report = copier.limited(progress.Silent())
        report.advance(0)
        report.check()
    assert copier.bandwidth.use(0) == pytest.approx(103)
