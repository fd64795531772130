# SPDX-License-Identifier: Apache-2.0
"""What is written down of a job.

Everybody who may write to the pool may write there. So what decides what a
job does is signed with the key of the cephx user whose job it is; what is
not, or not by us, is nobody's order.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from volume_rbd import exception

Sign = Callable[[str], str]

#: What reading JSON that is not as ours may end in.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError,
              OverflowError)


def is_id(text: object) -> bool:
    """Whether it is written as the ids of jobs are. They become names of
    objects and files: nothing else that somebody writes there may."""
    try:
        return str(uuid.UUID(text)) == text  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError):
        return False


def load_signed(text: str, what: str, sign: Sign) -> str | None:
    """:param what: the name of what is signed.
    :returns: None where nobody of us has signed it.
    """
    try:
        signed = json.loads(text)
        found = signed[what]
        if isinstance(found, str) and signed['signature'] == sign(found):
            return found
    except UNREADABLE:
        pass
    return None


class State(enum.StrEnum):
    """Of a job that is written down."""

    #: It is on the jobboard, and no worker has taken it yet.
    POSTED = 'posted'
    #: Somebody has its lease.
    RUNNING = 'running'
    #: Nobody has: it is taken up with the next look.
    ABANDONED = 'abandoned'
    #: Glance took a registration and has not finished it.
    WAITING = 'waiting'
    #: It failed, and not everything could be undone yet.
    UNDOING = 'undoing'
    #: It was tried too often; see ``volume-rbd reclaim``.
    STUCK = 'stuck'
    #: Its record is not what one of ours says. Nothing is done with it.
    REFUSED = 'refused'
    # -- over ---------------------------------------------------------------
    DONE = 'done'
    UNDONE = 'undone'


@dataclasses.dataclass(frozen=True)
class Job:
    """:param operation: its name in the registry.
    :param arguments: JSON; no secret, no token.
    :param claims: what no other job may work at meanwhile.
    :param node: whose process has it, or had it last (see node.py).
    :param clients: the addresses of the rados clients by which it may have
        been worked at: they are shut out before somebody else goes on.
    :param project_id: of whoever asked; likewise *user_id*.
    :param is_undone_when_lost: nobody waits for it any more then.
    :param has_secret: it cannot be gone on with, as the secret is not kept.
    :param is_posted: workers may do it, while who asked for it waits.
    :param created_at: seconds since the epoch.
    """

    id: str
    operation: str
    arguments: Mapping[str, Any]
    claims: tuple[str, ...]
    node: str
    clients: tuple[str, ...]
    created_at: float
    project_id: str | None = None
    user_id: str | None = None
    is_undone_when_lost: bool = False
    has_secret: bool = False
    is_posted: bool = False

    def dump(self, sign: Sign) -> str:
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return json.dumps({'job': text, 'signature': sign(text)})

    @classmethod
    def load(cls, job_id: str, text: str, sign: Sign) -> Job | None:
        """:returns: None where it is not what one of ours has written."""
        signed = load_signed(text, 'job', sign)
        if signed is None:
            return None
        try:
            fields = json.loads(signed)
            job = cls(**{**fields, 'claims': tuple(fields['claims']),
                         'clients': tuple(fields['clients'])})
        except UNREADABLE:
            return None
        return job if job.id == job_id else None

    @property
    def target(self) -> str:
        """What it makes, for a person: ``volume NAME``, ``image ID``."""
        return ', '.join(claim.replace('/', ' ', 1) for claim in self.claims)


@dataclasses.dataclass
class Note:
    """How far a job came. Not signed: it decides nothing.

    :param steps: of each task, in the order they began: name, title, state,
        started_at, ended_at.
    :param attempts: how often it was taken up after its first owner.
    """

    state: str = State.RUNNING.value
    step: str = ''
    done_bytes: int = 0
    skipped_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0
    strategy: str | None = None
    reason: str | None = None
    sentence: str | None = None
    error: str | None = None
    attempts: int = 0
    updated_at: float = 0.0
    ended_at: float | None = None
    bytes_moved: int = 0
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def dump(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def load(cls, text: str | None) -> Note:
        """What is not written as ours are says nothing."""
        try:
            fields = json.loads(text or '{}')
            fields = {key: value for key, value in fields.items()
                      if key in cls.__dataclass_fields__}
        except (ValueError, AttributeError, RecursionError):
            fields = None
        if fields is None or not _is_sound(fields):
            return cls(state=State.ABANDONED.value)
        return cls(**_shown(fields))

    @property
    def eta_s(self) -> float | None:
        """Seconds until the transfer ends, at the rate so far."""
        left = self.total_bytes - self.done_bytes - self.skipped_bytes
        if left <= 0 or self.bytes_per_s <= 0:
            return None
        return left / self.bytes_per_s


_KINDS: Mapping[str, tuple[type, ...]] = {
    'str': (str,), 'str | None': (str, type(None)),
    'int': (int,), 'float': (int, float),
    'float | None': (int, float, type(None)), 'list[dict[str, Any]]': (list,)}
_STEP = {'name': 'str', 'title': 'str', 'state': 'str', 'started_at': 'float',
         'ended_at': 'float | None'}
#: Of seconds and bytes: what is more would not be a date.
MOST = 2 ** 55


def _is_sound(fields: Mapping[str, Any]) -> bool:
    """Whether a note can be shown to a person, and reckoned with."""
    types = {field.name: str(field.type)
             for field in dataclasses.fields(Note)}
    return all(_is_of(value, types[key]) for key, value in fields.items()
               ) and all(
        isinstance(step, dict) and step.keys() == _STEP.keys()
        and all(_is_of(step[key], kind) for key, kind in _STEP.items())
        for step in fields.get('steps', ()))


def _is_of(value: Any, kind: str) -> bool:
    if not isinstance(value, _KINDS[kind]):
        return False
    return not isinstance(value, (int, float)) or 0 <= value < MOST


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _shown(found) for key, found in value.items()}
    return list(map(_shown, value)) if isinstance(value, list) else value


def printable(text: str) -> str:
    """Without control characters, by which a terminal is told what to do.
    """
    if text.isprintable():
        return text
    return ''.join(letter if letter.isprintable() or letter == '\n' else '?'
                   for letter in text)


def refused(job_id: str) -> exception.InvalidInput:
    return exception.InvalidInput(
        f'The record of job {job_id} was not written by this user of the '
        'cluster, or was changed since. Nothing is done with it.',
        remedy=f'Find out who writes to this pool; "volume-rbd jobs cancel '
               f'{job_id} --forget" removes the record.')
