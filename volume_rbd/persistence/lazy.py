# SPDX-License-Identifier: Apache-2.0
"""Writes less often what taskflow says of a flow.

Of each task it saves that it is pending, to be run, running, done. Who goes on
with a flow runs a task again that was not done, whether it had begun or not;
so only what is done, failed or undone is worth a write, and the rest goes
along with the next one. Only for who is alone with a flow, under a lease.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from taskflow import states

from volume_rbd.ceph.interface import LockHolder, Records

_OF_NO_CONSEQUENCE = frozenset({
    None, states.PENDING, states.RUNNING, states.REVERTING, states.RETRYING,
    states.RESUMING, states.IGNORE})


class LazyRecords:
    """A :class:`~volume_rbd.ceph.interface.Records` that keeps back what is
    of no consequence until something else is written to the same record."""

    def __init__(self, records: Records) -> None:
        self._records = records
        # Record -> key -> text that is to be written; and what is there.
        self._kept: dict[str, dict[str, str]] = {}
        self._there: dict[str, dict[str, str | None]] = {}

    @property
    def namespace(self) -> str:
        return self._records.namespace

    def write(self, name: str, put: Mapping[str, str],
              drop: Collection[str] = (), *,
              expected: Mapping[str, str | None] | None = None) -> None:
        kept = self._kept.get(name, {})
        there = self._there.get(name, {})
        wanted = {**(expected or {}), **there}
        if expected and not drop and not any(map(_matters, put.values())):
            self._kept[name] = {**kept, **put}
            self._there[name] = {
                **{key: expected.get(key) for key in put}, **there}
            return
        self._forget(name)
        self._records.write(name, {**kept, **put}, drop,
                            expected=wanted or None)

    def read(self, name: str) -> dict[str, str]:
        return {**self._records.read(name), **self._kept.get(name, {})}

    def read_keys(self, name: str, keys: Collection[str]) -> dict[str, str]:
        kept = self._kept.get(name, {})
        return {**self._records.read_keys(name, keys),
                **{key: kept[key] for key in keys if key in kept}}

    def remove(self, name: str) -> None:
        self._forget(name)
        self._records.remove(name)

    def _forget(self, name: str) -> None:
        self._kept.pop(name, None)
        self._there.pop(name, None)

    # -- as they are ---------------------------------------------------------
    def names(self) -> list[str]:
        return self._records.names()

    def create(self, name: str, put: Mapping[str, str]) -> None:
        self._records.create(name, put)

    def lock(self, name: str, owner: str, *, duration_s: int,
             note: str = '') -> bool:
        return self._records.lock(name, owner, duration_s=duration_s,
                                  note=note)

    def unlock(self, name: str, owner: str) -> bool:
        return self._records.unlock(name, owner)

    def find_lock(self, name: str) -> LockHolder | None:
        return self._records.find_lock(name)

    def break_lock(self, name: str, holder: LockHolder) -> None:
        self._records.break_lock(name, holder)


def _matters(text: str) -> bool:
    """Whether a text of a book says that something is over."""
    value = json.loads(text)
    state = value.get('atom', value).get('state')
    return state not in _OF_NO_CONSEQUENCE
