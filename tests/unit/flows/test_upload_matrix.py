# SPDX-License-Identifier: Apache-2.0
"""The fallback matrix for upload, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.glance import FILE
from tests.unit import test_plan_properties
from tests.unit.flows import checks
from tests.unit.world import (
    SOURCE,
    VOLUME,
    OnStep,
    StoringGlance,
    World,
)
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.upload_to_image import source_snapshot
from volume_rbd.plan import SENTENCES, Reason

Make = Callable[[], checks.UploadOperation]


def _with_store(**changes: Any) -> World:
    """A Glance that tells something else of its default store."""
    world = World()
    world.server.stores['rbd'] = dataclasses.replace(
        world.server.stores['rbd'], **changes)
    return world


def _failing(method: str, error: Exception, times: int = 1,
             **options: Any) -> checks.UploadOperation:
    operation = checks.upload(**options)
    operation.world.glance.fail_next(method, error, times)
    return operation


def _as(**options: Any) -> World:
    world = World()
    world.glance = StoringGlance(world.server, **options)
    return world


# -- a clone is not even tried ------------------------------------------------

PLANNED: list[tuple[Reason, Make]] = [
    (Reason.CLONE_DISABLED,
     lambda: checks.upload(enable_clone_optimization=False)),
    (Reason.STORES_FORBIDDEN, lambda: checks.upload(_as(has_service=False))),
    (Reason.STORES_NOT_CONFIGURED,
     lambda: checks.upload(World(has_stores=False))),
    (Reason.STORES_BROKEN, lambda: _failing(
        'get_stores', exception.GlanceUnavailable('500'))),
    (Reason.NO_DEFAULT_STORE,
     lambda: checks.upload(_with_store(is_default=False))),
    (Reason.STORE_NOT_RBD, lambda: checks.upload(store_id='file')),
    (Reason.STORE_NOT_RBD, lambda: checks.upload(upload_store='file')),
    (Reason.STORE_NOT_RBD, lambda: checks.upload(World(
        stores=[dataclasses.replace(FILE, is_default=True)]))),
    (Reason.STORE_FSID_UNKNOWN, lambda: checks.upload(_with_store(fsid=None))),
    (Reason.STORE_OTHER_CLUSTER,
     lambda: checks.upload(_with_store(fsid='another'))),
    (Reason.ENCRYPTED_VOLUME, lambda: checks.upload(is_encrypted=True)),
    (Reason.EMPTY_VOLUME, lambda: checks.upload(size_bytes=0)),
    (Reason.DEPTH_REACHED, lambda: checks.upload(max_clone_depth=0)),
]


@pytest.mark.parametrize(('reason', 'make'), PLANNED)
def test_a_volume_that_cannot_be_cloned_is_sent(reason: Reason, make: Make
                                                ) -> None:
    operation = make().go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('upload', reason)
    assert SENTENCES[reason] in result.sentence
    assert len(result.attempts) == 1
    assert 'clone' not in operation.calls['ceph']
    assert 'register_location' not in operation.calls['glance']


@pytest.mark.parametrize('fields', [{'disk_format': 'qcow2'},
                                    {'container_format': 'ova'}])
def test_another_format_is_refused_before_anything_is_touched(
        fields: dict[str, str]) -> None:
    operation = checks.upload()
    before = operation.world.state()
    with operation.world.driver() as driver, \
            pytest.raises(exception.NotSupported):
        driver.images.upload(SOURCE, ImageRequest('x', **fields))
    assert operation.world.state() == before


# -- a clone is tried, undone, and the volume sent ----------------------------

def _without_caps() -> checks.UploadOperation:
    world = World()
    world.ceph.caps['cinder'] = {'volumes': 'rw', 'images': 'r'}
    return checks.upload(world)


def _clone_fails(error: exception.VolumeRBDError) -> checks.UploadOperation:
    operation = checks.upload()
    operation.world.ceph.fail_next('clone', error)
    return operation


def _unreadable_for_glance(deletes: str = '') -> checks.UploadOperation:
    """The cephx trap: the usual caps of client.glance."""
    world = World()
    world.ceph.caps['glance'] = {'images': 'rw'}
    world.server.deletes_refused = deletes
    return checks.upload(world)


#: Reason, operation, and whether the clone had been made.
TRIED: list[tuple[Reason, Make, bool]] = [
    (Reason.CLONE_DENIED, _without_caps, False),
    (Reason.CLONE_FAILED,
     lambda: _clone_fails(exception.NotCloneable('no layering')), False),
    (Reason.CLONE_FAILED,
     lambda: _clone_fails(exception.NotSupported('too old')), False),
    (Reason.CLONE_FAILED,
     lambda: checks.upload(_with_store(pool='elsewhere')), False),
    (Reason.LOCATION_API_MISSING,
     lambda: checks.upload(World(has_locations_api=False)), True),
    # admin alone is not enough to register
    (Reason.LOCATION_FORBIDDEN, lambda: checks.upload(
        _as(roles=('member', 'admin'), has_service=False)), True),
    # PATCH is refused too
    (Reason.LOCATION_API_MISSING, lambda: checks.upload(
        World(has_locations_api=False), allow_legacy_locations=True), True),
    (Reason.LOCATION_FORBIDDEN, lambda: checks.upload(
        _as(roles=('member', 'admin'), has_service=False),
        allow_legacy_locations=True), True),
    (Reason.LOCATION_API_MISSING, lambda: _failing(
        'register_location_legacy', exception.InvalidInput('400'),
        world=World(has_locations_api=False, show_locations=True),
        allow_legacy_locations=True), True),
    (Reason.LOCATION_REFUSED, lambda: _failing(
        'register_location', exception.InvalidInput('400')), True),
    (Reason.LOCATION_TASK_FAILED, _unreadable_for_glance, True),
    (Reason.LOCATION_TASK_FAILED,
     lambda: _unreadable_for_glance('snapshot'), True),
    (Reason.LOCATION_TASK_FAILED,
     lambda: _unreadable_for_glance('image'), True),
]


@pytest.mark.parametrize(('reason', 'make', 'was_made'), TRIED)
def test_a_clone_that_is_no_way_is_undone_and_the_volume_sent(
        reason: Reason, make: Make, was_made: bool) -> None:
    operation = make()
    operation.world.server.stores['images'] = model.StoreInfo(
        'images', 'rbd', pool='images', fsid=operation.world.ceph.fsid)
    if operation.world.server.find_store(None).pool == 'elsewhere':
        operation.world.ceph.pools.append('elsewhere')  # Glance's own
        operation.world.ceph.caps['glance']['elsewhere'] = 'rw'
        operation.world.ceph.pools.remove('elsewhere')
        operation.world.server.stores['rbd'] = dataclasses.replace(
            operation.world.server.stores['rbd'], pool='elsewhere')
        _check_missing_pool(operation)
        return
    operation.go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('upload', reason)
    assert SENTENCES[reason] in result.sentence
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'clone', 'upload']
    assert result.attempts[0]['reason'] == Reason.SAME_CLUSTER
    assert result.bytes_moved == checks.SIZE
    is_made = 'protect_snapshot' in operation.calls['ceph']
    assert is_made is was_made
