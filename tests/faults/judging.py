# SPDX-License-Identifier: Apache-2.0
"""Whether what is there after a kill and a recovery may be there."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from tests.faults.view import View, differences

COMPLETE, GONE, WRONG = 'complete', 'gone', 'wrong'
# The OSD trims what removed snapshots held in its own time.
_TRIMMED_WITHIN_S = 10.0
_PAUSE_S = 0.3


@dataclasses.dataclass(frozen=True)
class Reference:
    """What an operation does when nobody kills it.

    :param effects: the names of its side effects, in order.
    :param strategy: by which it went; empty where it has none.
    """

    operation: str
    effects: tuple[str, ...]
    before: View
    after: View
    strategy: str = ''


def judge(reference: Reference, before: View, look: Callable[[], View]
          ) -> tuple[str, list[str]]:
    """:param before: what was there before the run that was killed.
    :param look: at what is there now.
    :returns: COMPLETE, GONE or WRONG, and what is wrong.
    """
    deadline = time.monotonic() + _TRIMMED_WITHIN_S
    while True:
        after = look()
        changed = differences(before, after)
        wanted = differences(reference.before, reference.after)
        if changed == wanted:
            return COMPLETE, []
        if not changed:
            return GONE, []
        is_late = time.monotonic() > deadline
        if is_late or not _may_pass(changed, wanted):
            return WRONG, explain(changed, wanted)
        time.sleep(_PAUSE_S)


def _may_pass(changed: dict[str, tuple[str, str]],
              wanted: dict[str, tuple[str, str]]) -> bool:
    strange = [key for key in changed if key not in wanted]
    return bool(strange) and all(
        key.startswith('object ') for key in strange)


def explain(changed: dict[str, tuple[str, str]],
            wanted: dict[str, tuple[str, str]]) -> list[str]:
    """A sentence for each thing that is there and should not be, or that is
    not what it should be: ``unfinished``, ``leak`` or ``mismatch``."""
    found = []
    for key, (was, now) in changed.items():
        if wanted.get(key) == (was, now):
            # Right by itself, but other parts of the result are missing.
            if len(changed) < len(wanted):
                found.append(f'leak: {key} of a result that is not complete')
        elif not was and _is_record(key):
            found.append(f'unfinished: {key}')
        elif not was and (key not in wanted or _is_pending(now)):
            found.append(f'leak: {key} {now}')
        else:
            right = wanted.get(key, (was, was))[1]
            found.append(f'mismatch: {key} was {was or "not there"}, is '
                         f'{now or "gone"}, should be {right or "gone"}')
    return found or ['mismatch: a part of the result is missing']


def _is_record(key: str) -> bool:
    return key.startswith('record ')


def _is_pending(text: str) -> bool:
    """It does not claim to be complete."""
    return any(mark in text for mark in (
        '"state": "pending"', '"mark": null', '"status": "queued"',
        '"status": "saving"', '"status": "importing"'))
