# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed in the middle of a flow, and others that take it
up, all in memory.

Each process has a client of its own, as a job has. A kill is an error that
nothing catches, and every call that its process makes afterwards raises it
too: so nothing is cleaned up. Then its client is blocklisted, as the one who
takes over does.

To die before each call that changes something, in the middle of those that
take time, and at the end, is to die after each of them as well: between two
changes there is nothing to see.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from taskflow import engines, states
from taskflow import exceptions as taskflow_exceptions
from taskflow.patterns import linear_flow
from taskflow.persistence import models

from tests.fakes.ceph import FakeCluster
from tests.fakes.ceph_pool import FakePool
from tests.fakes.qemu_img import FakeQemuImg
from tests.unit.flows import checks
from tests.unit.world import StoringGlance, World
from volume_rbd import exception, model, progress
from volume_rbd.copying import luks
from volume_rbd.copying.qemu_img import FileDisk, RBDDisk
from volume_rbd.flows import base
from volume_rbd.persistence import RadosBackend

#: What only looks, as far as the state of things is concerned.
LOOKS = frozenset((
    'open', 'metadata', 'pool_metadata', 'parent', 'snapshots', 'watchers',
    'children', 'extents', 'changes', 'flush', 'check', 'images',
    'has_image', 'may_write', 'find_denied_pool', 'sizes', 'usage', 'trash',
    'find_trashed', 'groups',
    'group_snapshots', 'fsid', 'pools', 'monitors', 'names', 'read_record',
    'get_image', 'get_stores', 'get_locations', 'get_tasks', 'has_image'))

NAMESPACE = 'volume_rbd.jobs'
CHILD = '127.0.0.1:0/4711'


class Killed(BaseException):
    """The process is no more."""


class Life:
    """Of one process.

    :param ends_at: the number of the call that it does not survive; None: it
        lives on.
    :ivar moments: the calls at which it could have ended.
    """

    def __init__(self, ends_at: int | None = None) -> None:
        self._ends_at = ends_at
        self.moments: list[str] = []
        self.is_over = False

    def pass_moment(self, method: str) -> None:
        if not self.is_over and method not in LOOKS:
            self.is_over = len(self.moments) == self._ends_at
            self.moments.append(method)
        if self.is_over:
            raise Killed(method)


class MortalPool(FakePool):
    """A process may be killed while it removes."""

    def remove(self, name: str, on_progress: Any = None) -> None:
        cluster = self._cluster
        assert isinstance(cluster, MortalCluster)
        super().remove(name, lambda *_: cluster.life.pass_moment('removing'))


class MortalCluster(FakeCluster):
    def __init__(self, world: World, life: Life) -> None:
        super().__init__(world.ceph, 'cinder', private=True,
                         clone_format=None)
        self.life = life
        world.ceph.hooks[self.address] = life.pass_moment

    def pool(self, name: str) -> FakePool:
        return MortalPool(self, name)

    def end(self) -> None:
        """As a takeover does."""
        address = self.address
        self.server.blocklist.add(address)
        for disk in self.server.disks.values():
            disk.watchers = [other for other in disk.watchers
                             if other != address]


