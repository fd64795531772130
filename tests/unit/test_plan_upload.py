# SPDX-License-Identifier: Apache-2.0
"""The decision table of upload_to_image, row by row."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.unit.plan_facts import (
    FILE_STORE,
    FSID,
    GIB,
    OTHER_FSID,
    STORE,
    WITHOUT_COPY,
    upload_facts,
)
from volume_rbd import exception, model, plan
from volume_rbd.plan import Reason, Strategy


def _store(**changes: Any) -> tuple[model.StoreInfo, ...]:
    return (dataclasses.replace(STORE, **changes),)


def test_a_volume_is_cloned_into_a_store_of_the_same_cluster() -> None:
    decided = plan.plan_upload(upload_facts())
    assert decided.choices == (
        plan.Choice(Strategy.CLONE, Reason.SAME_CLUSTER),
        plan.Choice(Strategy.COPY, Reason.CLONE_FAILED),
        plan.Choice(Strategy.UPLOAD, Reason.CLONE_FAILED))
    assert decided.ruled_out == ()
    assert decided.store == STORE
    assert decided.size_bytes == GIB
    assert decided.operation is plan.Operation.UPLOAD_TO_IMAGE


UPLOADED: list[tuple[dict[str, Any], Reason, str]] = [
    ({'clone_enabled': False}, Reason.CLONE_DISABLED, ''),
    ({'size_bytes': 0}, Reason.EMPTY_VOLUME, ''),
    ({'stores': None, 'stores_problem': Reason.STORES_FORBIDDEN},
     Reason.STORES_FORBIDDEN, ''),
    ({'stores': None, 'stores_problem': Reason.STORES_NOT_CONFIGURED},
     Reason.STORES_NOT_CONFIGURED, ''),
    ({'stores': None, 'stores_problem': Reason.STORES_BROKEN},
     Reason.STORES_BROKEN, ''),
    ({'stores': None}, Reason.STORES_BROKEN, ''),
    ({'stores': ()}, Reason.NO_DEFAULT_STORE, ''),
    ({'stores': _store(is_default=False)}, Reason.NO_DEFAULT_STORE, ''),
    ({'wanted_store': 'file1'}, Reason.STORE_NOT_RBD, 'store file1'),
    ({'stores': _store(pool=None)}, Reason.STORE_NOT_RBD, 'store rbd1'),
    ({'stores': _store(pool='')}, Reason.STORE_NOT_RBD, 'store rbd1'),
    ({'stores': _store(fsid=None)}, Reason.STORE_FSID_UNKNOWN, 'store rbd1'),
    ({'stores': _store(fsid='')}, Reason.STORE_FSID_UNKNOWN, 'store rbd1'),
    ({'stores': _store(fsid=OTHER_FSID)}, Reason.STORE_OTHER_CLUSTER,
     'store rbd1'),
]


@pytest.mark.parametrize(('change', 'reason', 'detail'), UPLOADED)
def test_a_volume_that_must_not_be_cloned_is_uploaded(
        change: dict[str, Any], reason: Reason, detail: str) -> None:
    decided = plan.plan_upload(upload_facts(**change))
    assert decided.choices == (
        plan.Choice(Strategy.UPLOAD, reason, detail),)
    assert decided.ruled_out == (plan.Choice(Strategy.CLONE, reason, detail),)
    assert plan.SENTENCES[reason][:-1] in decided.sentence


@pytest.mark.parametrize(('depth', 'limit', 'is_cloned'), [
    (0, 0, False), (0, 1, True), (4, 5, True), (5, 5, False)])
def test_a_clone_is_one_deeper_than_its_volume(depth: int, limit: int,
                                               is_cloned: bool) -> None:
    decided = plan.plan_upload(upload_facts(depth=depth,
                                            max_clone_depth=limit))
    assert (decided.strategy is Strategy.CLONE) is is_cloned
    if not is_cloned:
        assert decided.reason is Reason.DEPTH_REACHED
        assert [choice.strategy for choice in decided.choices] == [
            Strategy.COPY, Strategy.UPLOAD]


def test_an_encrypted_volume_is_copied_as_it_is() -> None:
    decided = plan.plan_upload(upload_facts(is_encrypted=True))
    assert decided.choices == (
        plan.Choice(Strategy.COPY, Reason.ENCRYPTED_VOLUME),
        plan.Choice(Strategy.UPLOAD, Reason.ENCRYPTED_VOLUME))
    assert decided.ruled_out == (
        plan.Choice(Strategy.CLONE, Reason.ENCRYPTED_VOLUME),)


@pytest.mark.parametrize('change', [
    {}, {'clone_enabled': False}, {'stores': ()}, {'depth': 99},
    {'may_convert': False}])
def test_the_disk_inside_of_an_encrypted_volume_is_converted_out_of_it(
        change: dict[str, Any]) -> None:
    decided = plan.plan_upload(upload_facts(
        is_encrypted=True, decryption_wanted=True, **change))
    assert decided.choices == (
        plan.Choice(Strategy.CONVERT, Reason.DECRYPTION_WANTED),)


def test_a_disk_inside_is_uploaded_in_any_format() -> None:
    facts = upload_facts(is_encrypted=True, decryption_wanted=True,
                         disk_format='qcow2')
    assert plan.plan_upload(facts).reason is Reason.DECRYPTION_WANTED
    with pytest.raises(exception.NotSupported, match='conversion_disable'):
        plan.plan_upload(dataclasses.replace(facts, may_convert=False))
    with pytest.raises(exception.NotSupported, match='iso'):
        plan.plan_upload(dataclasses.replace(facts, disk_format='iso'))


def test_without_copy_a_volume_with_a_long_chain_is_uploaded() -> None:
    decided = plan.plan_upload(upload_facts(depth=5, built=WITHOUT_COPY))
    assert decided.strategy is Strategy.UPLOAD
    assert [choice.reason for choice in decided.ruled_out] == [
        Reason.DEPTH_REACHED, Reason.NOT_IN_THIS_RELEASE]


def test_a_clone_that_is_flattened_first_needs_no_copy_behind_it() -> None:
    decided = plan.plan_upload(upload_facts(flatten_first=True))
    assert [choice.strategy for choice in decided.choices] == [
        Strategy.CLONE, Strategy.UPLOAD]


def test_without_the_flag_nothing_is_copied_into_the_store() -> None:
    decided = plan.plan_upload(upload_facts(clone_enabled=False, depth=5))
    assert [choice.strategy for choice in decided.choices] == [
        Strategy.UPLOAD]


def test_depth_does_not_matter_where_the_clone_is_flattened_first() -> None:
    decided = plan.plan_upload(upload_facts(depth=99, flatten_first=True))
    assert decided.strategy is Strategy.CLONE


def test_a_limit_of_zero_means_never_clone_even_to_flatten() -> None:
    decided = plan.plan_upload(upload_facts(
        max_clone_depth=0, flatten_first=True))
    assert decided.reason is Reason.DEPTH_REACHED


CONVERTED = ['qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'ploop']


@pytest.mark.parametrize('disk_format', CONVERTED)
def test_another_format_is_converted_to(disk_format: str) -> None:
    decided = plan.plan_upload(upload_facts(disk_format=disk_format))
    detail = f'disk_format {disk_format}'
    assert decided.choices == (
        plan.Choice(Strategy.CONVERT, Reason.NOT_RAW, detail),)
    assert decided.ruled_out == (
        plan.Choice(Strategy.CLONE, Reason.NOT_RAW, detail),)
    assert decided.store == STORE


REFUSED: list[tuple[dict[str, Any], Reason, str]] = [
    ({'disk_format': 'iso'}, Reason.NOT_RAW, 'disk_format iso'),
    ({'disk_format': 'luks'}, Reason.NOT_RAW, 'disk_format luks'),
    ({'disk_format': 'qcow2', 'is_encrypted': True}, Reason.NOT_RAW,
     'disk_format qcow2'),
    ({'container_format': 'ova'}, Reason.NOT_BARE, 'container_format ova'),
    ({'container_format': 'ova', 'disk_format': 'qcow2'}, Reason.NOT_BARE,
     'container_format ova'),
]


@pytest.mark.parametrize(('change', 'reason', 'detail'), REFUSED)
def test_what_nothing_can_make_is_refused_with_the_way_out(
        change: dict[str, Any], reason: Reason, detail: str) -> None:
    with pytest.raises(exception.NotSupported) as caught:
        plan.plan_upload(upload_facts(**change))
    assert plan.SENTENCES[reason][:-1] in caught.value.message
    assert detail in caught.value.message
    assert '--disk-format raw' in caught.value.remedy


def test_a_conversion_is_refused_where_the_operator_forbids_it() -> None:
    with pytest.raises(exception.NotSupported,
                       match='image_conversion_disable'):
        plan.plan_upload(upload_facts(disk_format='qcow2',
                                      may_convert=False))


#: Each obstacle, the one that is told first being first.
OBSTACLES: list[tuple[Reason, dict[str, Any]]] = [
    (Reason.CLONE_DISABLED, {'clone_enabled': False}),
    (Reason.EMPTY_VOLUME, {'size_bytes': 0}),
    (Reason.STORES_FORBIDDEN,
     {'stores': None, 'stores_problem': Reason.STORES_FORBIDDEN}),
    (Reason.NO_DEFAULT_STORE, {'stores': ()}),
    (Reason.STORE_NOT_RBD,
     {'stores': _store(type='file', fsid=None, pool=None)}),
    (Reason.STORE_FSID_UNKNOWN, {'stores': _store(fsid=None)}),
    (Reason.STORE_OTHER_CLUSTER, {'stores': _store(fsid=OTHER_FSID)}),
    (Reason.ENCRYPTED_VOLUME, {'is_encrypted': True}),
    (Reason.DEPTH_REACHED, {'depth': 5}),
]


@pytest.mark.parametrize('first', range(len(OBSTACLES)),
                         ids=[reason.value for reason, _ in OBSTACLES])
def test_of_several_obstacles_the_most_basic_is_told(first: int) -> None:
    changes: dict[str, Any] = {}
    for _, change in reversed(OBSTACLES[first:]):
        changes.update(change)
    decided = plan.plan_upload(upload_facts(**changes))
    assert decided.reason is OBSTACLES[first][0]


# -- which store --------------------------------------------------------------

def test_a_store_that_was_asked_for_goes_before_the_default() -> None:
    second = model.StoreInfo('rbd2', 'rbd', pool='ssd', fsid=FSID)
    decided = plan.plan_upload(upload_facts(stores=(STORE, second),
                                            wanted_store='rbd2'))
    assert decided.store == second
    assert decided.strategy is Strategy.CLONE


def test_a_store_that_glance_does_not_have_is_an_error() -> None:
    with pytest.raises(exception.StoreNotFound) as caught:
        plan.plan_upload(upload_facts(wanted_store='nope'))
    assert 'file1, rbd1' in caught.value.remedy


def test_a_store_is_an_error_where_glance_has_none() -> None:
    with pytest.raises(exception.StoreNotFound, match='none'):
        plan.plan_upload(upload_facts(stores=(), wanted_store='rbd1'))


def test_a_wanted_store_is_passed_on_where_glance_tells_nothing() -> None:
    decided = plan.plan_upload(upload_facts(
        stores=None, stores_problem=Reason.STORES_FORBIDDEN,
        wanted_store='rbd1'))
    assert decided.strategy is Strategy.UPLOAD
    assert decided.store is not None
    assert decided.store.id == 'rbd1'


@pytest.mark.parametrize('wanted', [None, 'rbd1'])
def test_a_read_only_store_is_never_a_target(wanted: str | None) -> None:
    with pytest.raises(exception.StoreReadOnly) as caught:
        plan.plan_upload(upload_facts(stores=_store(is_read_only=True),
                                      wanted_store=wanted))
    assert '--store' in caught.value.remedy


def test_a_read_only_store_beside_the_default_does_no_harm() -> None:
    stores = (dataclasses.replace(FILE_STORE, is_read_only=True), STORE)
    assert plan.plan_upload(upload_facts(stores=stores)).store == STORE


def test_a_wrong_store_is_told_also_where_cloning_is_off() -> None:
    with pytest.raises(exception.StoreNotFound):
        plan.plan_upload(upload_facts(clone_enabled=False,
                                      wanted_store='nope'))


def test_a_store_name_is_matched_exactly() -> None:
    with pytest.raises(exception.StoreNotFound):
        plan.plan_upload(upload_facts(wanted_store='RBD1'))


@pytest.mark.parametrize(('size', 'limit', 'is_refused'), [
    (GIB, None, False), (GIB, GIB, False), (GIB + 1, GIB, True),
    (1, 0, True)])
def test_the_quota_is_the_largest_volume(size: int, limit: int | None,
                                         is_refused: bool) -> None:
    if is_refused:
        with pytest.raises(exception.QuotaExceeded):
            plan.check_quota(size, limit)
    else:
        plan.check_quota(size, limit)
