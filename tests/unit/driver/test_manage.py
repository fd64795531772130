# SPDX-License-Identifier: Apache-2.0
"""Taking rbd_images over, and letting them go."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception
from volume_rbd.ceph import interface, lineage
from volume_rbd.ceph.multiattach import EXCLUSIVE
from volume_rbd.driver.manage import ManageableSnapshot, ManageableVolume
from volume_rbd.model import VolumeSpec

THEIRS = 'theirs'
NEW = 'volume-new'


@pytest.fixture
def world() -> World:
    made = World()
    made.volumes.create(THEIRS, 3 * MIB)
    with made.volumes.open(THEIRS) as image:
        image.write(b'their data', 0)
        image.set_metadata('note', 'theirs')
        image.set_metadata('conf_rbd_qos_iops_limit', '9')
        image.create_snapshot('s')
    return made


def _reasons(world: World) -> dict[str, str | None]:
    with world.driver() as driver:
        return {found.name: found.reason_not_safe
                for found in driver.manage.list_volumes()}


# -- what there is ------------------------------------------------------------

def test_everything_in_the_pool_is_listed_with_its_size(world: World) -> None:
    world.volumes.create('another', 5 * MIB)
    world.images.create('elsewhere', MIB)
    world.volumes.create('trashed', MIB)
    world.volumes.trash_move('trashed')
    with world.driver() as driver:
        assert driver.manage.list_volumes() == [
            ManageableVolume('another', 5 * MIB, None),
            ManageableVolume(THEIRS, 3 * MIB, None)]
        assert driver.manage.sizes() == {'another': 5 * MIB, THEIRS: 3 * MIB}


def test_only_what_is_on_a_page_is_opened(world: World) -> None:
    for number in range(50):
        world.volumes.create(f'v{number:02}', MIB)
    world.trace()
    with world.driver() as driver:
        names = list(driver.manage.sizes())
        page = driver.manage.list_volumes(names[10:13])
    assert [found.name for found in page] == names[10:13]
    called = world.end_trace()['ceph']
    assert called.count('images') == called.count('sizes') == 1
    assert called.count('open') == 3


def test_what_goes_while_it_is_listed_is_left_out(world: World) -> None:
    with world.driver() as driver:
        assert [found.name for found in driver.manage.list_volumes(
            ['gone', THEIRS])] == [THEIRS]


def test_what_cannot_be_opened_does_not_hide_the_rest(world: World) -> None:
    world.volumes.create('a-broken-one', MIB)
    world.ceph.fail_next('open', exception.VolumeRBDError('damaged'))
    with world.driver() as driver:
        assert [found.name for found in driver.manage.list_volumes()] == [
            THEIRS]
        world.ceph.is_reachable = False
        with pytest.raises(exception.ClusterUnavailable):
            driver.manage.list_volumes([THEIRS])


def test_it_is_said_what_had_better_be_left_alone(world: World) -> None:
    glance_image = str(uuid.uuid4())
    for name in ('volume-1.deleted', 'volume_rbd.staging-1', glance_image,
                 str(uuid.UUID(int=7)), 'pending', 'open', 'ours'):
        world.volumes.create(name, MIB)
    with world.volumes.open(glance_image) as image:
        image.create_snapshot('snap')
    for name, state in (('pending', lineage.PENDING),
                        ('ours', lineage.COMPLETE)):
        with world.volumes.open(name) as image:
            lineage.adopt(image, kind=lineage.VOLUME, origin='blank',
                          job='j', state=state)
    with world.ceph.cluster('admin').pool('volumes').open('open'):
        assert _reasons(world) == {
            'volume-1.deleted': 'volume marked as deleted',
            'volume_rbd.staging-1': 'used by this driver',
            glance_image: 'an image of Glance',
            str(uuid.UUID(int=7)): None,
            'pending': 'used by this driver',
            'open': 'volume in use',
            'ours': None,
            THEIRS: None}


def test_a_size_is_told_in_bytes(world: World) -> None:
    with world.driver() as driver:
        assert driver.manage.get_size_bytes(THEIRS) == 3 * MIB
        with pytest.raises(exception.ImageNotFound, match='nope'):
            driver.manage.get_size_bytes('nope')


# -- taking over --------------------------------------------------------------

def test_an_image_becomes_a_volume_under_another_name(world: World) -> None:
    with world.driver() as driver:
        driver.manage.manage(THEIRS, NEW)
        shown = driver.volumes.show(NEW)
    assert world.disks('volumes') == [NEW]
    assert world.read('volumes', NEW, length=10) == b'their data'
    assert shown.snapshots == ('s',)
    assert shown.lineage is not None
    assert (shown.lineage.kind, shown.lineage.origin, shown.lineage.state) == (
        lineage.VOLUME, f'managed:{THEIRS}', lineage.COMPLETE)


def test_an_image_keeps_what_is_written_on_it(world: World) -> None:
    """It was not made by cloning: its limits are its owner's own."""
    with world.driver() as driver:
        driver.manage.manage(THEIRS, NEW)
    with world.volumes.open(NEW, read_only=True) as image:
        known = dict(image.metadata())
    del known[lineage.KEY]
    assert known == {'note': 'theirs', 'conf_rbd_qos_iops_limit': '9'}


