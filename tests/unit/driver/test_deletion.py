# SPDX-License-Identifier: Apache-2.0
"""A volume, the image that is its clone, a volume made from that: in every
order of deletion the others live on, and in the end nothing is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.driver.reclaim import Reclaimable

CHILD = 'volume-child'
ORDERS = list(itertools.permutations(['source', 'image', 'child']))


class Family:
    """:ivar alive: what has not been deleted yet."""

    def __init__(self, driver: RBDDriver, world: World) -> None:
        self.driver = driver
        self.world = world
        self.data = world.make_volume()
        self.image_id = world.clone_upload()
        made = driver.images.create(
            model.VolumeSpec(CHILD, model.GIB), self.image_id)
        assert made.strategy == 'clone'
        self.alive = {'source', 'image', 'child'}

    def delete(self, who: str) -> None:
        if who == 'source':
            self.driver.volumes.delete(VOLUME)
        elif who == 'child':
            self.driver.volumes.delete(CHILD)
        else:
            # What is removed in the background has its parent open: Glance
            # would answer 409, and the user ask again.
            self.driver.reclaimer.wait()
            self.world.glance.delete_image(self.image_id)
        self.alive.remove(who)

    def check(self) -> None:
        """Who is alive has its data; who is not is out of sight."""
        readers: dict[str, Callable[[], bytes]] = {
            'source': lambda: self.world.read('volumes', VOLUME),
            'child': lambda: self.world.read('volumes', CHILD, length=MIB),
            'image': lambda: self.world.download(self.image_id)}
        for who in self.alive:
            assert readers[who]() == self.data, who
        names = {'source': VOLUME, 'child': CHILD}
        seen = {volume.name for volume in self.driver.volumes.list()}
        assert seen == {names[who] for who in self.alive & set(names)}


@pytest.mark.parametrize('order', ORDERS, ids='-'.join)
def test_in_any_order_the_others_live_on_and_nothing_is_left(
        order: tuple[str, ...]) -> None:
    world = World()
    with world.driver() as driver:
        family = Family(driver, world)
        for who in order:
            family.delete(who)
            family.check()
        driver.reclaimer.purge()
    assert world.ceph.disks == {}
    assert world.server.records == {}


@pytest.mark.parametrize('order', ORDERS, ids='-'.join)
def test_a_purge_after_each_deletion_takes_nothing_that_is_needed(
        order: tuple[str, ...]) -> None:
    world = World()
    with world.driver() as driver:
        family = Family(driver, world)
        driver.reclaimer.purge()
        family.check()
        for who in order:
            family.delete(who)
            driver.reclaimer.purge()
            family.check()
    assert world.ceph.disks == {}


@pytest.mark.parametrize('order', [
    order for order in ORDERS if order[-1] != 'image'], ids='-'.join)
def test_where_the_last_one_is_a_volume_no_purge_is_needed(
        order: tuple[str, ...]) -> None:
    world = World()
    with world.driver() as driver:
        family = Family(driver, world)
        for who in order:
            family.delete(who)
    assert world.ceph.disks == {}


@pytest.mark.parametrize('order', [
    order for order in ORDERS
    if order.index('child') < order.index('image')], ids='-'.join)
def test_with_clones_of_format_1_nothing_is_left_either(
        order: tuple[str, ...]) -> None:
    """Glance itself refuses to delete an image that has such clones."""
    world = World(clone_format=1)
    with world.driver() as driver:
        family = Family(driver, world)
        with pytest.raises(exception.GlanceConflict):
            world.glance.delete_image(family.image_id)
        for who in order:
            family.delete(who)
            family.check()
            # Until it is gone for good it is a clone that Glance minds.
            driver.reclaimer.wait()
        driver.reclaimer.purge()
    assert world.ceph.disks == {}


def test_a_chain_of_uploads_and_creations_goes_as_a_whole() -> None:
    world = World()
    world.configure(max_clone_depth=20)
    names = [VOLUME]
    image_ids = []
    data = world.make_volume()
    with world.driver() as driver:
        for number in range(4):
            image_ids.append(world.clone_upload(names[-1]))
            names.append(f'link-{number}')
            driver.images.create(model.VolumeSpec(names[-1], model.GIB),
                                 image_ids[-1])
        assert driver.volumes.show(names[-1]).depth == 8
        for name in names[:-1]:
            assert driver.volumes.delete(name).is_trashed
        for image_id in image_ids:
            world.glance.delete_image(image_id)
        assert world.read('volumes', names[-1], length=MIB) == data
        assert not driver.volumes.delete(names[-1]).is_trashed
    assert world.ceph.disks == {}


def test_a_volume_with_many_images_goes_with_the_last_of_them() -> None:
    world = World()
    world.make_volume()
    with world.driver() as driver:
        image_ids = [world.clone_upload() for _ in range(5)]
        gone = driver.volumes.delete(VOLUME)
        assert gone.is_trashed
        assert 'clones' in gone.reason
        for image_id in image_ids:
            assert driver.reclaimer.purge() == []
            world.glance.delete_image(image_id)
        assert [item.what for item in driver.reclaimer.purge()] == [
            'trashed_volume']
    assert world.ceph.disks == {}


def test_deleting_an_image_frees_the_snapshot_that_it_had_kept() -> None:
    """client.glance may only read the volumes pool, so what its deletion
    frees there stays until somebody who may write removes it."""
    world = World()
    world.make_volume()
    with world.driver() as driver:
        image_id = world.clone_upload()
        world.glance.delete_image(image_id)
        [left] = world.snapshots('volumes', VOLUME)
        assert left.startswith('[')
        [item] = driver.reclaimer.find()
        assert item.what == 'removed_snapshot'
        assert item.name.startswith(f'{VOLUME}@')
        driver.reclaimer.purge()
    assert world.snapshots('volumes', VOLUME) == []


# -- what may not be removed --------------------------------------------------

def _trash(world: World, pool: str, name: str, *, mark: str | None = None,
           delay_s: int = 0) -> None:
    """Something childless in a pool's trash."""
    place = world.ceph.cluster('admin').pool(pool)
    place.create(name, 4096)
    with place.open(name) as image:
        if mark:
            lineage.adopt(image, kind=lineage.VOLUME, origin='blank',
                          job='j', state=mark)
    place.trash_move(name, delay_s)


