# SPDX-License-Identifier: Apache-2.0
"""One budget for all that a backend does in the background.

Whoever flattens or purges asks for a turn. Turns are limited in number, by
the hours of the day, and by how the cluster is. The kinds share them fairly:
the kind goes next that has fewest turns, then the one that has waited longest
since its last. What somebody waits for goes before all else, and waits only
for others of its kind.

A turn is given back for a while without harm: librbd is told to stop and does
not do again what it has done. So what runs makes room, or waits for its
bandwidth, by ending its turn (:class:`Paused`) and asking for another. It is
never held up inside librbd: a callback that sleeps there stops everybody who
uses the same connection (tried with 16.2: for four seconds).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph.interface import Cluster
from volume_rbd.copying.bandwidth import Bandwidth
from volume_rbd.driver.pulse import ClusterPulse
from volume_rbd.driver.schedule import FLATTEN, PURGE, Schedule, Ticket

__all__ = ['FLATTEN', 'PURGE', 'Budget', 'OnProgress', 'Paused', 'Pulse',
           'make']

LOG = logging.getLogger(__name__)
T = TypeVar('T')

#: What librbd is handed, to be told to stop.
OnProgress = Callable[[int, int], None]

# So long a turn lasts where nobody asks for it, counted from when it got
# further than the one before: then the cluster is looked at again.
_SLICE_S = 30.0
# A transfer may run ahead of its bandwidth by so much: to stop and go on
# costs a look at each object.
_AHEAD_S = 5.0
# Who waits looks up so often.
_PAUSE_S = 0.5


class Paused(exception.Cancelled):
    """The turn is over before the work is; it goes on with the next."""


class Pulse(Protocol):
    """How the cluster is."""

    def problem(self, kind: str) -> str:
        """Why nothing of this kind should be begun now; '' if it may."""


class Budget:
    """Of one backend, in one process.

    :param operations: how many turns there are for the background.
    :param most: of a kind at once, those included that somebody waits for.
    :param bytes_per_s: that all flattens may move together; None: no limit.
    :param is_open: whether it is the time of day for it.
    """

    def __init__(self, pulse: Pulse, *, operations: int,
                 most: Mapping[str, int], bytes_per_s: float | None = None,
                 is_open: Callable[[], bool] = lambda: True,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._pulse = pulse
        self._schedule = Schedule(operations, most)
        self._bandwidth = Bandwidth(bytes_per_s, clock=clock)
        self._is_open = is_open
        self._clock = clock
        self._changed = threading.Condition()
        self._hurrying = 0
        self._leaves_rest = False
        self._told: dict[str, str] = {}

    # -- for who waits -------------------------------------------------------
    @contextlib.contextmanager
    def slot(self, kind: str, check: Callable[[], object] = lambda: None
             ) -> Iterator[None]:
        """A turn for something that somebody waits for."""
        ticket = Ticket(kind, is_waited_for=True)
        self._take(ticket, check)
        try:
            yield
        finally:
            self._give_back(ticket)

    @contextlib.contextmanager
    def hurry(self) -> Iterator[None]:
        """Somebody waits for all that is to be done: neither the hour nor
        the cluster's state holds it back now."""
        with self._changed:
            self._hurrying += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._hurrying -= 1

    # -- for the background --------------------------------------------------
    def run(self, kind: str, work: Callable[[OnProgress], T], *,
            check: OnProgress, data_bytes: int = 0) -> T:
        """Do *work* when it is its turn, in as many turns as it takes.

        :param work: can be stopped by what it reports its progress to, and
            called again.
        :param check: raises Cancelled when it is to end for good.
        :param data_bytes: what it moves, about.
        """
        run = _Run(data_bytes)
        while True:
            ticket = Ticket(kind)
            self._take(ticket, lambda: check(0, 1))
            turn = _Turn(self, ticket, run, check)
            try:
                return work(turn.on_progress)
            except Paused:
                LOG.debug('A %s makes room and goes on later', kind)
            finally:
                self._give_back(ticket)
            self._catch_up(run, check)

    def problem(self, kind: str) -> str:
        """Why nothing of this kind is begun now; '' if it is."""
        if self._hurrying:
            return ''
        if not self._is_open():
            return 'it is not the time of day for work in the background'
        return self._pulse.problem(kind)

    def is_held_back(self, kind: str) -> bool:
        """Whether it is no use to ask for a turn now."""
        problem = self.problem(kind)
        now = self._clock()
        with self._changed:
            self._schedule.note(kind, now, problem)
            return bool(problem) and not self._schedule.is_overdue(
                kind, now, self._is_open())

    def leave_rest(self) -> None:
        """From now on who is held back is told that he was cancelled,
        instead of waiting: another process finds what is left."""
        with self._changed:
            self._leaves_rest = True
            self._changed.notify_all()

    # -- turns ---------------------------------------------------------------
    def _take(self, ticket: Ticket, check: Callable[[], object]) -> None:
        with self._changed:
            self._schedule.add(ticket)
            if ticket.is_waited_for:
                self._changed.notify_all()
        try:
            while not self._try_to_begin(ticket):
                check()
        except BaseException:
            with self._changed:
                self._schedule.drop(ticket)
                self._changed.notify_all()
            raise

    def _try_to_begin(self, ticket: Ticket) -> bool:
        problem = ''
        if not ticket.is_waited_for:
            problem = self.problem(ticket.kind)
            self._tell(ticket.kind, problem)
        with self._changed:
            if self._schedule.begin(ticket, self._clock(), problem,
                                    self._is_open()):
                return True
            if problem and self._leaves_rest:
                raise exception.Cancelled(f'It is left for later: {problem}.')
            self._changed.wait(_PAUSE_S)
        return False

    def _tell(self, kind: str, problem: str) -> None:
        if problem != self._told.get(kind, ''):
            self._told[kind] = problem
            LOG.info('What is to be done in the background (%s) %s', kind,
                     f'waits: {problem}' if problem else 'goes on')

    def _give_back(self, ticket: Ticket) -> None:
        with self._changed:
            self._schedule.end(ticket)
            self._changed.notify_all()

    def must_end(self, ticket: Ticket, begun_at: float) -> bool:
        """Asked on a thread of librbd's: nothing here may wait."""
        now = self._clock()
        with self._changed:
            if self._schedule.is_wanted(ticket):
                return True
            if self._hurrying:
                return False
            # The hours hold also for what began although the cluster is in a
            # bad way.
            return not self._is_open() or (
                not ticket.is_exempt and now - begun_at > _SLICE_S)

    # -- bandwidth -----------------------------------------------------------
    @property
    def is_counting(self) -> bool:
        """Whether bytes are limited."""
        return self._bandwidth.is_limited

    def is_ahead(self, run: _Run, moved_bytes: int) -> bool:
        if not (self._bandwidth.is_limited and moved_bytes):
            return False
        run.free_at = self._bandwidth.use(moved_bytes)
        return run.free_at - self._clock() > _AHEAD_S

    def _catch_up(self, run: _Run, check: OnProgress) -> None:
        while self._bandwidth.is_limited and self._bandwidth.nap(run.free_at):
            check(0, 1)


