# SPDX-License-Identifier: Apache-2.0
"""An image in a format is converted once, and cloned ever after."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import disk_formats
from tests.unit.flows import checks
from tests.unit.flows.test_convert_image import CancelsAtCheck
from tests.unit.flows.test_verify import RSA, Box, make
from tests.unit.world import OnStep, World, content
from volume_rbd import exception, model, plan
from volume_rbd.ceph import base, lineage
from volume_rbd.driver import RBDDriver, bases
from volume_rbd.driver.reclaim import items
from volume_rbd.flows.base import Result
from volume_rbd.signatures import Policy

GIB, MIB = model.GIB, model.MIB
INSIDE = content()
FILE = disk_formats.qcow2(INSIDE)
both_ways = pytest.mark.parametrize('store_id', ['rbd', 'file'])


@pytest.fixture
def world() -> World:
    made = World()
    made.configure(image_base_cache=True)
    return made


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, '_APART_S', 0.01)
    monkeypatch.setattr(bases, '_PAUSE_S', 0.01)
    monkeypatch.setattr(items, 'APART_S', 0.0)


def image_of(world: World, store_id: str | None = None, file: bytes = FILE,
             disk_format: str = 'qcow2', **fields: Any) -> str:
    return world.make_image(file, store_id=store_id, disk_format=disk_format,
                            **fields)


def create(world: World, image_id: str, name: str = checks.NEW,
           size_bytes: int | None = GIB, report: Any = None) -> Result:
    with world.driver() as driver:
        return driver.images.create(model.VolumeSpec(name, size_bytes),
                                    image_id, report=report)


def delete(world: World, name: str) -> None:
    with world.driver() as driver:
        driver.volumes.delete(name)


def parent(world: World, name: str) -> str | None:
    with world.volumes.open(name, read_only=True) as image:
        return image.parent.image if image.parent else None


@contextlib.contextmanager
def nothing_changes(world: World) -> Iterator[None]:
    before = world.state()
    yield
    assert world.state() == before


# -- once ---------------------------------------------------------------------

@both_ways
@pytest.mark.parametrize('disk_format', sorted(disk_formats.MAKERS))
def test_the_first_create_converts_and_the_next_ones_clone(
        world: World, disk_format: str, store_id: str) -> None:
    image_id = image_of(world, store_id, disk_formats.MAKERS[disk_format](
        INSIDE), disk_format)
    name = base.base_name(image_id)

    first = create(world, image_id, 'volume-1')
    again = create(world, image_id, 'volume-2', 2 * GIB)

    assert (first.strategy, first.reason) == ('convert', 'not_raw')
    assert first.bytes_moved > 0
    assert (again.strategy, again.reason) == ('clone', 'base_cached')
    assert again.bytes_moved == 0
    assert again.lineage['origin'] == f'rbd:volumes/{name}@base'
    assert len(world.converter.calls) == 1
    assert world.disks('volumes') == ['volume-1', 'volume-2', name]
    for volume in ('volume-1', 'volume-2'):
        assert world.read('volumes', volume, length=len(INSIDE)) == INSIDE
        assert parent(world, volume) == name
        mark = world.mark('volumes', volume)
        assert mark is not None
        assert (mark.kind, mark.state) == (lineage.VOLUME, lineage.COMPLETE)


def test_the_base_says_what_it_is(world: World) -> None:
    image_id = image_of(world)
    create(world, image_id)
    mark = world.mark('volumes', base.base_name(image_id))
    assert mark is not None
    assert (mark.kind, mark.state, mark.origin) == (
        lineage.BASE, lineage.COMPLETE, f'glance:{image_id}')
    with world.volumes.open(base.base_name(image_id)) as opened:
        note = base.find_note(opened)
        assert note is not None
        assert note.disk_format == 'qcow2'
        assert note.file_bytes == len(FILE)
        assert 0 < note.data_bytes <= 16 * MIB
        assert time.time() - note.used_at < 60
    with world.volumes.open(checks.NEW) as volume:
        assert base.KEY not in volume.metadata()


def test_it_is_off_by_default() -> None:
    world = World()
    image_id = image_of(world)
    assert create(world, image_id).strategy == 'convert'
    assert world.disks('volumes') == [checks.NEW]


def test_the_plan_says_it(world: World) -> None:
    image_id = image_of(world)
    with world.driver() as driver:
        decided = driver.images.plan_create(
            model.VolumeSpec('volume-2', GIB), image_id)
        assert (decided.strategy, decided.leaves_base) == ('convert', True)
        driver.images.create(model.VolumeSpec('volume-1', GIB), image_id)
        decided = driver.images.plan_create(
            model.VolumeSpec('volume-2', GIB), image_id)
    assert (decided.strategy, decided.reason) == ('clone', 'base_cached')
    assert decided.source == model.SnapSpec(
        'volumes', base.base_name(image_id), 'base')


@pytest.mark.parametrize('change', [
    {'flatten_volume_from_snapshot': True}, {'max_clone_depth': 0}])
def test_where_clones_are_not_wanted_there_is_no_base(
        world: World, change: dict[str, Any]) -> None:
    world.configure(**change)
    image_id = image_of(world)
    assert create(world, image_id).strategy == 'convert'
    assert parent(world, checks.NEW) is None
    assert world.disks('volumes') == [checks.NEW]


def test_a_raw_image_needs_none(world: World) -> None:
    image_id = world.make_image()
    assert create(world, image_id).reason == 'same_cluster'
    assert world.disks('volumes') == [checks.NEW]


def test_a_volume_without_a_size_gets_that_of_the_base(world: World) -> None:
    image_id = image_of(world, file=disk_formats.qcow2(INSIDE,
                                                       size=3 * GIB - 1))
    for name in ('volume-1', 'volume-2'):
        assert create(world, image_id, name, None).size_bytes == 3 * GIB


def test_a_volume_too_small_for_the_disk_is_refused_with_a_base_too(
        world: World) -> None:
    image_id = image_of(world, file=disk_formats.qcow2(INSIDE, size=2 * GIB))
    create(world, image_id, 'volume-1', 2 * GIB)
    with nothing_changes(world), pytest.raises(
            exception.InvalidSize, match='Ask for 2 GiB'):
        create(world, image_id, 'volume-2', GIB)


# -- whose it is --------------------------------------------------------------

@pytest.mark.parametrize('change', [
    {'image_id': 'another'}, {'disk_format': 'vdi'}, {'file_bytes': 1},
    {'hash_value': 'x'}, {'size_bytes': 1}, {'base_id': 'another'}])
def test_a_base_of_something_else_is_not_used(
        world: World, change: dict[str, Any]) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    with world.volumes.open(base.base_name(image_id)) as opened:
        note = json.loads(opened.metadata()[base.KEY])
        opened.set_metadata(base.KEY, json.dumps({**note, **change}))
    record = world.server.records[image_id]
    record.image = dataclasses.replace(record.image, os_hash_value='y')
    result = create(world, image_id, 'volume-2')
    assert result.strategy == 'convert'
    assert parent(world, 'volume-2') is None
    assert world.read('volumes', 'volume-2', length=len(INSIDE)) == INSIDE


def test_a_vmdk_type_that_is_no_longer_let_in_is_converted_anew_and_refused(
        world: World) -> None:
    image_id = image_of(world, file=disk_formats.MAKERS['vmdk'](INSIDE),
                        disk_format='vmdk')
    create(world, image_id, 'volume-1')
    world.configure(vmdk_allowed_types=())
    with nothing_changes(world), pytest.raises(exception.ImageUnsafe):
        create(world, image_id, 'volume-2')


def test_who_may_not_see_the_image_gets_no_clone_of_its_base(world: World
                                                             ) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    del world.server.records[image_id]
    with nothing_changes(world), pytest.raises(
            exception.GlanceImageNotFound):
        create(world, image_id, 'volume-2')


@both_ways
def test_who_had_to_download_it_is_cloned_by_who_may_download_it(
        world: World, store_id: str) -> None:
    """Glance's policy may let somebody see the image and not its bytes."""
    image_id = image_of(world, store_id)
    create(world, image_id, 'volume-1')
    world.server.fail_next('download', exception.GlanceForbidden('403'))
    if store_id == 'rbd':
        # A raw image there would be cloned as well.
        assert create(world, image_id, 'volume-2').reason == 'base_cached'
        return
    with nothing_changes(world), pytest.raises(exception.GlanceForbidden):
        create(world, image_id, 'volume-2')
    assert create(world, image_id, 'volume-2').reason == 'base_cached'


