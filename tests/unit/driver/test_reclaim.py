# SPDX-License-Identifier: Apache-2.0
"""What nobody owns is found, with the proof; what lacks the proof is not.

What is in the trash is in test_deletion.py, what the stock driver left in
test_stock.py, bases in tests/unit/flows/test_base_cache.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception, model
from volume_rbd.ceph import base, lineage
from volume_rbd.ceph.interface import Pool
from volume_rbd.driver.images import ImageRequest
from volume_rbd.driver.performing import Performer
from volume_rbd.driver.reclaim import Reclaimable, Reclaimer, items

JOB = 'job-1'
OTHER = 'volume-2'
STAGE = f'volume_rbd.stage-{OTHER}'


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(items, 'APART_S', 0.0)
    made = World()
    made.configure(flow_connection='rados://')
    made.make_volume()
    return made


def _reclaimer(world: World, *, open_jobs: tuple[str, ...] = (),
               claims: tuple[str, ...] = ()) -> Reclaimer:
    with world.driver() as driver:
        return Reclaimer(world.config, world.cluster, lambda: world.glance,
                         driver.flattener, driver.budget,
                         Performer(world.config, world.cluster),
                         is_job_open=lambda job: job in open_jobs,
                         is_claimed=lambda what: what in claims)


def _find(world: World, **jobs: tuple[str, ...]) -> list[Reclaimable]:
    """And nothing is touched by it."""
    before = world.state()
    found = list(_reclaimer(world, **jobs).find())
    assert world.state() == before
    return found


def _nothing_goes(world: World, **jobs: tuple[str, ...]) -> None:
    before = world.state()
    assert _find(world, **jobs) == []
    assert _reclaimer(world, **jobs).purge() == []
    assert world.state() == before


def _make(world: World, pool: str, name: str, *, kind: str, state: str,
          origin: str = 'blank') -> None:
    place = world.cluster.pool(pool)
    place.create(name, MIB)
    with place.open(name) as image:
        lineage.adopt(image, kind=kind, origin=origin, job=JOB, state=state)


def _unfinished(world: World, origin: str = 'blank') -> None:
    _make(world, 'volumes', OTHER, kind=lineage.VOLUME, origin=origin,
          state=lineage.PENDING)


def _stage(world: World) -> None:
    _make(world, 'volumes', STAGE, kind=lineage.STAGE, state=lineage.PENDING)


def _lost_clone(world: World) -> str:
    """An image made by clone, whose record Glance has lost."""
    image_id = world.clone_upload()
    world.server.records.pop(image_id)
    return image_id


def _own_snapshot(world: World, name: str) -> None:
    with world.volumes.open(VOLUME) as image:
        image.create_snapshot(name)


# -- clones that Glance does not know -----------------------------------------

def test_a_complete_clone_goes_that_glance_does_not_know(world: World
                                                         ) -> None:
    image_id = _lost_clone(world)
    kept = world.clone_upload()
    [item] = _find(world)
    assert (item.what, item.pool, item.name) == (
        'unknown_clone', 'images', image_id)
    assert item.size_bytes == MIB
    assert item.owner.startswith('job ')
    assert item.age_s is not None
    _reclaimer(world).purge()
    assert world.disks('images') == [kept]
    # With it went what it had kept of the volume.
    assert len(world.snapshots('volumes', VOLUME)) == 1


def test_a_clone_stays_whose_job_is_open(world: World) -> None:
    image_id = _lost_clone(world)
    mark = world.mark('images', image_id)
    assert mark is not None
    _nothing_goes(world, open_jobs=(mark.job,))
    _nothing_goes(world, claims=(f'image/{image_id}',))


def test_a_clone_stays_that_somebody_has_open_or_cloned(world: World
                                                        ) -> None:
    image_id = _lost_clone(world)
    admin = world.ceph.cluster('admin').pool('images')
    with admin.open(image_id):
        _nothing_goes(world)
    world.cluster.pool('vms').clone(
        model.SnapSpec('images', image_id, 'snap'), 'a-guest')
    _nothing_goes(world)


@pytest.mark.parametrize('state', [lineage.PENDING, lineage.COMPLETE])
def test_what_another_backend_made_may_be_of_another_glance(
        world: World, state: str) -> None:
    """Whose jobs are not seen from here either."""
    _make(world, 'images', str(uuid.uuid4()), kind=lineage.GLANCE_IMAGE,
          state=state, origin='rbd:elsewhere/v@s')
    _make(world, 'images', str(uuid.uuid4()), kind=lineage.GLANCE_IMAGE,
          state=state, origin='rbd:volumes-2/v@s')
    _nothing_goes(world)


@pytest.mark.parametrize('strategy', ['clone', 'copy'])
def test_a_pending_clone_of_ours_goes_that_no_job_owns(
        world: World, strategy: str) -> None:
    """As an upload leaves it that was killed and then forgotten."""
    if strategy == 'copy':
        world.configure(max_clone_depth=0)
    with world.driver() as driver:
        made = driver.images.upload(model.VolumeSpec(VOLUME),
                                    ImageRequest('an image'))
    assert made.strategy == strategy
    image_id = made.values['image_id']
    with world.images.open(image_id) as image:
        lineage.set_state(image, lineage.PENDING)
    _nothing_goes(world)
    world.server.records.pop(image_id)
    [item] = _find(world)
    assert (item.what, item.name) == ('pending_clone', image_id)
    assert _reclaimer(world).purge()
    assert world.disks('images') == []


def test_what_glance_itself_put_there_is_left_to_it(world: World) -> None:
    image_id = world.make_image()
    world.server.records.pop(image_id)
    _nothing_goes(world)


@pytest.mark.parametrize('error', [exception.GlanceUnavailable,
                                   exception.GlanceForbidden])
def test_where_glance_does_not_say_so_a_clone_stays(
        world: World, error: type[exception.VolumeRBDError]) -> None:
    _lost_clone(world)
    before = world.state()
    world.glance.fail_next('has_image', error('no'), 99)
    assert _reclaimer(world).purge() == []
    assert world.state() == before


def test_a_removed_snapshot_of_an_image_of_ours_goes(world: World) -> None:
    """Glance began to delete the image, and was refused: it has clones."""
    image_id = world.clone_upload()
    admin = world.ceph.cluster('admin').pool('images')
    with admin.open(image_id) as image:
        image.unprotect_snapshot('snap')
    admin.clone(model.SnapSpec('images', image_id, 'snap'), 'child')
    with admin.open(image_id) as image:
        image.remove_snapshot('snap')
    _nothing_goes(world)
    # Its clone went with somebody who may not write here.
    with admin.open('child') as child:
        world.ceph.disks.pop(child.id)
    [item] = _find(world)
    assert (item.what, item.owner) == ('removed_snapshot', 'glance')
    assert item.name == f'{image_id}@snap'
    _reclaimer(world).purge()
    assert world.snapshots('images', image_id) == []


# -- unfinished volumes -------------------------------------------------------

def test_an_unfinished_volume_goes(world: World) -> None:
    _unfinished(world)
    [item] = _find(world)
    assert (item.what, item.name, item.owner) == (
        'unfinished_volume', OTHER, f'job {JOB}')
    assert item.takes_two_looks
    assert [gone.name for gone in _reclaimer(world).purge()] == [OTHER]
    assert world.disks('volumes') == [VOLUME]


def test_an_unfinished_volume_stays_whose_job_is_open(world: World) -> None:
    _unfinished(world)
    _nothing_goes(world, open_jobs=(JOB,))
    _nothing_goes(world, claims=(f'volume/{OTHER}',))


def test_an_unfinished_volume_stays_that_somebody_has_open(world: World
                                                           ) -> None:
    _unfinished(world)
    with world.ceph.cluster('admin').pool('volumes').open(OTHER):
        _nothing_goes(world)


def test_an_unfinished_volume_with_a_snapshot_is_somebodys(world: World
                                                           ) -> None:
    _unfinished(world)
    with world.volumes.open(OTHER) as image:
        image.create_snapshot('precious')
    _nothing_goes(world)


def test_a_volume_on_the_move_may_be_the_only_one_by_now(world: World
                                                         ) -> None:
    _unfinished(world, origin='migrated:volumes/x#1')
    _nothing_goes(world)


def test_without_a_mark_of_its_own_a_volume_is_somebodys(world: World
                                                         ) -> None:
    _unfinished(world)
    with world.volumes.open(OTHER) as image:
        image.create_snapshot('s')
    world.volumes.clone(model.SnapSpec('volumes', OTHER, 's'), 'theirs')
    with world.volumes.open('theirs') as theirs:
        theirs.flatten()
    with world.volumes.open(OTHER) as image:
        image.remove_snapshot('s')
    assert [item.name for item in _find(world)] == [OTHER]


def test_one_that_was_finished_meanwhile_stays(world: World) -> None:
    _unfinished(world)
    [item] = _find(world)
    with world.volumes.open(OTHER) as image:
        lineage.set_state(image, lineage.COMPLETE)
    assert not _reclaimer(world).reclaim(item)
    assert world.volumes.has_image(OTHER)
    mark = world.mark('volumes', OTHER)
    assert mark is not None
    assert mark.state == lineage.COMPLETE


# -- bytes on their way -------------------------------------------------------

def test_a_stage_goes_that_nobody_has_open(world: World) -> None:
    _stage(world)
    [item] = _find(world)
    assert (item.what, item.name, item.owner) == (
        'temporary_image', STAGE, f'job {JOB}')
    _reclaimer(world).purge()
    assert world.disks('volumes') == [VOLUME]


def test_a_stage_stays_that_is_open_or_whose_job_is(world: World) -> None:
    _stage(world)
    _nothing_goes(world, open_jobs=(JOB,))
    with world.ceph.cluster('admin').pool('volumes').open(STAGE):
        _nothing_goes(world)


def test_the_sweeper_leaves_alone_what_an_open_job_owns(world: World
                                                        ) -> None:
    _stage(world)
    _reclaimer(world, open_jobs=(JOB,)).purge_due()
    assert world.volumes.has_image(STAGE)
    _reclaimer(world).purge_due()
    assert not world.volumes.has_image(STAGE)


def test_what_takes_two_looks_is_removed_a_while_later(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner had let go of it for a moment only."""
    _stage(world)
    owner = world.ceph.cluster('admin').pool('volumes').open(STAGE)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        owner.__enter__()

    monkeypatch.setattr(items, 'APART_S', 20.0)
    monkeypatch.setattr('time.sleep', sleep)
    assert _reclaimer(world).purge() == []
    assert 19 < slept[0] <= 20
    owner.__exit__(None, None, None)
    assert world.volumes.has_image(STAGE)