def test_an_image_becomes_what_its_new_type_asks_for(world: World) -> None:
    with world.driver() as driver:
        driver.manage.manage(THEIRS, NEW, qos_specs={'read_iops_sec': '5'},
                             is_multiattach=True)
    with world.volumes.open(NEW, read_only=True) as image:
        assert image.features == interface.CLONE_FEATURES & ~EXCLUSIVE
        assert image.metadata()['conf_rbd_qos_read_iops_limit'] == '5'
        assert 'conf_rbd_qos_iops_limit' not in image.metadata()


def test_a_volume_may_keep_its_name(world: World) -> None:
    with world.driver() as driver:
        driver.manage.manage(THEIRS, THEIRS)
    assert world.disks('volumes') == [THEIRS]
    assert world.mark('volumes', THEIRS) is not None


@pytest.mark.parametrize(('existing', 'new_name', 'more', 'error', 'named'), [
    ('nope', NEW, {}, exception.ImageNotFound, 'nope'),
    (THEIRS, 'taken', {}, exception.ImageExists, 'taken'),
    (THEIRS, 'a@b', {}, exception.InvalidName, 'a@b'),
    (THEIRS, NEW, {'qos_specs': {'total': '5'}}, exception.InvalidInput,
     'total'),
    ('x.deleted', NEW, {}, exception.Conflict, 'marked as deleted'),
    ('volume_rbd.x', NEW, {}, exception.Conflict, 'this driver'),
])
def test_what_cannot_be_taken_over_is_told(
        world: World, existing: str, new_name: str, more: dict[str, Any],
        error: type[exception.VolumeRBDError], named: str) -> None:
    for name in ('taken', 'x.deleted', 'volume_rbd.x'):
        world.volumes.create(name, MIB)
    before = world.state()
    with world.driver() as driver, pytest.raises(error, match=named):
        driver.manage.manage(existing, new_name, **more)
    assert world.state() == before


def test_an_image_that_is_open_is_not_taken_over(world: World) -> None:
    other = world.ceph.cluster('admin')
    with world.driver() as driver, other.pool('volumes').open(THEIRS):
        before = world.state()
        with pytest.raises(exception.ImageBusy) as caught:
            driver.manage.manage(THEIRS, NEW)
        assert other.address in caught.value.message
        assert world.state() == before


def test_a_taking_over_that_fails_half_way_is_undone() -> None:
    def begin() -> World:
        world = World()
        world.volumes.create(THEIRS, MIB)
        with world.volumes.open(THEIRS) as image:
            image.set_metadata('conf_rbd_qos_iops_limit', '9')
            image.set_metadata(lineage.KEY, 'an old mark')
        return world

    def act(world: World) -> None:
        with world.driver() as driver:
            driver.manage.manage(THEIRS, NEW, is_multiattach=True,
                                 qos_specs={'read_iops_sec': '5'})

    whole = begin()
    whole.trace()
    act(whole)
    calls = whole.end_trace()['ceph']
    assert calls[-1] == 'rename'
    for number in range(len(calls)):
        world = begin()
        before = world.state()
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        with pytest.raises(exception.ClusterUnavailable):
            act(world)
        assert world.state() == before, calls[number]


# -- letting go ---------------------------------------------------------------

def test_a_volume_that_is_let_go_stays_and_is_no_longer_ours(world: World
                                                             ) -> None:
    data = world.make_volume()
    with world.driver() as driver:
        driver.qos.set(VOLUME, {'total_iops_sec': '5'})
        driver.manage.unmanage(VOLUME)
    assert world.read('volumes', VOLUME) == data
    with world.volumes.open(VOLUME, read_only=True) as image:
        assert image.metadata() == {'conf_rbd_qos_iops_limit': '5'}


def test_what_was_let_go_can_be_taken_over_again(world: World) -> None:
    with world.driver() as driver:
        driver.manage.manage(THEIRS, NEW)
        driver.manage.unmanage(NEW)
        driver.manage.manage(NEW, 'volume-3')
    mark = world.mark('volumes', 'volume-3')
    assert mark is not None
    assert mark.origin == f'managed:{NEW}'