class SlowGlance(StoringGlance):
    """Notices a sender's end only after a while."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._looks_left: dict[str, int] = {}

    def upload(self, image_id: str, data: BinaryIO, *, size_bytes: int,
               store_id: str | None = None) -> None:
        try:
            super().upload(image_id, data, size_bytes=size_bytes,
                           store_id=store_id)
        except Killed as killed:
            if killed.args != ('upload',):  # it had begun
                self.server.records[image_id].change(status='saving')
                self._looks_left[image_id] = 2
            raise

    def get_image(self, image_id: str) -> model.GlanceImage:
        image = super().get_image(image_id)
        if image_id in self._looks_left:
            self._looks_left[image_id] -= 1
            if not self._looks_left[image_id]:
                del self._looks_left[image_id]
                self.server.records[image_id].change(status='queued')
        return image


class SurvivingQemuImg(FakeQemuImg):
    """Its child has a client of its own, and keeps its watch when its process
    is killed: whoever writes there beside it has forgotten it."""

    def __init__(self, world: World, life: Life) -> None:
        super().__init__(world.ceph)
        self._life = life

    def to_disk(self, source: RBDDisk | FileDisk, disk_format: str,
                target: RBDDisk, **options: Any) -> None:
        self._check_alone(target)
        super().to_disk(source, disk_format, target, **options)

    def to_format(self, source: RBDDisk, target: RBDDisk, disk_format: str,
                  **options: Any) -> None:
        self._check_alone(target)
        super().to_format(source, target, disk_format, **options)

    def _check_alone(self, target: RBDDisk) -> None:
        for disk in self._ceph.disks.values():
            if disk.name == target.image:
                assert CHILD not in disk.watchers

    def _check(self, target: RBDDisk, report: progress.Progress) -> None:
        try:
            self._life.pass_moment('child')
        except Killed:
            [disk] = [disk for disk in self._ceph.disks.values()
                      if disk.name == target.image]
            disk.watchers.append(CHILD)
            raise
        super()._check(target, report)


GetFlow = Callable[[base.Tools, Mapping[str, Any]], linear_flow.Flow]


@dataclasses.dataclass
class Job:
    """A flow with arguments, that one process after the other runs.

    :param encryption: what the first process has, and no other; likewise
        *file*.
    """

    operation: checks.Operation
    get_flow: GetFlow
    arguments: Mapping[str, Any]
    encryption: luks.Encryption | None = None
    file: base.DiskFile | None = None
    runs: int = 0

    def __post_init__(self) -> None:
        self.world.glance = SlowGlance(self.world.server)
        self.operation.before = self.world.state()
        book = models.LogBook('book', uuid=BOOK)
        book.add(models.FlowDetail('flow', uuid=self.id))
        records = self._backend(self.world.cluster).get_connection()
        records.upgrade()
        records.save_logbook(book)

    @property
    def world(self) -> World:
        return self.operation.world

    @property
    def id(self) -> str:
        return str(self.arguments['job'])

    @staticmethod
    def _backend(cluster: FakeCluster) -> RadosBackend:
        return RadosBackend({}, records=cluster.records('volumes',
                                                        NAMESPACE))

    def run(self, ends_at: int | None = None, *, is_undone: bool = False
            ) -> Life:
        """In a process of its own.

        :param ends_at: see :class:`Life`.
        """
        life = Life(ends_at)
        cluster = MortalCluster(self.world, life)
        self.world.server.hook = life.pass_moment
        report = progress.Cancellable()
        if is_undone:
            report.cancel()
        tools = base.Tools(
            self.world.config, cluster, self.world.glance, report,
            converter=SurvivingQemuImg(self.world, life),
            is_resumed=self.runs > 0,
            encryption=None if self.runs else self.encryption,
            file=None if self.runs else self.file)
        self.runs += 1
        try:
            with contextlib.suppress(Killed):
                self._run(tools)
        finally:
            cluster.end()
            self.world.server.hook = lambda method: None
        return life

    def _run(self, tools: base.Tools) -> None:
        backend = self._backend(tools.cluster)  # type: ignore[arg-type]
        records = backend.get_connection()
        try:
            book = records.get_logbook(BOOK)
        except taskflow_exceptions.NotFound:
            return  # it was killed when all was done
        engine = engines.load(
            self.get_flow(tools, self.arguments),
            flow_detail=book.find(self.id), book=book, backend=backend,
            engine='serial', defer_reverts=True)
        engine.storage.inject(self.arguments, transient=True)
        with contextlib.suppress(exception.VolumeRBDError,
                                 taskflow_exceptions.WrappedFailure):
            engine.run()
        self._note(engine.storage)
        records.destroy_logbook(BOOK)

    def _note(self, storage: Any) -> None:
        if storage.get_flow_state() != states.SUCCESS:
            assert storage.get_flow_state() == states.REVERTED
            self.operation.outcome = exception.Cancelled('It was undone.')
            return
        choice = self.arguments.get('choice') or storage.get_retry_history(
            'StrategyController')[-1][0]
        values = storage.fetch_all(lambda found: next((
            value for value in found if not hasattr(value, 'exc_info')),
            None))
        self.operation.outcome = base.Result(
            operation='', job=self.id, strategy=choice['strategy'],
            reason=choice['reason'], sentence='', attempts=(), seconds=0,
            bytes_moved=0, size_bytes=self.arguments['size_bytes'],
            values=values)

    # -- what must hold ------------------------------------------------------
    def check_done(self) -> None:
        """It was, and by the book: nothing but the result is left."""
        assert isinstance(self.operation.outcome, base.Result)
        self.operation.check_done()
        self._check_rest()

    def check_undone(self) -> None:
        """All is as it was before; or it was too late, and it is done."""
        if isinstance(self.operation.outcome, base.Result):
            self.operation.check_done()
        else:
            self.operation.check_untouched()
        self._check_rest()

    def _check_rest(self) -> None:
        assert not any(name.startswith('volume_rbd.stage')
                       for name in self.world.disks('volumes'))
        assert not any(disk.watchers or disk.is_half_removed
                       for disk in self.world.ceph.disks.values())


BOOK = 'b0000000-0000-4000-8000-000000000001'
