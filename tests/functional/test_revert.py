# SPDX-License-Identifier: Apache-2.0
"""Reverting on the real cluster, and being killed while at it."""

from __future__ import annotations

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd import exception, model

DATA = content.sparse_bytes(5 * MIB)


def _changed(house: House) -> tuple[str, str]:
    """``volume@s``, changed and grown since; and what it is now."""
    volume = house.volume(DATA, 8 * MIB)
    house.driver().snapshots.create(volume, 's')
    house.driver().volumes.extend(volume, 16 * MIB)
    house.cluster.write('volumes', volume, b'x' * MIB, 2 * MIB)
    house.cluster.write('volumes', volume, b'y' * MIB, 12 * MIB)
    return volume, house.cluster.digest('volumes', volume)


@pytest.mark.parametrize('keep_size', [True, False])
def test_a_volume_is_what_it_was(house: House, keep_size: bool) -> None:
    volume, _ = _changed(house)
    house.driver().snapshots.revert(volume, 's', keep_size=keep_size)
    assert house.cluster.digest('volumes', volume) == \
        content.digest_of_bytes(DATA)
    assert house.cluster.size('volumes', volume) == (
        16 if keep_size else 8) * MIB
    assert house.cluster.snapshots('volumes', volume) == ['s']


def test_a_clone_is_reverted_too(house: House) -> None:
    driver = house.driver()
    volume, _ = _changed(house)
    clone = f'{volume}-clone'
    driver.volumes.create_from_snapshot(
        model.VolumeSpec(clone, 16 * MIB), volume, 's')
    before = house.cluster.digest('volumes', clone)
    driver.snapshots.create(clone, 'mine')
    house.cluster.write('volumes', clone, b'z' * (3 * MIB), MIB)
    driver.snapshots.revert(clone, 'mine', keep_size=True)
    assert house.cluster.digest('volumes', clone) == before


def test_one_that_was_killed_half_way_ends_with_the_next(house: House
                                                         ) -> None:
    volume, before = _changed(house)
    with house.cluster.open('volumes', volume) as image:
        image.create_snap('volume_rbd.revert')
        image.metadata_set('volume_rbd.reverting', image.id())
        image.resize(8 * MIB)
        image.write(b'half' * 1000, 0)
    driver = house.driver()
    with house.cluster.open('volumes', volume) as image:
        image.write(b'', 0)
        with pytest.raises(exception.ImageBusy):
            driver.snapshots.revert(volume, 's')
    # What the first one had found is still there to go back to.
    assert house.cluster.digest(
        'volumes', volume, 'volume_rbd.revert') == before
    driver.snapshots.revert(volume, 's', keep_size=True)
    assert house.cluster.size('volumes', volume) == 16 * MIB
    assert house.cluster.digest('volumes', volume) == \
        content.digest_of_bytes(DATA)
    assert house.cluster.snapshots('volumes', volume) == ['s']
