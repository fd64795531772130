# SPDX-License-Identifier: Apache-2.0
"""What a killed process had made for bytes on their way goes by itself."""

from __future__ import annotations

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import model
from volume_rbd.ceph import lineage
from volume_rbd.driver.reclaim import items
from volume_rbd.driver.reclaim.temporary import Temporary

STAGE = 'volume_rbd.stage-volume-2'
MIGRATED = f'volume_rbd.migrate-{VOLUME}'


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(items, 'APART_S', 0.0)
    made = World()
    made.configure(flow_connection='rados://')
    made.make_volume()
    return made


def _sweeper(world: World) -> Temporary:
    with world.driver() as driver:
        return driver.reclaimer.finder.temporary


def _names(sweeper: Temporary) -> list[str]:
    return [item.name for item in sweeper.sweep()]


def _leave(world: World, name: str) -> None:
    world.volumes.create(name, MIB)
    with world.volumes.open(name) as image:
        image.create_snapshot('one')
        lineage.adopt(image, kind=lineage.STAGE, job='job', origin='blank',
                      state=lineage.PENDING)


@pytest.mark.parametrize('name', [STAGE, MIGRATED])
def test_what_nobody_has_open_goes(world: World, name: str) -> None:
    _leave(world, name)
    assert _names(_sweeper(world)) == [name]
    assert not world.volumes.has_image(name)
    assert world.volumes.has_image(VOLUME)


def test_its_data_goes_as_that_of_a_volume_does(world: World) -> None:
    _leave(world, STAGE)
    with world.driver() as driver:
        assert [item.name for item in driver.reclaimer.purge_due()] == [STAGE]
    assert world.disks('volumes') == [VOLUME]


def test_what_has_a_clone_stays(world: World) -> None:
    _leave(world, STAGE)
    world.volumes.clone(model.SnapSpec('volumes', STAGE, 'one'), 'clone')
    assert _sweeper(world).sweep() == []
    assert world.volumes.has_image(STAGE)


def test_not_at_the_first_look(world: World, monkeypatch: pytest.MonkeyPatch
                               ) -> None:
    """Its owner may let go of it for a moment."""
    monkeypatch.setattr(items, 'APART_S', 0.01)
    _leave(world, STAGE)
    sweeper = _sweeper(world)
    assert sweeper.sweep() == []
    monkeypatch.setattr(items, 'APART_S', 0.0)
    assert _names(sweeper) == [STAGE]


def test_what_somebody_has_open_stays(world: World) -> None:
    _leave(world, STAGE)
    sweeper = _sweeper(world)
    with world.volumes.open(STAGE):
        assert sweeper.sweep() == []
    assert _names(sweeper) == [STAGE]


def test_what_is_only_called_so_and_is_complete_stays(world: World) -> None:
    world.make_volume('volume_rbd.stage')
    assert _sweeper(world).sweep() == []
