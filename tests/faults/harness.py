# SPDX-License-Identifier: Apache-2.0
"""Kills operations, lets a fresh process recover, and judges what is there.

After each kill the world must be what it was before, or what it was and what
the operation makes when nobody kills it; see :func:`judge`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.faults import cluster, operations
from tests.faults.choosing import Task
from tests.faults.effects import BEFORE, KillPoint
from tests.faults.judging import WRONG, Reference, judge
from tests.faults.lane import Lane
from tests.faults.operations import Operation
from tests.faults.report import Kill, Report
from tests.faults.sources import Sources
from tests.faults.view import View, differences
from tests.functional.house import House
from tests.zygote import Ended, Zygote

#: What issue 5 asks for: a job is terminal so long after the restart.
RECOVERED_WITHIN_S = 60.0
#: osd_client_watch_timeout: one for speed, and Ceph's own.
SHORT_WATCH_S, DEFAULT_WATCH_S = 5, 30
_OPERATES_WITHIN_S = 120.0


class Harness:
    """:param lanes: how many kills are under way at once."""

    def __init__(self, house: House, zygote: Zygote, lanes: Sequence[Lane],
                 report: Report) -> None:
        self._house = house
        self._zygote = zygote
        self.lanes = lanes
        self.report = report
        self._references: dict[str, Reference] = {}
        self._lock = threading.Lock()

    # -- without a kill ------------------------------------------------------
    def references(self, names: Sequence[str]) -> dict[str, Reference]:
        """What each operation does when nobody kills it."""
        missing = [name for name in names if name not in self._references]
        for name, found in zip(missing, self._on_lanes(
                self._refer, missing), strict=True):
            self._references[name] = found
        return {name: self._references[name] for name in names}

    def _refer(self, lane: Lane, name: str) -> Reference:
        operation = operations.find(name)
        run = new_run()
        given, before = self._prepare(lane, operation, run)
        ended = self.operate(lane, name, given, run, None)
        assert not ended.is_killed, ended.told
        assert 'error' not in ended.told, f'{name}: {ended.told["error"]}'
        self.recover(lane, operation, run)
        reference = Reference(name, tuple(ended.told['effects']), before,
                              lane.look(operation, run),
                              ended.told['strategy'])
        lane.restore(run)
        return reference

    @staticmethod
    def _prepare(lane: Lane, operation: Operation, run: str
                 ) -> tuple[dict[str, Any], View]:
        return lane.prepare(operation, run), lane.look(operation, run)

    # -- with one ------------------------------------------------------------
    def run(self, tasks: Sequence[Task]) -> None:
        """Do the kills, and report them."""
        self.references(sorted({task.operation for task in tasks}))
        for done in self._on_lanes(self._kill_safely, tasks):
            self.report.add(done)

    def _kill_safely(self, lane: Lane, task: Task) -> Kill:
        try:
            return self._kill(lane, task)
        except Exception as error:
            # One kill that cannot be judged must not hide the others.
            lane.clear()
            return Kill(task.operation, task.point, '?', findings=(
                f'harness: {type(error).__name__}: {error}',))

    def _kill(self, lane: Lane, task: Task) -> Kill:
        operation = operations.find(task.operation)
        reference = self._references[task.operation]
        run = new_run()
        given, before = self._prepare(lane, operation, run)
        if differences(reference.before, before):
            # An earlier kill has spoilt what is worked on.
            lane.clear()
            given, before = self._prepare(lane, operation, run)
        assert before == reference.before, differences(
            reference.before, before)
        ended = self.operate(lane, task.operation, given, run, task.point)
        if task.again:
            self.recover(lane, operation, run, KillPoint(task.again, BEFORE))
        recovered = self.recover(lane, operation, run)
        verdict, found = judge(
            reference, before, lambda: lane.look(operation, run))
        lost: list[str] = []
        if verdict == WRONG or _complaints(recovered):
            lost = lane.end_lost_watches(run)
        if lost:
            recovered = self.recover(lane, operation, run)
            verdict, found = judge(
                reference, before, lambda: lane.look(operation, run))
        lane.restore(run)
        if verdict == WRONG:
            lane.clear()
        return Kill(task.operation, task.point,
                    ended.told.get('killed', ''), verdict=verdict,
                    recovered_s=_seconds(recovered), again=task.again,
                    findings=(*_complaints(recovered), *found),
                    outcomes=tuple(recovered.told.get('outcomes', ())),
                    lost_watches=tuple(lost))

    def operate(self, lane: Lane, name: str, given: Any, run: str,
                point: KillPoint | None,
                settings: Mapping[str, object] | None = None) -> Ended:
        """:param settings: None: those of the operation."""
        if settings is None:
            settings = operations.find(name).settings
        return self._zygote.run(
            'operate', _OPERATES_WITHIN_S, operation=name, given=given,
            config=lane.config(settings), run=run,
            environ=self._house.sandbox.env('member'), point=_plain(point))

    def recover(self, lane: Lane, operation: Operation, run: str,
                point: KillPoint | None = None) -> Ended:
        """As a service that starts again: with its own credentials."""
        return self._zygote.run(
            'recover', 2 * RECOVERED_WITHIN_S + 60, run=run, environ={},
            config=lane.config(operation.settings), point=_plain(point),
            timeout_s=2 * RECOVERED_WITHIN_S, purges=operation.purges)

    # -- lanes ---------------------------------------------------------------
    def _on_lanes(self, work: Callable[[Lane, Any], Any],
                  items: Sequence[Any]) -> Iterator[Any]:
        """The results, in the order of *items*."""
        free: queue.Queue[Lane] = queue.Queue()
        for lane in self.lanes:
            free.put(lane)

        def on_a_lane(item: Any) -> Any:
            lane = free.get()
            try:
                return work(lane, item)
            finally:
                free.put(lane)

        with concurrent.futures.ThreadPoolExecutor(
                len(self.lanes)) as executor:
            yield from executor.map(on_a_lane, items)


def _seconds(recovered: Ended) -> float:
    return float(recovered.told.get('recovered_s', recovered.seconds))


def _complaints(recovered: Ended) -> list[str]:
    """Of the recovery itself."""
    found = []
    if recovered.is_killed or 'error' in recovered.told:
        why = recovered.told.get('error', 'a crash, see the log of children')
        found.append(f'error: the recovery ended with {why}')
    if _seconds(recovered) > RECOVERED_WITHIN_S:
        found.append(f'slow: it took {_seconds(recovered):.1f} s')
    return found


def _plain(point: KillPoint | None) -> tuple[int, str] | None:
    return (point.at, point.side) if point else None


def new_run() -> str:
    """The 8 digits that the ids of a run begin with."""
    return secrets.token_hex(4)


@contextlib.contextmanager
def opened(house: House, folder: pathlib.Path, *, lanes: int, seed: int,
           watch_timeout_s: int = SHORT_WATCH_S) -> Iterator[Harness]:
    """A harness with lanes of its own, which go with it.

    """
    names = [f'lane-{new_run()}' for _ in range(lanes)]
    sources = Sources(folder, seed)
    with Zygote('tests.faults.children',
                folder / 'children.log') as zygote, \
            cluster.watch_timeout(house.cluster, watch_timeout_s), \
            cluster.pools(house.cluster, names), \
            contextlib.ExitStack() as stack:
        made = [stack.enter_context(contextlib.closing(
            Lane(house, name, sources))) for name in names]
        yield Harness(house, zygote, made, Report(seed, watch_timeout_s))
