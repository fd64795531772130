# SPDX-License-Identifier: Apache-2.0
"""create_volume as a job: killed at any call, it goes on or is undone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.unit.flows.mortal import Job, Killed, NeverBegan
from tests.unit.world import MIB, VOLUME, OnStep, World
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.copying import checkpoints
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.making import Maker
from volume_rbd.flows import base, create_volume
from volume_rbd.flows.create_volume import Flatten, Way

NEW = 'new'
JOB = 'job-1'
GROUP = 'group-1'
PLAIN = model.VolumeSpec(NEW, 2 * MIB)
TYPED = model.VolumeSpec(NEW, 2 * MIB, is_multiattach=True,
                         qos={'total_iops_sec': '500'})


@dataclasses.dataclass(frozen=True)
class Case:
    """One way of making a volume."""

    name: str
    way: Way
    volume: model.VolumeSpec = PLAIN
    snapshot: str | None = None
    flatten: Flatten = Flatten.NEVER
    clone_format: int = 2

    def begin(self) -> Job:
        world = World(clone_format=self.clone_format)
        world.make_volume()
        with world.volumes.open(VOLUME) as volume:
            volume.create_snapshot('s')
            volume.protect_snapshot('s')
        with world.driver() as driver:
            driver.groups.create_snapshot(GROUP, {VOLUME: 'part'})
        with world.volumes.open(VOLUME) as volume:
            volume.write(b'later', 0)
        return Job(world, create_volume.get_flow,
                   self.arguments())

    def arguments(self) -> dict[str, Any]:
        is_blank = self.way is Way.BLANK
        return create_volume.get_arguments(
            self.way, self.volume, self.volume.size_bytes or MIB, job=JOB,
            source=None if is_blank else VOLUME, snapshot=self.snapshot,
            flatten=self.flatten)


CASES = [
    Case('blank', Way.BLANK),
    Case('blank of a type', Way.BLANK, TYPED),
    Case('snapshot', Way.CLONE, model.VolumeSpec(NEW), snapshot='s'),
    Case('snapshot of a type', Way.CLONE, TYPED, snapshot='s'),
    Case('snapshot, flattened', Way.CLONE, TYPED, snapshot='s',
         flatten=Flatten.NOW),
    Case('volume', Way.CLONE),
    Case('volume by format 1', Way.CLONE, clone_format=1),
    Case('volume, flattened', Way.CLONE, flatten=Flatten.NOW),
    Case('volume, flattened later', Way.CLONE, flatten=Flatten.LATER),
    Case('part of a group', Way.COPY, TYPED, snapshot='part'),
]
every_case = pytest.mark.parametrize('case', CASES,
                                     ids=lambda case: case.name)


def _seen(world: World) -> Mapping[str, Any]:
    """All there is, without what differs from run to run."""
    found: dict[str, Any] = {
        'metadata of the pool': world.volumes.metadata()}
    for disk in world.ceph.disks.values():
        metadata = dict(disk.metadata)
        mark = json.loads(metadata.pop(lineage.KEY))
        assert mark['image_id'] == disk.id
        found[disk.name] = (
            disk.size, disk.features, disk.trash, disk.is_half_removed,
            list(disk.watchers), dict(disk.blocks),
            disk.link and (disk.link.parent.name, disk.link.snapshot.name),
            [(snap.name, snap.is_protected, snap.in_trash, snap.size)
             for snap in disk.snaps],
            {key: value.replace(disk.id, 'its id')
             for key, value in metadata.items()
             if not key.startswith('volume_rbd.snapshot.')},
            [mark[key] for key in ('kind', 'origin', 'job', 'state')])
    assert len(found) == len(world.ceph.disks) + 1
    return found


@every_case
def test_it_makes_what_was_asked_for(case: Case) -> None:
    job = case.begin()
    data = job.world.read('volumes', VOLUME)
    at_snapshot = job.world.read('volumes', VOLUME, 's')
    job.live()
    expected = {Way.BLANK: b'', Way.CLONE: at_snapshot if case.snapshot
                else data, Way.COPY: at_snapshot}[case.way]
    size = case.volume.size_bytes or MIB
    assert job.world.read('volumes', NEW) == expected.ljust(size, b'\0')
    mark = job.world.mark('volumes', NEW)
    assert mark is not None
    assert (mark.kind, mark.state, mark.job) == (
        lineage.VOLUME, lineage.COMPLETE, JOB)


@every_case
def test_killed_at_any_call_it_is_finished_by_the_next_process(case: Case
                                                               ) -> None:
    whole = case.begin()
    before = _seen(whole.world)
    whole.live()
    expected = _seen(whole.world)
    assert len(whole.calls) > 10
    for number in range(len(whole.calls)):
        job = case.begin()
        with pytest.raises(Killed):
            job.live(dies_at=number)
        try:
            job.live()
        except NeverBegan:
            assert _seen(job.world) == before, number
        else:
            assert _seen(job.world) == expected, number


@every_case
def test_killed_at_any_call_it_is_undone_by_the_next_process(case: Case
                                                             ) -> None:
    whole = case.begin()
    before = _seen(whole.world)
    whole.live()
    expected = _seen(whole.world)
    undone = []
    for number in range(len(whole.calls)):
        job = case.begin()
        with pytest.raises(Killed):
            job.live(dies_at=number)
        try:
            job.live(report=_cancelled())
        except NeverBegan:
            assert _seen(job.world) == before, number
        except exception.Cancelled:
            assert _seen(job.world) == before, number
            undone.append(number)
        else:
            # Nothing was left to do but to say so.
            assert _seen(job.world) == expected, number
    assert len(undone) > 5


@every_case
def test_killed_while_it_is_undone_it_is_undone_by_the_next_process(
        case: Case) -> None:
    checks = _CancelledAt(None)
    case.begin().live(report=checks)
    failing = case.begin()
    before = _seen(failing.world)
    with pytest.raises(exception.Cancelled):
        failing.live(report=_CancelledAt(checks.count))
    assert _seen(failing.world) == before
    for number in range(len(failing.calls)):
        job = case.begin()
        with pytest.raises(Killed):
            job.live(dies_at=number, report=_CancelledAt(checks.count))
        with pytest.raises((exception.Cancelled, NeverBegan)):
            job.live(report=_cancelled())
        assert _seen(job.world) == before, number


@every_case
def test_killed_again_and_again_it_is_finished_or_undone(case: Case) -> None:
    whole = case.begin()
    before = _seen(whole.world)
    whole.live()
    expected = _seen(whole.world)
    chance = random.Random(case.name)
    for _ in range(30):
        job = case.begin()
        report = chance.choice([progress.Silent(), _cancelled()])
        deaths = [chance.randrange(len(whole.calls)) for _ in range(3)]
        with pytest.raises(Killed):
            job.live(dies_at=deaths[0])
        with contextlib.suppress(NeverBegan, exception.Cancelled):
            for number in [*deaths[1:], None]:
                with contextlib.suppress(Killed):
                    job.live(dies_at=number, report=report)
        assert _seen(job.world) in (before, expected), deaths


class _CancelledAt(progress.Silent):
    """:param number: of the question whether to go on that is answered no;
    None: none is.
    :ivar count: of those questions.
    """

    def __init__(self, number: int | None) -> None:
        self.count = 0
        self._number = number

    def check(self) -> None:
        self.count += 1
        if self.count == self._number:
            raise exception.Cancelled('Enough.')


def _cancelled() -> progress.Progress:
    report = progress.Cancellable()
    report.cancel()
    return report


# -- what is somebody else's --------------------------------------------------

@every_case
@pytest.mark.parametrize('is_marked', [False, True])
def test_what_has_the_name_already_is_left_alone(case: Case, is_marked: bool
                                                 ) -> None:
    job = case.begin()
    job.world.volumes.create(NEW, case.volume.size_bytes or MIB)
    if is_marked:
        with job.world.volumes.open(NEW) as image:
            lineage.adopt(image, kind=lineage.VOLUME, origin='blank',
                          job='another')
    before = job.world.state()
    with pytest.raises(exception.ImageExists):
        job.live()
    assert job.world.state() == before


@every_case
def test_what_has_the_name_already_is_left_alone_by_who_goes_on_undoing(
        case: Case) -> None:
    def begin() -> Job:
        job = case.begin()
        job.world.volumes.create(NEW, case.volume.size_bytes or MIB)
        if case.way is Way.CLONE:
            job.world.volumes.remove(NEW)
            job.world.volumes.clone(model.SnapSpec(
                'volumes', VOLUME, 's'), NEW)
        return job

    failing = begin()
    before = failing.world.state()
    with pytest.raises(exception.ImageExists):
        failing.live()
    assert failing.world.state() == before
    refused = failing.calls.index(
        'clone' if case.way is Way.CLONE else 'create')
    noted = failing.calls.index('write_record', refused)
    for number in range(noted + 1, len(failing.calls)):
        job = begin()
        before = job.world.state()
        with pytest.raises(Killed):
            job.live(dies_at=number)
        with pytest.raises(exception.ImageExists):
            job.live()
        assert job.world.state() == before, number


@every_case
@pytest.mark.parametrize('is_marked', [False, True])
@pytest.mark.parametrize('is_cancelled', [False, True])
def test_what_was_made_meanwhile_by_others_is_left_alone(
        case: Case, is_marked: bool, is_cancelled: bool) -> None:
    """One that has no mark is the job's only where it is such as that
    makes."""
    method = 'clone' if case.way is Way.CLONE else 'create'
    job = case.begin()
    before = _seen(job.world)
    with pytest.raises(Killed):
        job.live(dies_at=_calls(case).index(method))
    size_bytes = case.volume.size_bytes or MIB
    job.world.volumes.create(NEW, size_bytes + MIB * (not is_marked))
    [theirs] = [disk for disk in job.world.ceph.disks.values()
                if disk.name == NEW]
    if is_marked:
        with job.world.volumes.open(NEW) as image:
            lineage.adopt(image, kind=lineage.VOLUME, origin='blank',
                          job='another')
    if is_cancelled:
        with pytest.raises(exception.Cancelled):
            job.live(report=_cancelled())
    else:
        with pytest.raises(exception.ImageExists):
            job.live()
    del job.world.ceph.disks[theirs.id]  # it was there
    assert _seen(job.world) == before


def test_who_flattens_sees_that_the_name_went_to_another() -> None:
    """Between two steps nobody has the volume open, and without a job nobody
    else knows that it is being made."""
    job = CASES[4].begin()
    world = job.world

    def exchange() -> None:
        world.volumes.remove(NEW)
        world.volumes.create(NEW, 2 * MIB)
        with world.volumes.open(NEW) as image:
            lineage.adopt(image, kind=lineage.VOLUME, origin='blank',
                          job='another', state=lineage.PENDING)

    with pytest.raises(exception.Conflict):
        job.live(report=OnStep({'flattening the volume': exchange}))
    mark = world.mark('volumes', NEW)
    assert mark is not None
    assert (mark.job, mark.state) == ('another', lineage.PENDING)


def _calls(case: Case) -> list[str]:
    whole = case.begin()
    whole.live()
    return whole.calls


class _Lease:
    is_lost = False

    def check(self) -> None:
        """It is ours."""


@pytest.mark.parametrize('case', [CASES[0], CASES[2], CASES[-1]],
                         ids=lambda case: case.name)
@pytest.mark.parametrize('has_job', [False, True])
def test_whoever_got_no_answer_removes_what_he_knows_to_be_his(
        case: Case, has_job: bool) -> None:
    """A volume of another driver has no mark, and may be just as large. But
    where the name was free when a job began it is that job's."""
    method = 'clone' if case.way is Way.CLONE else 'create'
    job = case.begin()
    world = job.world
    before = world.state()
    if case.way is Way.CLONE:
        world.volumes.clone(model.SnapSpec('volumes', VOLUME, 's'), NEW)
    else:
        world.volumes.create(NEW, case.volume.size_bytes or MIB)
    with_theirs = world.state()
    world.ceph.fail_next(method, exception.OperationTimeout('no answer'))
    job.lease = _Lease() if has_job else None
    with pytest.raises(exception.OperationTimeout):
        job.live()
    assert world.state() == (before if has_job else with_theirs)


