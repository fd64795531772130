# SPDX-License-Identifier: Apache-2.0
"""What a sandbox is doing, as plain values."""

from __future__ import annotations

import dataclasses
from typing import Any

from volume_rbd.sandbox import cinder, glance, keystone, parts, process
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.state import State


@dataclasses.dataclass(frozen=True)
class ProcessStatus:
    """One process.

    :param state: ``running``, ``paused`` or ``down``.
    :param pid: None unless it is there.
    """

    name: str
    state: str
    pid: int | None


@dataclasses.dataclass(frozen=True)
class SandboxStatus:
    """A sandbox.

    :param state: ``absent`` (never made, or destroyed), ``up`` (every
        process is there), ``down`` (none is) or ``partly up``.
    :param health: Ceph's health, or None when the monitor does not run.
    """

    name: str
    folder: str
    state: str
    fsid: str | None = None
    health: str | None = None
    glance: str | None = None
    keystone: str | None = None
    cinder: str | None = None
    processes: tuple[ProcessStatus, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_up(self) -> bool:
        return self.state == 'up'


def get_status(layout: Layout, state: State, health: str | None
               ) -> SandboxStatus:
    """The status of a sandbox that exists."""
    processes = tuple(
        _get_process(state, name) for name in parts.get_process_names(state))
    running = {p.state for p in processes}
    summary = {frozenset({'running'}): 'up', frozenset({'down'}): 'down'}
    full = not state.options.ceph_only
    return SandboxStatus(
        name=state.name, folder=str(layout.folder),
        state=summary.get(frozenset(running), 'partly up'),
        fsid=state.fsid, health=health,
        glance=glance.get_url(state) if full else None,
        keystone=keystone.get_url(state) if full else None,
        cinder=cinder.get_url(state) if state.options.cinder else None,
        processes=processes, options=state.options.to_json(),
    )


def _get_process(state: State, name: str) -> ProcessStatus:
    record = state.processes.get(name)
    letter = process.find_state(record) if record else None
    if record is None or letter is None:
        return ProcessStatus(name, 'down', None)
    return ProcessStatus(
        name, 'paused' if letter == 'T' else 'running', record.pid)
