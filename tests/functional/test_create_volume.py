# SPDX-License-Identifier: Apache-2.0
"""Volumes that come from nothing or from another volume, as flows."""

from __future__ import annotations

import uuid

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.steps import Steps, cancelling_at
from volume_rbd import exception, model

DATA = content.sparse_bytes(6 * MIB)
DIGEST = content.digest_of_bytes(DATA)


@pytest.mark.parametrize('step', [
    'taking a snapshot of the volume', 'cloning the volume',
    'flattening the volume'])
def test_cancelled_at_any_step_it_leaves_nothing(house: House, step: str
                                                 ) -> None:
    driver = house.driver(
        optimized={'rbd_flatten_volume_from_snapshot': 'true'})
    source = house.volume(DATA, 8 * MIB)
    name = f'{source}-clone'
    before = house.describe()
    report = cancelling_at(step)
    with pytest.raises(exception.Cancelled):
        driver.volumes.create_from_volume(
            model.VolumeSpec(name, 16 * MIB), source, report=report)
    assert step in report.names
    house.check_same(before)
    driver.volumes.create_from_volume(model.VolumeSpec(name, 16 * MIB),
                                      source)
    assert house.cluster.digest('volumes', name) == DIGEST


def test_kept_in_rados_it_leaves_no_record(house: House) -> None:
    driver = house.driver(DEFAULT={'flow_connection': 'rados://'})
    records = driver.cluster.records('volumes', 'volume_rbd.jobs')
    source = house.volume(DATA, 8 * MIB)
    name, blank = f'{source}-clone', str(uuid.uuid4())
    seen: list[str] = []
    driver.volumes.create_from_volume(
        model.VolumeSpec(name), source,
        report=Steps('cloning the volume', lambda: seen.extend(
            repr(records.read(found)) for found in records.names())))
    driver.volumes.create(model.VolumeSpec(blank, model.GIB))
    assert name in ' '.join(seen)
    assert source in ' '.join(seen)
    assert not [found for found in records.names()
                if found.startswith(('book.', 'job.'))]
    assert house.cluster.digest('volumes', name) == DIGEST
