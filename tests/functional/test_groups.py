# SPDX-License-Identifier: Apache-2.0
"""Group snapshots on the real cluster, and their former members."""

from __future__ import annotations

import threading
import uuid

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd import model

DATA = content.sparse_bytes(5 * MIB)
DIGEST = content.digest_of_bytes(DATA)


def make_group(house: House) -> tuple[str, dict[str, str]]:
    """A group's snapshot of two volumes, which were changed since."""
    members = {house.volume(DATA, 8 * MIB): f'snapshot-{uuid.uuid4()}'
               for _ in range(2)}
    group = str(uuid.uuid4())
    house.driver().groups.create_snapshot(group, members)
    for name in members:
        house.cluster.write('volumes', name, b'later' * 1000)
    return group, members


def test_all_that_can_be_done_with_a_part(house: House) -> None:
    with house.nothing_changes():
        driver = house.driver()
        group, members = make_group(house)
        (volume, part), (other, _) = members.items()
        assert [s.name for s in driver.snapshots.list(volume)] == [part]
        assert house.cluster.snapshots('volumes', volume) == []

        made = f'{volume}-made'
        driver.volumes.create_from_snapshot(
            model.VolumeSpec(made, 16 * MIB), volume, part)
        driver.volumes.extend(made, 32 * MIB)
        image, uploaded = house.upload(made)
        assert uploaded.strategy == 'clone'
        house.member.delete(image)

        now = house.cluster.digest('volumes', other)
        clone = f'{other}-clone'
        driver.volumes.create_from_volume(model.VolumeSpec(clone), other)
        assert house.cluster.digest('volumes', clone) == now

        driver.snapshots.revert(volume, part, keep_size=True)
        assert house.cluster.digest('volumes', volume) == DIGEST
        driver.groups.delete_snapshot(group, members)
        for name in (made, clone, *members):
            driver.volumes.delete(name)
        house.purge()


def test_a_copy_of_a_part_has_its_bytes_and_its_holes(house: House) -> None:
    group, members = make_group(house)
    volume, part = next(iter(members.items()))
    made = f'{volume}-made'
    house.driver().volumes.create_from_snapshot(
        model.VolumeSpec(made), volume, part)
    house.driver().groups.delete_snapshot(group, members)
    assert house.cluster.digest('volumes', made) == DIGEST
    assert house.cluster.parent('volumes', made) is None


def test_a_part_of_a_clone_is_copied_with_its_parents_data(house: House
                                                           ) -> None:
    driver = house.driver()
    source = house.volume(DATA, 8 * MIB)
    clone = f'{source}-clone'
    driver.volumes.create_from_volume(model.VolumeSpec(clone), source)
    driver.groups.create_snapshot('g', {clone: 'part'})
    made = f'{source}-made'
    driver.volumes.create_from_snapshot(model.VolumeSpec(made), clone, 'part')
    assert house.cluster.digest('volumes', made) == DIGEST
    driver.groups.delete_snapshot('g', {clone: 'part'})


def test_former_members_are_trashed_and_migrated_as_ever(house: House
                                                         ) -> None:
    with house.nothing_changes():
        driver = house.driver()
        group, members = make_group(house)
        (volume, part), (other, _) = members.items()
        driver.migration.migrate(volume, 'vms')
        assert house.cluster.digest('vms', volume, part) == DIGEST
        driver.groups.delete_snapshot(group, members)
        there = house.driver(ceph={'rbd_pool': 'vms'}, backend='ceph')
        there.groups.delete_snapshot(group, {volume: part})
        assert house.cluster.snapshots('vms', volume) == []
        there.volumes.delete(volume)
        there.reclaimer.wait()
        driver.volumes.delete(other)
        house.purge()


@pytest.mark.parametrize('writers', [2])
def test_writes_in_one_order_are_never_seen_in_the_other(
        house: House, writers: int) -> None:
    """Each number is written to the first volume, then to the second: no
    snapshot may show one in the second that the first does not have."""
    names = [house.volume(b'', 4 * MIB) for _ in range(writers)]
    is_over = threading.Event()

    def write() -> None:
        number = 0
        with house.cluster.open('volumes', names[0]) as first, \
                house.cluster.open('volumes', names[1]) as second:
            while not is_over.is_set():
                number += 1
                data = number.to_bytes(8, 'big')
                for image in (first, second):
                    image.write(data, 0)
                    image.flush()

    writer = threading.Thread(target=write)
    writer.start()
    driver = house.driver()
    seen = []
    try:
        for turn in range(4):
            members = {name: f'part-{turn}' for name in names}
            driver.groups.create_snapshot(f'g{turn}', members)
            seen.append([_first_bytes(house, name, f'g{turn}')
                         for name in names])
    finally:
        is_over.set()
        writer.join()
    for turn in range(4):
        driver.groups.delete_snapshot(
            f'g{turn}', {name: f'part-{turn}' for name in names})
    assert all(0 <= first - second <= 1 for first, second in seen), seen
    assert seen[-1][0] > seen[0][0], 'nobody wrote'


def _first_bytes(house: House, name: str, group: str) -> int:
    with house.cluster.open('volumes', name, read_only=True) as image:
        [number] = [found['id'] for found in image.list_snaps()
                    if (found.get('group') or {}).get(
                        'name', '').endswith(f'-{group}')]
        image.set_snap_by_id(number)
        return int.from_bytes(image.read(0, 8), 'big')
