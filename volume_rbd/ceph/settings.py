# SPDX-License-Identifier: Apache-2.0
"""What a volume's type asks of its rbd_image; every way of creating one calls
this once it is adopted, and removes the rbd_image where it fails."""

from __future__ import annotations

from volume_rbd import model
from volume_rbd.ceph import multiattach, qos
from volume_rbd.ceph.interface import Image


def check(volume: model.VolumeSpec) -> None:
    """Before anything is touched.

    :raises InvalidInput: its limits cannot be set.
    """
    qos.check(volume.qos)


def are_wanted(volume: model.VolumeSpec) -> bool:
    return bool(volume.qos) or volume.is_multiattach


def apply_settings(image: Image, volume: model.VolumeSpec) -> None:
    """Give the open, adopted *image* what *volume* says of it.

    :raises VolumeRBDError: the image is what it was before.
    """
    if volume.qos:
        qos.replace(image, volume.qos)
    if volume.is_multiattach:
        multiattach.enable(image)
