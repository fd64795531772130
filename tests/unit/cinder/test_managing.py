# SPDX-License-Identifier: Apache-2.0
"""Managing what is there, through the facade."""

from __future__ import annotations

from typing import Any

import pytest
from cinder import exception as cinder_exception

from tests.unit.cinder.conftest import House, make_snapshot, make_volume
from volume_rbd import model

_SORT = {'marker': None, 'limit': 100, 'offset': 0, 'sort_keys': ['size'],
         'sort_dirs': ['asc']}


@pytest.mark.parametrize('reference', [
    {}, {'source-id': 'x'}, {'source-name': ''}, {'source-name': 5}, None])
def test_a_reference_without_a_name_is_refused(house: House, reference: Any
                                               ) -> None:
    with pytest.raises(cinder_exception.ManageExistingInvalidReference):
        house.facade.manage_existing_get_size(make_volume(), reference)


def test_the_size_is_rounded_up(house: House) -> None:
    house.world.volumes.create('found', model.GIB + 1)
    assert house.facade.manage_existing_get_size(
        make_volume(), {'source-name': 'found'}) == 2


def test_a_managed_image_gets_the_volumes_name(house: House) -> None:
    house.world.volumes.create('found', model.GIB)
    volume = make_volume()
    house.facade.manage_existing(volume, {'source-name': 'found'})
    assert house.world.disks('volumes') == [volume.name]


def test_what_is_not_there_cannot_be_managed(house: House) -> None:
    with pytest.raises(cinder_exception.ManageExistingInvalidReference):
        house.facade.manage_existing(
            make_volume(), {'source-name': 'none'})


def test_the_list_tells_what_cinder_has_already(house: House) -> None:
    volume = house.make()
    house.world.volumes.create('found', 2 * model.GIB)
    rows = house.facade.get_manageable_volumes([volume], **_SORT)
    told = {row['reference']['source-name']: (
        row['safe_to_manage'], row['cinder_id'], row['size'])
        for row in rows}
    assert told == {volume.name: (False, volume.id, 1),
                    'found': (True, None, 2)}


def test_snapshots_are_listed_managed_and_let_go(house: House) -> None:
    volume = house.make()
    house.plain.snapshots.create(volume.name, 'found')
    [row] = house.facade.get_manageable_snapshots([], **_SORT)
    assert row['reference'] == {'source-name': 'found'}
    assert row['source_reference'] == {'source-name': volume.name}
    assert row['safe_to_manage']
    snapshot = make_snapshot(volume)
    assert house.facade.manage_existing_snapshot_get_size(
        snapshot, row['reference']) == 1
    house.facade.manage_existing_snapshot(snapshot, row['reference'])
    [row] = house.facade.get_manageable_snapshots([snapshot], **_SORT)
    assert row['cinder_id'] == snapshot.id
    house.facade.unmanage_snapshot(snapshot)
    house.facade.unmanage(volume)
    assert volume.name in house.world.disks('volumes')
