# SPDX-License-Identifier: Apache-2.0
"""rbd_images of somebody else's: taken over and let go again."""

from __future__ import annotations

import uuid

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd import exception, model

DATA = content.sparse_bytes(8 * MIB)
DIGEST = content.digest_of_bytes(DATA)


def _theirs(house: House) -> str:
    name = f'theirs-{uuid.uuid4()}'
    house.cluster.make('volumes', name, DATA, 9 * MIB)
    house.cluster.take_snapshot('volumes', name, 'first', protect=True)
    return name


def _new() -> str:
    return f'volume-{uuid.uuid4()}'


def test_an_image_is_taken_over_with_data_snapshots_and_clones(house: House
                                                               ) -> None:
    driver = house.driver()
    name, new = _theirs(house), _new()
    house.cluster.clone(('volumes', name, 'first'), 'volumes', f'{name}-c')
    image_id = house.cluster.image_id('volumes', name)
    assert driver.manage.get_size_bytes(name) == 9 * MIB
    driver.manage.manage(name, new)
    driver.manage.manage_snapshot(new, 'first', 'snapshot-1')
    assert name not in house.cluster.names('volumes')
    assert house.cluster.image_id('volumes', new) == image_id
    assert house.cluster.digest('volumes', new) == DIGEST
    assert house.cluster.digest('volumes', new, 'snapshot-1') == DIGEST
    assert house.cluster.parent('volumes', f'{name}-c') == f'volumes/{new}'
    with house.cluster.open('volumes', new, read_only=True) as image:
        assert image.is_protected_snap('snapshot-1')
    # It is a volume like any other now.
    clone = _new()
    driver.volumes.create_from_snapshot(
        model.VolumeSpec(clone), new, 'snapshot-1')
    assert house.cluster.digest('volumes', clone) == DIGEST
    mark = house.cluster.mark('volumes', new)
    assert mark is not None
    assert mark['origin'] == f'managed:{name}'


def test_what_is_let_go_stays_and_bears_no_mark(house: House) -> None:
    driver = house.driver()
    name, new = _theirs(house), _new()
    driver.manage.manage(name, new)
    driver.manage.unmanage_snapshot(new, 'first')
    driver.manage.unmanage(new)
    assert house.cluster.digest('volumes', new) == DIGEST
    assert house.cluster.metadata('volumes', new) == {}
    with house.cluster.open('volumes', new, read_only=True) as image:
        assert not image.is_protected_snap('first')
    driver.manage.manage(new, name)
    assert house.cluster.names('volumes').count(name) == 1


def test_what_cannot_be_taken_over_is_told_and_left_alone(house: House
                                                          ) -> None:
    driver = house.driver()
    name, taken = _theirs(house), house.volume(size_bytes=MIB)
    with house.nothing_changes():
        with pytest.raises(exception.ImageExists, match=taken):
            driver.manage.manage(name, taken)
        with pytest.raises(exception.ImageNotFound):
            driver.manage.manage('nowhere', _new())
        with pytest.raises(exception.SnapshotNotFound):
            driver.manage.manage_snapshot(name, 'nope', 'snapshot-1')
        with house.cluster.open('volumes', name) as image:
            image.read(0, 1)
            with pytest.raises(exception.ImageBusy):
                driver.manage.manage(name, _new())
            [found] = driver.manage.list_volumes([name])
            assert found.reason_not_safe == 'volume in use'


def test_the_pool_is_listed_a_page_at_a_time(house: House) -> None:
    driver = house.driver()
    names = sorted(_theirs(house) for _ in range(3))
    house.cluster.make('volumes', f'{names[0]}.deleted', b'x')
    sizes = driver.manage.sizes()
    assert list(sizes) == sorted(sizes)
    assert {sizes[name] for name in names} == {9 * MIB}
    page = driver.manage.list_volumes(
        [f'{names[0]}.deleted', 'gone', names[1]])
    assert [(found.name, found.reason_not_safe) for found in page] == [
        (f'{names[0]}.deleted', 'volume marked as deleted'),
        (names[1], None)]
    [snapshot] = driver.manage.list_snapshots([names[2]])
    assert (snapshot.name, snapshot.size_bytes) == ('first', 9 * MIB)
