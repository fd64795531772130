# SPDX-License-Identifier: Apache-2.0
"""The steps of the random model, as children run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.faults.operations import Given, Operation
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.model import VolumeSpec


def _create(driver: RBDDriver, given: Given) -> None:
    driver.volumes.create(VolumeSpec(given['name'], given['size_bytes']))


def _grow(driver: RBDDriver, given: Given) -> None:
    driver.volumes.extend(given['name'], given['size_bytes'])


def _take_snapshot(driver: RBDDriver, given: Given) -> None:
    driver.snapshots.create(given['name'], given['snapshot'])


def _delete_snapshot(driver: RBDDriver, given: Given) -> None:
    driver.snapshots.delete(given['name'], given['snapshot'])


def _copy(driver: RBDDriver, given: Given) -> None:
    driver.volumes.create_from_volume(VolumeSpec(given['name']),
                                      given['source'])


def _clone(driver: RBDDriver, given: Given) -> None:
    driver.volumes.create_from_snapshot(
        VolumeSpec(given['name']), given['source'], given['snapshot'])


def _upload(driver: RBDDriver, given: Given) -> object:
    return driver.images.upload(VolumeSpec(given['source']), ImageRequest(
        name='model', image_id=given['image'], store_id=given['store'],
        disk_format=given['disk_format']))


def _from_image(driver: RBDDriver, given: Given) -> object:
    return driver.images.create(VolumeSpec(given['name']), given['image'])


def _delete(driver: RBDDriver, given: Given) -> None:
    driver.volumes.delete(given['name'])


_ACTS: Mapping[str, Any] = {
    'create': _create, 'grow': _grow, 'take snapshot': _take_snapshot,
    'delete snapshot': _delete_snapshot, 'copy': _copy, 'clone': _clone,
    'upload': _upload, 'from image': _from_image, 'delete': _delete}

STEPS: Mapping[str, Operation] = {
    f'step/{name}': Operation(act) for name, act in _ACTS.items()}
