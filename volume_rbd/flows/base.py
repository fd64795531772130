# SPDX-License-Identifier: Apache-2.0
"""What every task has, and what a flow is handed and gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from taskflow import task
from taskflow.types import failure

from volume_rbd import opts, progress
from volume_rbd.ceph.interface import Cluster, Pool
from volume_rbd.glance.interface import Glance


@dataclasses.dataclass(frozen=True)
class Tools:
    """What tasks act with. Lives in the process, never in a record: what a
    flow persists is JSON, so that another process can take it up with tools
    of its own."""

    config: opts.BackendConfig
    cluster: Cluster
    glance: Glance
    report: progress.Progress

    @property
    def pool(self) -> Pool:
        """The volumes' pool."""
        return self.cluster.pool(self.config.pool)


class Task(task.Task):
    """A step of a flow.

    ``execute`` either succeeds or leaves nothing behind; ``revert`` undoes a
    success, and finds nothing to do when it is called a second time.
    """

    #: A short phrase for a person, as in "cloning the volume".
    title: ClassVar[str] = ''
    #: False from the point where undoing would do harm.
    is_cancellable: ClassVar[bool] = True

    def __init__(self, tools: Tools, **options: Any) -> None:
        super().__init__(name=type(self).__name__, **options)
        self.tools = tools

    def pre_execute(self) -> None:
        if self.is_cancellable:
            self.tools.report.check()
        self.tools.report.step(self.title)

    @staticmethod
    def was_done(result: object) -> bool:
        """Whether ``execute`` had succeeded, given what revert is handed."""
        return not isinstance(result, failure.Failure)


@dataclasses.dataclass(frozen=True)
class Result:
    """What an operation did.

    :param strategy: the one that did it, with its reason and sentence.
    :param attempts: every strategy that was tried, in order, with reasons.
    :param bytes_moved: through this process; a clone moves none.
    :param lineage: what the new thing came from, as written on it.
    """

    operation: str
    job: str
    strategy: str
    reason: str
    sentence: str
    attempts: tuple[Mapping[str, str], ...]
    seconds: float
    bytes_moved: int
    size_bytes: int
    values: Mapping[str, Any]
    lineage: Mapping[str, object] = dataclasses.field(default_factory=dict)
