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
        return get_attempts(self._choices, history, is_next=True)[-1]

    def on_failure(self, history: retry.History, *args: Any, **kwargs: Any
                   ) -> retry.Decision:
        if _last_refusal(list(history)) is None or not _get_left(
                self._choices, list(history)):
            return retry.REVERT_ALL
        return retry.RETRY


def get_attempts(choices: Sequence[Mapping[str, str]],
                 history: retry.History, *, is_next: bool = False
                 ) -> list[Mapping[str, str]]:
    """What was tried, in order, each with the reason why.

    Found again from the failures alone: what a history that comes back from
    a record says that was tried, taskflow mixes up with a failure
    (RetryDetail.from_dict, 6.1).

    :param is_next: what is tried next too.
    """
    outcomes = list(history)
    attempts: list[Mapping[str, str]] = []
    for count in range(len(outcomes) + is_next):
        choice = dict(_get_left(choices, outcomes[:count])[0])
        refusal = _last_refusal(outcomes[:count])
        if refusal is not None:
            choice.update(_reason_of(refusal))
        attempts.append(choice)
    return attempts


def _get_left(choices: Sequence[Mapping[str, str]], outcomes: list[Any]
              ) -> list[Mapping[str, str]]:
    """Those behind the last one that was tried, without those that its
    refusal rules out as well."""
    left = list(choices)
    for count in range(len(outcomes)):
        refusal = _last_refusal(outcomes[:count + 1])
        left = [choice for choice in left[1:]
                if refusal is None or plan.is_worth_trying(
                    choice['strategy'], refusal.reason)]
    return left


def _last_refusal(outcomes: list[Any]) -> exception.NotThisWay | None:
    """Why the last try was not the way; None if it failed for good."""
    if not outcomes:
        return None
    _, failures = outcomes[-1]
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