UUID = '8d0f0f5e-3c8a-4a42-9b1e-0d1f6a7c2b11'


@pytest.mark.parametrize(('pool', 'name', 'mark', 'delay_s'), [
    ('volumes', 'somebody-elses', None, 0),
    ('volumes', 'of-ours-but-not-deleted-by-us', lineage.COMPLETE, 0),
    ('volumes', 'to-be-kept-for-a-while', lineage.TRASHED, 3600),
    ('volumes', UUID, None, 0),
    ('images', 'not-named-after-an-image', None, 0),
    ('images', 'volume-1', lineage.TRASHED, 0),
    ('images', UUID, None, 3600),
    ('vms', UUID, lineage.TRASHED, 0),
])
def test_what_is_not_surely_nobodys_is_neither_found_nor_removed(
        pool: str, name: str, mark: str | None, delay_s: int) -> None:
    world = World()
    _trash(world, pool, name, mark=mark, delay_s=delay_s)
    before = world.state()
    with world.driver() as driver:
        assert list(driver.reclaimer.find()) == []
        assert driver.reclaimer.purge() == []
    assert world.state() == before


def test_an_image_in_the_trash_that_glance_still_has_is_kept() -> None:
    world = World()
    image_id = world.make_image()
    world.ceph.cluster('admin').pool('images').trash_move(image_id)
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert world.disks('images') == [f'[{image_id}]']


