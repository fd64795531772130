# SPDX-License-Identifier: Apache-2.0
"""What came of all the kills."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.faults.effects import KillPoint

#: What a finding begins with.
KINDS = ('leak', 'mismatch', 'unfinished', 'slow', 'error', 'harness')


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    :param effect: the side effect at which it was; empty: the operation
        came to its end before, as not every run has as many.
    :param verdict: complete, gone or wrong.
    :param again: the effect of the recovery before which that was killed.
    :param findings: what is wrong, each with one of KINDS in front.
    :param outcomes: what the recovery says that it did.
    :param lost_watches: rbd_images that Ceph had on record as open for good;
        that was ended as an operator would, and recovered again.
    """

    operation: str
    point: KillPoint
    effect: str
    verdict: str = ''
    recovered_s: float = 0.0
    again: int | None = None
    findings: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    lost_watches: tuple[str, ...] = ()

    def __str__(self) -> str:
        twice = f', the recovery before #{self.again}' if self.again else ''
        effect = self.effect or 'which was not reached'
        return f'{self.operation}: {self.point} {effect}{twice}'

    @property
    def command(self) -> str:
        """Repeats it."""
        again = f' --again {self.again}' if self.again else ''
        return (f'python -m tests.faults --operation {self.operation} '
                f'--at {self.point.at} --side {self.point.side}{again}')


class Report:
    """:param watch_timeout_s: how long a killed client's watch lasts.
    :ivar on_kill: is told of each one.
    :ivar command: does it again.
    """

    def __init__(self, seed: int, watch_timeout_s: int) -> None:
        self.seed = seed
        self.watch_timeout_s = watch_timeout_s
        self.kills: list[Kill] = []
        self.on_kill: Callable[[Kill], None] = lambda kill: None
        self.command = f'VOLUME_RBD_FAULTS_SEED={seed} make faults'

    def add(self, kill: Kill) -> None:
        self.kills.append(kill)
        self.on_kill(kill)

    @property
    def findings(self) -> list[Kill]:
        return [kill for kill in self.kills if kill.findings]

    def count(self, kind: str, kills: Sequence[Kill] | None = None) -> int:
        """Kills with a finding of this kind."""
        return sum(any(text.startswith(kind) for text in kill.findings)
                   for kill in (self.kills if kills is None else kills))

    def figures(self) -> dict[str, Any]:
        """What is published."""
        by_name: dict[str, list[Kill]] = collections.defaultdict(list)
        for kill in self.kills:
            by_name[kill.operation].append(kill)
        return {'command': self.command,
                'seed': self.seed, 'watch_timeout_s': self.watch_timeout_s,
                **self._figures_of(self.kills),
                'operations': {name: self._figures_of(kills) for name, kills
                               in sorted(by_name.items())},
                'findings': [_as_dict(kill) for kill in self.findings]}

    def _figures_of(self, kills: Sequence[Kill]) -> dict[str, Any]:
        seconds = [kill.recovered_s for kill in kills]
        verdicts = collections.Counter(kill.verdict for kill in kills)
        return {'kills': sum(bool(kill.effect) for kill in kills),
                'leaks': self.count('leak', kills),
                'mismatches': self.count('mismatch', kills),
                **{kind: self.count(kind, kills) for kind in KINDS[2:]},
                'complete': verdicts['complete'], 'gone': verdicts['gone'],
                'lost_watches': sum(bool(kill.lost_watches)
                                    for kill in kills),
                'slowest_recovery_s': round(max(seconds, default=0), 2),
                'median_recovery_s': round(
                    statistics.median(seconds) if seconds else 0, 2)}

    def write(self, path: str | pathlib.Path) -> None:
        pathlib.Path(path).write_text(
            json.dumps(self.figures(), indent=2) + '\n')

    def render(self) -> str:
        """For people: a table, and every finding with its command."""
        figures = self.figures()
        columns = ('kills', 'leaks', 'mismatches', *KINDS[2:], 'complete',
                   'gone', 'lost_watches', 'median_recovery_s',
                   'slowest_recovery_s')
        rows = [('', *columns)]
        for name, row in [*figures['operations'].items(),
                          ('all', figures)]:
            rows.append((name, *(str(row[key]) for key in columns)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ['  '.join(cell.rjust(width) if place else cell.ljust(width)
                           for place, (cell, width) in enumerate(
                               zip(row, widths, strict=True)))
                 for row in rows]
        for kill in self.findings:
            lines += ['', str(kill), f'    {kill.command}',
                      *(f'    {text}' for text in kill.findings),
                      *(f'    recovered: {text}' for text in kill.outcomes)]
        lines.append(f'seed {self.seed}, watches of killed clients last '
                     f'{self.watch_timeout_s} s')
        return '\n'.join(lines)


def _as_dict(kill: Kill) -> Mapping[str, Any]:
    return {'operation': kill.operation, 'at': kill.point.at,
            'side': kill.point.side, 'effect': kill.effect,
            'again': kill.again, 'verdict': kill.verdict,
            'command': kill.command, 'findings': list(kill.findings),
            'outcomes': list(kill.outcomes)}
