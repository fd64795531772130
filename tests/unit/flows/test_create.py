# SPDX-License-Identifier: Apache-2.0
"""An image becomes a volume."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.unit.copying.memory import CancelsAt
from tests.unit.flows import checks
from tests.unit.world import SIZE, OnStep, World, content
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.plan import SENTENCES, Reason

GIB = model.GIB


def test_a_volume_shares_the_images_data() -> None:
    operation = checks.create().go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('clone', 'same_cluster')
    assert result.bytes_moved == 0
    assert result.size_bytes == GIB
    assert 'download' not in operation.calls['glance']
    [disk] = [disk for disk in operation.world.ceph.disks.values()
              if disk.name == checks.NEW]
    assert disk.blocks == {}


def test_a_volume_from_another_store_is_downloaded() -> None:
    operation = checks.create(store_id='file').go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('download', Reason.NOT_RBD)
    assert 0 < result.bytes_moved <= SIZE


def test_a_downloaded_volume_has_holes_where_the_image_has_zeros() -> None:
    operation = checks.create(store_id='file', data=content(40 * model.MIB))
    operation.go()
    operation.check_done()
    assert operation.result.bytes_moved == 3 * 64 * 1024


@pytest.mark.parametrize('store_id', ['rbd', 'file'])
def test_the_volume_is_marked_with_where_it_comes_from(store_id: str
                                                       ) -> None:
    operation = checks.create(store_id=store_id).go()
    mark = operation.world.mark('volumes', checks.NEW)
    assert mark is not None
    expected = {
        'rbd': f'rbd:images/{operation.image_id}@snap',
        'file': f'glance:{operation.image_id}'}[store_id]
    assert mark.origin == expected
    assert operation.result.lineage == {
        'kind': 'volume', 'origin': expected, 'job': operation.result.job}


def test_a_volume_is_pending_while_it_is_downloaded() -> None:
    states = []
    operation = checks.create(store_id='file')

    def look() -> None:
        mark = operation.world.mark('volumes', checks.NEW)
        states.append(mark.state if mark else None)

    operation.go(OnStep({'downloading the image': look}))
    assert states == [lineage.PENDING]
    operation.check_done()


def test_the_volume_does_not_inherit_what_is_about_the_image() -> None:
    operation = checks.create()
    image_id = operation.image_id or ''
    with operation.world.images.open(image_id) as image:
        lineage.adopt(image, kind=lineage.GLANCE_IMAGE, origin='rbd:x',
                      job='j')
        for key in ('conf_rbd_qos_bps_limit', 'volume_rbd.other', 'note'):
            image.set_metadata(key, '1')
    operation.go()
    operation.check_done()
    with operation.world.volumes.open(checks.NEW, read_only=True) as volume:
        assert set(volume.metadata()) == {lineage.KEY, 'note'}


def test_a_volume_without_a_size_gets_what_the_image_needs() -> None:
    world = World()
    image_id = world.make_image()
    with world.driver() as driver:
        result = driver.images.create(model.VolumeSpec('v'), image_id)
        assert result.size_bytes == GIB
        assert driver.volumes.show('v').size_bytes == GIB


def test_a_name_that_is_taken_is_refused_before_anything_is_touched() -> None:
    operation = checks.create()
    operation.world.make_volume(checks.NEW)
    operation.go()
    assert isinstance(operation.error, exception.ImageExists)
    operation.check_untouched()


def test_a_name_that_is_taken_meanwhile_keeps_what_took_it() -> None:
    operation = checks.create()
    world = operation.world

    def take() -> None:
        world.volumes.create(checks.NEW, 4096)

    operation.go(OnStep({'cloning the image': take}))
    assert isinstance(operation.error, exception.ImageExists)
    [disk] = [disk for disk in world.ceph.disks.values()
              if disk.pool == 'volumes']
    assert disk.size == 4096


def test_two_creations_of_one_name_leave_the_first_ones_volume() -> None:
    """The revert of the second must not take the volume of the first."""
    operation = checks.create()
    world = operation.world
    second = operation.run

    def create_other() -> None:
        second(None)

    operation.go(OnStep({'choosing a strategy': create_other}))
    assert isinstance(operation.error, exception.ImageExists)
    assert world.read('volumes', checks.NEW, length=SIZE) == operation.data


def test_a_bad_name_is_refused() -> None:
    world = World()
    with world.driver() as driver, \
            pytest.raises(exception.InvalidName):
        driver.images.create(model.VolumeSpec('a@b', GIB), 'x')


def test_an_image_that_does_not_exist_is_told() -> None:
    world = World()
    with world.driver() as driver, \
            pytest.raises(exception.GlanceImageNotFound):
        driver.images.create(checks.NEW_SPEC, 'nope')


def test_an_image_that_is_not_active_is_refused() -> None:
    world = World()
    image_id = world.make_record()
    with world.driver() as driver, \
            pytest.raises(exception.GlanceImageNotUsable):
        driver.images.create(checks.NEW_SPEC, image_id)


# -- whom not to trust --------------------------------------------------------

def _relocated(*urls: str, **knobs: bool) -> checks.CreateOperation:
    """An image whose owner wrote its locations; Glance itself serves it."""
    operation = checks.create(World(**knobs), store_id='file')
    record = operation.world.server.records[operation.image_id or '']
    assert record.data is not None
    record.urls = tuple(url.format(
        fsid=operation.world.ceph.fsid, id=operation.image_id)
        for url in urls)
    return operation


@pytest.mark.parametrize(('url', 'reason'), [
    ('rbd://{fsid}/volumes/volume-of-another/snap', Reason.FOREIGN_LOCATION),
    ('rbd://{fsid}/images/another-image/snap', Reason.FOREIGN_LOCATION),
    ('rbd://{fsid}/volumes/{id}/snap', Reason.FOREIGN_LOCATION),
    ('rbd://other/images/{id}/snap', Reason.OTHER_CLUSTER),
    ('rbd://{fsid}/images/{id}', Reason.MALFORMED_LOCATION),
    ('rbd://{fsid}/images/ns/{id}/snap', Reason.MALFORMED_LOCATION),
    ('RBD://{fsid}/images/{id}/snap', Reason.NOT_RBD),
])
@pytest.mark.parametrize('show_locations', [True, False])
def test_a_location_that_its_owner_may_have_written_is_never_opened(
        url: str, reason: Reason, show_locations: bool) -> None:
    operation = _relocated(url, show_locations=show_locations)
    world = operation.world
    # What the location names is there, with something to steal in it.
    for pool in (world.volumes, world.images):
        for name in ('volume-of-another', 'another-image',
                     operation.image_id or ''):
            pool.create(name, 4096)
            with pool.open(name) as image:
                image.create_snapshot('snap')
    operation.go()
    result = operation.result
    assert (result.strategy, result.reason) == ('download', reason)
    assert world.read('volumes', checks.NEW, length=SIZE) == operation.data
    before_creating = operation.calls['ceph'][
        :operation.calls['ceph'].index('create')]
    assert 'open' not in before_creating


def test_a_pool_is_trusted_by_configuration_where_glance_does_not_tell(
        ) -> None:
    operation = checks.create(World(has_stores=False),
                              image_pools=('images',))
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'clone'


@pytest.mark.parametrize(('world', 'reason'), [
    (lambda: World(has_stores=False), Reason.STORES_NOT_CONFIGURED)])
def test_that_glance_does_not_tell_its_stores_is_the_reason_then(
        world: Callable[[], World], reason: Reason) -> None:
    operation = checks.create(world()).go()
    operation.check_done()
    assert (operation.result.strategy, operation.result.reason) == (
        'download', reason)


@pytest.mark.parametrize(('error', 'reason'), [
    (exception.GlanceForbidden, Reason.STORES_FORBIDDEN),
    (exception.GlanceUnavailable, Reason.STORES_BROKEN)])
def test_stores_that_cannot_be_asked_lead_to_a_download(
        error: type[exception.VolumeRBDError], reason: Reason) -> None:
    operation = checks.create()
    operation.world.glance.fail_next('get_stores', error('no'))
    operation.go()
    operation.check_done()
    assert operation.result.reason == reason


# -- what is found on looking at the location ---------------------------------

def _no_snapshot(world: World, image_id: str) -> None:
    with world.images.open(image_id) as image:
        image.unprotect_snapshot('snap')
        image.remove_snapshot('snap')


def _no_caps(world: World, image_id: str) -> None:
    world.ceph.caps['cinder'] = {'volumes': 'rw'}


def _unreadable(world: World, image_id: str) -> None:
    world.ceph.fail_next('open', exception.VolumeRBDError('EIO'))


@pytest.mark.parametrize(('change', 'reason'), [
    (_no_snapshot, Reason.MISSING_SNAPSHOT),
    (_no_caps, Reason.SNAPSHOT_DENIED),
    (_unreadable, Reason.SNAPSHOT_UNREADABLE),
])
def test_an_image_that_cannot_be_read_here_is_downloaded(
        change: Callable[[World, str], None], reason: Reason) -> None:
    operation = checks.create()
    world = operation.world
    # Glance keeps a second copy, so that it can serve it.
    record = world.server.records[operation.image_id or '']
    record.data = operation.data
    change(world, operation.image_id or '')
    operation.go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('download', reason)
    assert SENTENCES[reason].rstrip(".") in result.sentence
    assert len(result.attempts) == 1


def test_an_unreachable_cluster_is_no_reason_to_download() -> None:
    operation = checks.create()
    operation.world.ceph.is_reachable = False
    operation.go()
    assert isinstance(operation.error, exception.ClusterUnavailable)


# -- what only the try shows --------------------------------------------------

@pytest.mark.parametrize('error', [
    exception.SnapshotNotFound, exception.ImageNotFound])
def test_a_clone_of_what_is_gone_becomes_a_download(
        error: type[exception.VolumeRBDError]) -> None:
    """A copy would read the same."""
    operation = checks.create()
    operation.world.ceph.fail_next('clone', error('It changed.'))
    operation.go()
    operation.check_done()
    result = operation.result
    reason = Reason.MISSING_SNAPSHOT
    assert (result.strategy, result.reason) == ('download', reason)
    assert result.sentence == f'{SENTENCES[reason]} (It changed.)'
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'clone', 'download']


@pytest.mark.parametrize('error', [
    exception.NoSpace, exception.ClusterUnavailable,
    exception.OperationTimeout])
def test_another_failure_of_the_clone_ends_the_operation(
        error: type[exception.VolumeRBDError]) -> None:
    operation = checks.create()
    operation.world.ceph.fail_next('clone', error('no'))
    operation.go()
    assert type(operation.error) is error
    assert 'download' not in operation.calls['glance']
    operation.check_untouched()


def test_a_snapshot_that_grew_meanwhile_is_refused_and_nothing_left() -> None:
    operation = checks.create()
    world = operation.world

    def grow() -> None:
        with world.images.open(operation.image_id or '') as image:
            image.unprotect_snapshot('snap')
            image.remove_snapshot('snap')
            image.resize(2 * GIB)
            image.create_snapshot('snap')

    operation.go(OnStep({'cloning the image': grow}))
    assert isinstance(operation.error, exception.InvalidSize)
    assert world.disks('volumes') == []


# -- damaged data -------------------------------------------------------------

def test_an_image_that_arrives_damaged_leaves_no_volume() -> None:
    operation = checks.create(store_id='file')
    operation.world.server.tamper(operation.image_id or '',
                                  b'x' + operation.data[1:])
    operation.go()
    assert isinstance(operation.error, exception.DataCorrupted)
    operation.check_untouched()


def test_a_download_longer_than_the_volume_leaves_no_volume() -> None:
    operation = checks.create(store_id='file')
    record = operation.world.server.records[operation.image_id or '']
    record.data = bytes(GIB // 64) + b'x'
    record.change(os_hash_value=None, checksum=None)
    operation.run = _smaller(operation)
    operation.go()
    assert isinstance(operation.error, exception.InvalidSize)
    operation.check_untouched()


def _smaller(operation: checks.CreateOperation) -> checks.Run:
    def run(report: progress.Progress | None) -> checks.Result:
        spec = dataclasses.replace(checks.NEW_SPEC, size_bytes=SIZE)
        with operation.world.driver() as driver:
            return driver.images.create(spec, operation.image_id or '')
    return run


def test_a_download_that_ends_early_is_closed() -> None:
    """Closing ends the connection to Glance; a failure that is kept must not
    keep it open."""
    closed = []

    class Glance(type(World().glance)):  # type: ignore[misc]
        def download(self, image_id: str, chunk_bytes: int = 4 * model.MIB
                     ) -> object:
            try:
                yield from super().download(image_id, chunk_bytes)
            finally:
                closed.append(image_id)

    operation = checks.create(store_id='file', data=content(8 * model.MIB))
    operation.world.glance = Glance(operation.world.server)
    operation.go(CancelsAt(1))
    assert isinstance(operation.error, exception.Cancelled)
    assert closed == [operation.image_id]
