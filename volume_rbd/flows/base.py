# SPDX-License-Identifier: Apache-2.0
"""What every task has, and what a flow is handed and gives back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from oslo_log import log as logging
from taskflow import task

from volume_rbd import exception, opts, progress, signatures
from volume_rbd.ceph.interface import Cluster, Pool
from volume_rbd.copying import copier, luks, qemu_img
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)


class Lease(Protocol):
    """The right to run a flow, for a time that is prolonged as it runs."""

    @property
    def is_lost(self) -> bool:
        """It may be another's by now: nothing more may be touched."""

    def check(self) -> None:
        """:raises JobLost: it is lost."""


class Flattener(Protocol):
    """Cuts clones loose, a bounded number at once."""

    def slot(self) -> contextlib.AbstractContextManager[None]:
        """One of those that may run at once."""

    def submit(self, pool: str, name: str) -> object:
        """Have it done in the background, by another process if this one is
        killed."""


class NoFlattener:
    """Where there is no background."""

    def slot(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def submit(self, pool: str, name: str) -> object:
        raise exception.NotSupported(
            f'{pool}/{name} cannot be flattened in the background here.')


@dataclasses.dataclass(frozen=True)
class DiskFile:
    """A local file that was inspected.

    :param disk_format: Glance's word.
    :param disk_bytes: the size of the disk inside.
    """

    path: str
    disk_format: str
    disk_bytes: int


@dataclasses.dataclass(frozen=True)
class Tools:
    """What tasks act with. Lives in the process, never in a record: what a
    flow persists is JSON, so that another process can take it up with tools
    of its own.

    :param encryption: of the volume; None: it is not encrypted here.
    :param file: that a volume is made from, where it is a local one.
    :param is_resumed: another process had begun this flow and was killed, or
        lost its lease.
    :param lease: says whether the flow is still ours to run.
    :param flattener: of the backend.
    """

    config: opts.BackendConfig
    cluster: Cluster
    glance: Glance
    report: progress.Progress
    checker: signatures.Checker | None = None
    converter: qemu_img.Converter = dataclasses.field(
        default_factory=qemu_img.QemuImg)
    copier: copier.Copier = dataclasses.field(default_factory=copier.Copier)
    encryption: luks.Encryption | None = None
    file: DiskFile | None = None
    is_resumed: bool = False
    lease: Lease | None = None
    flattener: Flattener = dataclasses.field(default_factory=NoFlattener)

    def transfer(self) -> progress.Progress:
        """What a transfer through this process reports to, and is held back
        by where the backend's bandwidth is limited."""
        return self.copier.limited(self.report)

    @property
    def key(self) -> bytes | None:
        """What opens the volume, where it is encrypted."""
        return self.encryption.key if self.encryption else None

    @property
    def pool(self) -> Pool:
        """The volumes' pool."""
        return self.cluster.pool(self.config.pool)


class Task(task.Task):
    """A step of a flow.

    ``execute`` either succeeds or leaves nothing behind. ``revert`` undoes by
    what it finds of the job, finished or not (see owning.py), and finds
    nothing to do when it is called a second time.

    A process may be killed anywhere within either. Then another one calls it
    again, with tools of its own (``is_resumed``): ``execute`` goes on with
    what it finds of the same job, or begins anew. What else bears the name is
    left alone.

    taskflow stops undoing at the first revert that fails, and forgets why the
    flow had failed. So a failed revert is noted here, and the others go on.

    :ivar what_stayed: why undoing failed; empty if it did not.
    :ivar stayed_by: the error.
    """

    #: A short phrase for a person, as in "cloning the volume".
    title: ClassVar[str] = ''
    #: False from the point where undoing would do harm.
    is_cancellable: ClassVar[bool] = True
    #: It may have passed that point when its process was killed: then it
    #: looks how far it came before it is cancelled.
    looks_back: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if 'revert' in vars(cls):
            cls.revert = _noting_failure(cls.revert)

    def __init__(self, tools: Tools, **options: Any) -> None:
        super().__init__(name=type(self).__name__, **options)
        self.tools = tools
        self.what_stayed = ''
        self.stayed_by: Exception | None = None

    def pre_execute(self) -> None:
        if self.is_cancellable and not (
                self.looks_back and self.tools.is_resumed):
            self.tools.report.check()
        self.what_stayed = ''
        self.tools.report.step(self.title)
        if self.tools.lease is not None:
            self.tools.lease.check()

    @contextlib.contextmanager
    def or_undo(self, undo: Callable[[], None]) -> Iterator[None]:
        """Within ``execute``: call *undo* where the block fails."""
        try:
            yield
        except BaseException:
            self.try_to_undo(undo)
            raise

    def try_to_undo(self, undo: Callable[[], None]) -> None:
        if self.tools.lease is not None and self.tools.lease.is_lost:
            return  # whoever has the job now sees to it
        try:
            undo()
        except Exception as error:
            LOG.exception('Undoing "%s" failed', self.title)
            self.what_stayed = f'{self.title}: {error}'
            self.stayed_by = error


def is_cancelled(report: progress.Progress) -> bool:
    try:
        report.check()
    except exception.Cancelled:
        return True
    return False


def _noting_failure(revert: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(revert)  # taskflow reads the names of the arguments
    def wrapper(self: Task, *args: Any, **kwargs: Any) -> None:
        self.try_to_undo(lambda: revert(self, *args, **kwargs))
    return wrapper


@dataclasses.dataclass(frozen=True)
class Result:
    """What an operation did.

    :param strategy: the one that did it, with its reason and sentence.
    :param attempts: every strategy that was tried, in order, with reasons.
    :param bytes_moved: through this process; a clone moves none.
    :param lineage: what the new thing came from; a volume and a clone of
        ours bear it as their mark.
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