def test_a_conversion_that_is_forbidden_now_is_refused(world: World) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    world.configure(may_convert=False)
    with nothing_changes(world), pytest.raises(exception.NotSupported):
        create(world, image_id, 'volume-2')


def test_a_signature_that_is_required_is_required_with_a_base_too(
        world: World) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    world.configure(verify_signatures=Policy.REQUIRED)
    with nothing_changes(world), pytest.raises(exception.SignatureInvalid):
        create(world, image_id, 'volume-2')


@pytest.mark.parametrize('is_forged', [True, False])
def test_a_signed_image_is_verified_each_time_and_leaves_no_base(
        world: World, is_forged: bool) -> None:
    world.configure(verify_signatures=Policy.OFF)
    image_id = make(world, 'rbd', data=FILE,
                    signed=FILE + b'x' * is_forged, disk_format='qcow2')
    record = world.server.records[image_id]
    record.image = dataclasses.replace(record.image, disk_format='qcow2')
    create(world, image_id, 'volume-1')
    assert parent(world, 'volume-1') == base.base_name(image_id)

    world.configure(verify_signatures=Policy.WHEN_PRESENT)
    with world.driver() as driver:
        spec = model.VolumeSpec('volume-2', GIB)
        if is_forged:
            with pytest.raises(exception.SignatureInvalid):
                driver.images.create(spec, image_id, certificates=Box(RSA))
            return
        result = driver.images.create(spec, image_id, certificates=Box(RSA))
    assert result.strategy == 'convert'
    assert result.values['signature_verified'] is True
    assert parent(world, 'volume-2') is None


