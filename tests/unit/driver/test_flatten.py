# SPDX-License-Identifier: Apache-2.0
"""When a clone is cut loose: before it is used, or in the background."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.unit.world import VOLUME, World
from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.making import when_to_flatten
from volume_rbd.flows.create_volume import Flatten
from volume_rbd.model import VolumeSpec

NEW = 'new'


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    return made


@pytest.mark.parametrize(('flatten_when', 'wanted', 'depth', 'when'), [
    ('before_use', False, 1, Flatten.NEVER),
    ('before_use', False, 3, Flatten.NEVER),
    ('before_use', False, 4, Flatten.NOW),
    ('before_use', True, 1, Flatten.NOW),
    ('background', False, 1, Flatten.NEVER),
    ('background', False, 3, Flatten.LATER),
    ('background', False, 4, Flatten.NOW),
    ('background', True, 1, Flatten.LATER),
    ('background', True, 4, Flatten.NOW),
])
def test_policy_and_depth_say_when(
        world: World, flatten_when: str, wanted: bool, depth: int,
        when: Flatten) -> None:
    world.configure(flatten_when=flatten_when, max_clone_depth=3,
                    flatten_volume_from_snapshot=wanted)
    assert when_to_flatten(world.config, depth) is when


def test_with_a_depth_of_0_nothing_stays_a_clone(world: World) -> None:
    world.configure(flatten_when='background', max_clone_depth=0)
    assert when_to_flatten(world.config, 1) is Flatten.NOW


@contextlib.contextmanager
def _all_slots(driver: RBDDriver) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(driver.flattener.slot())
        yield


def test_in_the_background_a_volume_is_there_at_once(world: World) -> None:
    world.configure(flatten_when='background',
                    flatten_volume_from_snapshot=True)
    data = world.read('volumes', VOLUME)
    with world.driver() as driver, _all_slots(driver):
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
        assert driver.volumes.show(NEW).depth == 1
    with world.driver() as driver:
        assert driver.volumes.show(NEW).parent is None
    assert world.read('volumes', NEW) == data
    assert world.snapshots('volumes', VOLUME) == []
    assert world.volumes.metadata() == {}


def test_while_flattens_wait_chains_grow_no_longer_than_allowed(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure(flatten_when='background', max_clone_depth=2)
    depths = []
    waiting = []
    with world.driver() as driver:
        monkeypatch.setattr(driver.flattener, 'submit',
                            lambda pool, name: waiting.append(name))
        for number in range(5):
            source = f'v{number - 1}' if number else VOLUME
            driver.volumes.create_from_volume(
                VolumeSpec(f'v{number}'), source)
            depths.append(driver.volumes.show(f'v{number}').depth)
    assert depths == [1, 2, 0, 1, 2]
    assert waiting == ['v1', 'v4']


def test_a_flatten_that_fails_leaves_a_clone_and_is_tried_again(
        world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.configure(flatten_when='background',
                    flatten_volume_from_snapshot=True)
    world.ceph.fail_next('flatten', exception.NoSpace('full'))
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    assert 'stays a clone' in caplog.text
    with world.driver() as driver:
        assert driver.volumes.show(NEW).depth == 1
        driver.reclaimer.purge_due()
        driver.flattener.wait()
        assert driver.volumes.show(NEW).depth == 0
    assert world.volumes.metadata() == {}


def test_what_a_killed_process_was_to_flatten_is_taken_up(world: World
                                                          ) -> None:
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
        number = driver.volumes.show(NEW).image_id
    world.volumes.set_metadata(f'volume_rbd.flatten.{number}', json.dumps(
        {'pool': 'volumes', 'at': time.time()}))
    with world.driver() as driver:
        assert driver.flattener.resume_due() == 1
        # Another process may be busy with what comes later.
        world.volumes.set_metadata('volume_rbd.flatten.x', json.dumps(
            {'pool': 'volumes', 'at': time.time()}))
        driver.flattener.wait()
        assert driver.flattener.resume_due() == 0
        world.volumes.set_metadata('volume_rbd.flatten.x', json.dumps(
            {'pool': 'volumes', 'at': time.time() - 7200}))
        assert driver.flattener.resume_due() == 1
        driver.flattener.wait()
        assert driver.volumes.show(NEW).parent is None
    assert world.volumes.metadata() == {}


def test_what_cannot_be_read_is_left_alone(world: World) -> None:
    world.volumes.set_metadata('volume_rbd.flatten.x', 'not JSON')
    with world.driver() as driver:
        assert driver.flattener.resume_due() == 0
    assert world.volumes.metadata() == {'volume_rbd.flatten.x': 'not JSON'}


def test_what_was_to_be_flattened_in_a_pool_that_is_gone_is_forgotten(
        world: World) -> None:
    world.volumes.set_metadata('volume_rbd.flatten.x', json.dumps(
        {'pool': 'gone', 'at': 0.0}))
    with world.driver() as driver:
        assert driver.flattener.resume_due() == 1
        driver.flattener.wait()
    assert world.volumes.metadata() == {}


def test_a_flatten_stopped_by_closing_is_found_again(world: World) -> None:
    world.configure(flatten_when='background',
                    flatten_volume_from_snapshot=True)
    driver = RBDDriver(world.config, world.cluster, lambda: world.glance)
    driver.flattener._worker._is_stopping.set()
    driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    driver.close(wait=False)
    with world.driver() as later:
        assert later.volumes.show(NEW).depth == 1
        later.reclaimer.purge_due()
        later.flattener.wait()
        assert later.volumes.show(NEW).depth == 0


def test_what_a_flatten_sets_free_goes(world: World) -> None:
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
        driver.volumes.delete(VOLUME)
        driver.reclaimer.wait()
        assert world.disks('volumes') == [f'[{VOLUME}]', NEW]
        driver.flattener.submit('volumes', NEW)
        driver.flattener.wait()
    assert world.disks('volumes') == [NEW]


def test_what_a_killed_process_left_unfinished_is_made_anew(world: World
                                                            ) -> None:
    """The volume's own name is the intent."""
    data = world.read('volumes', VOLUME)
    world.volumes.create(NEW, 4096)
    with world.volumes.open(NEW) as image:
        lineage.adopt(image, kind=lineage.VOLUME, origin='x', job='j',
                      state=lineage.PENDING)
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec(NEW), VOLUME)
    assert world.read('volumes', NEW) == data
    assert world.disks('volumes') == [NEW, VOLUME]
