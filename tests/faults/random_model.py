# SPDX-License-Identifier: Apache-2.0
"""The random model whose steps are killed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tests.faults import operations
from tests.faults.effects import SIDES, KillPoint
from tests.faults.harness import Harness, new_run
from tests.faults.lane import Lane, new_id
from tests.faults.view import NAMESPACE
from tests.functional import content
from tests.functional.content import MIB
from tests.functional.shadow import (
    MOST_BYTES,
    MOST_IMAGES,
    MOST_SNAPSHOTS,
    MOST_VOLUMES,
    Model,
    Shadow,
)
from tests.zygote import Ended

_KILLED_ONE_IN = 3
# Until it is known how many side effects a step has.
_FEW_EFFECTS = 8
_GUEST_WRITES = 3
_TOLD_EVERY = 100
_SETTINGS: Mapping[str, Mapping[str, object]] = {
    'clones': {}, 'copies': {'rbd_max_clone_depth': 0},
    'plain': {'enable_clone_optimization': 'false'}}
#: What any recovery is: one that tidies up in the background too.
_RECOVERY = operations.Operation(lambda driver, given: None, purges=True)


@dataclasses.dataclass
class Step:
    """What one process does.

    :param uses: names and ids that nothing else may touch meanwhile.
    :param happened: whether it was done, after it was killed.
    :param apply: to the model, what was done.
    :param otherwise: where it was not done.
    """

    name: str
    given: Mapping[str, Any]
    uses: frozenset[str]
    happened: Callable[[], bool]
    apply: Callable[[], None]
    settings: str = 'clones'
    otherwise: Callable[[], None] = lambda: None

    def __str__(self) -> str:
        return f'{self.name} {self.settings} {dict(self.given)}'


class KilledModel(Model):
    """:ivar tag: what the ids of all that it makes begin with."""

    def __init__(self, harness: Harness, lane: Lane, seed: int) -> None:
        self._harness = harness
        self._lane = lane
        self.seed = seed
        super().__init__(self._lane.cluster, self._lane.pool, seed)
        self.tag = new_run()
        self.log: list[str] = []
        self.kills = 0
        self.lost_watches = 0
        self._effects: dict[str, int] = {}
        self._used: frozenset[str] = frozenset()
        self._choices: list[tuple[int, Callable[[], Step | None]]] = [
            (3, self.create), (3, self.grow), (4, self.take_snapshot),
            (3, self.delete_snapshot), (3, self.copy), (3, self.clone),
            (5, self.upload), (5, self.from_image), (4, self.delete)]

    def run(self, count: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(2) as two:
            while len(self.log) < count:
                steps = self._choose()
                points = [self._point(step) for step in steps]
                ended = list(two.map(self._do, steps, points))
                self._settle(steps, points, ended)
                self._compare()
                if len(self.log) % _TOLD_EVERY == 0:
                    print(f'seed {self.seed}: {len(self.log)} of {count} '
                          f'steps, {self.kills} of them killed', flush=True)

    def _choose(self) -> list[Step]:
        """Two that do not touch the same."""
        weights = [weight for weight, _ in self._choices]
        steps: list[Step] = []
        self._used = frozenset()
        while len(steps) < 2:
            [(_, choose)] = self.random.choices(self._choices, weights)
            step = choose()
            if step is None:
                continue
            if step.uses & self._used:
                step.otherwise()
                continue
            steps.append(step)
            self._used |= step.uses
        return steps

    def _point(self, step: Step) -> KillPoint | None:
        if self.random.randrange(_KILLED_ONE_IN):
            return None
        most = self._effects.get(f'{step.name} {step.settings}',
                                 _FEW_EFFECTS)
        return KillPoint(self.random.randint(1, most),
                         self.random.choice(SIDES))

    def _do(self, step: Step, point: KillPoint | None) -> Ended:
        return self._harness.operate(
            self._lane, f'step/{step.name}', step.given, self.tag, point,
            _SETTINGS[step.settings])

    def _settle(self, steps: list[Step], points: list[KillPoint | None],
                ended: list[Ended]) -> None:
        killed = [each.told.get('killed') for each in ended]
        for step, point, effect in zip(steps, points, killed, strict=True):
            shown = f', killed {point} {effect}' if effect else ''
            self.log.append(f'{step}{shown}')
        if any(killed):
            recovered = self._harness.recover(self._lane, _RECOVERY,
                                              self.tag)
            if lost := self._lane.end_lost_watches(self.tag):
                self.log[-1] += f', lost watches of {", ".join(lost)}'
                self.lost_watches += len(lost)
                recovered = self._harness.recover(self._lane, _RECOVERY,
                                                  self.tag)
            assert not recovered.is_killed, 'the recovery crashed'
            assert 'error' not in recovered.told, recovered.told['error']
        for step, each, effect in zip(steps, ended, killed, strict=True):
            if effect:
                self.kills += 1
                (step.apply if step.happened() else step.otherwise)()
                continue
            assert 'error' not in each.told, f'{step}: {each.told["error"]}'
            key = f'{step.name} {step.settings}'
            self._effects[key] = len(each.told['effects'])
            step.apply()

    # -- steps ---------------------------------------------------------------
    def create(self) -> Step | None:
        size, name = self.new_size(), self.new_name()
        return self._making(name, bytes(size), 'create', size_bytes=size)

    def copy(self) -> Step | None:
        if not self.volumes:
            return None
        source = self.some(self.volumes)
        return self._making(
            self.new_name(), bytes(self.volumes[source].data), 'copy',
            source=source)

    def clone(self) -> Step | None:
        found = self._with_snapshot()
        if found is None:
            return None
        source, snapshot = found
        return self._making(
            self.new_name(), self.volumes[source].snapshots[snapshot],
            'clone', source=source, snapshot=snapshot)

    def from_image(self) -> Step | None:
        if not self.images:
            return None
        image = self.some(self.images)
        return self._making(self.new_name(), self.images[image][0],
                            'from image', image=image)

    def _making(self, name: str, data: bytes, step: str, **given: Any
                ) -> Step | None:
        if len(self.volumes) >= MOST_VOLUMES:
            return None

        def apply() -> None:
            # One of an image has whole GiB: more than is kept here.
            size = self.cluster.size(self.pool, name)
            assert size >= len(data), name
            self.volumes[name] = Shadow(data.ljust(
                min(size, MOST_BYTES), b'\0'))
            self.check_all_of(name)

        return Step(step, {'name': name, **given}, frozenset({
            name, *(given[key] for key in ('source', 'image')
                    if key in given)}), lambda: self._exists(name), apply,
            self.some(_SETTINGS))

    def grow(self) -> Step | None:
        name = self.some(self.volumes) if self.volumes else ''
        size = self.cluster.size(self.pool, name) if name else MOST_BYTES
        if size >= MOST_BYTES:
            return None
        more = self.random.randrange(1, 2 * MIB // 512) * 512

        def apply() -> None:
            self.volumes[name].data.extend(bytes(more))

        return Step('grow', {'name': name, 'size_bytes': size + more},
                    frozenset({name}), lambda: self.cluster.size(
                        self.pool, name) == size + more, apply)

    def take_snapshot(self) -> Step | None:
        name = self.some(self.volumes) if self.volumes else ''
        if not name or len(self.volumes[name].snapshots) >= MOST_SNAPSHOTS:
            return None
        snapshot = f'snapshot-{self.random.getrandbits(48):x}'

        def apply() -> None:
            self.volumes[name].snapshots[snapshot] = bytes(
                self.volumes[name].data)

        return Step('take snapshot', {'name': name, 'snapshot': snapshot},
                    frozenset({name}), lambda: snapshot in
                    self.cluster.snapshots(self.pool, name), apply)

    def delete_snapshot(self) -> Step | None:
        found = self._with_snapshot()
        if found is None:
            return None
        name, snapshot = found

        def apply() -> None:
            del self.volumes[name].snapshots[snapshot]

        return Step('delete snapshot', {'name': name, 'snapshot': snapshot},
                    frozenset({name}), lambda: snapshot not in
                    self.cluster.snapshots(self.pool, name), apply)

    def delete(self) -> Step | None:
        """One without snapshots, as its owner must."""
        free = {name: shadow for name, shadow in self.volumes.items()
                if not shadow.snapshots}
        if len(self.volumes) < 2 or not free:
            return None
        name = self.some(free)
        return Step('delete', {'name': name}, frozenset({name}),
                    lambda: not self._exists(name),
                    lambda: self.volumes.pop(name) and None)

    def upload(self) -> Step | None:
        """To a record of its caller's."""
        if not self.volumes:
            return None
        if len(self.images) >= MOST_IMAGES:
            # Not the one that the other process makes a volume of now.
            self._delete_image(self.some(
                {image: data for image, data in self.images.items()
                 if image not in self._used}))
        source, image = self.some(self.volumes), new_id(self.tag)
        disk_format = self.random.choice(('raw', 'raw', 'qcow2'))
        data = bytes(self.volumes[source].data)
        if len(data) != self.cluster.size(self.pool, source):
            return None  # it takes long, and is no other than a small one
        self._lane.member.create(id=image, name='model',
                                 disk_format=disk_format)

        def apply() -> None:
            self.images[image] = data, disk_format
            assert disk_format != 'raw' or self._lane.member.digest(
                image) == content.digest_of_bytes(data), image

        return Step(
            'upload', {'source': source, 'image': image,
                       'disk_format': disk_format,
                       'store': self.random.choice(('rbd', 'rbd', 'file'))},
            frozenset({source}),
            lambda: self._lane.member.status(image) == 'active', apply,
            self.some(_SETTINGS),
            lambda: self._lane.service.delete(image))

    def _delete_image(self, image: str) -> None:
        self._lane.service.delete(image)
        del self.images[image]

    def _with_snapshot(self) -> tuple[str, str] | None:
        found = {name: shadow for name, shadow in self.volumes.items()
                 if shadow.snapshots}
        if not found:
            return None
        name = self.some(found)
        return name, self.some(found[name].snapshots)

    def _exists(self, name: str) -> bool:
        return name in self.cluster.names(self.pool)

    # -- what is there -------------------------------------------------------
    def _compare(self) -> None:
        """After both have ended nothing is there that the model lacks."""
        assert set(self.cluster.names(self.pool)) == set(self.volumes)
        for name, shadow in self.volumes.items():
            assert set(self.cluster.snapshots(self.pool, name)) == set(
                shadow.snapshots), name
            mark = self.cluster.mark(self.pool, name)
            assert mark is not None, name
            assert mark['state'] == 'complete', f'{name}: {mark}'
        assert set(self._lane.image_ids(self.tag)) == set(self.images)
        left = [name for name in self.cluster.records(self.pool, NAMESPACE)
                if name.startswith(('job.', 'book.'))]
        assert left == [], left
        if self.volumes:
            self.check(self.some(self.volumes))
            for _ in range(_GUEST_WRITES):
                self.write()

    def restore(self) -> None:
        """By force."""
        self._lane.restore(self.tag)

    def tear_down(self) -> None:
        """Delete everything as its owner would; nothing else is left."""
        for name in self.volumes:
            self.check_all_of(name)
        for image in list(self.images):
            self._delete_image(image)
        for name, shadow in self.volumes.items():
            for snapshot in shadow.snapshots:
                self._finish('delete snapshot', name=name, snapshot=snapshot)
            self._finish('delete', name=name)
        self.volumes.clear()
        self._harness.recover(self._lane, _RECOVERY, self.tag)
        assert self.cluster.names(self.pool) == []
        assert self.cluster.trash(self.pool) == []
        assert self.cluster.orphans(self.pool) == []

    def _finish(self, step: str, **given: str) -> None:
        ended = self._harness.operate(self._lane, f'step/{step}', given,
                                      self.tag, None, {})
        assert 'error' not in ended.told, ended.told['error']