# -- what goes wrong ----------------------------------------------------------

@both_ways
@pytest.mark.parametrize('error', [
    exception.ConversionFailed('corrupt'), exception.NoSpace('full')])
def test_a_conversion_that_fails_leaves_nothing(
        world: World, error: exception.VolumeRBDError, store_id: str
        ) -> None:
    image_id = image_of(world, store_id)
    world.converter.leaves_watch = True
    world.converter.fail_next(error)
    with nothing_changes(world), pytest.raises(type(error)):
        create(world, image_id)


@both_ways
def test_cancelling_at_any_moment_leaves_nothing_or_a_whole_base(
        store_id: str) -> None:
    for number in range(200):
        world = World()
        world.configure(image_base_cache=True)
        image_id = image_of(world, store_id)
        name = base.base_name(image_id)
        try:
            create(world, image_id, report=CancelsAtCheck(number))
        except exception.Cancelled:
            assert world.disks('volumes') in ([], [name])
            if world.volumes.has_image(name):
                assert create(world, image_id).reason == 'base_cached'
            continue
        assert number >= 4
        return
    raise AssertionError('it never came to its end')


@pytest.mark.parametrize('side', ['ceph', 'glance'])
def test_whatever_call_fails_the_next_create_is_right(side: str) -> None:
    number = 0
    while True:
        world = World()
        world.configure(image_base_cache=True)
        image_id = image_of(world)
        world.trace()
        world.break_call(side, number, exception.OperationTimeout('no'))
        with contextlib.suppress(exception.VolumeRBDError):
            create(world, image_id)
        calls = world.end_trace()[side]
        world.ceph.traced.clear()
        create(world, image_id, 'volume-2')
        assert world.read('volumes', 'volume-2', length=len(INSIDE)
                          ) == INSIDE
        if number >= len(calls):
            break
        number += 1
    assert number >= 4


def test_a_base_that_goes_before_it_is_cloned_is_done_without(world: World
                                                              ) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    delete(world, 'volume-1')

    def evict() -> None:
        with world.driver() as driver:
            assert driver.reclaimer.remove_base(base.base_name(image_id))

    result = create(world, image_id, 'volume-2',
                    report=OnStep({'cloning the image': evict}))
    assert result.strategy == 'convert'
    assert world.disks('volumes') == ['volume-2']


