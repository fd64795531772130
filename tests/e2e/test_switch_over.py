# SPDX-License-Identifier: Apache-2.0
"""A pool that the stock driver has filled changes hands: one line of
cinder.conf, and everything in it goes on.

It is filled once, through Cinder, with all that the stock driver makes and
all that it leaves behind. Each test takes something else of it.
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
    STOCK_CLONE,
    STOCK_DELETED,
    TYPE,
    Estate,
    soon,
)
from tests.functional import content
from volume_rbd.sandbox import Sandbox

EXCLUSIVE = 4 | 8 | 16
ORDERS = list(itertools.permutations(('source', 'clone', 'clone_of_clone')))


@pytest.fixture(scope='module')
def estate(sandbox: Sandbox) -> Iterator[Estate]:
    with estates.opened(sandbox) as made:
        yield made


@pytest.fixture(scope='module')
def has(estate: Estate) -> SimpleNamespace:
    """What the stock driver has made, on the day after the switch."""
    has = SimpleNamespace()
    # The stock driver takes its time for this one.
    has.secret = estate.cinder.create('stock-encrypted', status=None)
    _fill_with_volumes(estate, has)
    _fill_with_special_types(estate, has)
    _fill_with_debris(estate, has)
    has.families = {order: estate.family() for order in ORDERS}
    with estates.clone_format_2(estate):
        has.modern = estate.family()
        has.modern_snapshot = estate.snapshot(has.modern['source'])
        has.modern_child = estate.from_snapshot(has.modern_snapshot)
    estate.hand_over(OURS)
    return has


def _fill_with_volumes(estate: Estate, has: SimpleNamespace) -> None:
    has.plain = estate.volume()
    has.first = estate.snapshot(has.plain)
    estate.write(has.plain)
    has.second = estate.snapshot(has.plain)
    estate.write(has.plain)
    has.of_first = estate.from_snapshot(has.first)
    has.grown = estate.from_snapshot(has.second, size_gib=2)
    has.image = estate.image()
    has.of_image = estate.from_image(has.image)
    has.of_qcow2 = estate.from_qcow2()
    has.reverted = estate.volume()
    has.reverted_to = estate.snapshot(has.reverted)
    estate.write(has.reverted)
    has.moved = estate.volume()
    has.handled = estate.volume()
    has.uploaded = estate.volume()


def _fill_with_special_types(estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.wait_for_status(has.secret, 'available')
    estate.write(has.secret)
    has.secret_snapshot = estate.snapshot(has.secret)
    has.secret_clone = estate.clone(has.secret,
                                    volume_type='stock-encrypted')
    has.shared = estate.volume('stock-multiattach')
    has.limited = estate.volume(LIMITED_TYPE)


def _fill_with_debris(estate: Estate, has: SimpleNamespace) -> None:
    # A clone that went: its snapshot stays.
    has.bereaved = estate.volume()
    estate.cinder.delete(estate.clone(has.bereaved))
    # Sources that went: they are renamed. Of one even the clone is gone.
    source = estate.volume()
    middle = estate.clone(source)
    has.orphan = estate.clone(middle)
    estate.cinder.delete(middle, source)
    has.lost = estate.volume()
    lost_clone = estate.clone(has.lost)
    estate.cinder.delete(lost_clone, has.lost)
    # A snapshot that Cinder knows nothing of, so it went to the trash.
    has.trashed = estate.volume()
    estate.cluster.take_snapshot(POOL, f'volume-{has.trashed}', 'by-hand')
    estate.cinder.delete(has.trashed)
    names = estate.names()
    assert {f'volume-{gone}{STOCK_DELETED}' for gone in (
        source, middle, has.lost)} <= set(names)
    assert estate.trash() == [f'volume-{has.trashed}']


# -- volumes and snapshots ---------------------------------------------------
def test_everything_reads_as_it_was(estate: Estate, has: SimpleNamespace
                                    ) -> None:
    estate.check(has.plain, has.first, has.second)
    estate.check(has.reverted, has.reverted_to)
    estate.check(has.secret, has.secret_snapshot)
    for volume in (has.of_first, has.grown, has.of_image, has.of_qcow2,
                   has.orphan, has.bereaved, has.secret_clone, has.shared,
                   has.limited, has.modern_child, *has.modern.values()):
        estate.check(volume)


def test_a_volume_is_attached(estate: Estate, has: SimpleNamespace) -> None:
    with estate.cinder.attached(has.plain) as connection:
        assert connection['name'] == f'{POOL}/volume-{has.plain}'
        assert connection['auth_username'] == 'cinder'
        snapshot = estate.snapshot(has.plain)
    estate.check(has.plain, snapshot)
    estate.cinder.delete_snapshot(snapshot)


def test_a_clone_and_a_volume_of_an_old_snapshot_are_made(
        estate: Estate, has: SimpleNamespace) -> None:
    clone = estate.clone(has.of_first)
    volume = estate.from_snapshot(has.first, size_gib=2)
    for made in (clone, volume):
        estate.check(made)
    assert estate.cluster.size(POOL, f'volume-{volume}') == 2 * content.GIB
    estate.cinder.delete(has.of_first)
    estate.check(clone)
    estate.cinder.delete(clone, volume)
    estate.check(has.plain, has.first)


def test_an_old_snapshot_goes_and_its_clone_lives_on(
        estate: Estate, has: SimpleNamespace) -> None:
    """The clone is of format 1, in which it cannot live without."""
    assert estate.parent(has.grown) == f'{POOL}/volume-{has.plain}'
    estate.cinder.delete_snapshot(has.second)
    assert f'snapshot-{has.second}' not in estate.snapshots(
        f'volume-{has.plain}')
    assert estate.parent(has.grown) is None
    estate.check(has.grown)
    estate.check(has.plain, has.first)


def test_a_snapshot_with_a_clone_of_format_2_goes_at_once(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.delete_snapshot(has.modern_snapshot)
    assert estate.parent(has.modern_child) is not None
    estate.check(has.modern_child)
    estate.cinder.delete(has.modern_child)


def test_a_volume_grows_also_while_it_is_attached(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.extend(has.of_image, 2)
    with estate.cinder.attached(has.of_image):
        estate.cinder.extend(has.of_image, 3)
    estate.check(has.of_image)
    assert estate.cluster.size(
        POOL, f'volume-{has.of_image}') == 3 * content.GIB


def test_a_volume_goes_back_to_an_old_snapshot(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.revert(has.reverted, has.reverted_to)
    estate.digests[has.reverted] = estate.digests[has.reverted_to]
    estate.check(has.reverted, has.reverted_to)


# -- types -------------------------------------------------------------------
def test_limits_are_taken_away_and_given_back(
        estate: Estate, has: SimpleNamespace) -> None:
    assert estate.limits(has.limited) == LIMITS
    estate.cinder.retype(has.limited, TYPE)
    assert estate.limits(has.limited) == {}
    estate.cinder.retype(has.limited, LIMITED_TYPE)
    assert estate.limits(has.limited) == LIMITS
    clone = estate.clone(has.limited)
    assert estate.limits(clone) == {}


def test_multiattach_is_turned_off_and_on(
        estate: Estate, has: SimpleNamespace) -> None:
    assert not estate.features(has.shared) & EXCLUSIVE
    estate.cinder.retype(has.shared, TYPE)
    assert estate.features(has.shared) & EXCLUSIVE == EXCLUSIVE
    estate.check(has.shared)
    estate.cinder.retype(has.shared, 'stock-multiattach')
    assert not estate.features(has.shared) & EXCLUSIVE
    snapshot = estate.snapshot(has.shared)
    estate.check(has.shared, snapshot)


def test_an_encrypted_volume_is_handled_like_any_other(
        estate: Estate, has: SimpleNamespace) -> None:
    of_snapshot = estate.from_snapshot(has.secret_snapshot,
                                       volume_type='stock-encrypted')
    clone = estate.clone(has.secret, volume_type='stock-encrypted')
    for made in (of_snapshot, clone):
        estate.check(made)
        assert estate.cluster.size(POOL, f'volume-{made}') == (
            estate.cluster.size(POOL, f'volume-{has.secret}'))
    estate.cinder.extend(clone, 2)
    estate.check(clone)
    estate.cinder.delete_snapshot(has.secret_snapshot)
    estate.cinder.delete(has.secret)
    for made in (of_snapshot, clone, has.secret_clone):
        estate.check(made)


# -- images ------------------------------------------------------------------
def test_an_old_volume_is_uploaded(estate: Estate, has: SimpleNamespace
                                   ) -> None:
    image = estate.upload(has.of_qcow2)
    estate.check_image(image)
    qcow2 = estate.upload(has.uploaded, disk_format='qcow2')
    assert estate.glance.get(qcow2)['disk_format'] == 'qcow2'
    again = estate.from_image(image)
    estate.check(again)
    estate.cinder.delete(again)
    for made in (image, qcow2):
        estate.glance.delete(made)


# -- elsewhere ---------------------------------------------------------------
def test_an_old_volume_is_migrated_there_and_back(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.cinder.retype(has.moved, ANY_TYPE)
    estate.admin.migrate(has.moved, 'sandbox@off#off')
    assert estate.name(has.moved) not in estate.names()
    estate.check(has.moved, pool='volumes-off')
    estate.admin.migrate(has.moved, HOST)
    estate.check(has.moved)


def test_an_old_volume_is_let_go_and_taken_over_again(
        estate: Estate, has: SimpleNamespace) -> None:
    name = f'volume-{has.handled}'
    digest = estate.digests[has.handled]
    estate.admin.client.volumes.unmanage(has.handled)
    estate.cinder.wait_for_status(has.handled, None)
    assert name in estate.names()
    taken = estate.admin.client.volumes.manage(
        HOST, {'source-name': name}, volume_type=TYPE).id
    estate.admin.wait_for_status(taken, 'available')
    assert estate.digest(taken) == digest
    assert name not in estate.names()


# -- deleting ----------------------------------------------------------------
@pytest.mark.parametrize('order', ORDERS, ids=' then '.join)
def test_a_family_is_deleted(order: tuple[str, ...], estate: Estate,
                             has: SimpleNamespace) -> None:
    _delete_one_by_one(estate, has.families[order], order)


def test_a_family_of_format_2_is_deleted(estate: Estate,
                                         has: SimpleNamespace) -> None:
    _delete_one_by_one(estate, has.modern, ORDERS[0])


def _delete_one_by_one(estate: Estate, family: dict[str, str],
                       order: tuple[str, ...]) -> None:
    for gone, member in enumerate(order, 1):
        estate.cinder.delete(family[member])
        for other in order[gone:]:
            estate.check(family[other])
    assert soon(lambda: not _left_of(estate, family)), _left_of(
        estate, family)


def _left_of(estate: Estate, family: dict[str, str]) -> list[str]:
    return [name for name in estate.names() + estate.trash()
            if any(member in name for member in family.values())]


def test_debris_goes_with_its_last_clone(estate: Estate,
                                         has: SimpleNamespace) -> None:
    """Two volumes that the stock driver had renamed, one upon the other."""
    middle = estate.parent(has.orphan)
    assert middle is not None
    middle = middle.partition('/')[2]
    source = estate.cluster.parent(POOL, middle)
    assert source is not None
    source = source.partition('/')[2]
    assert middle.endswith(STOCK_DELETED)
    assert source.endswith(STOCK_DELETED)
    clone = estate.clone(has.orphan)
    estate.cinder.delete(has.orphan)
    estate.check(clone)
    assert {middle, source} <= set(estate.names())
    estate.cinder.delete(clone)
    assert soon(lambda: not {middle, source} & set(estate.names())), (
        estate.names())


def test_a_volume_with_a_snapshot_of_a_gone_clone_is_deleted(
        estate: Estate, has: SimpleNamespace) -> None:
    name = f'volume-{has.bereaved}'
    assert [found.endswith(STOCK_CLONE)
            for found in estate.snapshots(name)] == [True]
    estate.cinder.delete(has.bereaved)
    assert soon(lambda: not [
        found for found in estate.names() + estate.trash()
        if has.bereaved in found])


def test_an_old_volume_is_uploaded_as_a_clone(
        estate: Estate, has: SimpleNamespace) -> None:
    estate.hand_over(OURS, enable_clone_optimization=True)
    image = estate.upload(has.uploaded)
    assert estate.cluster.parent('images', image) == (
        f'{POOL}/volume-{has.uploaded}')
    estate.check_image(image)
    estate.cinder.delete(has.uploaded)
    estate.check_image(image)
    again = estate.from_image(image)
    estate.check(again)
    estate.cinder.delete(again)
    estate.glance.delete(image)
    assert soon(lambda: image not in estate.cluster.names('images'))


def test_at_last_the_pool_is_empty(estate: Estate, has: SimpleNamespace
                                   ) -> None:
    """But for what is no service's to judge: what lies in the trash without
    a mark of ours, and what nobody will delete again, which ``reclaim``
    finds."""
    estate.delete_everything()
    lost = f'volume-{has.lost}{STOCK_DELETED}'
    assert soon(lambda: estate.names() == [lost]), estate.names()
    assert lost in estate.reclaim()
    estate.reclaim('--yes')
    assert estate.names() == []
    assert soon(lambda: estate.trash() == [f'volume-{has.trashed}'])
