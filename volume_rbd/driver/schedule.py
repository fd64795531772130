# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is. Decides and waits for nothing; the time is handed in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

FLATTEN = 'flatten'
PURGE = 'purge'

# While the cluster is in a bad way, one piece of work is begun so often all
# the same: a cluster may stay so for weeks, and space must come back.
_OVERDUE_S = 300.0

_numbers = itertools.count(1)


class Ticket:
    """Asks for one turn.

    :ivar is_exempt: begun although the cluster is in a bad way, to be done
        in one go while it is the time of day for it.
    """

    def __init__(self, kind: str, *, is_waited_for: bool = False) -> None:
        self.kind = kind
        self.is_waited_for = is_waited_for
        self.is_exempt = False
        self.number = next(_numbers)


class Schedule:
    """:param operations: turns of the background at once.
    :param most: turns of a kind at once; others have no such limit.
    """

    def __init__(self, operations: int, most: Mapping[str, int]) -> None:
        self._operations = operations
        self._most = most
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._served: dict[str, int] = {}
        self._held_since: dict[str, float] = {}

    def add(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)

    def drop(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)

    def begin(self, ticket: Ticket, now: float, problem: str = '',
              is_open: bool = True) -> bool:
        """Let *ticket* begin, if it is its turn.

        :param problem: why nothing should be begun now.
        :param is_open: whether it is the time of day for it: that is never
            passed over.
        """
        self.note(ticket.kind, now, problem)
        may_begin = (self._is_first_of_waited_for(ticket)
                     if ticket.is_waited_for
                     else self._is_first_of_rest(ticket, now, problem,
                                                 is_open))
        if may_begin:
            self._waiting.remove(ticket)
            self._running.append(ticket)
            if not ticket.is_waited_for:
                self._served[ticket.kind] = next(_numbers)
                ticket.is_exempt = bool(problem)
                if problem:
                    self._held_since[ticket.kind] = now
        return may_begin

    def note(self, kind: str, now: float, problem: str) -> None:
        """Remember since when a kind is held back."""
        if problem:
            self._held_since.setdefault(kind, now)
        else:
            self._held_since.pop(kind, None)

    def end(self, ticket: Ticket) -> None:
        self._running.remove(ticket)

    def is_wanted(self, ticket: Ticket) -> bool:
        """Whether a turn that runs is wanted by somebody who waits for his,
        or by a kind that has none."""
        if ticket.is_waited_for:
            return False
        if any(other.is_waited_for and other.kind == ticket.kind
               for other in self._waiting) and self._is_full(ticket.kind):
            return True
        running = [other.kind for other in self._background()]
        return (len(running) >= self._operations
                and running.count(ticket.kind) > 1
                and any(kind not in running for kind in
                        {other.kind for other in self._waiting
                         if not other.is_waited_for}))

    def is_overdue(self, kind: str, now: float, is_open: bool = True
                   ) -> bool:
        """Whether one may begin although the cluster is in a bad way."""
        return (is_open and not any(self._background())
                and now - self._held_since.get(kind, now) >= _OVERDUE_S)

    def _background(self) -> Iterator[Ticket]:
        return (ticket for ticket in self._running
                if not ticket.is_waited_for)

    def _is_full(self, kind: str) -> bool:
        most = self._most.get(kind)
        return most is not None and most <= sum(
            ticket.kind == kind for ticket in self._running)

    def _is_first_of_waited_for(self, ticket: Ticket) -> bool:
        first = next(other for other in self._waiting
                     if other.is_waited_for and other.kind == ticket.kind)
        return ticket is first and not self._is_full(ticket.kind)

    def _is_first_of_rest(self, ticket: Ticket, now: float, problem: str,
                          is_open: bool) -> bool:
        if problem and not self.is_overdue(ticket.kind, now, is_open):
            return False
        if len(list(self._background())) >= self._operations:
            return False
        ready = [other for other in self._waiting
                 if not other.is_waited_for and not self._is_taken(other)
                 and (other.kind == ticket.kind
                      or other.kind not in self._held_since)]
        return bool(ready) and ticket is min(ready, key=self._rank)

    def _is_taken(self, ticket: Ticket) -> bool:
        """Who waits for his turn takes those of his kind first."""
        return self._is_full(ticket.kind) or any(
            other.is_waited_for and other.kind == ticket.kind
            for other in self._waiting)

    def _rank(self, ticket: Ticket) -> tuple[int, int, int]:
        running = sum(other.kind == ticket.kind
                      for other in self._background())
        return running, self._served.get(ticket.kind, 0), ticket.number
