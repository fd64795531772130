# SPDX-License-Identifier: Apache-2.0
"""Where jobs are written down: records in a RADOS namespace of the pool.

* ``open``: the jobs that are not over, and what each has claimed. One write
  puts a job and its claims, on the condition that nobody else has them. And
  the ids of those that are just begun or ended.
* ``job.ID``: the lease of a job and the note of how far it came.
* ``wait.ID``: who waits for a job that another process runs, see waits.py.
* ``history``: the notes of jobs that are over, a bounded number.
* ``book.ID`` and ``index``: taskflow's, see :mod:`volume_rbd.persistence`.

Whatever else there is of a job is named in ``open``, from before it is made
until it is gone: nobody has to list the objects of the pool, which takes as
long as the pool is large.

Whoever may write to the pool may write here: of what is no id of a job
nothing is ever called, no object and no file.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from volume_rbd import exception
from volume_rbd.ceph.interface import Cluster, LockHolder
from volume_rbd.jobs import node
from volume_rbd.jobs.job import (
    MOST,
    UNREADABLE,
    Job,
    Note,
    State,
    is_id,
    printable,
    refused,
)

NAMESPACE = 'volume_rbd.jobs'
_OPEN = 'open'
_HISTORY = 'history'
_NOTE = 'note'
_CANCEL = 'cancel'
# Half of it may come in between two trims: an omap object with more than
# 200,000 keys raises a warning of the cluster's.
HISTORY_KEYS = 10_000


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of ``open``.

    :param id: of any form where *job* is None.
    :param job: None where it is not what one of ours has written.
    :param text: as it is there, for a write that expects it.
    """

    id: str
    job: Job | None
    text: str


