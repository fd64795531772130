# SPDX-License-Identifier: Apache-2.0
"""Ceph's manager does what is large, where it can; this process the rest."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception, model
from volume_rbd.driver import RBDDriver, budget, performing

CHILD = 'volume-2'


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(performing, '_ASK_FIRST_S', 0.0)
    monkeypatch.setattr(performing, '_NAP_S', 0.0)
    monkeypatch.setattr(performing, '_LARGE_BYTES', MIB)
    made = World()
    made.make_volume()
    made.configure(flatten_when='background',
                   flatten_volume_from_snapshot=True)
    return made


def _asked(world: World) -> set[str]:
    return {call for call in world.end_trace()['ceph']
            if call.startswith('task_')}


def _clone_and_delete(world: World) -> None:
    """The one is flattened, the other removed, both by the driver's end."""
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec(CHILD), VOLUME)
        driver.flattener.wait()
        driver.volumes.delete(VOLUME)
        driver.reclaimer.wait()
        assert driver.volumes.show(CHILD).parent is None
    assert world.disks('volumes') == [CHILD]
    assert world.volumes.metadata() == {}


@pytest.mark.parametrize(('who', 'size', 'is_asked'), [
    ('auto', MIB, True), ('auto', 2 * MIB, False), ('mgr', 2 * MIB, True),
    ('local', MIB, False)])
def test_the_setting_and_the_size_say_who(
        world: World, monkeypatch: pytest.MonkeyPatch, who: str, size: int,
        is_asked: bool) -> None:
    monkeypatch.setattr(performing, '_LARGE_BYTES', size)
    world.configure(background_tasks=who)
    world.trace()
    _clone_and_delete(world)
    assert _asked(world) == ({'task_flatten', 'task_remove', 'task_list'}
                             if is_asked else set())


def test_with_a_bandwidth_it_is_done_here(world: World) -> None:
    world.configure(background_bytes_per_s=10 ** 9)
    world.trace()
    _clone_and_delete(world)
    assert _asked(world) == set()


@pytest.mark.parametrize('error', [exception.OperationTimeout,
                                   exception.NotSupported])
def test_a_manager_that_cannot_be_asked_is_left_alone_for_a_while(
        world: World, error: type[exception.VolumeRBDError],
        caplog: pytest.LogCaptureFixture) -> None:
    world.ceph.fail_next('task_flatten', error('no'))
    world.trace()
    _clone_and_delete(world)
    assert _asked(world) == set(), 'it was asked again for the removal'
    assert 'is not asked to work for a while' in caplog.text


def test_without_the_cap_the_manager_is_never_asked_again(
        world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.ceph.fail_next('task_flatten',
                         exception.CephPermissionDenied('no'))
    world.trace()
    _clone_and_delete(world)
    assert _asked(world) == set()
    assert caplog.text.count('may not be asked') == 1


def test_a_manager_that_stops_in_the_middle_is_not_waited_for(
        world: World) -> None:
    world.ceph.fail_next('task_list', exception.OperationTimeout('no'))
    _clone_and_delete(world)


def test_what_the_manager_does_not_get_on_with_is_done_here(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performing, '_PATIENCE_S', 0.05)
    monkeypatch.setattr(performing, '_NAP_S', 0.01)
    add = type(world.cluster.tasks())._add

    def stuck(self: object, *words: object) -> object:
        info = add(self, *words)  # type: ignore[arg-type]
        world.ceph.tasks[-1].is_stuck = True
        return info

    monkeypatch.setattr(type(world.cluster.tasks()), '_add', stuck)
    _clone_and_delete(world)
    assert world.ceph.tasks == []


def test_what_the_manager_fails_at_is_done_here(world: World) -> None:
    with world.driver() as driver:
        world.ceph.fail_next('trash_remove', exception.NoSpace('no'))
        driver.volumes.delete(VOLUME)
    assert world.ceph.disks == {}
    assert world.ceph.tasks == []


def test_for_a_pause_the_manager_is_stopped_and_not_at_the_end(
        world: World) -> None:
    with world.volumes.open(VOLUME) as image:
        image_id = image.id
    world.volumes.trash_move(VOLUME)
    performer = performing.Performer(world.config, world.cluster)
    for error, is_left in ((budget.Paused, False),
                           (exception.Cancelled, True)):
        def stop(done: int, total: int,
                 error: type[exception.Cancelled] = error) -> None:
            raise error('now')

        with pytest.raises(error):
            performer.remove_trashed(world.volumes, image_id, stop)
        assert bool(world.ceph.tasks) is is_left


def test_a_process_that_ends_leaves_the_rest_to_the_manager(world: World
                                                            ) -> None:
    driver = RBDDriver(world.config, world.cluster, lambda: world.glance)
    driver.reclaimer._worker._is_stopping.set()
    driver.volumes.delete(VOLUME)
    driver.close(wait=False)
    with world.driver() as later:
        later.reclaimer.purge_due()
    assert world.ceph.disks == {}