# -- snapshots of our operations ----------------------------------------------

def _of_an_active_image(world: World) -> str:
    return f'volume_rbd.upload-{world.make_image()}'


def _of_a_deleted_image(world: World) -> str:
    return f'volume_rbd.upload-{uuid.uuid4()}'


def _of_a_gone_volume(world: World) -> str:
    return 'volume_rbd.clone-volume-9'


def _of_a_complete_volume(world: World) -> str:
    world.make_volume(OTHER)
    return f'volume_rbd.clone-{OTHER}'


@pytest.mark.parametrize('name', [
    _of_an_active_image, _of_a_deleted_image, _of_a_gone_volume,
    _of_a_complete_volume])
def test_a_snapshot_of_ours_goes_whose_operation_is_over(
        world: World, name: Callable[[World], str]) -> None:
    snapshot = name(world)
    _own_snapshot(world, snapshot)
    _own_snapshot(world, 'the-users')
    [item] = _find(world)
    assert (item.what, item.name) == ('own_snapshot', f'{VOLUME}@{snapshot}')
    assert item.age_s is not None
    assert item.age_s < 60
    _reclaimer(world).purge()
    assert world.snapshots('volumes', VOLUME) == ['the-users']


def _of_a_queued_image(world: World) -> str:
    return f'volume_rbd.upload-{world.make_record()}'


