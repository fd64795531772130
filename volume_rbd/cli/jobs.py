# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd jobs list``, ``show``, ``resume`` and ``cancel``"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cliff import columns

from volume_rbd import exception, model
from volume_rbd.cli import base
from volume_rbd.jobs.info import JobInfo
from volume_rbd.jobs.job import State
from volume_rbd.jobs.run import Outcome

_OVER = frozenset({State.DONE, State.UNDONE})
#: Glance is at it, as far as anybody knows.
_SETTLED = _OVER | {State.WAITING}


class Steps(columns.FormattableColumn):
    """The tasks of a job: a line each for a person."""

    def human_readable(self) -> str:
        return '\n'.join(
            f'{_clock(step["started_at"])}  {_lasted(step):>9}  '
            f'{step["state"].lower():<9}  {step["title"]}'
            for step in self._value)

    def machine_readable(self) -> list[Mapping[str, Any]]:
        return [{'name': step['name'], 'title': step['title'],
                 'state': step['state'].lower(),
                 'started_at': _date(step['started_at']),
                 'ended_at': _date(step['ended_at']),
                 'seconds': _seconds(step)} for step in self._value]


class Bytes(columns.FormattableColumn):
    """In MiB for a person."""

    def human_readable(self) -> str:
        return f'{self._value / model.MIB:.1f} MiB'

    def machine_readable(self) -> int:
        return round(float(self._value))


def _clock(seconds: float) -> str:
    return time.strftime('%H:%M:%SZ', time.gmtime(seconds))


def _lasted(step: Mapping[str, Any]) -> str:
    seconds = _seconds(step)
    return '…' if seconds is None else f'{seconds:.2f} s'


def _seconds(step: Mapping[str, Any]) -> float | None:
    if step['ended_at'] is None:
        return None
    return round(float(step['ended_at'] - step['started_at']), 3)


def _done_percent(info: JobInfo) -> int | None:
    note = info.note
    if not note.total_bytes:
        return None
    return int(100 * (note.done_bytes + note.skipped_bytes)
               / note.total_bytes)


def _step(info: JobInfo) -> str | None:
    """Where it is; a job that is over is nowhere."""
    return None if info.state in _OVER else info.note.step or None


def _age_s(info: JobInfo) -> float | None:
    return time.time() - info.created_at if info.created_at else None


class List(base.Lister):
    """List the jobs that are not over.

    A job that is "abandoned" belongs to nobody any more: the process that ran
    it is gone. A service takes it up by itself; "jobs resume" does it now.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('--all', action='store_true',
                            help='those that are over too')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        rows = [(info.id, info.operation, info.target, info.state.value,
                 info.node, base.OptionalColumn(info.note.strategy),
                 base.OptionalColumn(_step(info)),
                 base.OptionalColumn(_done_percent(info)),
                 base.AgeColumn(info.eta_s), base.AgeColumn(_age_s(info)))
                for info in self.driver.jobs.list(is_over=parsed_args.all)]
        return ('job', 'operation', 'target', 'state', 'node', 'strategy',
                'step', 'done_percent', 'eta_s', 'age_s'), rows


class Show(base.ShowOne):
    """Show one job: whose it is, task by task how far it came, and why."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('job', metavar='JOB', help='its id')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        info = self.driver.jobs.show(parsed_args.job)
        optional, note = base.OptionalColumn, info.note
        return {
            'job': info.id, 'operation': info.operation,
            'target': info.target, 'state': info.state.value,
            'volume': optional(info.arguments.get('volume_name')),
            'image': optional(info.arguments.get('image_id')),
            'node': info.node, 'clients': base.ListColumn(info.clients),
            'lease_s': base.AgeColumn(info.lease_s),
            'created_at': optional(_date(info.created_at)),
            'ended_at': optional(_date(note.ended_at)),
            'project_id': optional(info.project_id),
            'user_id': optional(info.user_id),
            'strategy': optional(note.strategy),
            'reason': optional(note.reason),
            'sentence': optional(note.sentence),
            'step': optional(_step(info)),
            'total_bytes': Bytes(note.total_bytes),
            'done_bytes': Bytes(note.done_bytes),
            'skipped_bytes': Bytes(note.skipped_bytes),
            'bytes_per_s': Bytes(note.bytes_per_s),
            'done_percent': optional(_done_percent(info)),
            'eta_s': base.AgeColumn(info.eta_s), 'attempts': note.attempts,
            'error': optional(note.error), 'steps': Steps(note.steps),
        }


def _date(seconds: float | None) -> str | None:
    if not seconds:
        return None
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


class Resume(base.Lister):
    """Take up jobs whose process is gone: go on with them, or undo them.

    Which of the two is the job's own rule: an upload goes on as long as its
    image and its volume are there, a volume is made as long as its image is.
    Without a job, all of them; each one that is worked at is left alone.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('job', metavar='JOB', nargs='?',
                            help='its id (default: all)')
        parser.add_argument(
            '--timeout', metavar='SECONDS', type=float, default=60.0,
            help='how long to wait for those that somebody still holds '
                 '(default: 60)')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        """The exit code is that of what keeps a job from being settled."""
        outcomes = self._resume(parsed_args)
        for outcome in outcomes:
            if outcome.error and outcome.state not in _SETTLED:
                self.exit_code = outcome.error.exit_code
        return _rows(outcomes)

    def _resume(self, parsed_args: argparse.Namespace) -> Sequence[Outcome]:
        """Of each job what came of it at last."""
        jobs = self.driver.jobs
        if not parsed_args.job:
            found = jobs.recover_until_idle(parsed_args.timeout)
            return list({outcome.job.id: outcome for outcome in found
                         }.values())
        info = jobs.show(parsed_args.job)
        if info.state in _OVER:
            raise exception.JobNotFound(
                f'Job {info.id} is over: it is {info.state.value}.')
        outcome = self.perform(lambda shown: jobs.settle(
            parsed_args.job, report=shown))
        return [outcome] if outcome else []


class Cancel(base.ShowOne):
    """Undo a job. Whoever works at it is told to; where nobody does, it is
    undone here. What is done already stays as it is.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('job', metavar='JOB', help='its id')
        parser.add_argument(
            '--forget', action='store_true',
            help='only let go of its record, where it cannot be undone; '
                 '"volume-rbd reclaim" finds what it has left')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        jobs, job = self.driver.jobs, parsed_args.job
        if parsed_args.forget:
            jobs.forget(job)
            return {'job': job, 'state': 'forgotten',
                    'error': base.OptionalColumn(None)}
        outcome = self.perform(lambda shown: jobs.cancel(job, report=shown))
        if outcome is None:
            return {'job': job, 'state': 'cancelling',
                    'error': base.OptionalColumn(None)}
        if outcome.state not in _OVER:
            raise outcome.error or exception.JobConflict(
                f'Job {job} could not be undone.')
        return {'job': job, 'state': outcome.state.value,
                'error': base.OptionalColumn(_error(outcome))}


def _rows(outcomes: Sequence[Outcome]) -> Any:
    return ('job', 'operation', 'target', 'state', 'strategy', 'error'), [
        (outcome.job.id, outcome.job.operation, outcome.job.target,
         outcome.state.value,
         base.OptionalColumn(
             outcome.result.strategy if outcome.result else None),
         base.OptionalColumn(_error(outcome)))
        for outcome in outcomes]


def _error(outcome: Outcome) -> str | None:
    return str(outcome.error) if outcome.error else None