# -- two at once, and one that was killed ----------------------------------

def test_two_at_once_convert_once(world: World) -> None:
    image_id = image_of(world)
    with world.driver() as driver, \
            concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = OnStep()
        others: list[concurrent.futures.Future[Result]] = []

        def begin_another() -> None:
            if others:
                return
            others.append(threads.submit(
                driver.images.create, model.VolumeSpec('volume-2', GIB),
                image_id, report=waiting))
            while 'waiting for who converts the image' not in waiting.steps:
                time.sleep(0.01)

        first = driver.images.create(
            model.VolumeSpec('volume-1', GIB), image_id,
            report=OnStep({'converting the image': begin_another}))
        second = others[0].result(10)
    assert first.strategy == 'convert'
    assert (second.strategy, second.reason) == ('clone', 'base_cached')
    assert len(world.converter.calls) == 1
    assert world.disks('volumes') == [
        'volume-1', 'volume-2', base.base_name(image_id)]


def _leave_half_done(world: World, image_id: str) -> None:
    world.volumes.create(base.making_name(image_id), 0)
    name = base.base_name(image_id)
    world.volumes.create(name, GIB)
    with world.volumes.open(name) as opened:
        opened.write(b'half', 0)
        lineage.adopt(opened, kind=lineage.VOLUME, job='j', origin='x',
                      state=lineage.PENDING)


def test_what_a_killed_one_left_is_done_anew(world: World) -> None:
    image_id = image_of(world)
    _leave_half_done(world, image_id)
    assert create(world, image_id).strategy == 'convert'
    assert world.read('volumes', checks.NEW, length=len(INSIDE)) == INSIDE
    assert world.disks('volumes') == [
        checks.NEW, base.base_name(image_id)]


def test_what_a_killed_one_left_is_swept(world: World) -> None:
    image_id = image_of(world)
    _leave_half_done(world, image_id)
    with world.driver() as driver:
        for _ in range(2):
            driver.reclaimer.purge_due()
    assert world.disks('volumes') == []


def test_what_somebody_makes_and_what_is_done_is_not_swept(world: World
                                                           ) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    other = image_of(world)
    _leave_half_done(world, other)
    before = world.disks('volumes')
    with world.driver() as driver, \
            world.volumes.open(base.making_name(other)):
        for _ in range(3):
            assert driver.reclaimer.purge_due() == []
    assert world.disks('volumes') == before


# -- limits -------------------------------------------------------------------

def _bases(world: World) -> list[str]:
    return [name for name in world.disks('volumes')
            if name.startswith(base.PREFIX)]


def _set_used(world: World, image_id: str, at: float) -> None:
    with world.volumes.open(base.base_name(image_id)) as opened:
        note = json.loads(opened.metadata()[base.KEY])
        opened.set_metadata(base.KEY, json.dumps({**note, 'used_at': at}))