def _of_an_unfinished_volume(world: World) -> str:
    _unfinished(world)
    with world.volumes.open(OTHER) as image:
        image.create_snapshot('s')  # so that it is not found itself
    return f'volume_rbd.clone-{OTHER}'


def _of_an_unmarked_volume(world: World) -> str:
    world.volumes.create(OTHER, MIB)
    return f'volume_rbd.clone-{OTHER}'


def _not_of_an_operation(world: World) -> str:
    return 'volume_rbd.revert'


@pytest.mark.parametrize('name', [
    _of_a_queued_image, _of_an_unfinished_volume, _of_an_unmarked_volume,
    _not_of_an_operation])
def test_a_snapshot_of_ours_stays_whose_operation_may_go_on(
        world: World, name: Callable[[World], str]) -> None:
    _own_snapshot(world, name(world))
    _nothing_goes(world)


def test_a_snapshot_stays_that_a_job_has_claimed(world: World) -> None:
    image_id = world.make_image()
    _own_snapshot(world, f'volume_rbd.upload-{image_id}')
    _own_snapshot(world, 'volume_rbd.clone-volume-9')
    _nothing_goes(world, claims=(f'image/{image_id}', 'volume/volume-9'))


def test_a_snapshot_that_has_a_clone_stays(world: World) -> None:
    _own_snapshot(world, 'volume_rbd.clone-volume-9')
    world.cluster.pool('vms').clone(
        model.SnapSpec('volumes', VOLUME, 'volume_rbd.clone-volume-9'), 'x')
    _nothing_goes(world)


