# SPDX-License-Identifier: Apache-2.0
"""The fallback matrix: each row on the real services, nothing left behind."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator

import pytest

from tests.functional import content, steps
from tests.functional.cluster import make_user, remove_user
from tests.functional.content import GIB, MIB
from tests.functional.house import NO_SERVICE, House
from tests.functional.proxy import Proxy
from tests.functional.steps import Steps
from volume_rbd import exception
from volume_rbd.driver import RBDDriver
from volume_rbd.sandbox import Sandbox

DATA = content.sparse_bytes(6 * MIB)
DIGEST = content.digest_of_bytes(DATA)
REGISTERING = 'registering the image'
WAITING = 'waiting for the image to be active'


def expect_upload(house: House, driver: RBDDriver, reason: str, *,
                  tried: bool = False, **request: object) -> str:
    """Uploading a volume is done by chunks for this *reason*.

    :param tried: a clone was tried before.
    """
    volume = house.volume(DATA)
    image, result = house.upload(volume, driver=driver, **request)
    assert (result.strategy, result.reason) == ('upload', reason)
    assert [attempt['strategy'] for attempt in result.attempts] == (
        ['clone', 'upload'] if tried else ['upload'])
    assert result.sentence
    assert house.member.status(image) == 'active'
    assert house.member.digest(image) == DIGEST
    assert house.cluster.snapshots('volumes', volume) == []
    return image


def through(proxy: Proxy, **more: object) -> dict[str, dict[str, object]]:
    """Configuration of somebody who reaches Glance by the proxy."""
    return {'DEFAULT': {'glance_api_servers': proxy.url,
                        'glance_num_retries': 1,
                        'glance_request_timeout': 15},
            'optimized': more}


# -- found out by asking ------------------------------------------------------

def test_the_flag_is_off(house: House) -> None:
    expect_upload(house, house.driver('ceph'), 'clone_disabled')


def test_stores_are_forbidden_to_a_member(house: House) -> None:
    expect_upload(house, house.driver(**NO_SERVICE), 'stores_forbidden')


def test_a_member_without_service_still_creates(house: House) -> None:
    image = house.member.make(DATA)

    name, result = house.create(image, driver=house.driver(**NO_SERVICE))

    assert result.strategy == 'download'
    assert house.cluster.digest('volumes', name) == DIGEST


@pytest.mark.parametrize(('status', 'reason'), [
    (404, 'stores_not_configured'), (403, 'stores_forbidden'),
    (500, 'stores_broken'), (503, 'stores_broken')])
def test_stores_are_not_told(house: House, proxy: Proxy, status: int,
                             reason: str) -> None:
    proxy.on('GET', '/info/stores/detail', status=status)
    expect_upload(house, house.driver(**through(proxy)), reason)


@pytest.mark.parametrize('status', [403, 404, 500])
def test_create_without_stores_clones_only_from_named_pools(
        house: House, proxy: Proxy, status: int) -> None:
    proxy.on('GET', '/info/stores/detail', status=status)
    image = house.member.make(DATA)

    name, result = house.create(
        image, driver=house.driver(**through(proxy)))
    assert result.strategy == 'download'
    assert result.reason.startswith('stores_')
    assert house.cluster.digest('volumes', name) == DIGEST

    name, result = house.create(image, driver=house.driver(
        **through(proxy, rbd_image_pools='images')))
    assert result.strategy == 'clone'
    assert house.cluster.digest('volumes', name) == DIGEST


def test_the_store_lies_in_another_cluster(
        house: House, other_cluster: Sandbox) -> None:
    conf = other_cluster.env()['CEPH_CONF']
    driver = house.driver(optimized={'rbd_ceph_conf': conf})
    assert driver.cluster.fsid != house.cluster.fsid
    image = house.member.make(DATA)

    name, created = house.create(image, driver=driver)
    assert (created.strategy, created.reason) == (
        'download', 'other_cluster')
    second, uploaded = house.upload(name, driver=driver)
    assert (uploaded.strategy, uploaded.reason) == (
        'upload', 'store_other_cluster')

    assert house.member.digest(second) == DIGEST
    assert not driver.volumes.delete(name).is_trashed
    assert not driver.cluster.pool('volumes').images()


# -- found out by trying ------------------------------------------------------

@pytest.fixture
def narrow_user(house: House) -> Iterator[str]:
    """A cephx user without write on the images pool."""
    name = f'narrow-{uuid.uuid4().hex[:8]}'
    entity = make_user(house.cluster, name,
                       'profile rbd pool=volumes, '
                       'profile rbd-read-only pool=images')
    yield name
    remove_user(house.cluster, entity)


def test_the_images_pool_is_not_writable(
        house: House, narrow_user: str,
        caplog: pytest.LogCaptureFixture) -> None:
    driver = house.driver(optimized={'rbd_user': narrow_user})
    expect_upload(house, driver, 'clone_denied', tried=True)
    assert not [found for found in caplog.records
                if found.levelname == 'ERROR']


def test_an_image_is_cloned_by_who_may_only_read_it(
        house: House, narrow_user: str) -> None:
    driver = house.driver(optimized={'rbd_user': narrow_user})
    image = house.member.make(DATA)

    name, result = house.create(image, driver=driver)

    assert result.strategy == 'clone'
    assert house.cluster.digest('volumes', name) == DIGEST


def test_the_images_pool_is_not_readable(house: House) -> None:
    name = f'blind-{uuid.uuid4().hex[:8]}'
    entity = make_user(house.cluster, name, 'profile rbd pool=volumes')
    try:
        driver = house.driver(optimized={'rbd_user': name})
        image = house.member.make(DATA)
        volume, created = house.create(image, driver=driver)
        assert (created.strategy, created.reason) == (
            'download', 'snapshot_denied')
        assert house.cluster.digest('volumes', volume) == DIGEST
        expect_upload(house, driver, 'clone_denied', tried=True)
    finally:
        remove_user(house.cluster, entity)


# -- registering --------------------------------------------------------------

# An admin without the role service may ask for the stores, and not register.
def only_admin(house: House, **more: object
               ) -> dict[str, dict[str, object]]:
    env = house.sandbox.env('admin')
    account = {'username': env['OS_USERNAME'],
               'password': env['OS_PASSWORD'],
               'project_name': env['OS_PROJECT_NAME']}
    return {'glance': account, 'service_user': account, 'optimized': more}


def test_registering_is_forbidden(house: House) -> None:
    driver = house.driver(**only_admin(house))
    expect_upload(house, driver, 'location_forbidden', tried=True)


def test_registering_is_forbidden_in_the_old_way_too(house: House) -> None:
    driver = house.driver(**only_admin(
        house, allow_legacy_locations='true'))
    expect_upload(house, driver, 'location_forbidden', tried=True)


@pytest.mark.parametrize(('status', 'reason'), [
    (400, 'location_refused'), (403, 'location_forbidden'),
    (405, 'location_api_missing'), (501, 'location_api_missing')])
def test_glance_refuses_the_location(
        house: House, proxy: Proxy, status: int, reason: str) -> None:
    proxy.on('POST', '/locations$', status=status)
    expect_upload(house, house.driver(**through(proxy)), reason, tried=True)


def test_a_glance_that_is_too_old_is_asked_in_the_old_way_only_if_allowed(
        house: House, proxy: Proxy) -> None:
    proxy.on('GET', '^/(versions)?$', status=404)
    expect_upload(house, house.driver(**through(proxy)),
                  'location_api_missing', tried=True)
    assert not any(line.startswith('PATCH') for line in proxy.seen)

    # Without show_multiple_locations Glance says no to that as well.
    expect_upload(house, house.driver(
        **through(proxy, allow_legacy_locations='true')),
        'location_api_missing', tried=True)
    assert any(line.startswith('PATCH') for line in proxy.seen)


def test_a_quota_that_forbids_the_registration_ends_it(
        house: House, proxy: Proxy) -> None:
    proxy.on('POST', '/locations$', status=413)
    volume = house.volume(DATA)
    with house.nothing_changes(), pytest.raises(exception.QuotaExceeded):
        house.upload(volume, driver=house.driver(**through(proxy)))


def test_a_conflict_ends_it(house: House, proxy: Proxy) -> None:
    proxy.on('POST', '/locations$', status=409)
    volume = house.volume(DATA)
    with house.nothing_changes(), pytest.raises(exception.GlanceConflict):
        house.upload(volume, driver=house.driver(**through(proxy)))


def test_a_conflict_with_what_glance_took_already_is_a_success(
        house: House, proxy: Proxy) -> None:
    """The answer to a registration that worked may be lost on its way, and a
    proxy before Glance may have asked a second time."""
    volume = house.volume(DATA)

    def register_first() -> None:
        image = proxy.seen[-1].split('/')[3]
        house.service.request('POST', f'/images/{image}/locations', json={
            'url': f'rbd://{house.cluster.fsid}/images/{image}/snap'})
        house.member.wait_for_status(image, 'active')

    proxy.on('POST', '/locations$', before=register_first, times=1)
    # The service's own request is made as the member's: the image is theirs.
    image, result = house.upload(
        volume, driver=house.driver(**through(proxy)))

    assert result.strategy == 'clone'
    assert house.member.digest(image) == DIGEST


def test_somebody_uploads_into_the_record_meanwhile(
        house: House, proxy: Proxy) -> None:
    """409, and the image is active with data that is not ours."""
    volume = house.volume(DATA)
    image = house.member.create()
    driver = house.driver(**through(proxy))
    proxy.on('POST', '/locations$', times=1,
             before=lambda: house.member.upload(image, b'theirs', 'file'))

    with pytest.raises(exception.GlanceConflict):
        house.upload(volume, driver=driver, image_id=image)

    assert image not in house.cluster.names('images')
    assert house.cluster.snapshots('volumes', volume) == []
    assert house.member.digest(image) == content.digest_of_bytes(b'theirs')


@pytest.mark.parametrize('step', [
    'taking a snapshot of the volume', 'cloning the volume',
    'taking the snapshot of the image', REGISTERING])
def test_the_record_is_deleted_meanwhile(house: House, step: str) -> None:
    volume = house.volume(DATA)
    image = str(uuid.uuid4())
    report = Steps(step, lambda: house.member.delete(_only_image(house)))

    with house.nothing_changes(), pytest.raises(
            exception.GlanceImageNotFound):
        house.upload(volume, report=report)
    assert image not in house.cluster.names('images')


def _only_image(house: House) -> str:
    (found,) = house._image_ids()
    return found


@pytest.mark.parametrize('backend', ['optimized', 'ceph'])
def test_the_record_is_deleted_while_data_is_sent_or_registered(
        house: House, backend: str) -> None:
    volume = house.volume(DATA)
    report = Steps('uploading the volume' if backend == 'ceph' else WAITING,
                   lambda: house.member.delete(_only_image(house)))
    try:
        image, _ = house.upload(
            volume, driver=house.driver(backend), report=report)
    except (exception.GlanceImageNotUsable, exception.NotFound,
            exception.Conflict):
        image = None
    # Glance may have been quicker than the deletion, which then said 409.
    assert house.cluster.snapshots('volumes', volume) == []
    if image is None or house.member.status(image) is None:
        house.purge()
        assert house.cluster.names('images') == []
        assert house._image_ids() == []


def test_an_image_of_that_id_that_is_not_ours_ends_it(house: House) -> None:
    volume = house.volume(DATA)
    image = house.member.create()
    house.cluster.make('images', image, b'somebody elses')

    with house.nothing_changes(), pytest.raises(
            exception.ImageExists, match='not ours'):
        house.upload(volume, image_id=image)
    house.cluster.remove('images', image)


def test_an_image_of_that_id_with_a_mark_that_names_another_ends_it(
        house: House) -> None:
    volume = house.volume(DATA)
    image = house.member.create()
    house.cluster.make('images', image, b'somebody elses')
    house.cluster.set_metadata('images', image, {
        'volume_rbd.lineage': json.dumps({
            'image_id': 'another', 'kind': 'glance_image', 'origin': 'x',
            'job': 'x', 'state': 'pending', 'created_at': 1.0})})

    with house.nothing_changes(), pytest.raises(exception.ImageExists):
        house.upload(volume, image_id=image)
    house.cluster.remove('images', image)


@pytest.mark.parametrize('has_snapshot', [False, True])
def test_an_image_of_that_id_left_by_a_job_of_ours_is_reaped(
        house: House, has_snapshot: bool) -> None:
    volume = house.volume(DATA)
    image = house.member.create()
    house.cluster.make('images', image, b'unfinished')
    house.cluster.set_metadata('images', image, {
        'volume_rbd.lineage': json.dumps({
            'image_id': house.cluster.image_id('images', image),
            'kind': 'glance_image', 'origin': 'rbd:volumes/x@y',
            'job': 'earlier', 'state': 'pending', 'created_at': 1.0})})
    if has_snapshot:
        house.cluster.take_snapshot('images', image, 'snap', protect=True)

    made, result = house.upload(volume, image_id=image)

    assert (made, result.strategy) == (image, 'clone')
    assert house.member.digest(image) == DIGEST


# -- Glance is away, slow or hangs --------------------------------------------

UPLOAD_STEPS = [
    'taking a snapshot of the volume', 'choosing a strategy',
    'cloning the volume', 'taking the snapshot of the image', REGISTERING]


def test_glance_is_down_from_the_start(house: House, proxy: Proxy) -> None:
    driver = house.driver(**through(proxy))
    volume = house.volume(DATA)
    image = house.member.make(DATA)
    proxy.stop()

    with house.nothing_changes():
        with pytest.raises(exception.GlanceUnavailable):
            house.create(image, driver=driver)
        with pytest.raises(exception.GlanceUnavailable):
            house.upload(volume, driver=driver)


@pytest.mark.parametrize('backend', ['optimized', 'ceph'])
def test_glance_goes_down_before_the_transfer_or_registration(
        house: House, proxy: Proxy, backend: str) -> None:
    """The record cannot be deleted any more, and the error says so; all that
    is in Ceph goes."""
    driver = house.driver(backend, **through(
        proxy, clone_registration_timeout=3))
    volume = house.volume(DATA)
    before = house.describe()
    report = Steps('choosing a strategy', proxy.stop)

    with pytest.raises(exception.GlanceUnavailable,
                       match=r'could not be undone|Not everything'):
        house.upload(volume, driver=driver, report=report)

    house.check_same(before | {f'glance: {_only_image(house)} queued'})


@pytest.mark.parametrize('reset', ['before', 'after'])
def test_the_answer_to_the_registration_is_lost_once(
        house: House, proxy: Proxy, reset: str) -> None:
    """Asked again, Glance takes it, or says that it has done so already."""
    proxy.on('POST', '/locations$', reset=reset, times=1)
    volume = house.volume(DATA)

    image, result = house.upload(
        volume, driver=house.driver(**through(proxy)))

    assert result.strategy == 'clone'
    assert house.member.digest(image) == DIGEST


@pytest.mark.parametrize('reset', ['before', 'after'])
def test_no_answer_to_the_registration_ever_comes(
        house: House, proxy: Proxy, reset: str) -> None:
    """Whether Glance took it is read off the image."""
    proxy.on('POST', '/locations$', reset=reset)
    volume = house.volume(DATA)
    driver = house.driver(**through(proxy, clone_registration_timeout=2))

    if reset == 'after':
        image, result = house.upload(volume, driver=driver)
        assert result.strategy == 'clone'
        assert house.member.digest(image) == DIGEST
        return
    with pytest.raises(exception.RegistrationPending):
        house.upload(volume, driver=driver)
    _expect_pending(house, volume)


def test_somebody_uploads_while_the_answer_is_lost(
        house: House, proxy: Proxy) -> None:
    """The second try hears 409, and the image is active with data that is
    not ours: that is no success."""
    volume = house.volume(DATA)
    image = house.member.create()
    proxy.on('POST', '/locations$', times=1, reset='before',
             before=lambda: house.member.upload(image, b'theirs', 'file'))

    with pytest.raises(exception.GlanceConflict):
        house.upload(volume, driver=house.driver(**through(proxy)),
                     image_id=image)

    assert image not in house.cluster.names('images')
    assert house.cluster.snapshots('volumes', volume) == []
    assert house.member.digest(image) == content.digest_of_bytes(b'theirs')


@pytest.mark.parametrize('path', ['/v2/images$', '/info/stores/detail$',
                                  '^/(versions)?$', '/v2/images/[^/]+$'])
def test_one_reset_of_a_connection_is_survived(
        house: House, proxy: Proxy, path: str) -> None:
    proxy.on('*', path, reset='before', times=1)
    volume = house.volume(DATA)

    image, result = house.upload(
        volume, driver=house.driver(**through(proxy)))

    assert result.strategy == 'clone'
    assert house.member.digest(image) == DIGEST


def test_a_slow_glance_is_waited_for(house: House, proxy: Proxy) -> None:
    proxy.on('*', '.', delay_s=0.7)
    volume = house.volume(DATA)

    image, result = house.upload(
        volume, driver=house.driver(**through(proxy)))

    assert result.strategy == 'clone'
    assert house.member.digest(image) == DIGEST


def test_a_glance_that_does_not_answer_is_given_up(
        house: House, proxy: Proxy) -> None:
    overrides = through(proxy)
    overrides['DEFAULT']['glance_request_timeout'] = 1
    proxy.on('GET', '/v2/images/[^/]+$', delay_s=4)
    image = house.member.make(DATA)

    with house.nothing_changes(), pytest.raises(
            exception.GlanceUnavailable):
        house.create(image, driver=house.driver(**overrides))


def test_a_download_that_breaks_off_leaves_nothing(
        house: House, proxy: Proxy) -> None:
    image = house.member.make(content.random_bytes(24 * MIB), 'file')
    proxy.on('GET', '/file$', reset='after')

    with house.nothing_changes(), pytest.raises(
            (exception.GlanceUnavailable, exception.DataCorrupted)):
        house.create(image, driver=house.driver(**through(proxy)))


def test_an_upload_that_breaks_off_leaves_nothing(
        house: House, proxy: Proxy) -> None:
    volume = house.volume(DATA)
    proxy.on('PUT', '/file$', reset='before')

    with house.nothing_changes(), pytest.raises(
            exception.GlanceUnavailable):
        house.upload(volume, driver=house.driver('ceph', **through(proxy)))


def _expect_pending(house: House, volume: str) -> None:
    """Clone and record stay, and the mark says what they are."""
    image = _only_image(house)
    mark = house.cluster.mark('images', image)
    assert mark is not None
    assert (mark['state'], mark['kind']) == ('pending', 'glance_image')
    assert mark['image_id'] == house.cluster.image_id('images', image)
    assert house.cluster.digest('images', image, 'snap') == DIGEST
    assert house.cluster.snapshots('volumes', volume) == []
    # The next try with the same record finds the clone and does it anew.
    made, result = house.upload(volume, image_id=image)
    assert (made, result.strategy) == (image, 'clone')
    assert house.member.digest(image) == DIGEST


def test_glance_hangs_after_it_has_taken_the_registration(
        house: House) -> None:
    """It says pending; once Glance wakes, the image is active, and right."""
    volume = house.volume(DATA)
    driver = house.driver(
        DEFAULT={'glance_request_timeout': 2, 'glance_num_retries': 0},
        optimized={'clone_registration_timeout': 3})
    sandbox = house.sandbox
    report = Steps(WAITING, lambda: sandbox.signal_process(
        'glance', signal.SIGSTOP))
    try:
        with pytest.raises(exception.RegistrationPending) as caught:
            house.upload(volume, driver=driver, report=report)
        assert caught.value.exit_code == 10
        image = _only_image(house)
        assert image in str(caught.value)
        mark = house.cluster.mark('images', image)
        assert mark is not None
        assert mark['state'] == 'pending'
    finally:
        sandbox.signal_process('glance', signal.SIGCONT)
    house.member.wait_for_status(image, 'active')
    assert house.member.digest(image) == DIGEST


def test_glance_is_killed_after_it_has_taken_the_registration(
        house: House, proxy: Proxy) -> None:
    """Its task dies with it: the image stays queued, the clone pending."""
    volume = house.volume(DATA)
    sandbox = house.sandbox
    driver = house.driver(**through(proxy, clone_registration_timeout=3))

    def kill() -> None:
        sandbox.signal_process('glance', signal.SIGKILL)
        sandbox.signal_process('osd', signal.SIGCONT)

    # Glance opens the clone for that; it cannot while the OSD sleeps. Nor can
    # anybody of ours write: the OSD must wake up before we hear the answer.
    proxy.on('POST', '/locations$', times=1, after=kill, before=lambda:
             sandbox.signal_process('osd', signal.SIGSTOP))
    try:
        with pytest.raises(exception.RegistrationPending) as caught:
            house.upload(volume, driver=driver)
    finally:
        sandbox.signal_process('osd', signal.SIGCONT)
        sandbox.start_process('glance')
    assert caught.value.exit_code == 10
    image = _only_image(house)
    assert house.member.status(image) == 'queued'
    mark = house.cluster.mark('images', image)
    assert mark is not None
    assert mark['state'] == 'pending'
    assert house.cluster.digest('images', image, 'snap') == DIGEST
    # Nobody settles it yet by itself: the owner deletes the record, and the
    # clone goes as any other image of an id that Glance does not know.
    house.member.delete(image)
    house.cluster.remove('images', image)


# -- cancelling ---------------------------------------------------------------

@pytest.mark.parametrize('step', UPLOAD_STEPS)
def test_a_cancelled_upload_leaves_nothing(house: House, step: str) -> None:
    volume = house.volume(DATA)
    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.upload(volume, report=steps.cancelling_at(step))


@pytest.mark.parametrize('step', [
    'creating the image record', 'taking a snapshot of the volume',
    'uploading the volume'])
def test_a_cancelled_chunked_upload_leaves_nothing(
        house: House, step: str) -> None:
    volume = house.volume(content.random_bytes(24 * MIB))
    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.upload(volume, driver=house.driver('ceph'),
                     report=steps.cancelling_at(step))


@pytest.mark.parametrize(('step', 'store'), [
    ('choosing a strategy', 'rbd'), ('cloning the image', 'rbd'),
    ('choosing a strategy', 'file'), ('creating the volume', 'file'),
    ('downloading the image', 'file')])
def test_a_cancelled_create_leaves_nothing(
        house: House, step: str, store: str) -> None:
    image = house.member.make(content.random_bytes(24 * MIB), store)
    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.create(image, report=steps.cancelling_at(step))


def test_a_volume_that_exists_is_not_touched(house: House) -> None:
    image = house.member.make(DATA)
    volume = house.volume(b'mine', GIB)
    with house.nothing_changes(), pytest.raises(exception.ImageExists):
        house.create(image, name=volume)
    assert house.cluster.digest('volumes', volume) == \
        content.digest_of_bytes(b'mine')
