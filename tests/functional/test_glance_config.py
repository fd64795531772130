# SPDX-License-Identifier: Apache-2.0
"""What depends on how Glance is run. Tests with one configuration stand
together, for each change is a restart."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.functional import content
from tests.functional.content import GIB, MIB
from tests.functional.house import House
from tests.functional.proxy import Proxy
from tests.functional.test_fallback import (
    DATA,
    DIGEST,
    expect_upload,
    only_admin,
    through,
)
from volume_rbd import exception, model

Configure = Callable[[Mapping[str, Mapping[str, object | None]]], None]

LEGACY = {'DEFAULT': {'show_multiple_locations': True,
                      'do_secure_hash': False,
                      'enabled_backends': 'rbd:rbd,file:file,web:http'}}
NO_BACKENDS = {'DEFAULT': {'enabled_backends': None}}
FILE_DEFAULT = {'glance_store': {'default_backend': 'file'}}
QUOTA = {'DEFAULT': {'user_storage_quota': '1MB',
                     'image_size_cap': 8 * MIB}}


@pytest.fixture(scope='module')
def configure(whole_house: House) -> Iterator[Configure]:
    sandbox = whole_house.sandbox
    current: list[Any] = [{}]

    def change(overrides: Mapping[str, Mapping[str, object | None]]
               ) -> None:
        if overrides != current[0]:
            current[0] = overrides
            sandbox.configure_glance(overrides)

    yield change
    change({})


# -- stores as Glance may tell them -------------------------------------------

@pytest.mark.parametrize(('row', 'reason'), [
    ({'default': 'true', 'properties': {'pool': 'images', 'fsid': None}},
     'store_fsid_unknown'),
    ({'default': 'true', 'properties': {'pool': 'images'}},
     'store_fsid_unknown'),
    ({'default': 'true', 'properties': {
        'pool': 'images', 'fsid': str(uuid.uuid4())}},
     'store_other_cluster'),
    ({'properties': {'pool': 'images', 'fsid': None}}, 'no_default_store'),
    ({'default': 'true', 'type': 'file', 'properties': {}},
     'store_not_rbd')])
def test_a_store_that_cannot_be_cloned_into(
        house: House, proxy: Proxy, row: dict[str, object], reason: str
        ) -> None:
    answer = {'stores': [{'id': 'rbd', 'type': 'rbd', **row}]}
    proxy.on('GET', '/info/stores/detail', status=200,
             body=json.dumps(answer).encode())
    expect_upload(house, house.driver(**through(proxy)), reason)


def test_a_read_only_default_store_is_never_a_target(
        house: House, proxy: Proxy) -> None:
    answer = {'stores': [{'id': 'rbd', 'type': 'rbd', 'default': 'true',
                          'read-only': 'true', 'properties': {}}]}
    proxy.on('GET', '/info/stores/detail', status=200,
             body=json.dumps(answer).encode())
    volume = house.volume(DATA)
    with house.nothing_changes(), pytest.raises(exception.StoreReadOnly):
        house.upload(volume, driver=house.driver(**through(proxy)))


# -- show_multiple_locations, a read-only store, no hashes --------------------

def test_the_old_location_api_is_used_where_it_is_allowed(
        house: House, configure: Configure) -> None:
    configure(LEGACY)
    volume = house.volume(DATA)
    driver = house.driver(**only_admin(
        house, allow_legacy_locations='true'))

    image, result = house.upload(volume, driver=driver)

    assert (result.strategy, result.reason) == ('clone', 'same_cluster')
    assert house.cluster.parent('images', image) == f'volumes/{volume}'
    assert house.member.digest(image) == DIGEST
    assert house.cluster.mark('images', image)['state'] == 'complete'


def test_the_old_location_api_is_not_used_where_it_is_not_allowed(
        house: House, configure: Configure) -> None:
    configure(LEGACY)
    expect_upload(house, house.driver(**only_admin(house)),
                  'location_forbidden', tried=True)


def test_a_read_only_store_takes_no_image(
        house: House, configure: Configure) -> None:
    configure(LEGACY)
    volume = house.volume(DATA)
    with house.nothing_changes():
        done = house.run('upload', volume, '--image-name', 'x',
                         '--store', 'web')
    assert done.returncode == 4
    assert 'read-only' in done.stderr
    assert '--store' in done.stderr


def test_a_terabyte_with_little_data_is_cloned(
        house: House, configure: Configure) -> None:
    configure(LEGACY)  # for Glance would hash the whole terabyte
    volume = house.volume(DATA, 1024 * GIB)

    image, result = house.upload(volume)
    name, created = house.create(image)

    assert (result.strategy, created.strategy) == ('clone', 'clone')
    assert result.seconds < 30
    assert house.member.get(image)['size'] == 1024 * GIB
    assert house.cluster.digest('images', image, 'snap') == DIGEST
    assert house.cluster.digest('volumes', name) == DIGEST
    assert house.cluster.size('volumes', name) == 1024 * GIB


# -- locations that somebody else wrote ---------------------------------------

def expect_no_clone(house: House, image: str, reason: str) -> None:
    """It comes through Glance, if Glance can read it, or not at all."""
    plan = house.driver().images.plan_create(_spec('never-made'), image)
    assert (plan.strategy, plan.reason) == ('download', reason)
    assert plan.source is None
    before = house.describe()
    try:
        name, result = house.create(image)
    except exception.VolumeRBDError as error:
        assert error.exit_code in (3, 4, 6, 9)  # noqa: PT017, it may succeed
        house.check_same(before)
        return
    assert (result.strategy, result.reason) == ('download', reason)
    assert house.cluster.parent('volumes', name) is None
    assert house.cluster.digest('volumes', name) == house.member.digest(
        image)


def _spec(name: str) -> model.VolumeSpec:
    return model.VolumeSpec(name)


def test_a_member_sets_the_location_to_another_images_data(
        house: House, configure: Configure) -> None:
    configure(LEGACY)
    house.cluster.make('images', 'victim', content.sparse_bytes(2 * MIB))
    house.cluster.take_snapshot('images', 'victim', 'snap', protect=True)
    image = house.member.create()
    house.member.set_location(
        image, f'rbd://{house.cluster.fsid}/images/victim/snap')
    assert house.member.status(image) == 'active'
    try:
        expect_no_clone(house, image, 'foreign_location')
        assert house.cluster.metadata('images', 'victim') == {}
    finally:
        house.forget_locations(image)
        house.member.delete(image)
        house.cluster.remove('images', 'victim')


@pytest.mark.parametrize(('name', 'snapshot'), [
    ('victim', 'mine'), ('victim', 'snap'), ('{image}', 'snap')])
@pytest.mark.parametrize('pool', ['volumes', 'vms'])
def test_a_location_in_a_pool_that_is_not_glances_is_foreign(
        house: House, pool: str, name: str, snapshot: str) -> None:
    """Also where it has the right name. (This Glance refuses such a
    location; one without enabled_backends takes it.)"""
    image = house.member.make(DATA)
    (true_url,) = house.service.locations(image)
    name = name.format(image=image)
    # As large as the image: Glance is waited for when it has less to give.
    house.cluster.make(pool, name, content.sparse_bytes(len(DATA)))
    house.cluster.take_snapshot(pool, name, snapshot, protect=True)
    house.replace_location(
        image, f'rbd://{house.cluster.fsid}/{pool}/{name}/{snapshot}')
    try:
        expect_no_clone(house, image, 'foreign_location')
        assert house.cluster.metadata(pool, name) == {}
    finally:
        house.replace_location(image, true_url)
        house.cluster.remove(pool, name)


@pytest.mark.parametrize(('url', 'reason'), [
    ('rbd://{fsid}/vms/{image}/snap', 'foreign_location'),
    ('rbd://{other}/images/{image}/snap', 'other_cluster'),
    ('rbd://{fsid}/images/{image}/none-such', 'missing_snapshot'),
    ('rbd://{fsid}/images/{other}/snap', 'foreign_location'),
    ('rbd://{fsid}/images/ns/{image}/snap', 'malformed_location'),
    ('rbd://{fsid}/images%2Fns/{image}/snap', 'malformed_location'),
    ('rbd://{fsid}/images/{image}%2Fsnap/snap', 'malformed_location'),
    ('rbd://{fsid}/images/{image}%40snap/snap', 'malformed_location'),
    ('rbd://{image}', 'malformed_location'),
    ('rbd://', 'malformed_location'),
    ('file:///etc/passwd', 'not_rbd')])
def test_a_location_that_cannot_be_trusted_is_never_cloned(
        house: House, url: str, reason: str) -> None:
    image = house.member.make(DATA)
    (true_url,) = house.service.locations(image)
    house.replace_location(image, url.format(
        fsid=house.cluster.fsid, image=image, other=uuid.uuid4()))
    try:
        expect_no_clone(house, image, reason)
    finally:
        house.replace_location(image, true_url)


# -- no enabled_backends, another default store, quotas -----------------------

def test_a_glance_without_enabled_backends(
        house: House, configure: Configure) -> None:
    configure(NO_BACKENDS)
    image = expect_upload(house, house.driver(), 'stores_not_configured')

    name, result = house.create(image)
    assert (result.strategy, result.reason) == (
        'download', 'stores_not_configured')
    assert house.cluster.digest('volumes', name) == DIGEST

    trusting = house.driver(optimized={'rbd_image_pools': 'images'})
    name, result = house.create(image, driver=trusting)
    assert result.strategy == 'clone'
    assert house.cluster.digest('volumes', name) == DIGEST


def test_the_default_store_is_not_rbd(
        house: House, configure: Configure) -> None:
    configure(FILE_DEFAULT)
    expect_upload(house, house.driver(), 'store_not_rbd')
    # The one asked for goes before the default.
    volume = house.volume(DATA)
    _, result = house.upload(volume, store_id='rbd')
    assert result.strategy == 'clone'


@pytest.mark.parametrize('backend', ['optimized', 'ceph'])
def test_a_quota_of_glance_ends_it(
        house: House, configure: Configure, backend: str) -> None:
    configure(QUOTA)
    volume = house.volume(content.random_bytes(12 * MIB))
    with house.nothing_changes(), pytest.raises(
            exception.QuotaExceeded) as caught:
        house.upload(volume, driver=house.driver(backend))
    assert caught.value.exit_code == 7
    assert caught.value.remedy


# -- Glance's user without read on the volumes pool ---------------------------

def test_glance_may_not_read_the_volumes_pool(
        house: House, configure: Configure) -> None:
    sandbox = house.sandbox
    sandbox.set_caps(glance_reads_volumes=False)
    configure(LEGACY)
    configure({})  # a restart: Glance connects anew
    try:
        volume = house.volume(DATA)
        image, result = house.upload(volume)
        assert (result.strategy, result.reason) == (
            'copy', 'location_task_failed')
        assert [attempt['strategy'] for attempt in result.attempts] == [
            'clone', 'copy']
        assert house.cluster.parent('images', image) is None
        assert house.member.digest(image) == DIGEST
        first = house.driver(optimized={
            'clone_upload_flatten': 'before_register'})
        image, result = house.upload(volume, driver=first)
        assert (result.strategy, result.reason) == ('clone', 'same_cluster')
        assert house.cluster.parent('images', image) is None
        assert house.member.digest(image) == DIGEST
        name, created = house.create(image)
        assert created.strategy == 'clone'
        assert house.cluster.digest('volumes', name) == DIGEST
    finally:
        sandbox.set_caps(glance_reads_volumes=True)
        configure(LEGACY)
        configure({})
