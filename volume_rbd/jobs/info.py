# SPDX-License-Identifier: Apache-2.0
"""What is told of a job."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from volume_rbd.jobs import node
from volume_rbd.jobs.job import Job, Note, State, refused
from volume_rbd.jobs.records import Entry, JobRecords

#: A job that was taken up so often is not taken up again.
MOST_ATTEMPTS = 8


@dataclasses.dataclass(frozen=True)
class JobInfo:
    """What is known of a job.

    :param arguments: empty for one that is over.
    :param node: whose process has it, or had it last.
    :param lease_s: seconds until the lease ends; None: nobody has one.
    :param eta_s: seconds until the transfer ends.
    """

    id: str
    operation: str
    target: str
    state: State
    node: str
    created_at: float
    lease_s: float | None
    eta_s: float | None
    note: Note
    clients: tuple[str, ...] = ()
    project_id: str | None = None
    user_id: str | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def describe(records: JobRecords, entry: Entry, job_lease_s: int) -> JobInfo:
    """One that is open."""
    job = entry.job
    if job is None:
        return JobInfo(entry.id, '', '', State.REFUSED, '', 0.0, None, None,
                       Note(error=str(refused(entry.id))))
    note, _ = records.note(entry.id)
    holder = records.find_lock(entry.id)
    lease_s = None
    if holder is not None and node.works(holder):
        # The OSD's clock and ours need not agree.
        lease_s = min(max(holder.expires_s - time.time(), 0.0),
                      float(job_lease_s))
    is_had = lease_s is not None
    return JobInfo(
        job.id, job.operation, job.target, _state(note, is_had=is_had),
        node.host(job.node), job.created_at, lease_s,
        note.eta_s if is_had else None, note, job.clients, job.project_id,
        job.user_id, job.arguments)


def describe_over(job: Job, note: Note) -> JobInfo:
    """One of the history."""
    known = {state.value: state for state in (State.DONE, State.UNDONE)}
    return JobInfo(
        job.id, job.operation, ', '.join(job.claims),
        known.get(note.state, State.UNDONE), node.host(job.node),
        job.created_at, None, None, note, (), job.project_id, job.user_id)


def _state(note: Note, *, is_had: bool) -> State:
    if is_had:
        return State.RUNNING
    if note.attempts >= MOST_ATTEMPTS:
        return State.STUCK
    known = {state.value: state for state in (
        State.WAITING, State.UNDOING, State.POSTED)}
    return known.get(note.state, State.ABANDONED)