@pytest.mark.parametrize('limit', [
    {'base_cache_max_count': 2},
    {'base_cache_max_bytes': 5 * len(FILE) // 2}])
def test_the_one_not_used_for_longest_goes_and_never_one_with_clones(
        world: World, limit: dict[str, int]) -> None:
    ids = [image_of(world) for _ in range(3)]
    for number, image_id in enumerate(ids):
        create(world, image_id, f'volume-{number}')
        _set_used(world, image_id, number)
    delete(world, 'volume-1')
    delete(world, 'volume-2')
    world.configure(**limit)
    new = image_of(world)
    result = create(world, new, 'volume-new')
    assert result.strategy == 'convert'
    # The oldest has a clone.
    assert base.base_name(ids[0]) in _bases(world)
    assert base.base_name(ids[1]) not in _bases(world)
    assert len(_bases(world)) <= 2


def test_with_no_room_it_is_converted_for_itself(world: World) -> None:
    world.configure(base_cache_max_count=1)
    create(world, image_of(world), 'volume-1')
    result = create(world, image_of(world), 'volume-2')
    assert result.strategy == 'convert'
    assert parent(world, 'volume-2') is None
    assert len(_bases(world)) == 1


def test_one_larger_than_the_whole_limit_is_not_made_and_none_goes_for_it(
        world: World) -> None:
    first = image_of(world)
    create(world, first, 'volume-1')
    delete(world, 'volume-1')
    world.configure(base_cache_max_bytes=len(FILE) - 1)
    result = create(world, image_of(world), 'volume-2')
    assert result.strategy == 'convert'
    assert 'image_base_cache_max_gib' in result.sentence
    assert parent(world, 'volume-2') is None
    assert _bases(world) == [base.base_name(first)]


def test_room_is_made_before_a_base_is_made(world: World) -> None:
    first = image_of(world)
    create(world, first, 'volume-1')
    delete(world, 'volume-1')
    world.configure(base_cache_max_bytes=3 * len(FILE) // 2)
    seen: list[list[str]] = []
    second = image_of(world)
    create(world, second, 'volume-2', report=OnStep({
        'converting the image': lambda: seen.append(_bases(world))}))
    assert seen == [[base.base_name(second)]]
    assert parent(world, 'volume-2') == base.base_name(second)


def test_one_that_turns_out_too_large_is_used_and_no_other_goes_for_it(
        world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What is compressed has more inside than its file says."""
    first = image_of(world)
    create(world, first, 'volume-1')
    delete(world, 'volume-1')
    with world.driver() as driver:
        [found] = driver.reclaimer.find_bases()
    small = image_of(world)
    record = world.server.records[small]
    record.image = dataclasses.replace(record.image, size_bytes=1)
    # The first one takes next to nothing of the limit.
    with world.volumes.open(found.name) as opened:
        note = json.loads(opened.metadata()[base.KEY])
        opened.set_metadata(base.KEY, json.dumps({**note, 'data_bytes': 1}))
    world.configure(base_cache_max_bytes=found.note.data_bytes - 1)
    create(world, small, 'volume-2')
    assert parent(world, 'volume-2') == base.base_name(small)
    assert len(_bases(world)) == 2
    assert 'more than image_base_cache_max_gib' in caplog.text


def test_the_last_use_is_written(world: World) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    _set_used(world, image_id, 1.0)
    create(world, image_id, 'volume-2')
    with world.driver() as driver:
        [found] = driver.reclaimer.find_bases()
    assert time.time() - found.note.used_at < 60


# -- and when the image is gone ---------------------------------------------

def _purge_due(driver: RBDDriver) -> None:
    driver.reclaimer.purge_due()
    driver.reclaimer.wait()


@pytest.mark.parametrize('is_periodic', [True, False])
def test_it_goes_when_the_image_is_gone_and_no_clone_needs_it(
        world: World, is_periodic: bool) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    world.glance.delete_image(image_id)
    with world.driver() as driver:
        assert list(driver.reclaimer.find()) == []
        _purge_due(driver)
    assert _bases(world)
    delete(world, 'volume-1')
    assert _bases(world)
    with world.driver() as driver:
        [found] = driver.reclaimer.find()
        assert (found.what, found.name) == (
            'unused_base', base.base_name(image_id))
        if is_periodic:
            _purge_due(driver)
        else:
            assert [item.what for item in driver.reclaimer.purge()] == [
                'unused_base']
    assert world.disks('volumes') == []


def test_it_stays_while_glance_has_the_image_or_does_not_answer(
        world: World) -> None:
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    delete(world, 'volume-1')
    with world.driver() as driver:
        driver.reclaimer.purge()
        _purge_due(driver)
    assert _bases(world)


def test_nobody_deletes_it_as_a_volume(world: World) -> None:
    image_id = image_of(world)
    create(world, image_id)
    with nothing_changes(world), pytest.raises(exception.ImageHasSnapshots):
        delete(world, base.base_name(image_id))


def test_with_clones_of_format_1_it_is_the_same() -> None:
    world = World(clone_format=1)
    world.configure(image_base_cache=True)
    image_id = image_of(world)
    create(world, image_id, 'volume-1')
    again = create(world, image_id, 'volume-2')
    assert again.reason == plan.Reason.BASE_CACHED
    world.glance.delete_image(image_id)
    for name in ('volume-1', 'volume-2'):
        delete(world, name)
    with world.driver() as driver:
        driver.reclaimer.purge()
    assert world.disks('volumes') == []
