# SPDX-License-Identifier: Apache-2.0
"""Runs a flow to its end and says what came of it."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from oslo_log import log as logging
from taskflow import engines, states
from taskflow import exceptions as taskflow_exceptions
from taskflow import flow as taskflow_flow
from taskflow.persistence import models
from taskflow.types import failure

from volume_rbd import exception
from volume_rbd.flows import strategies
from volume_rbd.flows.base import Result, Task

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Kept:
    """Where a flow is kept while it runs.

    :param detail: of *book*, with what is known of the flow's tasks.
    """

    backend: Any
    book: models.LogBook
    detail: models.FlowDetail


class Watcher(Protocol):
    """Is told what a flow does."""

    def entitle(self, titles: Mapping[str, str]) -> None:
        """:param titles: of the tasks, by name."""

    def watch(self, name: str, state: str) -> None:
        """A task has another state, in taskflow's words."""

    def choose(self, choice: Mapping[str, Any]) -> None:
        """A strategy was chosen."""


def run(flow: taskflow_flow.Flow, arguments: Mapping[str, Any], *, job: str,
        kept: Kept | None = None, watcher: Watcher | None = None) -> Result:
    """Run *flow* with *arguments* (JSON only) and return what it did.

    :param job: the id of the run.
    :param kept: where it is kept; one that was begun goes on from its last
        finished task. None: in memory.
    :raises VolumeRBDError: what ended the flow, after everything that it
        had made was undone; its message says so where something stayed.
    """
    started = time.monotonic()
    # defer_reverts: a failure under the controller undoes what is outside of
    # it as well; without it the source snapshot would stay.
    options: dict[str, Any] = {'engine': 'serial', 'defer_reverts': True}
    if kept is not None:
        options |= {'backend': kept.backend, 'book': kept.book,
                    'flow_detail': kept.detail}
    engine = engines.load(flow, **options)
    # Not into the book: the job has them, and taskflow cannot go on with one
    # in which they are half written.
    engine.storage.inject(arguments, transient=True)
    if watcher is not None:
        _watch(engine, flow, arguments, watcher)
    try:
        engine.run()
    except taskflow_exceptions.WrappedFailure as wrapped:
        error = _first_error(wrapped)
        _tell_what_stayed(flow, error)
        raise error from wrapped
    except exception.VolumeRBDError as error:
        _tell_what_stayed(flow, error)
        raise
    values = engine.storage.fetch_all(_of_what_worked)
    attempts = _attempts(arguments, engine.storage)
    return _result(flow.name, job, values, attempts,
                   time.monotonic() - started)


class _NothingIsKnown(exception.ImageExists, exception.SnapshotExists):
    """Of a task of which it is not known whether it ever ran: what has the
    name may be somebody else's, unless it bears the job's mark."""


def undo(flow: taskflow_flow.Flow, arguments: Mapping[str, Any],
         detail: models.FlowDetail | None) -> None:
    """Undo whatever of the flow is there, whatever it did: each task knows
    what is its own when it sees it.

    :param detail: what is known of it; None: nothing is.
    :raises Unavailable: something stayed, as who is needed for it was away;
        the rest was undone.
    :raises VolumeRBDError: something stayed.
    """
    nothing = failure.Failure.from_exception(_NothingIsKnown(''))
    failed = {atom.name: atom.failure for atom in detail or ()}
    steps = list(_tasks(flow))
    for step in reversed(steps):
        step.what_stayed, step.stayed_by = '', None
        result = nothing if detail is None else failed.get(step.name)
        given = {**arguments, 'result': result, 'flow_failures': {}}
        wanted = inspect.signature(step.revert).parameters.values()
        step.revert(**{name.name: given.get(name.name) for name in wanted
                       if name.kind not in (name.VAR_POSITIONAL,
                                            name.VAR_KEYWORD)})
    if what_stayed(flow):
        kind = (exception.Unavailable if is_unavailable(flow)
                else exception.VolumeRBDError)
        error = kind('What was left of it was undone')
        _tell_what_stayed(flow, error)
        raise error


def what_stayed(flow: taskflow_flow.Flow) -> list[str]:
    """Why undoing has failed; empty where nothing has."""
    return [step.what_stayed for step in _tasks(flow) if step.what_stayed]


def is_unavailable(flow: taskflow_flow.Flow) -> bool:
    """Whether all that stayed did so because who is needed was away."""
    errors = [step.stayed_by for step in _tasks(flow) if step.what_stayed]
    return bool(errors) and all(
        isinstance(error, exception.Unavailable) for error in errors)


def _attempts(arguments: Mapping[str, Any], storage: Any
              ) -> Sequence[Mapping[str, str]]:
    """What was tried; a flow without a controller has one way, which its
    argument ``choice`` tells."""
    if 'choice' in arguments:
        return [arguments['choice']]
    return strategies.get_attempts(
        arguments['choices'],
        storage.get_retry_history('StrategyController'))


def _watch(engine: Any, flow: taskflow_flow.Flow,
           arguments: Mapping[str, Any], watcher: Watcher) -> None:
    watcher.entitle({step.name: step.title for step in _tasks(flow)})
    if 'choice' in arguments:
        watcher.choose(arguments['choice'])

    def on_atom(state: str, details: Mapping[str, Any]) -> None:
        name = details.get('task_name')
        if name is not None:
            watcher.watch(name, state)
        if name == 'Choose' and state == states.SUCCESS:
            watcher.choose(_attempts(arguments, engine.storage)[-1])

    engine.atom_notifier.register('*', on_atom)


def _of_what_worked(values: list[Any]) -> Any:
    """Of several strategies that provide a value, those that failed provide
    their failure."""
    return next((value for value in values
                 if not isinstance(value, failure.Failure)), None)


def _first_error(wrapped: taskflow_exceptions.WrappedFailure
                 ) -> BaseException:
    errors = [strategies.error_of(item) for item in wrapped]
    ours = [error for error in errors
            if isinstance(error, exception.VolumeRBDError)]
    # The one that is no mere "not this way" says most.
    ours.sort(key=lambda error: isinstance(error, exception.NotThisWay))
    return next(iter(ours), wrapped)


def _tell_what_stayed(flow: taskflow_flow.Flow, error: BaseException
                      ) -> None:
    stayed = what_stayed(flow)
    if stayed and isinstance(error, exception.VolumeRBDError):
        error.message = (
            f'{error.message.rstrip(".")}. Not everything could be undone '
            f'({"; ".join(stayed)}).')


def _tasks(flow: taskflow_flow.Flow) -> Iterator[Task]:
    for node, _ in flow.iter_nodes():
        if isinstance(node, taskflow_flow.Flow):
            yield from _tasks(node)
        elif isinstance(node, Task):
            yield node


def _result(operation: str, job: str, values: Mapping[str, Any],
            attempts: Sequence[Mapping[str, str]], seconds: float) -> Result:
    choice = attempts[-1]
    LOG.info('%(operation)s by %(strategy)s (%(reason)s) took '
             '%(seconds).2f s', {
                 'operation': operation, 'strategy': choice['strategy'],
                 'reason': choice['reason'], 'seconds': seconds})
    return Result(
        operation=operation, job=job, strategy=choice['strategy'],
        reason=choice['reason'], sentence=choice['sentence'],
        attempts=tuple(attempts), seconds=seconds,
        bytes_moved=int(values.get('bytes_moved') or 0),
        # What was found out on the way goes before what was planned.
        size_bytes=int(values.get('volume_size_bytes')
                       or values.get('size_bytes') or 0), values=values)
