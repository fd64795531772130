# SPDX-License-Identifier: Apache-2.0
"""Copies as the options of a backend say: so many operations in flight, held
back to a bandwidth, compared afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from volume_rbd import model, progress
from volume_rbd.copying import bandwidth, compare, copy
from volume_rbd.copying.checkpoints import Checkpoints
from volume_rbd.copying.protocols import Destination, Rewritable, Source
from volume_rbd.copying.sinks import Sink

#: Opens anew what was written: what it holds, and not what this process
#: believes to have written.
Reopen = Callable[[], AbstractContextManager[Source]]


@dataclasses.dataclass(frozen=True)
class Copier:
    """:param bandwidth: shared by all transfers of the backend.
    :param is_verifying: what was copied is read again and compared.
    """

    operations: int = 16
    bandwidth: bandwidth.Bandwidth = dataclasses.field(
        default_factory=bandwidth.Bandwidth)
    is_verifying: bool = False

    def limited(self, report: progress.Progress) -> progress.Progress:
        """*report*, for one transfer."""
        return bandwidth.limited(report, self.bandwidth)

    def fill(self, source: Source, made: Destination, *, reopen: Reopen,
             report: progress.Progress, sinks: Sequence[Sink] = (),
             start: int = 0, checkpoints: Checkpoints | None = None) -> int:
        """See :func:`copy.into_empty`.

        :raises DataCorrupted: also where the two differ afterwards.
        """
        report = self.limited(report)
        report.start(source.size_bytes)
        written = copy.into_empty(source, made, operations=self.operations,
                                  report=report, sinks=sinks, start=start,
                                  checkpoints=checkpoints)
        self._verify(source, reopen, report)
        return written

    def change(self, source: Source, made: Rewritable,
               extents: Iterable[model.Extent], *, reopen: Reopen,
               report: progress.Progress) -> int:
        """See :func:`copy.changes`; all of it is compared.

        :raises DataCorrupted: also where the two differ afterwards.
        """
        report = self.limited(report)
        report.start(source.size_bytes)
        written = copy.changes(source, made, extents, report=report,
                               operations=self.operations)
        self._verify(source, reopen, report)
        return written

    def _verify(self, source: Source, reopen: Reopen,
                report: progress.Progress) -> None:
        if not self.is_verifying:
            return
        report.step('comparing the copy with its source')
        with reopen() as made:
            compare.check_same(source, made, operations=self.operations,
                               report=report)