# -- without records of jobs --------------------------------------------------

@pytest.mark.parametrize('make', [
    _unfinished, _stage,
    lambda world: _own_snapshot(world, _of_a_gone_volume(world)),
    lambda world: _own_snapshot(world, _of_an_active_image(world))])
def test_without_records_somebody_may_be_at_work_with_it(
        world: World, make: Callable[[World], None]) -> None:
    """Between two steps he has nothing open."""
    make(world)
    [item] = _find(world)
    world.configure(flow_connection='memory')
    _nothing_goes(world)
    assert not _reclaimer(world).reclaim(item)
    assert _reclaimer(world).purge_due() == []


@pytest.mark.parametrize('kind', ['migrate', 'making', 'base'])
def test_what_is_held_open_until_it_is_done_needs_no_record(
        world: World, kind: str) -> None:
    name = f'volume_rbd.{kind}-{uuid.uuid4()}'
    _make(world, 'volumes', name, kind=lineage.VOLUME, state=lineage.PENDING)
    world.configure(flow_connection='memory')
    assert [item.name for item in _find(world)] == [name]


# -- what cannot be read ------------------------------------------------------

def _clone_out_of_sight(world: World, name: str, snapshot: str) -> None:
    world.ceph.caps['cinder'] = {'volumes': 'rw', 'images': 'rw',
                                 'vms': ''}
    world.ceph.cluster('admin').pool('vms').clone(
        model.SnapSpec('volumes', name, snapshot), 'a-guest')


def test_a_volume_that_cannot_be_judged_does_not_hide_the_others(
        world: World) -> None:
    _own_snapshot(world, _of_a_gone_volume(world))
    _unfinished(world)
    _clone_out_of_sight(world, VOLUME, 'volume_rbd.clone-volume-9')
    assert [item.name for item in _find(world)] == [OTHER]
    assert [item.name for item in _reclaimer(world).purge()] == [OTHER]


def test_a_base_that_cannot_be_judged_does_not_hide_the_others(
        world: World) -> None:
    one, two = (f'0000000{number}-0000-4000-8000-000000000000'
                for number in (1, 2))
    for image_id in (one, two):
        name = base.base_name(image_id)
        world.volumes.create(name, MIB)
        with world.volumes.open(name) as image:
            base.finish(image, model.GlanceImage(image_id, 'x', 'active'),
                        job=JOB, vmdk_types=(), is_direct=True)
    _clone_out_of_sight(world, base.base_name(one), base.SNAPSHOT)
    assert [item.name for item in _find(world)] == [base.base_name(two)]


# -- other sources ------------------------------------------------------------

def test_another_source_can_be_added(world: World) -> None:
    removed: list[Reclaimable] = []

    class Stuck:
        kinds = ('stuck',)

        def find(self, pools: Sequence[Pool]) -> Iterator[Reclaimable]:
            if not removed:
                yield Reclaimable('stuck', 'volumes', 'x', '', 0, None, 'so')

        def remove(self, item: Reclaimable) -> bool:
            removed.append(item)
            return True

    reclaimer = _reclaimer(world)
    reclaimer.finder.sources.append(Stuck())
    assert [item.what for item in reclaimer.purge()] == ['stuck']
