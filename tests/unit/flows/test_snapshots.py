# SPDX-License-Identifier: Apache-2.0
"""Snapshots that flows take and drop again."""

from __future__ import annotations

import pytest

from tests.unit.world import VOLUME, World
from volume_rbd import model
from volume_rbd.flows import snapshots

NAME = 'volume_rbd.upload-1'


@pytest.fixture
def world() -> World:
    made = World()
    made.make_volume()
    with made.volumes.open(VOLUME) as volume:
        volume.create_snapshot(NAME)
    return made


def _interrupt_removal(world: World) -> None:
    """As librbd leaves it that is killed between its two steps."""
    [snap] = next(disk for disk in world.ceph.disks.values()
                  if disk.name == VOLUME).snaps
    snap.in_trash = True


def test_a_removal_that_was_interrupted_is_finished(world: World) -> None:
    _interrupt_removal(world)
    assert world.snapshots('volumes', VOLUME) == [f'[{NAME}]']

    snapshots.drop(world.volumes, VOLUME, NAME)

    assert world.snapshots('volumes', VOLUME) == []


def test_what_a_clone_still_needs_stays_in_the_trash(world: World) -> None:
    world.volumes.clone(model.SnapSpec('volumes', VOLUME, NAME), 'clone')
    snapshots.drop(world.volumes, VOLUME, NAME)
    snapshots.drop(world.volumes, VOLUME, NAME)
    assert world.snapshots('volumes', VOLUME) == [f'[{NAME}]']


def test_another_ones_stays(world: World) -> None:
    _interrupt_removal(world)
    snapshots.drop(world.volumes, VOLUME, 'another')
    assert world.snapshots('volumes', VOLUME) == [f'[{NAME}]']
