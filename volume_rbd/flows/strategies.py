# SPDX-License-Identifier: Apache-2.0
"""The strategies of one operation under one taskflow retry controller.

The controller hands out the plan's choices, one a try. Edges with deciders
run only the tasks of the choice that was handed out. When a task says
:class:`~volume_rbd.exception.NotThisWay` and a choice is left, the tasks of
this try are reverted and the next choice runs; every other failure reverts
the whole flow, what is outside of the controller's reach included
(``REVERT_ALL``; the engine must be loaded with ``defer_reverts=True``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskflow import deciders, retry
from taskflow.patterns import graph_flow
from taskflow.types import failure

from volume_rbd import exception, plan
from volume_rbd.flows.base import Task, Tools


class StrategyController(retry.Retry):
    """Provides ``choice``: {strategy, reason, sentence} of this try."""

    def __init__(self, choices: Sequence[Mapping[str, str]]) -> None:
        super().__init__(name='StrategyController', provides='choice')
        self._choices = choices

    def execute(self, history: retry.History, *args: Any, **kwargs: Any
                ) -> Mapping[str, str]:
        return replay(self._choices, history)[1][0]

    def on_failure(self, history: retry.History, *args: Any, **kwargs: Any
                   ) -> retry.Decision:
        _, failures = list(history)[-1]
        if _refusal(failures) is None or not replay(
                self._choices, history)[1]:
            return retry.REVERT_ALL
        return retry.RETRY


Choices = list[Mapping[str, str]]


def replay(choices: Sequence[Mapping[str, str]], history: retry.History
           ) -> tuple[Choices, Choices]:
    """Which choices were tried, and which are left, those left out that a
    refusal rules out as well. The first that is left says why it is tried.

    Only failures are believed in: taskflow's own backends (6.5) lose what the
    controller provided in a try that failed.
    """
    tried: Choices = []
    left: Choices = list(choices)
    for _, failures in history:
        tried.append(left.pop(0))
        refusal = _refusal(failures)
        if refusal is None:
            continue
        left = [choice for choice in left if plan.is_worth_trying(
            choice['strategy'], refusal.reason)]
        if left:
            left[0] = {**left[0], **_reason_of(refusal)}
    return tried, left


def _refusal(failures: Mapping[str, failure.Failure]
             ) -> exception.NotThisWay | None:
    """Why a try was not the way; None if it did not fail, or for good."""
    refusals = [error_of(item) for item in failures.values()]
    if not refusals or not all(
            isinstance(error, exception.NotThisWay) for error in refusals):
        return None
    first = refusals[0]
    return first if isinstance(first, exception.NotThisWay) else None


def error_of(item: failure.Failure) -> BaseException | None:
    """The error behind a failure, also one that came back from a record."""
    if item.exception is not None:
        error: BaseException = item.exception
        return error
    names = list(item)
    return exception.from_name(names[0], tuple(item.exception_args or ())
                               ) if names else None


def _reason_of(refusal: exception.NotThisWay) -> dict[str, str]:
    try:
        reason = plan.Reason(refusal.reason)
    except ValueError:
        reason = plan.Reason.CLONE_FAILED
    sentence = f'{plan.SENTENCES[reason]} ({refusal.message})'
    return {'reason': reason.value, 'sentence': sentence}


class Choose(Task):
    """Passes the controller's choice on, for the deciders to look at."""

    title = 'choosing a strategy'
    default_provides = 'strategy'

    def execute(self, choice: Mapping[str, str]) -> str:
        return choice['strategy']


def get_flow(tools: Tools, choices: Sequence[Mapping[str, str]],
             branches: Mapping[str, list[Task]]) -> graph_flow.Flow:
    """A flow that runs one of *branches* (by strategy), after *choices*.

    Only the branches that *choices* name are part of it.
    """
    flow = graph_flow.Flow('strategies', retry=StrategyController(choices))
    choose = Choose(tools)
    flow.add(choose)
    for strategy in dict.fromkeys(choice['strategy'] for choice in choices):
        before: Task = choose
        for step in branches[strategy]:
            flow.add(step)
            # FLOW: what follows in the branch is left out too, what follows
            # after all branches is not. Each step asks for itself all the
            # same: taskflow leaves one after the other out, and a process may
            # be killed between two; to the next one the rest would be due.
            flow.link(choose, step, decider=_decider(strategy),
                      decider_depth=deciders.Depth.FLOW)
            if before is not choose:
                flow.link(before, step)
            before = step
    return flow


def _decider(strategy: str) -> Callable[[Mapping[str, str]], bool]:
    def is_chosen(history: Mapping[str, str]) -> bool:
        return list(history.values()) == [strategy]
    return is_chosen