def test_a_private_image_of_another_project_is_kept() -> None:
    """It looks like none to a plain user."""
    world = World()
    world.glance.project = 'other'
    image_id = world.make_image()
    world.glance.project = 'demo'
    world.ceph.cluster('admin').pool('images').trash_move(image_id)
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert world.disks('images') == [f'[{image_id}]']


def test_an_inherited_mark_does_not_make_it_ours() -> None:
    """Somebody cloned a volume that was about to be trashed."""
    world = World()
    world.make_volume()
    with world.volumes.open(VOLUME) as volume:
        lineage.set_state(volume, lineage.TRASHED)
        volume.create_snapshot('s')
    admin = world.ceph.cluster('admin').pool('volumes')
    admin.clone(model.SnapSpec('volumes', VOLUME, 's'), 'theirs')
    with admin.open('theirs') as theirs:
        theirs.flatten()
    admin.trash_move('theirs')
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert world.disks('volumes') == ['[theirs]', VOLUME]


def test_the_dry_run_changes_nothing() -> None:
    world = World()
    world.make_volume()
    with world.driver() as driver:
        image_id = world.clone_upload()
        driver.volumes.delete(VOLUME)
        world.glance.delete_image(image_id)
        before = world.state()
        found = list(driver.reclaimer.find())
        assert world.state() == before
        assert [(item.what, item.pool, item.name) for item in found] == [
            ('trashed_volume', 'volumes', VOLUME)]
        assert found[0].size_bytes == MIB
        assert found[0].age_s is not None
        assert found[0].age_s < 60
        assert found[0].why
        assert [item.name for item in driver.reclaimer.purge()] == [VOLUME]
    assert world.ceph.disks == {}


def test_an_item_that_somebody_clones_meanwhile_stays() -> None:
    world = World()
    _trash(world, 'volumes', 'v', mark=lineage.TRASHED)
    [disk] = world.ceph.disks.values()
    with world.driver() as driver:
        [item] = driver.reclaimer.find()
        place = world.ceph.cluster('admin').pool('volumes')
        place.trash_restore(disk.id, 'v')
        with place.open('v') as image:
            image.create_snapshot('s')
        place.clone(model.SnapSpec('volumes', 'v', 's'), 'child')
        place.trash_move('v')
        assert not driver.reclaimer.reclaim(item)
    assert world.disks('volumes') == ['[v]', 'child']


def test_an_item_that_is_gone_already_counts_as_removed() -> None:
    world = World()
    _trash(world, 'volumes', 'v', mark=lineage.TRASHED)
    [disk] = world.ceph.disks.values()
    with world.driver() as driver:
        [item] = driver.reclaimer.find()
        world.volumes.trash_remove(disk.id)
        assert driver.reclaimer.reclaim(item)


def test_an_item_that_was_restored_meanwhile_stays() -> None:
    """It is a volume again, whatever its mark still says."""
    world = World()
    _trash(world, 'volumes', 'v', mark=lineage.TRASHED)
    [disk] = world.ceph.disks.values()
    with world.driver() as driver:
        [item] = driver.reclaimer.find()
        world.volumes.trash_restore(disk.id, 'v')
        with world.volumes.open('v') as volume:
            volume.create_snapshot('precious')
        driver.reclaimer.reclaim(item)
    assert world.disks('volumes') == ['v']
    assert world.snapshots('volumes', 'v') == ['precious']


def test_an_item_that_is_open_stays_and_the_others_go() -> None:
    world = World()
    for name in ('one', 'two'):
        _trash(world, 'volumes', name, mark=lineage.TRASHED)
    [one] = [disk for disk in world.ceph.disks.values()
             if disk.name == 'one']
    with world.driver() as driver, \
            world.ceph.cluster('admin').pool('volumes').open_by_id(one.id):
        assert [item.name for item in driver.reclaimer.purge()] == ['two']
    assert world.disks('volumes') == ['[one]']


@pytest.mark.parametrize('error', [
    exception.SnapshotBusy, exception.RecordChanged,
    exception.OperationTimeout, exception.ImageHasSnapshots])
