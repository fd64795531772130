# SPDX-License-Identifier: Apache-2.0
"""Limits hold where they should, at once, and nowhere else."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.functional.content import GIB, MIB
from tests.functional.house import House
from volume_rbd import exception, model

WRITES = 20
SLOW = {'total_iops_sec': '10'}


def _seconds_to_write(image: Any) -> float:
    started = time.monotonic()
    for number in range(WRITES):
        image.write(b'x' * 4096, number * 4096)
    return time.monotonic() - started


def _settings(house: House, volume: str) -> dict[str, int]:
    """The limits as librbd itself understands them."""
    with house.cluster.open('volumes', volume) as image:
        return {found['name'].removeprefix('rbd_qos_'): int(found['value'])
                for found in image.config_list()
                if found['name'].startswith('rbd_qos_')
                and found['name'].endswith(('_limit', '_burst'))
                and int(found['value'])}


def test_whoever_has_the_volume_open_follows_at_once(house: House) -> None:
    driver = house.driver()
    volume = house.volume(size_bytes=8 * MIB)
    with house.cluster.open('volumes', volume) as guest:
        assert _seconds_to_write(guest) < 1
        driver.qos.set(volume, SLOW)
        time.sleep(0.5)  # the notification's way
        assert _seconds_to_write(guest) > 1
        driver.qos.clear(volume)
        time.sleep(0.5)
        assert _seconds_to_write(guest) < 1


def test_a_burst_of_operations_is_one_of_operations(house: House) -> None:
    """The stock driver makes it one of bytes: a few bytes a second."""
    driver = house.driver()
    volume = house.volume(size_bytes=8 * MIB)
    driver.qos.set(volume, {'total_iops_sec': '10',
                            'total_iops_sec_max': '1000'})
    assert _settings(house, volume) == {'iops_limit': 10, 'iops_burst': 1000}
    with house.cluster.open('volumes', volume) as guest:
        assert _seconds_to_write(guest) < 1


def test_a_clone_is_not_slowed_by_what_it_comes_from(house: House) -> None:
    driver = house.driver()
    volume = house.volume(size_bytes=8 * MIB)
    driver.qos.set(volume, SLOW)
    driver.volumes.create_from_volume(
        model.VolumeSpec('functional-free'), volume)
    driver.volumes.create_from_volume(
        model.VolumeSpec('functional-own', qos={'read_iops_sec': '77'}),
        volume)
    assert _settings(house, 'functional-free') == {}
    assert _settings(house, 'functional-own') == {'read_iops_limit': 77}
    with house.cluster.open('volumes', 'functional-free') as guest:
        assert _seconds_to_write(guest) < 1


@pytest.mark.parametrize('way', ['blank', 'clone', 'download'])
def test_a_volume_is_made_as_its_type_wants_it(house: House, way: str
                                               ) -> None:
    driver = house.driver()
    wanted = model.VolumeSpec(
        f'functional-{way}', GIB, is_multiattach=True,
        qos={'total_bytes_sec': '100000000'})
    if way == 'blank':
        driver.volumes.create(wanted)
    else:
        source = house.volume(b'x' * MIB, 8 * MIB)
        image_id, _ = house.upload(
            source, store_id='file' if way == 'download' else None)
        assert driver.images.create(wanted, image_id).strategy == way
    assert _settings(house, wanted.name) == {'bps_limit': 100000000}
    with house.cluster.open('volumes', wanted.name, read_only=True) as image:
        assert not image.features() & (4 | 8 | 16)


def test_what_makes_no_sense_is_refused_and_changes_nothing(house: House
                                                            ) -> None:
    driver = house.driver()
    volume = house.volume(size_bytes=8 * MIB)
    driver.qos.set(volume, {'total_iops_sec': '500'})
    for specs in ({'total_iops_sec': 'many'}, {'iops': '5'}):
        with pytest.raises(exception.InvalidInput):
            driver.qos.set(volume, specs)
    assert _settings(house, volume) == {'iops_limit': 500}
