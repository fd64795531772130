# SPDX-License-Identifier: Apache-2.0
"""Anything in any order, against what it should have come to, as fsx does it.

A sample in every run; the long one is ``make soak``. A failure tells its seed,
with which the same operations come again::

    VOLUME_RBD_TEST_SEED=4711 VOLUME_RBD_TEST_OPERATIONS=6000 \\
        pytest -s tests/functional/test_random.py
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.shadow import (
    MOST_BYTES,
    MOST_IMAGES,
    MOST_SNAPSHOTS,
    MOST_VOLUMES,
    Model,
    Shadow,
)
from volume_rbd import model
from volume_rbd.driver import RBDDriver

OPERATIONS = int(os.environ.get('VOLUME_RBD_TEST_OPERATIONS', '200'))
SEED = int(os.environ.get('VOLUME_RBD_TEST_SEED', '0'))
#: What so many operations do by chance, but for one run in a million.
_ENOUGH = 2000
EVERY_WAY = {'upload clone', 'upload copy', 'upload upload',
             'upload convert', 'create clone', 'create download',
             'create convert'}


class Fuzzer(Model):
    """Does things to a house and to its shadow."""

    def __init__(self, house: House, seed: int) -> None:
        super().__init__(house.cluster, 'volumes', seed)
        self.house = house
        self.log: list[str] = []
        self.strategies: set[str] = set()
        #: Clones, copies (no chain is allowed), and no optimisation.
        self.drivers: dict[str, RBDDriver] = {
            'clones': house.driver(),
            'copies': house.driver(optimized={'rbd_max_clone_depth': 0}),
            'plain': house.driver('ceph')}
        self._operations: list[tuple[int, Callable[[], str]]] = [
            (40, self.write), (10, self.clear), (6, self.grow),
            (8, self.take_snapshot), (6, self.delete_snapshot),
            (6, self.revert), (5, self.copy_volume), (5, self.from_snapshot),
            (5, self.upload), (5, self.from_image), (5, self.delete),
            (2, self.delete_image), (4, self.create)]

    def run(self, operations: int) -> None:
        self.log.append(self.create())
        weights = [weight for weight, _ in self._operations]
        while len(self.log) < operations:
            [(_, operation)] = self.random.choices(self._operations, weights)
            done = operation()
            if done:
                self.log.append(done)
                self.check(self.some(self.volumes))
        for name in self.volumes:
            self.check_all_of(name)
        for image, (data, disk_format) in self.images.items():
            assert disk_format != 'raw' or (
                self.house.member.digest(image)
                == content.digest_of_bytes(data)), image

    # -- what the driver does ------------------------------------------------
    def create(self) -> str:
        if len(self.volumes) >= MOST_VOLUMES:
            return ''
        size = self.new_size()
        name = self.new_name()
        self._driver().volumes.create(model.VolumeSpec(name, size))
        self.volumes[name] = Shadow(bytes(size))
        return f'create {name} {size}'

    def grow(self) -> str:
        name = self.some(self.volumes)
        shadow = self.volumes[name]
        if len(shadow.data) >= MOST_BYTES:
            return ''
        more = self.random.randrange(1, 2 * MIB // 512) * 512
        size = len(shadow.data) + more
        self._driver().volumes.extend(name, size)
        shadow.data.extend(bytes(more))
        return f'grow {name} {size}'

    def take_snapshot(self) -> str:
        name = self.some(self.volumes)
        shadow = self.volumes[name]
        if len(shadow.snapshots) >= MOST_SNAPSHOTS:
            return ''
        snapshot = f'snapshot-{self.random.getrandbits(48):x}'
        self._driver().snapshots.create(name, snapshot)
        shadow.snapshots[snapshot] = bytes(shadow.data)
        return f'snapshot {name}@{snapshot}'

    def delete_snapshot(self) -> str:
        name = self.some(self.volumes)
        if not self.volumes[name].snapshots:
            return ''
        snapshot = self.some(self.volumes[name].snapshots)
        self._driver().snapshots.delete(name, snapshot)
        del self.volumes[name].snapshots[snapshot]
        return f'delete {name}@{snapshot}'

    def revert(self) -> str:
        """To the newest, and only where the volume has not grown since."""
        name = self.some(self.volumes)
        shadow = self.volumes[name]
        if not shadow.snapshots:
            return ''
        snapshot, data = list(shadow.snapshots.items())[-1]
        if len(data) != len(shadow.data):
            return ''
        self._driver().snapshots.revert(name, snapshot)
        shadow.data[:] = data
        return f'revert {name}@{snapshot}'

    def copy_volume(self) -> str:
        if len(self.volumes) >= MOST_VOLUMES:
            return ''
        source, name = self.some(self.volumes), self.new_name()
        self._driver().volumes.create_from_volume(
            model.VolumeSpec(name), source)
        self.volumes[name] = Shadow(bytes(self.volumes[source].data))
        return f'clone {source} {name}'

    def from_snapshot(self) -> str:
        source = self.some(self.volumes)
        if (len(self.volumes) >= MOST_VOLUMES
                or not self.volumes[source].snapshots):
            return ''
        snapshot = self.some(self.volumes[source].snapshots)
        name = self.new_name()
        self._driver().volumes.create_from_snapshot(
            model.VolumeSpec(name), source, snapshot)
        self.volumes[name] = Shadow(self.volumes[source].snapshots[snapshot])
        return f'clone {source}@{snapshot} {name}'

    def upload(self) -> str:
        if len(self.images) >= MOST_IMAGES:
            return ''
        name = self.some(self.volumes)
        disk_format = self.random.choice(('raw', 'raw', 'qcow2'))
        store = self.random.choice(('rbd', 'rbd', 'file'))
        image, result = self.house.upload(
            name, driver=self._driver(), disk_format=disk_format,
            store_id=store)
        self.images[image] = bytes(self.volumes[name].data), disk_format
        self.strategies.add(f'upload {result.strategy}')
        return f'upload {name} {image} {store} {result.strategy}'

    def from_image(self) -> str:
        if len(self.volumes) >= MOST_VOLUMES or not self.images:
            return ''
        image, name = self.some(self.images), self.new_name()
        _, result = self.house.create(
            image, name=name, driver=self._driver())
        self.strategies.add(f'create {result.strategy}')
        data, _ = self.images[image]
        size = self.house.cluster.size('volumes', name)
        assert size >= len(data)
        self.volumes[name] = Shadow(data.ljust(min(size, MOST_BYTES), b'\0'))
        return f'create {name} {image} {result.strategy}'

    def delete(self) -> str:
        """With its snapshots, as its owner must."""
        if len(self.volumes) < 2:
            return ''
        name = self.some(self.volumes)
        driver = self._driver()
        for snapshot in self.volumes[name].snapshots:
            driver.snapshots.delete(name, snapshot)
        driver.volumes.delete(name)
        del self.volumes[name]
        return f'delete {name}'

    def delete_image(self) -> str:
        if not self.images:
            return ''
        image = self.some(self.images)
        self.house.driver().reclaimer.wait()
        self.house.member.delete(image)
        del self.images[image]
        return f'delete {image}'

    def _driver(self) -> RBDDriver:
        return self.drivers[self.some(self.drivers)]


@pytest.mark.timeout(600 + OPERATIONS)
def test_whatever_is_done_every_byte_is_where_it_should_be(house: House
                                                           ) -> None:
    seed = SEED or random.randrange(2 ** 32)
    print(f'VOLUME_RBD_TEST_SEED={seed}')
    fuzzer = Fuzzer(house, seed)
    try:
        fuzzer.run(OPERATIONS)
    except BaseException:
        print(*fuzzer.log, sep='\n')
        raise
    print(*sorted(fuzzer.strategies), sep=', ')
    if OPERATIONS >= _ENOUGH:
        assert fuzzer.strategies >= EVERY_WAY
