# SPDX-License-Identifier: Apache-2.0
"""Which kills are done."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence

from tests.faults.effects import KillPoint, sample
from tests.faults.judging import Reference

# Of those chosen at random, one in so many has its recovery killed as well.
_AGAIN_ONE_IN = 5
_FIRST_EFFECTS = 12


@dataclasses.dataclass(frozen=True)
class Task:
    """One kill that is to be done.

    :param again: the recovery is killed as well, before its effect of this
        number.
    """

    operation: str
    point: KillPoint
    again: int | None = None


def everything(references: Mapping[str, Reference]) -> list[Task]:
    """Every kill point once."""
    return [Task(name, point) for name, reference in references.items()
            for point in sample(reference.effects)]


def spread(references: Mapping[str, Reference], count: int, seed: int
           ) -> list[Task]:
    """So many of them, as evenly over the operations as can be, no point
    twice before all have come."""
    choice = random.Random(seed)
    left: dict[str, list[KillPoint]] = {}
    tasks: list[Task] = []
    while len(tasks) < count:
        for name in sorted(references):
            if not left.get(name):
                left[name] = sample(references[name].effects)
                choice.shuffle(left[name])
            tasks.append(Task(name, left[name].pop()))
    return sorted(tasks[:count], key=lambda task: task.operation)


def at_random(references: Mapping[str, Reference], count: int, seed: int
              ) -> Sequence[Task]:
    """So many of any, some with the recovery killed too."""
    choice = random.Random(seed)
    points = everything(references)
    tasks = []
    for _ in range(count):
        task = choice.choice(points)
        again = (choice.randint(1, _FIRST_EFFECTS)
                 if not choice.randrange(_AGAIN_ONE_IN) else None)
        tasks.append(Task(task.operation, task.point, again))
    return tasks
