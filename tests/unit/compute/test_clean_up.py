# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from tests.unit.compute.conftest import DISK, INSTANCE, Compute
from tests.unit.world import OnStep
from volume_rbd import exception
from volume_rbd.compute.clean_up import State
from volume_rbd.compute.disks import Disks
from volume_rbd.model import MIB, SnapSpec

CONFIG = f'{INSTANCE}_disk.config'
OTHER = 'f3b0c5a4-14e5-4a90-9d5e-8a0e3c1d2b76_disk'
PREFIX = f'{INSTANCE}_'


def _make(disks: Disks) -> None:
    for name in (CONFIG, DISK, OTHER):
        disks.create_blank(name, MIB)


def _states(disks: Disks, **options: object) -> dict[str, State]:
    return {gone.name: gone.state for gone in disks.clean_up(
        PREFIX, timeout_s=0.01, **options)}  # type: ignore[arg-type]


def test_the_disks_of_one_instance_go(compute: Compute) -> None:
    with compute.disks() as disks:
        _make(disks)
        assert disks.names(PREFIX) == [DISK, CONFIG]
        assert _states(disks) == {CONFIG: State.REMOVED,
                                  DISK: State.REMOVED}
        assert disks.names() == [OTHER]
    assert compute.names() == [OTHER]


def test_what_goes_may_be_said_by_a_function(compute: Compute) -> None:
    with compute.disks() as disks:
        _make(disks)
        disks.clean_up(lambda name: name.endswith('.config'))
        assert disks.names() == [DISK, OTHER]


@pytest.mark.parametrize('wanted', ['', '  '])
def test_an_empty_filter_lets_nothing_go(compute: Compute, wanted: str
                                         ) -> None:
    with compute.disks() as disks:
        _make(disks)
        with pytest.raises(exception.InvalidInput, match='empty filter'):
            disks.clean_up(wanted)
        assert len(disks.names()) == 3


def test_what_operations_have_under_way_is_no_disk(compute: Compute) -> None:
    compute.vms.create('volume_rbd.stage-x', MIB)
    with compute.disks() as disks:
        assert disks.names() == []
        assert disks.clean_up(lambda name: True) == []
    assert compute.names() == ['volume_rbd.stage-x']


def test_nothing_that_matches_is_no_error(compute: Compute) -> None:
    with compute.disks() as disks:
        assert disks.clean_up(PREFIX) == []


def test_a_disk_that_is_open_stays_and_is_told_apart(compute: Compute
                                                     ) -> None:
    with compute.disks() as disks:
        _make(disks)
        with compute.world.ceph.cluster('admin').pool('vms').open(DISK):
            assert _states(disks) == {CONFIG: State.REMOVED,
                                      DISK: State.BUSY}
        assert disks.names() == [DISK, OTHER]
        assert _states(disks) == {DISK: State.REMOVED}


def test_a_disk_that_is_let_go_meanwhile_goes(compute: Compute) -> None:
    with compute.disks() as disks:
        _make(disks)
        opened = compute.world.ceph.cluster('admin').pool('vms').open(DISK)
        opened.__enter__()
        report = OnStep({'waiting for 1 disk(s) that are open':
                         lambda: opened.__exit__(None, None, None)})
        gone = disks.clean_up(PREFIX, report=report)
    assert [each.state for each in gone] == [State.REMOVED, State.REMOVED]


def test_a_disk_with_snapshots_stays_unless_those_may_go(compute: Compute
                                                         ) -> None:
    with compute.disks() as disks:
        _make(disks)
        disks.snapshots.create(DISK, 'nova-resize')
        assert _states(disks)[DISK] is State.HAS_SNAPSHOTS
        assert disks.names() == [DISK, OTHER]
        assert _states(disks, with_snapshots=True) == {DISK: State.REMOVED}


def test_a_disk_that_is_open_keeps_its_snapshots(compute: Compute) -> None:
    with compute.disks() as disks:
        _make(disks)
        disks.snapshots.create(DISK, 'nova-resize')
        with compute.world.ceph.cluster('admin').pool('vms').open(DISK):
            assert _states(disks, with_snapshots=True)[DISK] is State.BUSY
        assert len(disks.snapshots.list(DISK)) == 1


def test_a_disk_that_clones_need_goes_to_the_trash(compute: Compute) -> None:
    with compute.disks() as disks:
        _make(disks)
        with compute.vms.open(DISK) as image:
            image.create_snapshot('snap')
        compute.vms.clone(SnapSpec('vms', DISK, 'snap'), OTHER + '2')
        assert _states(disks, with_snapshots=True)[DISK] is State.IN_TRASH
        assert not disks.exists(DISK)
        assert disks.exists(OTHER + '2')



def test_one_that_fails_does_not_keep_the_others(compute: Compute) -> None:
    with compute.disks() as disks:
        _make(disks)
        compute.world.ceph.fail_next('trash_move',
                                     exception.NotSupported('No.'))
        states = _states(disks)
        assert sorted(states.values()) == [State.FAILED, State.REMOVED]
        assert OTHER in disks.names()


def test_the_list_is_of_those_that_are_wanted(compute: Compute) -> None:
    with compute.disks() as disks:
        _make(disks)
        assert [disk.name for disk in disks.list(PREFIX)] == [DISK, CONFIG]
        assert [disk.name for disk in disks.list()] == [DISK, CONFIG, OTHER]