def test_what_is_unfinished_and_open_is_somebodys() -> None:
    job = CASES[0].begin()
    job.world.volumes.create(NEW, MIB)
    with job.world.volumes.open(NEW) as image:
        lineage.adopt(image, kind=lineage.VOLUME, origin='x', job='another',
                      state=lineage.PENDING)
        with pytest.raises(exception.ImageExists):
            job.live()
    assert job.world.disks('volumes') == [NEW, VOLUME]


@every_case
def test_what_was_left_unfinished_without_a_job_is_made_anew(case: Case
                                                             ) -> None:
    whole = case.begin()
    whole.live()
    job = case.begin()
    job.world.volumes.create(NEW, 4096)
    with job.world.volumes.open(NEW) as image:
        lineage.adopt(image, kind=lineage.VOLUME, origin='x', job='another',
                      state=lineage.PENDING)
    job.live()
    assert _seen(job.world) == _seen(whole.world)


# -- the flow -----------------------------------------------------------------

@pytest.mark.parametrize('volume', [model.VolumeSpec(NEW, MIB),
                                    model.VolumeSpec(NEW)])
def test_a_source_that_grew_meanwhile(volume: model.VolumeSpec) -> None:
    """Who named a size gets it or nothing; else the volume is as large."""
    job = Case('grown', Way.CLONE, volume).begin()
    with job.world.volumes.open(VOLUME) as source:
        source.resize(2 * MIB)
    before = job.world.state()
    if volume.size_bytes is None:
        job.live()
        assert len(job.world.read('volumes', NEW)) == 2 * MIB
        return
    with pytest.raises(exception.InvalidSize) as caught:
        job.live()
    assert f'source volumes/{VOLUME}@' in caught.value.message
    assert job.world.state() == before