def test_an_item_that_fails_stays_and_the_others_go(
        error: type[exception.VolumeRBDError]) -> None:
    world = World()
    for name in ('one', 'two'):
        _trash(world, 'volumes', name, mark=lineage.TRASHED)
    world.ceph.fail_next('trash_remove', error('no'))
    with world.driver() as driver:
        first, second, third = driver.reclaimer.purge_in_steps()
    assert [(each.item.name, each.is_gone, type(each.error))
            for each in first] == [
        ('one', False, error), ('two', True, type(None))]
    assert [(each.item.name, each.is_gone) for each in second] == [
        ('one', True)]
    assert third == []
    assert world.ceph.disks == {}


@pytest.mark.parametrize('error', [exception.SnapshotNotFound,
                                   exception.ImageNotFound])
def test_what_another_one_removes_meanwhile_counts_once(
        error: type[exception.VolumeRBDError],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it is there each time that it is looked for."""
    world = World()
    _trash(world, 'volumes', 'v', mark=lineage.TRASHED)
    with world.driver() as driver:
        def remove(item: Reclaimable) -> bool:
            raise error('gone')

        monkeypatch.setattr(driver.reclaimer.finder, 'remove', remove)
        assert [item.name for item in driver.reclaimer.purge()] == ['v']


@pytest.mark.parametrize('error', [exception.GlanceUnavailable,
                                   exception.ConfigurationError])
def test_without_glance_the_volumes_are_reclaimed_all_the_same(
        error: type[exception.VolumeRBDError]) -> None:
    world = World()
    _trash(world, 'volumes', 'v', mark=lineage.TRASHED)
    _trash(world, 'images', UUID)
    world.glance.fail_next('get_stores', error('no'), 9)
    with world.driver() as driver:
        assert [item.name for item in driver.reclaimer.purge()] == ['v']
    assert world.disks('images') == [f'[{UUID}]']


def test_an_image_is_kept_where_glance_cannot_be_asked_of_it() -> None:
    world = World()
    _trash(world, 'volumes', 'v', mark=lineage.TRASHED)
    _trash(world, 'images', UUID)
    world.configure(image_pools=('images',))
    world.glance.fail_next('has_image', exception.GlanceUnavailable('no'), 99)
    with world.driver() as driver:
        gone = driver.reclaimer.purge()
    assert [item.name for item in gone] == ['v']
    assert world.disks('images') == [f'[{UUID}]']


def _without_caps(world: World) -> None:
    world.ceph.caps['cinder'] = {'volumes': 'rw'}


def _without_the_pool(world: World) -> None:
    """A store of another cluster, of which Glance does not tell the fsid."""
    world.ceph.pools.remove('images')


@pytest.mark.parametrize('change', [_without_caps, _without_the_pool])
def test_a_pool_of_glance_that_is_not_ours_to_read_is_left_alone(
        change: Callable[[World], None]) -> None:
    world = World()
    _trash(world, 'volumes', 'v', mark=lineage.TRASHED)
    world.make_volume()
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('s')
    world.volumes.clone(model.SnapSpec('volumes', VOLUME, 's'), CHILD)
    with world.volumes.open(VOLUME) as volume:
        volume.remove_snapshot('s')
    change(world)
    with world.driver() as driver:
        assert [item.name for item in driver.reclaimer.purge()] == ['v']
    assert world.disks('volumes') == [VOLUME, CHILD]


def test_without_the_volumes_pool_it_is_told() -> None:
    world = World()
    world.ceph.caps['cinder'] = {}
    with world.driver() as driver, \
            pytest.raises(exception.CephPermissionDenied):
        driver.reclaimer.purge()


def test_a_child_in_a_pool_that_may_not_be_read_keeps_its_parent() -> None:
    """Whether it has clones cannot be known."""
    world = World()
    world.make_volume()
    image_id = world.clone_upload()
    with world.driver() as driver:
        driver.volumes.delete(VOLUME)
        _without_caps(world)
        assert driver.reclaimer.purge() == []
    assert world.disks('volumes') == [f'[{VOLUME}]']
    assert world.disks('images') == [image_id]


# -- a deletion that fails midway ---------------------------------------------

def _plain(world: World) -> str:
    world.make_volume()
    return VOLUME


def _leftover(world: World) -> str:
    world.make_volume()
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('volume_rbd.upload-x')
    return VOLUME


def _with_clones(world: World) -> str:
    world.make_volume()
    with world.driver() as driver:
        driver.volumes.create_from_volume(model.VolumeSpec(CHILD), VOLUME)
    return VOLUME


def _last_clone(world: World) -> str:
    """Its ancestors, a volume and an image, are in the trash already."""
    with world.driver() as driver:
        family = Family(driver, world)
        for who in ('source', 'image'):
            family.delete(who)
    return CHILD


@pytest.mark.parametrize('prepare', [_plain, _leftover, _with_clones,
                                     _last_clone])
def test_a_deletion_that_failed_at_any_call_can_be_repeated(
        prepare: Callable[[World], str]) -> None:
    whole = World()
    name = prepare(whole)
    whole.trace()
    with whole.driver() as driver:
        driver.volumes.delete(name)
        calls = whole.end_trace()['ceph']
        driver.reclaimer.purge()
    expected = whole.disks('volumes') + whole.disks('images')
    for number, method in enumerate(calls):
        world = World()
        prepare(world)
        world.trace()
        world.break_call('ceph', number,
                         exception.ClusterUnavailable('lost'))
        with world.driver() as driver:
            try:
                driver.volumes.delete(name)
            except exception.ClusterUnavailable:
                world.end_trace()
                driver.volumes.delete(name)
            driver.reclaimer.purge()
        left = world.disks('volumes') + world.disks('images')
        assert left == expected, (number, method)


# -- a registration that Glance never finished --------------------------------

def _pending() -> World:
    world = World(activation_polls=None)
    world.make_volume()
    with world.driver() as driver, \
            pytest.raises(exception.RegistrationPending):
        driver.images.upload(model.VolumeSpec(VOLUME), ImageRequest('x'))
    return world


def test_a_pending_clone_is_kept_while_glance_has_the_image() -> None:
    world = _pending()
    before = world.state()
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert world.state() == before


def test_a_pending_clone_goes_when_glance_has_the_image_no_longer() -> None:
    world = _pending()
    [image_id] = world.server.records
    world.glance.delete_image(image_id)
    with world.driver() as driver:
        [item] = driver.reclaimer.find()
        assert (item.what, item.pool, item.name) == (
            'pending_clone', 'images', image_id)
        assert item.age_s is not None
        driver.reclaimer.purge()
    assert world.disks('images') == []
    assert world.snapshots('volumes', VOLUME) == []


def test_a_pending_clone_that_is_registered_meanwhile_is_kept() -> None:
    world = _pending()
    [image_id] = world.server.records
    record = world.server.records.pop(image_id)
    with world.driver() as driver:
        [item] = driver.reclaimer.find()
        world.server.records[image_id] = record
        assert not driver.reclaimer.reclaim(item)
    assert world.disks('images') == [image_id]


def test_a_pending_clone_is_kept_where_glance_cannot_be_asked() -> None:
    world = _pending()
    world.server.records.clear()
    world.glance.fail_next('has_image', exception.GlanceUnavailable('no'), 99)
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert len(world.disks('images')) == 1


def test_a_pending_clone_of_another_project_is_kept_without_an_admin(
        ) -> None:
    """Its mark may be stale: AwaitActive only warns where it cannot change
    it, so the image may even be active."""
    world = _pending()
    world.glance.project = 'other'
    world.glance.service_roles = frozenset(('service',))
    with world.driver() as driver:
        assert driver.reclaimer.purge() == []
    assert len(world.disks('images')) == 1
