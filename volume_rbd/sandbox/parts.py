# SPDX-License-Identifier: Apache-2.0
"""The parts of one sandbox, put together, and the order they start in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from concurrent import futures

from volume_rbd import exception
from volume_rbd.sandbox import cinder
from volume_rbd.sandbox.ceph import Ceph
from volume_rbd.sandbox.cinder import Cinder
from volume_rbd.sandbox.glance import Glance
from volume_rbd.sandbox.keystone import Keystone
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.mariadb import MariaDB
from volume_rbd.sandbox.rabbitmq import RabbitMQ
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

CEPH_PROCESSES = ('mon', 'mgr', 'osd')
SERVICE_PROCESSES = ('mariadb', 'keystone', 'glance')
CINDER_PROCESSES = ('epmd', 'rabbitmq', *cinder.PROCESSES)
_ALL = CEPH_PROCESSES + SERVICE_PROCESSES + CINDER_PROCESSES


def get_process_names(state: State) -> tuple[str, ...]:
    """The sandbox's processes in the order they depend on each other."""
    if state.options.ceph_only:
        return CEPH_PROCESSES
    if state.options.cinder:
        return _ALL
    return CEPH_PROCESSES + SERVICE_PROCESSES


class Parts:
    """Everything that runs in a sandbox."""

    def __init__(self, layout: Layout, state: State, report: Report) -> None:
        self._state = state
        self.supervisor = Supervisor(state, layout.folder, report)
        common = (layout, state, self.supervisor, report)
        self.ceph = Ceph(*common)
        self.mariadb = MariaDB(*common)
        self.keystone = Keystone(*common, self.mariadb)
        self.glance = Glance(*common, self.mariadb)
        self.rabbitmq = RabbitMQ(*common)
        self.cinder = Cinder(*common, self.mariadb)

    def up(self) -> None:
        """Bring up what is missing; on failure stop what was started.

        :raises SandboxError: a part does not start.
        """
        options = self._state.options
        try:
            self._stop(set(_ALL).difference(
                get_process_names(self._state)))
            if options.ceph_only:
                self.ceph.up()
            elif options.cinder:
                self._run_together(self.ceph.up, self._prepare_services,
                                   self.rabbitmq.up)
                self._run_together(self.glance.start, self._start_cinder)
            else:
                self._run_together(self.ceph.up, self._prepare_services)
                self.glance.start()
        except BaseException:
            for name in reversed(self.supervisor.started):
                self.supervisor.stop(name)
            raise

    def _prepare_services(self) -> None:
        self.mariadb.up()
        works: list[Callable[[], object]] = [
            self.keystone.up, self.glance.prepare]
        if self._state.options.cinder:
            works.append(self.cinder.prepare)
        self._run_together(*works)

    def _start_cinder(self) -> None:
        self._run_together(
            self.cinder.start_api,
            functools.partial(self.cinder.start, cinder.SCHEDULER),
            functools.partial(self.cinder.start, cinder.VOLUME))
        self.cinder.wait_known()

    def start(self, name: str) -> bool:
        """Start one process by its name; True if it did not run."""
        if name in CEPH_PROCESSES:
            return self.ceph.start(name)
        if name in cinder.PROCESSES:
            started = self.cinder.start(name)
            if started:
                self.cinder.wait_known()
            return started
        if name == 'rabbitmq':
            started = self.rabbitmq.start()
            self.cinder.wait_connected()
            return started
        starters = {'mariadb': self.mariadb.start,
                    'keystone': self.keystone.start,
                    'glance': self.glance.start,
                    'epmd': self.rabbitmq.start_names}
        return starters[name]()

    def configure_cinder(self) -> None:
        """Run Cinder's processes as they are configured now."""
        self._start_cinder()

    def down(self) -> None:
        """Stop everything, dependents first."""
        self._stop(_ALL)

    def _stop(self, names: Collection[str]) -> None:
        # Those that nothing depends on take longest, so they go together.
        with futures.ThreadPoolExecutor(len(cinder.PROCESSES)) as pool:
            list(pool.map(self._stop_one, filter(
                names.__contains__, cinder.PROCESSES)))
        for name in reversed(_ALL):
            if name in names:
                self._stop_one(name)

    def _stop_one(self, name: str) -> None:
        self.supervisor.stop(name, timeout_s=30.0)

    def _run_together(self, *works: Callable[[], object]) -> None:
        """Run all at once; after a failure the others give up early."""
        with futures.ThreadPoolExecutor(len(works)) as pool:
            running = [pool.submit(work) for work in works]
            try:
                futures.wait(running, return_when=futures.FIRST_EXCEPTION)
                if any(r.done() and r.exception() for r in running):
                    self.supervisor.cancel()
            except BaseException:
                self.supervisor.cancel()
                raise
        _raise_first(running)


def _raise_first(ended: list[futures.Future[object]]) -> None:
    """Raise the failure that came first, not those that it cancelled."""
    errors = [e for e in (future.exception() for future in ended) if e]
    causes = [e for e in errors if not isinstance(e, exception.Cancelled)]
    for error in causes or errors:
        raise error
