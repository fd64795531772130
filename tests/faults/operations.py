# SPDX-License-Identifier: Apache-2.0
"""The operations that are killed, each with the settings that lead to its
strategy.

``act`` runs in the child, with nothing but names; what it works on was made
before by the administrator, not by the code under test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tests.functional.content import MIB
from volume_rbd import model
from volume_rbd.copying import luks
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest

Given = Mapping[str, Any]

SIZE = 16 * MIB
SNAPSHOT = 'taken'
PLAIN, WITH_SNAPSHOT, WITH_CLONE = 'plain', 'with snapshot', 'with clone'
PASSPHRASE = '5e' * 32
DEPTH = {'rbd_max_clone_depth': 0}


@dataclasses.dataclass(frozen=True)
class Operation:
    """:param act: is handed ``source`` (a volume with the snapshot
        SNAPSHOT), ``file`` (the path of a disk of the format qcow2),
        ``target`` (a name that is free), ``image`` (an id of the kind
        *image*), ``record`` (of an image that is queued) and ``own`` (a
        volume that is only there for this run).
    :param own: PLAIN, WITH_SNAPSHOT, or WITH_CLONE of a snapshot that was
        deleted.
    :param image: raw, qcow2, raw in file, qcow2 in file.
    :param purges: it leaves work to the background.
    :param strategy: the one that it must go by.
    """

    act: Callable[[RBDDriver, Given], object]
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    image: str = ''
    own: str = ''
    has_record: bool = False
    purges: bool = False
    strategy: str = ''


def _blank(driver: RBDDriver, given: Given) -> None:
    driver.volumes.create(model.VolumeSpec(given['target'], SIZE))


def _sealed_blank(driver: RBDDriver, given: Given) -> None:
    driver.encryption.create_blank(model.VolumeSpec(given['target'], SIZE),
                                   passphrase=PASSPHRASE)


def _from_file(driver: RBDDriver, given: Given) -> None:
    driver.images.create_from_file(
        model.VolumeSpec(given['target'], SIZE), given['file'], 'qcow2')


def _from_snapshot(driver: RBDDriver, given: Given) -> None:
    driver.volumes.create_from_snapshot(
        model.VolumeSpec(given['target']), given['source'], SNAPSHOT)


def _from_volume(driver: RBDDriver, given: Given) -> None:
    driver.volumes.create_from_volume(
        model.VolumeSpec(given['target']), given['source'])


def _create(driver: RBDDriver, given: Given) -> object:
    return driver.images.create(
        model.VolumeSpec(given['target']), given['image'])


def _create_sealed(driver: RBDDriver, given: Given) -> object:
    return driver.images.create(
        model.VolumeSpec(given['target']), given['image'],
        encryption=luks.Encryption(PASSPHRASE))


def _upload(driver: RBDDriver, given: Given, **request: Any) -> object:
    return driver.images.upload(
        model.VolumeSpec(given['source']), ImageRequest(
            name='faults', image_id=given.get('record'), **request))


def _upload_qcow2(driver: RBDDriver, given: Given) -> object:
    return _upload(driver, given, disk_format='qcow2')


def _upload_to_file(driver: RBDDriver, given: Given) -> object:
    return _upload(driver, given, store_id='file')


def _delete(driver: RBDDriver, given: Given) -> None:
    driver.volumes.delete(given['own'])


def _extend(driver: RBDDriver, given: Given) -> None:
    driver.volumes.extend(given['own'], 2 * SIZE)


def _take_snapshot(driver: RBDDriver, given: Given) -> None:
    driver.snapshots.create(given['own'], 'another')


def _delete_snapshot(driver: RBDDriver, given: Given) -> None:
    driver.snapshots.delete(given['own'], SNAPSHOT)


OPERATIONS: Mapping[str, Operation] = {
    'create/blank': Operation(_blank),
    'create/sealed-blank': Operation(_sealed_blank),
    'create/file': Operation(_from_file),
    'create/snapshot': Operation(_from_snapshot),
    'create/snapshot-flatten': Operation(_from_snapshot, {
        'rbd_flatten_volume_from_snapshot': 'true'}),
    'create/volume': Operation(_from_volume),
    'create/clone': Operation(_create, image='raw', strategy='clone'),
    'create/copy': Operation(_create, DEPTH, image='raw', strategy='copy'),
    'create/convert': Operation(_create, image='qcow2', strategy='convert'),
    'create/download': Operation(_create, image='raw in file',
                                 strategy='download'),
    'create/staged-convert': Operation(_create, image='qcow2 in file',
                                       strategy='convert'),
    'create/sealed': Operation(_create_sealed, image='raw',
                               strategy='convert'),
    'upload/clone': Operation(_upload, strategy='clone'),
    'upload/clone-of-record': Operation(_upload, has_record=True,
                                        strategy='clone'),
    'upload/clone-flatten': Operation(
        _upload, {'clone_upload_flatten': 'before_register'},
        strategy='clone'),
    'upload/copy': Operation(_upload, DEPTH, strategy='copy'),
    'upload/convert': Operation(_upload_qcow2, strategy='convert'),
    'upload/file': Operation(_upload_to_file, strategy='upload'),
    'delete/volume': Operation(_delete, own=PLAIN, purges=True),
    'delete/parent': Operation(_delete, own=WITH_CLONE, purges=True),
    'extend/volume': Operation(_extend, own=PLAIN),
    'snapshot/create': Operation(_take_snapshot, own=PLAIN),
    'snapshot/delete': Operation(_delete_snapshot, own=WITH_SNAPSHOT),
}


def find(name: str) -> Operation:
    """One of OPERATIONS, one that is broken on purpose, or a step of the
    random model."""
    from tests.faults import broken, steps
    return {**broken.OPERATIONS, **steps.STEPS, **OPERATIONS}[name]