def test_what_was_let_go_and_trashed_by_its_owner_is_never_purged(
        world: World) -> None:
    world.make_volume()
    with world.driver() as driver:
        driver.manage.unmanage(VOLUME)
        world.volumes.trash_move(VOLUME)
        driver.reclaimer.purge()
    assert f'[{VOLUME}]' in world.disks('volumes')


def test_a_volume_that_is_gone_can_be_let_go(world: World) -> None:
    """The record in the service's database is what is wanted away."""
    with world.driver() as driver:
        driver.manage.unmanage('nope')
        driver.manage.unmanage_snapshot('nope', 's')
        driver.manage.unmanage_snapshot(THEIRS, 'nope')


# -- snapshots ----------------------------------------------------------------

def test_snapshots_are_listed_with_what_had_better_be_left_alone(
        world: World) -> None:
    names = ('volume-2.clone_snap', 'backup.1.snap.17',
             'volume_rbd.clone-x', 'backup')
    with world.volumes.open(THEIRS) as image:
        image.resize(4 * MIB)
        for name in names:
            image.create_snapshot(name)
    with world.driver() as driver:
        found = driver.manage.list_snapshots([THEIRS, 'gone'])
    assert found[0] == ManageableSnapshot(THEIRS, 's', 3 * MIB, None)
    assert {snapshot.name: snapshot.reason_not_safe
            for snapshot in found[1:]} == {
        'volume-2.clone_snap': 'used for clone snap',
        'backup.1.snap.17': 'used for volume backup',
        'volume_rbd.clone-x': 'used by this driver',
        'backup': None}
    assert {snapshot.size_bytes for snapshot in found[1:]} == {4 * MIB}


def test_removed_snapshots_that_still_have_clones_are_not_listed(
        world: World) -> None:
    with world.driver() as driver:
        driver.volumes.create_from_volume(VolumeSpec('clone'), THEIRS)
        assert [found.name for found in driver.manage.list_snapshots(
            [THEIRS])] == ['s']


def test_the_size_of_a_snapshot_is_that_of_its_moment(world: World) -> None:
    with world.volumes.open(THEIRS) as image:
        image.resize(9 * MIB)
    with world.driver() as driver:
        assert driver.manage.get_snapshot_size_bytes(THEIRS, 's') == 3 * MIB
        with pytest.raises(exception.SnapshotNotFound, match='nope'):
            driver.manage.get_snapshot_size_bytes(THEIRS, 'nope')
        with pytest.raises(exception.ImageNotFound, match='nope'):
            driver.manage.get_snapshot_size_bytes('nope', 's')


@pytest.mark.parametrize('is_protected', [False, True])
def test_a_snapshot_is_taken_over_protected_or_not(world: World,
                                                   is_protected: bool
                                                   ) -> None:
    if is_protected:
        with world.volumes.open(THEIRS) as image:
            image.protect_snapshot('s')
    with world.driver() as driver:
        driver.manage.manage_snapshot(THEIRS, 's', 'snapshot-1')
    assert world.snapshots('volumes', THEIRS) == [
        'snapshot-1' + '!' * is_protected]


@pytest.mark.parametrize(('existing', 'new_name', 'error'), [
    ('nope', 'snapshot-1', exception.SnapshotNotFound),
    ('s', 'taken', exception.SnapshotExists),
    ('s', 'a@b', exception.InvalidName),
    ('x.clone_snap', 'snapshot-1', exception.Conflict),
])
def test_a_snapshot_that_cannot_be_taken_over_is_told(
        world: World, existing: str, new_name: str,
        error: type[exception.VolumeRBDError]) -> None:
    with world.volumes.open(THEIRS) as image:
        image.create_snapshot('taken')
        image.create_snapshot('x.clone_snap')
    before = world.state()
    with world.driver() as driver, pytest.raises(error):
        driver.manage.manage_snapshot(THEIRS, existing, new_name)
    assert world.state() == before


def test_a_snapshot_that_is_let_go_loses_its_protection(world: World
                                                        ) -> None:
    with world.volumes.open(THEIRS) as image:
        image.protect_snapshot('s')
    with world.driver() as driver:
        driver.manage.unmanage_snapshot(THEIRS, 's')
    assert world.snapshots('volumes', THEIRS) == ['s']


def test_a_snapshot_with_clones_is_let_go_and_stays_protected() -> None:
    world = World(clone_format=1)
    world.make_volume(THEIRS)
    with world.volumes.open(THEIRS) as image:
        image.create_snapshot('s')
    with world.driver() as driver:
        driver.volumes.create_from_snapshot(VolumeSpec('clone'), THEIRS, 's')
        driver.manage.unmanage_snapshot(THEIRS, 's')
    assert world.snapshots('volumes', THEIRS) == ['s!']
