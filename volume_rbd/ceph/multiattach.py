# SPDX-License-Identifier: Apache-2.0
"""Several writers at once: without exclusive-lock and what needs it.

The lock would wander from one writer to the other with every write, and
clients that cannot share it fail. What is turned off is remembered in the
image metadata, so that it can be turned on again.
"""

from __future__ import annotations

import json

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import interface
from volume_rbd.ceph.interface import Image

LOG = logging.getLogger(__name__)

KEY = 'volume_rbd.features'

#: What one writer has and several cannot have.
EXCLUSIVE = (interface.EXCLUSIVE_LOCK | interface.OBJECT_MAP
             | interface.FAST_DIFF | interface.JOURNALING)
_USUAL = EXCLUSIVE & interface.CLONE_FEATURES


def enable(image: Image) -> int:
    """Make the open *image* ready for several writers. Idempotent.

    :returns: the features that it has without this, for :func:`disable`.
    :raises VolumeRBDError: it is what it was before.
    """
    features = image.features
    saved = _read(image)
    if saved is None:
        saved = features & EXCLUSIVE
    if not features & EXCLUSIVE:
        return features | saved
    mark = image.metadata().get(KEY)
    try:
        # First, so that a crash in between forgets nothing.
        _write(image, saved | features & EXCLUSIVE)
        image.update_features(EXCLUSIVE, False)
    except BaseException:
        _undo(image, features, mark)
        raise
    return features | saved


def disable(image: Image, saved: int | None = None) -> int:
    """Give the open *image* back what :func:`enable` took, with valid object
    maps. Idempotent.

    :param saved: its features before, where someone else knows them and the
        image bears no mark; None: what a new image has.
    :returns: its features.
    :raises VolumeRBDError: it is what it was before.
    """
    features = image.features
    mark = image.metadata().get(KEY)
    wanted = _read(image)
    if wanted is None:
        wanted = (_USUAL if saved is None else saved) & EXCLUSIVE
    try:
        image.update_features(wanted, True)
        if not image.has_valid_object_map:
            image.rebuild_object_map()
        image.remove_metadata(KEY)
        return image.features
    except BaseException:
        _undo(image, features, mark)
        raise


def _undo(image: Image, features: int, mark: str | None) -> None:
    try:
        has = image.features
        image.update_features(has & ~features & EXCLUSIVE, False)
        image.update_features(features & ~has & EXCLUSIVE, True)
        if not image.has_valid_object_map:
            image.rebuild_object_map()
        if mark is None:
            image.remove_metadata(KEY)
        else:
            image.set_metadata(KEY, mark)
    except exception.VolumeRBDError as error:
        LOG.error('The features of %s are half changed: %s', image.spec,
                  error)


def _read(image: Image) -> int | None:
    """What the image's own mark says; a clone inherits its parent's."""
    try:
        mark = json.loads(image.metadata().get(KEY, ''))
        if mark['image_id'] != image.id:
            return None
        return int(mark['features']) & EXCLUSIVE
    except (ValueError, KeyError, TypeError):
        return None


def _write(image: Image, features: int) -> None:
    image.set_metadata(KEY, json.dumps(
        {'image_id': image.id, 'features': features}, sort_keys=True))
