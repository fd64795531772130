# SPDX-License-Identifier: Apache-2.0
"""Every single call of every operation fails once.

Afterwards the operation is done, or all is as it was before: rbd_images,
their snapshots (the protected flag and the trash namespace too), metadata,
watchers, trash, Glance's records and the data behind them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.flows import checks
from tests.unit.world import World
from volume_rbd import exception

Make = Callable[[], checks.Operation]


def _fallback() -> checks.Operation:
    """Glance refuses the location, so the clone is undone and the volume
    sent."""
    operation = checks.upload()
    operation.world.glance.fail_next(
        'register_location', exception.GlanceForbidden('no'))
    return operation


def _copy_fallback() -> checks.Operation:
    """The clone cannot be made, so the volume is copied."""
    operation = checks.upload()
    operation.world.ceph.fail_next('clone', exception.NotSupported('no'))
    return operation


def _legacy() -> checks.Operation:
    world = World(has_locations_api=False, show_locations=True)
    return checks.upload(world, allow_legacy_locations=True)


def _create_copy_fallback() -> checks.Operation:
    operation = checks.create()
    operation.world.ceph.fail_next('clone', exception.NotSupported('no'))
    return operation


def _create_fallback() -> checks.Operation:
    operation = _create_copy_fallback()
    operation.world.ceph.fail_next('extents', exception.NotSupported('no'))
    return operation


OPERATIONS: dict[str, Make] = {
    'upload-clone': checks.upload,
    'upload-clone-v1': lambda: checks.upload(World(clone_format=1)),
    'upload-clone-flattened': lambda: checks.upload(
        clone_upload_flatten='before_register'),
    'upload-clone-into-a-record': lambda: checks.upload(keeps_record=True),
    'upload-clone-legacy': _legacy,
    'upload-copy': lambda: checks.upload(max_clone_depth=0),
    'upload-copy-with-hashes': lambda: checks.upload(
        max_clone_depth=0, glance_secure_hash=False, verify_copies=True),
    'upload-copy-after-clone': _copy_fallback,
    'upload-chunks': lambda: checks.upload(enable_clone_optimization=False),
    'upload-chunks-into-a-record': lambda: checks.upload(
        keeps_record=True, enable_clone_optimization=False),
    'upload-fallback': _fallback,
    'create-clone': checks.create,
    'create-download': lambda: checks.create(store_id='file'),
    'create-copy': lambda: checks.create(max_clone_depth=0),
    'create-copy-compared': lambda: checks.create(
        flatten_volume_from_snapshot=True, verify_copies=True),
    'create-copy-after-clone': _create_copy_fallback,
    'create-fallback': _create_fallback,
}

#: The errors that differ in what they lead to; the rest of them, and a bug,
#: need not be tried everywhere.
FEW = ('upload-clone', 'upload-copy', 'upload-fallback', 'create-copy',
       'create-fallback')
INTO_RECORD = ('upload-clone-into-a-record', 'upload-chunks-into-a-record')
CEPH_CASES = [
    *((name, exception.ClusterUnavailable) for name in OPERATIONS
      if name not in INTO_RECORD),  # the same calls of Ceph
    *((name, exception.CephPermissionDenied) for name in FEW),
    *((name, ValueError) for name in FEW),
]
GLANCE_CASES = [
    *((name, exception.GlanceUnavailable) for name in OPERATIONS),
    *((name, exception.GlanceForbidden) for name in OPERATIONS),
    *((name, error) for name in INTO_RECORD for error in (
        exception.GlanceUnauthorized, exception.GlanceConflict,
        exception.QuotaExceeded, exception.InvalidInput, ValueError)),
]


def _sweep(make: Make, side: str, error: type[Exception]) -> list[str]:
    """Break one call after the other; what went wrong."""
    whole = make().go()
    whole.check_done()
    wrong = []
    for number, method in enumerate(whole.calls[side]):
        operation = make()
        # A PATCH without an answer is waited for to the end.
        operation.world.configure(registration_timeout_s=0.2)
        operation.world.break_call(side, number,
                                   error(f'{method} was broken.'))
        operation.go()
        try:
            operation.check()
        except AssertionError as problem:
            first = str(problem).splitlines()[:3]
            wrong.append(f'{number} {method}: {operation.outcome!r}: {first}')
    return wrong


@pytest.mark.parametrize(('name', 'error'), CEPH_CASES)
def test_a_call_of_ceph_that_fails_leaves_nothing_behind(
        name: str, error: type[Exception]) -> None:
    assert not _sweep(OPERATIONS[name], 'ceph', error)


@pytest.mark.parametrize(('name', 'error'), GLANCE_CASES)
def test_a_call_of_glance_that_fails_leaves_nothing_behind(
        name: str, error: type[Exception]) -> None:
    assert not _sweep(OPERATIONS[name], 'glance', error)


# -- when it does not come back -----------------------------------------------

@pytest.mark.parametrize('name', ['upload-clone', 'upload-copy',
                                  'upload-chunks', 'create-clone',
                                  'create-copy', 'create-download'])
def test_what_stays_when_the_cluster_is_gone_for_good_is_told(name: str
                                                              ) -> None:
    """Nothing in it can be undone; what could be undone elsewhere, is. A call
    without an answer may have been done all the same: nobody can look."""
    whole = OPERATIONS[name]().go()
    for number, method in enumerate(whole.calls['ceph']):
        operation = OPERATIONS[name]()
        for later in range(number, number + 50):
            operation.world.break_call('ceph', later, (
                exception.ClusterUnavailable('The cluster is gone.')))
        operation.go()
        if not isinstance(operation.outcome, BaseException):
            operation.check_done()  # it went away after all was done
            continue
        assert 'The cluster is gone.' in str(operation.error), method
        stays = {key for key, value in operation.world.state().items()
                 if operation.before.get(key) != value}
        is_told = 'could be undone' in str(operation.error)
        assert is_told >= bool(stays), (number, method, operation.error)
        assert not {key for key in stays if key.startswith('glance')}


def test_the_first_error_is_the_one_that_is_raised() -> None:
    """Not that of the undoing, which tells nothing of the cause."""
    operation = checks.upload(clone_upload_flatten='before_register')
    operation.world.ceph.fail_next('flatten', exception.NoSpace('Full.'))
    operation.world.ceph.fail_next('remove',
                                   exception.ClusterUnavailable('Gone.'))
    operation.go()
    assert isinstance(operation.error, exception.NoSpace)
    assert operation.error.message.startswith('Full. ')
    assert 'cloning the volume: Gone.' in operation.error.message
    operation.check_told()


def test_an_image_record_that_cannot_be_deleted_is_told() -> None:
    operation = checks.upload()
    operation.world.ceph.fail_next('clone', exception.NoSpace('Full.'))
    operation.world.glance.fail_next('delete_image',
                                     exception.GlanceUnavailable('Down.'))
    operation.go()
    assert isinstance(operation.error, exception.NoSpace)
    assert 'creating the image record: Down.' in operation.error.message
    assert operation.world.snapshots('volumes', 'volume-1') == []
    assert len(operation.world.server.records) == 1


def test_a_second_upload_finds_the_leftover_of_the_first_and_goes_on(
        ) -> None:
    """The clone that could not be removed is marked ours, so it is reaped."""
    operation = checks.upload(keeps_record=True)
    world = operation.world
    world.glance.fail_next('register_location',
                           exception.QuotaExceeded('Full.'))
    world.ceph.fail_next('remove', exception.ClusterUnavailable('Gone.'))
    operation.go()
    assert 'could be undone' in str(operation.error)
    assert world.disks('images') == [operation.image_id]
    operation.go()
    operation.check_done()
    assert operation.result.strategy == 'clone'
