# SPDX-License-Identifier: Apache-2.0
"""What a job reports: to whoever waits for it, and into its note."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from volume_rbd import progress
from volume_rbd.flows.base import Lease
from volume_rbd.jobs.job import Note

_OVER = frozenset({'SUCCESS', 'FAILURE', 'REVERTED', 'REVERT_FAILURE',
                   'IGNORE'})


class JobReport(progress.Cancellable):
    """Passes on what it is told, remembers it, and can be cancelled by
    whoever asks for the job, by ``volume-rbd jobs cancel``, or because the
    job is to be undone.

    :param shown: what whoever waits for the job has given.
    """

    def __init__(self, note: Note, shown: progress.Progress) -> None:
        super().__init__()
        self.note = note
        self.lease: Lease | None = None
        self._shown = shown
        self._titles: Mapping[str, str] = {}
        self._steps_lock = threading.Lock()

    # -- progress ------------------------------------------------------------
    def step(self, name: str) -> None:
        super().step(name)
        self._shown.step(name)

    def start(self, total_bytes: int) -> None:
        super().start(total_bytes)
        self._shown.start(total_bytes)

    def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
        super().advance(done_bytes, skipped_bytes)
        self._shown.advance(done_bytes, skipped_bytes)

    def check(self) -> None:
        if self.lease is not None:
            self.lease.check()
        super().check()
        self._shown.check()

    # -- the note ------------------------------------------------------------
    def entitle(self, titles: Mapping[str, str]) -> None:
        """:param titles: of the tasks, by name."""
        self._titles = titles

    def watch(self, name: str, state: str) -> None:
        """taskflow says that a task has another state."""
        now = time.time()
        with self._steps_lock:
            steps = self.note.steps
            step = next((found for found in reversed(steps)
                         if found['name'] == name), None)
            if step is None or (state == 'RUNNING'
                                and step['state'] in _OVER):
                if name not in self._titles or state == 'IGNORE':
                    return
                step = {'name': name, 'title': self._titles[name],
                        'started_at': now, 'ended_at': None}
                steps.append(step)
            step['state'] = state
            if state in _OVER:
                step['ended_at'] = now

    def choose(self, choice: Mapping[str, Any]) -> None:
        """The strategy that runs, and why."""
        self.note.strategy = choice.get('strategy')
        self.note.reason = choice.get('reason')
        self.note.sentence = choice.get('sentence')

    def update(self, **changes: Any) -> Note:
        """:returns: the note, with how far it is."""
        note = self.note
        note.step = self.current_step
        note.total_bytes = self.total_bytes
        note.done_bytes = self.done_bytes
        note.skipped_bytes = self.skipped_bytes
        note.bytes_per_s = self.bytes_per_s
        note.updated_at = time.time()
        for name, value in changes.items():
            setattr(note, name, value)
        return note


OnChoice = Callable[[Mapping[str, Any]], None]
