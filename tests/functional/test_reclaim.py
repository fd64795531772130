# SPDX-License-Identifier: Apache-2.0
"""What was left is found on the real cluster, by the command, and goes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd.ceph import lineage
from volume_rbd.driver.reclaim import items

DATA = content.sparse_bytes(5 * MIB)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this process; the command has its patience."""
    monkeypatch.setattr(items, 'APART_S', 0.5)


def _rows(house: House, *words: str) -> list[dict[str, Any]]:
    # Whether Glance knows an image only the role admin is told.
    rows: list[dict[str, Any]] = house.run_json('reclaim', *words,
                                                role='service')
    return sorted(rows, key=lambda row: (row['what'], row['name']))


def _begun(house: House, name: str, kind: str) -> None:
    """As whoever was killed had made it."""
    house.cluster.make('volumes', name, DATA)
    house.cluster.set_metadata('volumes', name, {lineage.KEY: json.dumps({
        'image_id': house.cluster.image_id('volumes', name), 'kind': kind,
        'origin': 'blank', 'job': 'job-1', 'state': lineage.PENDING,
        'created_at': 1700000000.0})})


def test_what_killed_operations_left_is_listed_and_goes(house: House
                                                        ) -> None:
    with house.nothing_changes():
        volume = house.volume(DATA, 8 * MIB)
        image, _ = house.upload(volume)
        lost, _ = house.upload(volume)
        house.forget_locations(lost)
        house.service.delete(lost)
        unfinished = f'volume-{uuid.uuid4()}'
        stage = f'volume_rbd.stage-{unfinished}'
        _begun(house, unfinished, lineage.VOLUME)
        _begun(house, stage, lineage.STAGE)
        snapshot = f'volume_rbd.upload-{image}'
        house.cluster.take_snapshot('volumes', volume, snapshot)
        house.cluster.take_snapshot('volumes', volume, 'the-users')

        before = house.describe()
        found = _rows(house)
        assert house.describe() == before
        assert [(row['what'], row['name']) for row in found] == [
            ('own_snapshot', f'{volume}@{snapshot}'),
            ('temporary_image', stage),
            ('unfinished_volume', unfinished),
            ('unknown_clone', lost)]
        for row in found:
            assert row['size_bytes'] in (len(DATA), 8 * MIB)
            assert row['why']
            assert row['state'] == 'found'
        assert found[0]['age_s'] < 600
        assert found[1]['age_s'] > 600
        assert [row['owner'] for row in found[1:3]] == ['job job-1'] * 2

        gone = {item.name for item in
                house.driver(role='service').reclaimer.purge()}
        assert {row['name'] for row in found} <= gone
        assert _rows(house) == []
        assert house.member.digest(image) == content.digest_of_bytes(DATA)
        assert house.cluster.snapshots('volumes', volume) == ['the-users']
        house.driver().snapshots.delete(volume, 'the-users')
        house.driver().volumes.delete(volume)
        house.member.delete(image)
        house.purge()


def test_what_somebody_has_open_stays(house: House) -> None:
    name = f'volume-{uuid.uuid4()}'
    _begun(house, name, lineage.VOLUME)
    with house.cluster.open('volumes', name):
        assert _rows(house) == []
        assert house.driver(role='service').reclaimer.purge() == []
    assert [row['name'] for row in _rows(house)] == [name]


def test_a_member_is_not_told_and_removes_no_image(house: House) -> None:
    """Without the service's credentials another project's image looks like
    none."""
    volume = house.volume(DATA, 8 * MIB)
    lost, _ = house.upload(volume)
    house.forget_locations(lost)
    house.service.delete(lost)
    nobody = {'glance': {'auth_type': None},
              'service_user': {'auth_type': None}}
    assert house.run_json('reclaim', overrides=nobody) == []
    assert lost in house.cluster.names('images')
    assert [row['name'] for row in _rows(house)] == [lost]
