# SPDX-License-Identifier: Apache-2.0
"""Volumes that several write to at once, on a real cluster."""

from __future__ import annotations

import subprocess

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd import exception

DATA = content.sparse_bytes(8 * MIB)
EXCLUSIVE = 4 | 8 | 16


def _check_object_map(house: House, volume: str) -> None:
    done = subprocess.run(
        ['rbd', '--conf', house.cluster.conf, 'object-map', 'check',
         f'volumes/{volume}'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_two_write_and_the_object_map_is_right_afterwards(house: House
                                                          ) -> None:
    driver = house.driver()
    volume = house.volume(DATA, 16 * MIB)
    driver.snapshots.create(volume, 'before')
    saved = driver.volumes.set_multiattach(volume, True)
    assert saved & EXCLUSIVE == EXCLUSIVE
    with house.cluster.open('volumes', volume) as one, \
            house.cluster.open('volumes', volume) as other:
        one.write(b'one', 9 * MIB)
        other.write(b'other', 13 * MIB)
        assert other.read(9 * MIB, 3) == b'one'
        with pytest.raises(exception.ImageBusy):
            driver.volumes.set_multiattach(volume, False)
    assert driver.volumes.set_multiattach(volume, False) == saved
    with house.cluster.open('volumes', volume, read_only=True) as image:
        assert image.features() & EXCLUSIVE == EXCLUSIVE
        assert image.flags() == 0
        assert image.read(13 * MIB, 5) == b'other'
        image.set_snap('before')
        assert image.flags() == 0
    _check_object_map(house, volume)
    # An object map that lied would lose the writes of the two.
    image_id, made = house.upload(volume)
    assert made.strategy == 'clone'
    assert house.cluster.digest('images', image_id, 'snap') == (
        house.cluster.digest('volumes', volume))