def test_a_copy_of_a_part_goes_on_where_it_was(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, 'EVERY_S', 0)
    case = CASES[-1]
    calls = _calls(case)
    job = case.begin()
    with pytest.raises(Killed):
        job.live(dies_at=calls.index('remove_metadata'))
    job.live()
    assert 'write' in calls
    assert 'write' not in job.calls
    assert job.world.read('volumes', NEW, length=MIB) == job.world.read(
        'volumes', VOLUME, 's')


@every_case
def test_the_arguments_are_json(case: Case) -> None:
    arguments = case.arguments()
    assert json.loads(json.dumps(arguments)) == arguments


@every_case
def test_a_person_is_told_what_is_done(case: Case) -> None:
    job = case.begin()
    report = OnStep()
    job.live(report=report)
    assert report.steps
    for title in report.steps:
        assert title
        assert title[0].islower()


def test_what_a_revert_needs_is_what_execute_was_given() -> None:
    world = World()
    tools = base.Tools(world.config, world.cluster, world.glance,
                       progress.Silent())
    for case in CASES:
        flow = create_volume.get_flow(tools, case.arguments())
        for task, _ in flow.iter_nodes():
            assert set(task.revert_rebind) <= {*task.rebind, 'result',
                                               'flow_failures'}


def test_where_there_is_no_background_that_is_told() -> None:
    with pytest.raises(exception.NotSupported):
        base.NoFlattener().submit('volumes', NEW)