class JobRecords:
    """The jobs of one pool, through one connection."""

    def __init__(self, cluster: Cluster, pool: str) -> None:
        self._cluster = cluster
        self._records = cluster.records(pool, NAMESPACE)

    # -- open jobs -----------------------------------------------------------
    def announce(self, job_id: str) -> None:
        """Say that there is about to be something of a job."""
        self._records.write(_OPEN, {'format': '1', _passing(job_id): '1'})

    def open(self, job: Job) -> None:
        """Write down a job that was announced.

        :raises JobConflict: another job has claimed the same; its *job* is
            that one's id.
        """
        passing = _passing(job.id)
        put = {_key(job.id): job.dump(self._cluster.sign),
               **{_claim_key(claim): job.id for claim in job.claims}}
        while True:
            try:
                self._records.write(_OPEN, put, [passing], expected={
                    **dict.fromkeys(put), passing: '1'})
                return
            except exception.RecordChanged:
                self._refuse_claimed(job)
                # Or it was swept before there was a lease.
                self.announce(job.id)

    def _refuse_claimed(self, job: Job) -> None:
        claimed = self._records.read_keys(
            _OPEN, [_claim_key(claim) for claim in job.claims])
        for claim in job.claims:
            other = claimed.get(_claim_key(claim))
            if other is not None:
                kind, _, name = claim.partition('/')
                shown = printable(other)
                error = exception.JobConflict(
                    f'Job {shown} is at work with {kind} {name}.',
                    remedy=f'Wait until it has ended; see "volume-rbd jobs '
                           f'show {shown}".')
                error.job = other
                raise error

    def is_claimed(self, claim: str) -> bool:
        key = _claim_key(claim)
        try:
            return key in self._records.read_keys(_OPEN, [key])
        except exception.RecordNotFound:
            return False

    def find(self, job_id: str) -> Entry | None:
        try:
            text = self._records.read_keys(_OPEN, [_key(job_id)]).get(
                _key(job_id))
        except exception.RecordNotFound:
            return None
        return None if text is None else self._entry(job_id, text)

    def entries(self) -> list[Entry]:
        """All that are open, oldest first."""
        try:
            found = self._records.read(_OPEN)
        except exception.RecordNotFound:
            return []
        # What cannot be shown to a person cannot be asked for either.
        entries = [self._entry(key.removeprefix('job.'), text)
                   for key, text in found.items()
                   if key.startswith('job.') and key.isprintable()]
        return sorted(entries, key=lambda entry: (
            entry.job.created_at if entry.job else 0.0, entry.id))

    def _entry(self, job_id: str, text: str) -> Entry:
        job = (Job.load(job_id, text, self._cluster.sign)
               if is_id(job_id) else None)
        return Entry(job_id, job, text)

    def replace(self, entry: Entry, job: Job) -> Entry:
        """:raises RecordChanged: it is not as *entry* says any more."""
        text = job.dump(self._cluster.sign)
        self._records.write(_OPEN, {_key(job.id): text},
                            expected={_key(job.id): entry.text})
        return Entry(job.id, job, text)

    def close(self, entry: Entry) -> None:
        """Let go of what it claimed; of a forged one only what is its own."""
        key = _key(entry.id)
        claims = (self._claims_of(entry.id) if entry.job is None
                  else map(_claim_key, entry.job.claims))
        self._records.write(
            _OPEN, {_passing(entry.id): '1'} if is_id(entry.id) else {},
            [key, *claims],
            # What is no text was not read as it is there.
            expected={key: entry.text} if entry.job else None)

    def forget(self, job_id: str) -> None:
        """There is nothing of it any more."""
        self._records.write(_OPEN, {}, [_passing(job_id)])

    def drop_claims(self, job_id: str) -> None:
        """Let go of what is claimed in the name of a job that is not there.
        """
        try:
            claims = self._claims_of(job_id)
            if claims:
                self._records.write(_OPEN, {}, claims,
                                    expected={_key(job_id): None})
        except (exception.RecordNotFound, exception.RecordChanged):
            return  # there is nothing, or it has just begun

    def _claims_of(self, job_id: str) -> list[str]:
        """The keys of what is claimed in that name."""
        return [key for key, text in self._records.read(_OPEN).items()
                if key.startswith('claim.') and text == job_id]

    # -- lease and note ------------------------------------------------------
    def lock(self, job_id: str, node: str, duration_s: int) -> bool:
        return self._records.lock(_name(job_id), node, duration_s=duration_s)

    def unlock(self, job_id: str, node: str) -> None:
        self._records.unlock(_name(job_id), node)

    def find_lock(self, job_id: str) -> LockHolder | None:
        return self._records.find_lock(_name(job_id))

    def break_lock(self, job_id: str, holder: LockHolder) -> None:
        self._records.break_lock(_name(job_id), holder)

    def note(self, job_id: str) -> tuple[Note, bool]:
        """How far it came, and whether it is to be cancelled."""
        try:
            found = self._records.read(_name(job_id))
        except exception.RecordNotFound:
            return Note(state=State.ABANDONED.value), False
        return Note.load(found.get(_NOTE)), _CANCEL in found

    def write_note(self, job_id: str, note: Note) -> None:
        self._records.write(_name(job_id), {_NOTE: note.dump()})

    def cancel(self, job_id: str) -> None:
        """Ask whoever has it to undo it."""
        self._records.write(_name(job_id), {_CANCEL: '1'})

    def remove(self, job_id: str) -> None:
        if not is_id(job_id):
            return
        try:
            self._records.remove(_name(job_id))
        except exception.RecordNotFound:
            return

    def passing(self) -> list[str]:
        """The ids of those that begin or end just now, or whose processes
        were killed then."""
        try:
            found = self._records.read(_OPEN)
        except exception.RecordNotFound:
            return []
        begun = (key.removeprefix(_passing('')) for key in found
                 if key.startswith(_passing('')))
        return sorted(filter(is_id, begun))

    def is_nobodys(self, job_id: str) -> bool:
        """Whether nobody works under its lease."""
        return not is_id(job_id) or self._is_free(_name(job_id))

    def is_awaited(self, job_id: str) -> bool:
        """Whether somebody waits for what another process does."""
        return is_id(job_id) and not self._is_free(wait_key(job_id))

    def _is_free(self, name: str) -> bool:
        holder = self._records.find_lock(name)
        return holder is None or not node.works(holder)

    # -- history -------------------------------------------------------------
    def remember(self, job: Job, note: Note) -> None:
        """The same job again takes the place of its earlier note."""
        text = json.dumps({
            'job': job.id, 'operation': job.operation, 'target': job.target,
            'node': job.node, 'project_id': job.project_id,
            'user_id': job.user_id, 'created_at': job.created_at,
            'note': note.dump()}, sort_keys=True)
        self._records.write(_HISTORY, {_history_key(job): text})

    def history(self) -> Iterator[tuple[Job, Note]]:
        """Those that are over, newest first."""
        try:
            found = self._records.read(_HISTORY)
        except exception.RecordNotFound:
            return
        for key in sorted(found, reverse=True):
            try:
                job, note = _remembered(json.loads(found[key]))
            except UNREADABLE:
                continue  # not ours
            yield job, note

    def trim_history(self, most: int = HISTORY_KEYS) -> None:
        try:
            keys = sorted(self._records.read(_HISTORY))
        except exception.RecordNotFound:
            return
        old: Sequence[str] = keys[:-most] if most else keys
        for start in range(0, len(old), 1000):
            self._records.write(_HISTORY, {}, old[start:start + 1000])


def _remembered(fields: Mapping[str, Any]) -> tuple[Job, Note]:
    created_at = float(fields['created_at'])
    if not 0 <= created_at < MOST:
        raise ValueError('No time at all.')

    def text(name: str) -> str:
        return printable(str(fields[name]))

    return Job(
        id=text('job'), operation=text('operation'), arguments={},
        claims=(text('target'),), node=text('node'), clients=(),
        created_at=created_at,
        project_id=text('project_id') if fields['project_id'] else None,
        user_id=text('user_id') if fields['user_id'] else None,
    ), Note.load(fields['note'])


def _key(job_id: str) -> str:
    return f'job.{job_id}'


def _name(job_id: str) -> str:
    """Of the object that has its lease and its note.

    :raises InvalidInput: it is no id of a job.
    """
    if not is_id(job_id):
        raise refused(job_id)
    return _key(job_id)


def _passing(job_id: str) -> str:
    return f'passing.{job_id}'


def wait_key(job_id: str) -> str:
    return f'wait.{job_id}'


def _claim_key(claim: str) -> str:
    # A volume's name may have any letters; keys are ASCII.
    return 'claim.' + urllib.parse.quote(claim, safe='/')


def _history_key(job: Job) -> str:
    return f'{int(job.created_at * 1000):015}.{job.id}'
