# SPDX-License-Identifier: Apache-2.0
"""The object maps of an open librbd image: one of its own, one a snapshot."""

from __future__ import annotations

from typing import Any

from volume_rbd.ceph import bindings


def is_valid(image: Any) -> bool:
    """Of what *image* is at: it has an object map that librbd believes."""
    rbd = bindings.rbd()
    return bool(image.features() & rbd.RBD_FEATURE_OBJECT_MAP
                and not image.flags() & rbd.RBD_FLAG_OBJECT_MAP_INVALID)


def rebuild(image: Any) -> None:
    """Rebuild those that are not valid.

    Where object-map is turned on, librbd marks those of the image and of all
    its snapshots invalid, and does not rebuild any (tried with 16.2).
    """
    if not image.features() & bindings.rbd().RBD_FEATURE_OBJECT_MAP:
        return
    for found in image.list_snaps():
        image.set_snap_by_id(found['id'])
        if not is_valid(image):
            image.rebuild_object_map()
    # Last: where it is valid, all are.
    image.set_snap(None)
    if not is_valid(image):
        image.rebuild_object_map()
