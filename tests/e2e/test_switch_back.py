# SPDX-License-Identifier: Apache-2.0
"""Back again: the stock driver handles what this one has made.

What it cannot do with it is asserted as well: these are the exceptions that
the migration page lists, each with what to do before the line is changed
back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.e2e import estate as estates
from tests.e2e.estate import (
    ANY_TYPE,
    HOST,
    LIMITED_TYPE,
    LIMITS,
    OURS,
    POOL,
    STOCK_DELETED,
    TYPE,
    Estate,
    soon,
)
from tests.functional import content
from tests.functional.cluster import make_user, remove_user
from volume_rbd.sandbox import Sandbox

EXCLUSIVE = 4 | 8 | 16
ORDERS = list(itertools.permutations(('source', 'clone', 'clone_of_clone')))


@pytest.fixture(scope='module')
def estate(sandbox: Sandbox) -> Iterator[Estate]:
    with estates.opened(sandbox) as made:
        yield made


@pytest.fixture(scope='module')
def has(estate: Estate) -> SimpleNamespace:
    """What this driver has made, on the day after the switch back."""
    has = SimpleNamespace()
    estate.hand_over(OURS, enable_clone_optimization=True)
    _fill_with_volumes(estate, has)
    _fill_with_special_types(estate, has)
    _fill_with_images(estate, has)
    has.families = {order: estate.family() for order in ORDERS}
    has.orphaned = estate.volume()
    has.orphan = estate.clone(has.orphaned)
    estate.cinder.delete(has.orphaned)
    assert estate.trash() == [f'volume-{has.orphaned}']
    estate.hand_over(None)
    return has


def _fill_with_volumes(estate: Estate, has: SimpleNamespace) -> None:
    has.plain = estate.volume()
    has.first = estate.snapshot(has.plain)
    estate.write(has.plain)
    has.second = estate.snapshot(has.plain)
    estate.write(has.plain)
    has.of_first = estate.from_snapshot(has.first)
    has.of_second = estate.from_snapshot(has.second, size_gib=2)
    # Of a snapshot that is gone but for its clone.
    has.parent = estate.volume()
    snapshot = estate.snapshot(has.parent)
    has.child = estate.from_snapshot(snapshot)
    estate.cinder.delete_snapshot(snapshot)
    has.reverted = estate.volume()
    has.reverted_to = estate.snapshot(has.reverted)
    estate.write(has.reverted)
    has.moved = estate.volume()
    has.handled = estate.volume()


def _fill_with_special_types(estate: Estate, has: SimpleNamespace) -> None:
    has.secret = estate.volume('stock-encrypted')
    has.secret_snapshot = estate.snapshot(has.secret)
    has.secret_clone = estate.clone(has.secret,
                                    volume_type='stock-encrypted')
    has.shared = estate.volume('stock-multiattach')
    has.limited = estate.volume(LIMITED_TYPE)
    has.member = estate.volume()
    has.group = estate.cinder.create_group([TYPE])
    estate.cinder.client.groups.update(has.group, add_volumes=has.member)
    assert soon(lambda: estate.cinder.show(has.member).to_dict()[
        'group_id'] == has.group)
    has.group_snapshot = estate.cinder.create_group_snapshot(has.group)


def _fill_with_images(estate: Estate, has: SimpleNamespace) -> None:
    has.uploaded = estate.volume()
    has.image = estate.upload(has.uploaded)
    has.of_image = estate.from_image(has.image)
    assert estate.parent(has.of_image) == f'images/{has.image}'
    assert estate.cluster.parent('images', has.image) == (
        f'{POOL}/volume-{has.uploaded}')


# -- volumes and snapshots ---------------------------------------------------
def test_everything_reads_as_it_was(estate: Estate, has: SimpleNamespace
                                    ) -> None:
    estate.check(has.plain, has.first, has.second)
    estate.check(has.reverted, has.reverted_to)
    estate.check(has.secret, has.secret_snapshot)
    for volume in (has.of_first, has.of_second, has.child, has.of_image,
                   has.orphan, has.secret_clone, has.shared, has.limited):
        estate.check(volume)


def test_a_volume_is_attached(estate: Estate, has: SimpleNamespace) -> None:
    with estate.cinder.attached(has.plain) as connection:
        assert connection['name'] == f'{POOL}/volume-{has.plain}'


def test_clones_are_made(estate: Estate, has: SimpleNamespace) -> None:
    clone = estate.clone(has.of_first)
    volume = estate.from_snapshot(has.first, size_gib=2)
    of_child = estate.clone(has.child)
    for made in (clone, volume, of_child):
        estate.check(made)
    estate.cinder.delete(clone, volume, of_child)
    estate.check(has.plain, has.first)
    estate.check(has.child)


def test_a_snapshot_goes_and_its_clone_lives_on(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.delete_snapshot(has.second)
    estate.check(has.of_second)
    estate.check(has.plain, has.first)


def test_a_volume_grows(estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.extend(has.of_image, 2)
    estate.check(has.of_image)
    assert estate.cluster.size(
        POOL, f'volume-{has.of_image}') == 2 * content.GIB


def test_a_volume_goes_back_to_its_snapshot(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.revert(has.reverted, has.reverted_to)
    estate.digests[has.reverted] = estate.digests[has.reverted_to]
    estate.check(has.reverted, has.reverted_to)


def test_a_volume_with_a_removed_snapshot_is_deleted(
        estate: Estate, has: SimpleNamespace) -> None:
    """The stock driver flattens the clones of what it deletes."""
    estate.cinder.delete(has.parent)
    assert estate.parent(has.child) is None
    estate.check(has.child)
    assert not [name for name in estate.names() + estate.trash()
                if has.parent in name]


# -- types -------------------------------------------------------------------
def test_limits_are_taken_away_and_given_back(
        estate: Estate, has: SimpleNamespace) -> None:
    assert estate.limits(has.limited) == LIMITS
    estate.cinder.retype(has.limited, TYPE)
    assert estate.limits(has.limited) == {}
    estate.cinder.retype(has.limited, LIMITED_TYPE)
    assert estate.limits(has.limited) == LIMITS


def test_multiattach_is_turned_off_and_on(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.retype(has.shared, TYPE)
    assert estate.features(has.shared) & EXCLUSIVE == EXCLUSIVE
    estate.check(has.shared)
    estate.cinder.retype(has.shared, 'stock-multiattach')
    assert not estate.features(has.shared) & EXCLUSIVE


def test_an_encrypted_volume_is_handled_like_any_other(
        estate: Estate, has: SimpleNamespace) -> None:
    of_snapshot = estate.from_snapshot(has.secret_snapshot,
                                       volume_type='stock-encrypted')
    clone = estate.clone(has.secret, volume_type='stock-encrypted')
    for made in (of_snapshot, clone):
        estate.check(made)
    estate.cinder.extend(clone, 2)
    estate.check(clone)
    estate.cinder.delete(of_snapshot)
    estate.cinder.delete_snapshot(has.secret_snapshot)
    estate.check(has.secret)


# -- images ------------------------------------------------------------------
def test_a_volume_is_uploaded_and_a_volume_made_of_it(
        estate: Estate, has: SimpleNamespace) -> None:
    image = estate.upload(has.plain)
    estate.check_image(image)
    again = estate.from_image(image)
    estate.check(again)
    estate.cinder.delete(again)
    estate.glance.delete(image)


def test_an_image_that_was_cloned_keeps_its_volume_without_write_on_its_pool(
        estate: Estate, has: SimpleNamespace) -> None:
    """The stock driver flattens it. So what ours needs of the user's caps on
    Glance's pool is to stay until no such image is left."""
    narrow = make_user(
        estate.cluster, 'narrow', f'profile rbd pool={POOL}, '
        'profile rbd-read-only pool=images')
    try:
        estate.hand_over(None, rbd_user='narrow')
        estate.cinder.client.volumes.delete(has.uploaded)
        assert soon(lambda: estate.cinder.status(has.uploaded)
                    == 'error_deleting')
        estate.admin.client.volumes.reset_state(has.uploaded, 'available')
        estate.check(has.uploaded)
        estate.check_image(has.image)
    finally:
        estate.hand_over(None)
        remove_user(estate.cluster, narrow)


