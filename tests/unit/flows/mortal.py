# SPDX-License-Identifier: Apache-2.0
"""Processes that run a flow from its book, and can be killed at any call of
theirs; the next one goes on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from taskflow import engines
from taskflow import exceptions as taskflow_exceptions
from taskflow import flow as taskflow_flow
from taskflow.persistence import models

from tests.fakes import ceph_disk
from tests.unit.world import TracedCeph, World
from volume_rbd import progress
from volume_rbd.ceph.interface import Cluster
from volume_rbd.flows import base
from volume_rbd.flows import engine as flow_engine
from volume_rbd.persistence import DEFAULT_NAMESPACE, RadosBackend

GetFlow = Callable[[base.Tools, Mapping[str, Any]], taskflow_flow.Flow]

_FLATTEN = 'flatten.'


class Killed(BaseException):
    """The process is no more: no call of its gets through."""


class _Doom(dict[int, BaseException]):
    """Breaks every call from one on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._first = first

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number >= self._first

    def __getitem__(self, number: int) -> BaseException:
        return Killed(f'at call {self._first}')


class _Disks(dict[str, ceph_disk.Disk]):
    """A process may be killed between the beginning of a removal and its
    end."""

    def __init__(self, ceph: TracedCeph) -> None:
        super().__init__(ceph.disks)
        self._ceph = ceph

    def __delitem__(self, number: str) -> None:
        for address in self._ceph.traced:
            self._ceph.begin('remove, half-way', address)
        super().__delitem__(number)


@dataclasses.dataclass
class _Flattener:
    """Writes down what is to be flattened."""

    cluster: Cluster

    def slot(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def submit(self, pool: str, name: str) -> None:
        self.cluster.pool(pool).set_metadata(_FLATTEN + name, '')


class NeverBegan(Exception):
    """There is no book: nothing may have been touched."""


class Job:
    """One job in a world of its own.

    :ivar calls: what the last process asked of the cluster, in order.
    :ivar lease: of every process.
    """

    def __init__(self, world: World, get_flow: GetFlow,
                 arguments: Mapping[str, Any]) -> None:
        self.world = world
        self.calls: list[str] = []
        self.lease: base.Lease | None = None
        self._get_flow = get_flow
        self._arguments = arguments
        self._lives = 0
        world.ceph.disks = _Disks(world.ceph)

    def live(self, *, dies_at: int | None = None,
             report: progress.Progress | None = None) -> None:
        """Begin the job, or go on with it.

        :param dies_at: the number of the call that it is killed before.
        :raises Killed, NeverBegan:
        """
        ceph = self.world.ceph
        cluster = ceph.cluster('cinder')
        address = cluster.address
        ceph.traced = {address}
        ceph.calls.clear()
        ceph.breaks = {} if dies_at is None else _Doom(dies_at)
        try:
            self._run(base.Tools(
                self.world.config, cluster, self.world.glance,
                report or progress.Silent(), is_resumed=self._lives > 0,
                lease=self.lease, flattener=_Flattener(cluster)))
        finally:
            self._lives += 1
            self.calls = self.world.end_trace()['ceph']
            ceph.breaks = {}
            ceph.blocklist.add(address)  # whoever takes over does it first

    def _run(self, tools: base.Tools) -> None:
        job = self._arguments['job']
        backend = RadosBackend({}, records=tools.cluster.records(
            'volumes', DEFAULT_NAMESPACE))
        with contextlib.closing(backend.get_connection()) as records:
            if self._lives:
                try:
                    book = records.get_logbook(job)
                except taskflow_exceptions.NotFound:
                    raise NeverBegan from None
                detail = book.find(job)
            else:
                book = models.LogBook(job, uuid=job)
                detail = models.FlowDetail('flow', uuid=job)
                book.add(detail)
                records.save_logbook(book)
            engine = engines.load(
                self._get_flow(tools, self._arguments), flow_detail=detail,
                book=book, backend=backend, engine='serial',
                defer_reverts=True)
            # Not into the book: taskflow cannot read one whose arguments are
            # half written.
            engine.storage.inject(self._arguments, transient=True)
            try:
                engine.run()
            except taskflow_exceptions.WrappedFailure as wrapped:
                # Some of the failures came from the book.
                raise flow_engine._first_error(wrapped) from wrapped