# -- from the driver ----------------------------------------------------------

@pytest.mark.parametrize(('strategy', 'make'), [
    ('blank', lambda maker: maker.make_blank(
        PLAIN, 2 * MIB, progress.Silent())),
    ('clone', lambda maker: maker.clone_volume(
        PLAIN, VOLUME, progress.Silent())),
    ('clone', lambda maker: maker.clone_snapshot(
        PLAIN, VOLUME, 's', progress.Silent())),
    ('copy', lambda maker: maker.clone_snapshot(
        PLAIN, VOLUME, 'part', progress.Silent()))])
@pytest.mark.parametrize('connection', ['memory', 'rados://', 'dir://'])
def test_it_is_told_how_and_why(
        strategy: str, make: Callable[[Maker], base.Result], connection: str,
        tmp_path: pathlib.Path) -> None:
    world = CASES[0].begin().world
    if connection == 'dir://':
        connection += str(tmp_path)
    world.configure(flow_connection=connection)
    with world.driver() as driver:
        result = make(driver.volumes._maker)
    assert (result.operation, result.strategy) == ('create_volume', strategy)
    assert result.reason
    assert result.sentence.endswith('.')
    assert [attempt['strategy'] for attempt in result.attempts] == [strategy]
    assert result.size_bytes == 2 * MIB
    assert bool(result.bytes_moved) == (strategy == 'copy')
    mark = world.mark('volumes', NEW)
    assert mark is not None
    assert mark.job == result.job
    assert not any(key[2].startswith('book.') for key in world.ceph.records)


@pytest.mark.parametrize(('make', 'expected'), [
    (lambda driver: driver.volumes.create(TYPED),
     ['create', 'open', 'set_metadata', 'set_metadata', 'set_metadata',
      'update_features', 'set_metadata']),
    (lambda driver: driver.volumes.create_from_snapshot(
        model.VolumeSpec(NEW), VOLUME, 's'),
     ['open', 'clone', 'open', 'set_metadata', 'set_metadata']),
    (lambda driver: driver.volumes.create_from_volume(
        PLAIN, VOLUME),
     ['open', 'open', 'create_snapshot', 'clone', 'open', 'set_metadata',
      'resize', 'set_metadata', 'open', 'remove_snapshot'])])
def test_the_ordinary_way_opens_and_changes_no_more_than_it_must(
        make: Callable[[RBDDriver], None], expected: list[str]) -> None:
    """Each is a round trip or several, and somebody waits."""
    world = World()
    world.make_volume()
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('s')
    world.trace()
    with world.driver() as driver:
        make(driver)
    reading = {'has_image', 'metadata', 'parent', 'read', 'snapshots'}
    assert [call for call in world.end_trace()['ceph']
            if call not in reading] == expected