def test_an_image_that_was_cloned_from_a_volume_lives_without_it(
        estate: Estate, has: SimpleNamespace) -> None:
    """It is flattened in Glance's pool."""
    estate.check_image(has.image)
    again = estate.from_image(has.image)
    estate.check(again)
    estate.cinder.delete(has.uploaded)
    estate.check_image(has.image)
    assert estate.cluster.parent('images', has.image) is None
    estate.check(again)
    estate.cinder.delete(again, has.of_image)
    estate.glance.delete(has.image)
    assert has.image not in estate.cluster.names('images')


# -- elsewhere ---------------------------------------------------------------
def test_a_volume_is_migrated_there_and_back(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.retype(has.moved, ANY_TYPE)
    estate.admin.migrate(has.moved, 'sandbox@off#off')
    estate.check(has.moved, pool='volumes-off')
    estate.admin.migrate(has.moved, HOST)
    estate.check(has.moved)


def test_a_volume_is_let_go_and_taken_over_again(
        estate: Estate, has: SimpleNamespace) -> None:
    name = f'volume-{has.handled}'
    estate.admin.client.volumes.unmanage(has.handled)
    estate.cinder.wait_for_status(has.handled, None)
    taken = estate.admin.client.volumes.manage(
        HOST, {'source-name': name}, volume_type=TYPE).id
    estate.admin.wait_for_status(taken, 'available')
    assert estate.digest(taken) == estate.digests[has.handled]


# -- deleting ----------------------------------------------------------------
@pytest.mark.parametrize('order', ORDERS, ids=' then '.join)
def test_a_family_is_deleted(order: tuple[str, ...], estate: Estate,
                             has: SimpleNamespace) -> None:
    family = has.families[order]
    for gone, member in enumerate(order, 1):
        estate.cinder.delete(family[member])
        for other in order[gone:]:
            estate.check(family[other])
    assert not [name for name in estate.names() + estate.trash()
                if any(member in name for member in family.values())]


# -- the exceptions ----------------------------------------------------------
def test_what_was_deleted_before_stays_in_the_trash(
        estate: Estate, has: SimpleNamespace) -> None:
    """The stock driver does not look there. ``volume-rbd reclaim`` removes
    it, once its last clone is gone; so does this driver, back in charge."""
    estate.check(has.orphan)
    estate.cinder.delete(has.orphan)
    assert f'volume-{has.orphaned}' in estate.trash()


def test_a_snapshot_of_a_group_is_neither_cloned_nor_reverted_to(
        estate: Estate, has: SimpleNamespace) -> None:
    """The volume itself is as it was, once its state is reset."""
    client = estate.cinder.client
    (part,) = client.volume_snapshots.list(
        search_opts={'volume_id': has.member})
    clone = estate.cinder.create(TYPE, snapshot_id=part.id, status=None)
    estate.cinder.wait_for_status(clone, 'error')
    estate.cinder.delete(clone)
    client.volumes.revert_to_snapshot(has.member, part.id)
    estate.cinder.wait_for_status(has.member, 'error')
    estate.admin.client.volumes.reset_state(has.member, 'available')
    estate.check(has.member)


def test_a_snapshot_of_a_group_is_not_seen(
        estate: Estate, has: SimpleNamespace) -> None:
    """Cinder forgets it, the cluster keeps it, and with it the volume."""
    estate.cinder.delete_group_snapshot(has.group_snapshot)
    estate.cinder.delete_group(has.group)
    assert f'volume-{has.member}' in estate.names() + estate.trash()


def test_this_driver_clears_up_what_the_stock_driver_could_not(
        estate: Estate, has: SimpleNamespace) -> None:
    """But for the snapshot of a group, which Cinder has forgotten."""
    estate.delete_everything()
    estate.hand_over(OURS)
    member = [f'volume-{has.member}']
    assert soon(lambda: estate.trash() == member), estate.trash()
    assert all(name.endswith(STOCK_DELETED) for name in estate.names())
    estate.reclaim('--yes')
    assert estate.names() == []
    assert estate.trash() == member
