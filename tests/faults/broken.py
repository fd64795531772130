# SPDX-License-Identifier: Apache-2.0
"""Operations that do harm when they are killed: a harness that finds nothing
here would find nothing at all.

Unless they are killed they do no harm. Each has its harm between its first
and its second side effect.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from tests.faults.operations import PLAIN, SIZE, Given, Operation
from volume_rbd.ceph import lineage
from volume_rbd.driver import RBDDriver
from volume_rbd.persistence import DEFAULT_NAMESPACE


def _volume(driver: RBDDriver, given: Given) -> None:
    """Debris beside the volume."""
    pool = driver.cluster.pool(driver.config.pool)
    pool.create('debris', SIZE)
    pool.remove('debris')


def _clone_of_image(driver: RBDDriver, given: Given) -> None:
    """Debris in the pool that is shared."""
    pool = driver.cluster.pool('images')
    name = str(uuid.uuid4())
    pool.create(name, SIZE)
    pool.remove(name)


def _trash(driver: RBDDriver, given: Given) -> None:
    """A volume goes where it should not."""
    pool = driver.cluster.pool(driver.config.pool)
    with pool.open(given['own'], read_only=True) as image:
        image_id = image.id
    pool.trash_move(given['own'])
    pool.trash_restore(image_id, given['own'])


def _source(driver: RBDDriver, given: Given) -> None:
    """A byte of the source is another."""
    with driver.cluster.pool(driver.config.pool).open(
            given['source']) as image:
        head = image.read(0, 512)
        image.write(bytes(512), 0)
        image.write(head, 0)


def _snapshot(driver: RBDDriver, given: Given) -> None:
    """The source keeps a snapshot."""
    with driver.cluster.pool(driver.config.pool).open(
            given['source']) as image:
        image.create_snapshot('volume_rbd.debris')
        image.remove_snapshot('volume_rbd.debris')


def _complete(driver: RBDDriver, given: Given) -> None:
    """A result claims to be complete, and is not."""
    with driver.cluster.pool(driver.config.pool).open(given['own']) as image:
        lineage.mark(image, kind=lineage.VOLUME, origin='blank', job='')
        image.write(b'content', 0)


def _record(driver: RBDDriver, given: Given) -> None:
    """A record that nobody knows."""
    records = driver.cluster.records(driver.config.pool, DEFAULT_NAMESPACE)
    records.write('debris', {'operation': 'x'})
    records.remove('debris')


def _claim(driver: RBDDriver, given: Given) -> None:
    """A volume is claimed for ever."""
    records = driver.cluster.records(driver.config.pool, DEFAULT_NAMESPACE)
    records.write('open', {'claim.volume.x': '1'})
    records.write('open', {}, ['claim.volume.x'])


def _metadata(driver: RBDDriver, given: Given) -> None:
    """A note of the pool's stays."""
    pool = driver.cluster.pool(driver.config.pool)
    pool.set_metadata('volume_rbd.purging.1', 'x')
    pool.remove_metadata('volume_rbd.purging.1')


def _image(driver: RBDDriver, given: Given) -> None:
    """Glance has a record without data."""
    glance = driver.images._open_glance()
    glance.delete_image(glance.create_image(
        image_id=str(uuid.uuid4()), name='debris', disk_format='raw',
        container_format='bare').id)


def _nothing(driver: RBDDriver, given: Given) -> None:
    """No harm at all: one effect, as a whole or not at all."""
    driver.volumes.extend(given['own'], 2 * SIZE)


#: name -> what must be found when it is killed after its first effect.
EXPECTED: Mapping[str, str] = {
    'broken/volume': 'leak: volumes/debris',
    'broken/image-in-pool': 'leak: images/NEW',
    'broken/trash': 'mismatch: volumes/volume-own-NEW',
    'broken/source': 'mismatch: volumes/volume-source',
    'broken/snapshot': 'leak: volumes/volume-source@volume_rbd.debris',
    'broken/complete': 'mismatch: volumes/volume-own-NEW',
    'broken/record': 'unfinished: record debris',
    'broken/claim': 'unfinished: record open: claim.volume.x',
    'broken/metadata': 'leak: metadata of the pool: volume_rbd.purging',
    'broken/glance': 'leak: glance NEW',
}

_ACTS: Mapping[str, Any] = {
    'broken/volume': _volume, 'broken/image-in-pool': _clone_of_image,
    'broken/trash': _trash, 'broken/source': _source,
    'broken/snapshot': _snapshot, 'broken/complete': _complete,
    'broken/record': _record, 'broken/claim': _claim,
    'broken/metadata': _metadata, 'broken/glance': _image,
    'sound/extend': _nothing}

OPERATIONS: Mapping[str, Operation] = {
    name: Operation(act, own=PLAIN) for name, act in _ACTS.items()}
