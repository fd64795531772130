# SPDX-License-Identifier: Apache-2.0
"""The parts of one sandbox, put together, and the order they start in."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures

from volume_rbd import exception
from volume_rbd.sandbox.ceph import Ceph
from volume_rbd.sandbox.glance import Glance
from volume_rbd.sandbox.keystone import Keystone
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.mariadb import MariaDB
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Report, Supervisor

CEPH_PROCESSES = ('mon', 'mgr', 'osd')
SERVICE_PROCESSES = ('mariadb', 'keystone', 'glance')


def get_process_names(state: State) -> tuple[str, ...]:
    """The sandbox's processes in the order they depend on each other."""
    if state.options.ceph_only:
        return CEPH_PROCESSES
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

    def up(self) -> None:
        """Bring up what is missing; on failure stop what was started.

        :raises SandboxError: a part does not start.
        """
        try:
            if self._state.options.ceph_only:
                self.ceph.up()
            else:
                self._run_together(self.ceph.up, self._prepare_services)
                self.glance.start()
        except BaseException:
            for name in reversed(self.supervisor.started):
                self.supervisor.stop(name)
            raise

    def _prepare_services(self) -> None:
        self.mariadb.up()
        self._run_together(self.keystone.up, self.glance.prepare)

    def start(self, name: str) -> bool:
        """Start one process by its name; True if it did not run."""
        if name in CEPH_PROCESSES:
            return self.ceph.start(name)
        starters = {'mariadb': self.mariadb.start,
                    'keystone': self.keystone.start,
                    'glance': self.glance.start}
        return starters[name]()

    def down(self) -> None:
        """Stop everything, dependents first."""
        for name in reversed(get_process_names(self._state)):
            self.supervisor.stop(name, timeout_s=30.0)

    def _run_together(self, *works: Callable[[], None]) -> None:
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


def _raise_first(ended: list[futures.Future[None]]) -> None:
    """Raise the failure that came first, not those that it cancelled."""
    errors = [e for e in (future.exception() for future in ended) if e]
    causes = [e for e in errors if not isinstance(e, exception.Cancelled)]
    for error in causes or errors:
        raise error