def make(config: opts.BackendConfig, cluster: Cluster) -> Budget:
    """That of a backend."""
    return Budget(
        ClusterPulse(cluster, config.pool),
        operations=config.background_operations,
        most={FLATTEN: config.concurrent_flattens},
        bytes_per_s=config.background_bytes_per_s,
        is_open=lambda: is_within(config.background_hours,
                                  time.localtime()))


def is_within(hours: tuple[int, int] | None, now: time.struct_time) -> bool:
    """:param hours: from and to, in minutes of the day; they may span
        midnight. None: always."""
    if hours is None:
        return True
    begin, end = hours
    minute = now.tm_hour * 60 + now.tm_min
    if begin < end:
        return begin <= minute < end
    return minute >= begin or minute < end


class _Run:
    """One piece of work through all its turns.

    :ivar furthest: the fraction of it that is done.
    """

    def __init__(self, data_bytes: int) -> None:
        self.data_bytes = data_bytes
        self.furthest = 0.0
        self.free_at = 0.0


class _Turn:
    """Ends by raising Paused, but not before it got further than those
    before it: what they did is passed over quickly, not at no cost."""

    def __init__(self, budget: Budget, ticket: Ticket, run: _Run,
                 check: OnProgress) -> None:
        self._budget = budget
        self._ticket = ticket
        self._run = run
        self._check = check
        self._begun_at: float | None = None

    def on_progress(self, done: int, total: int) -> None:
        self._check(done, total)
        fraction = done / total if total else 0.0
        step = fraction - self._run.furthest
        # Once it is at its end, it ends.
        if step <= 0 or fraction >= 1.0:
            return
        self._run.furthest = fraction
        if self._begun_at is None:
            self._begun_at = self._budget._clock()
        moved = int(step * self._run.data_bytes)
        if (self._budget.is_ahead(self._run, moved)
                or self._budget.must_end(self._ticket, self._begun_at)):
            raise Paused('It goes on with the next turn.')
