# SPDX-License-Identifier: Apache-2.0
"""Snapshots and rbd_images that nobody asked for: this driver's own, and what
the stock driver leaves behind.

The stock driver clones a volume from a protected snapshot of it,
``CLONE.clone_snap``, forgets to remove that with the clone, and on account of
it renames the volume to ``NAME.deleted`` where it should delete it. Backups
to another cluster leave ``backup.ID.snap.TIME`` on the volume; they go with
it.

The ending alone proves nothing: people may name so too. What the stock driver
names begins with the name of a volume of Cinder's, which has the volume's id
in it, whatever ``volume_name_template`` is.
"""

from __future__ import annotations

import contextlib
import re
import time

from volume_rbd import exception, model
from volume_rbd.ceph import groupmark, lineage
from volume_rbd.ceph.interface import Image, SnapshotInfo

OWN_PREFIX = 'volume_rbd.'
STOCK_CLONE = '.clone_snap'
STOCK_DELETED = '.deleted'
#: What the origin of a volume begins with that came from another pool.
MIGRATED = 'migrated:'
_BACKUP = re.compile(r'backup\.[a-z0-9-]+\.snap\..+')
_CINDERS_ID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')

#: How long somebody who is just closing an rbd_image is waited for.
PATIENCE_S = 1.0
_PAUSE_S = 0.1


def is_own_snapshot(name: str) -> bool:
    """Whether an operation of ours took it; no user's name looks so."""
    return name.startswith(OWN_PREFIX)


def is_of_an_operation(name: str) -> bool:
    """Whether it is no snapshot of the volume's owner's."""
    return (is_own_snapshot(name) or is_taken_by_stock(name)
            or _BACKUP.fullmatch(name) is not None)


def is_taken_by_stock(name: str) -> bool:
    """Whether it is a snapshot that the stock driver took for a clone."""
    return _is_named_by_stock(name, STOCK_CLONE)


def _is_named_by_stock(name: str, ending: str) -> bool:
    return (name.endswith(ending) and not is_own_snapshot(name)
            and _CINDERS_ID.search(name.removesuffix(ending)) is not None)


def check_new_name(name: str, what: str = 'volume') -> str:
    """Return *name* if a new volume or snapshot can have it.

    What is there already under another name is let be, and can be deleted.

    :raises InvalidName: if not, or it could be taken for somebody's debris.
    """
    model.check_name(name, what)
    if name.endswith((STOCK_CLONE, STOCK_DELETED)) or (
            what == 'snapshot' and is_of_an_operation(name)):
        raise exception.InvalidName(
            f'{name!r} cannot be the name of a {what}: drivers name so what '
            'they take or leave themselves.',
            remedy='Choose another name, that does not end in '
                   f'"{STOCK_CLONE}" or "{STOCK_DELETED}", or begin with '
                   f'"{OWN_PREFIX}" or "backup.".')
    return name


def is_migrated(origin: str) -> bool:
    return origin.startswith(MIGRATED)


def is_deleted_by_stock(image: Image) -> bool:
    """A volume that the stock driver was asked to delete, with nothing of
    its owner's on it. Whether it still has clones is not looked at.

    It may have been made by this driver, which gives no such names itself.
    """
    return (_is_named_by_stock(image.spec.name, STOCK_DELETED)
            and not _is_being_made(image)
            and not image.group_snapshots()
            and all(found.in_trash or is_of_an_operation(found.name)
                    for found in image.snapshots()))


def _is_being_made(image: Image) -> bool:
    mark = lineage.get_lineage(image)
    return mark is not None and mark.state == lineage.PENDING


def is_stale_clone_snapshot(image: Image, found: SnapshotInfo) -> bool:
    """The clone that the stock driver took it for is gone, or not made yet.
    """
    return (not found.in_trash and is_taken_by_stock(found.name)
            and not image.children(found.id))


def refuse_snapshots(image: Image) -> None:
    """:raises ImageHasSnapshots: it has some of its owner's."""
    names = [found.name for found in image.snapshots()
             if not found.in_trash and not is_of_an_operation(found.name)]
    if names:
        raise exception.ImageHasSnapshots(
            f'Volume {image.spec.name!r} has snapshots: '
            f'{", ".join(names)}.',
            remedy='Delete them first with "volume-rbd snapshot delete".')
    groups = [found.group for found in image.group_snapshots()]
    if groups:
        raise exception.ImageHasSnapshots(
            f'Volume {image.spec.name!r} is part of snapshots of the RBD '
            f'groups: {", ".join(groups)}.',
            remedy='Delete those group snapshots first.')


def refuse_watchers(image: Image, why: str = '') -> None:
    """:param why: the rest of the sentence.
    :raises ImageBusy: somebody has it open, and does not just close it."""
    deadline = time.monotonic() + PATIENCE_S
    while watchers := image.living_watchers():
        if time.monotonic() > deadline:
            raise exception.ImageBusy(
                f'Volume {image.spec.name!r} is open at '
                f'{", ".join(watchers)}{why}.')
        time.sleep(_PAUSE_S)


def drop_snapshots(image: Image) -> bool:
    """Remove every snapshot of an rbd_image that is to go, where no clone
    needs it. Those of groups of somebody's stay, and keep it.

    :returns: False if a clone needs one.
    """
    is_free = True
    for part in groupmark.parts(image):
        image.remove_snapshot_by_id(part.id)
    for found in image.snapshots():
        if image.children(found.id):
            is_free = False
            # Clone v2: the name goes at once, the data with the last clone.
            if not found.in_trash:
                with contextlib.suppress(exception.SnapshotBusy):
                    image.unprotect_snapshot(found.name)
                    image.remove_snapshot(found.name)
            continue
        _remove(image, found)
    return is_free


def drop_snapshot_of_a_clone(image: Image, snapshot_id: int) -> bool:
    """A clone of *snapshot_id* is gone; remove it where it was there for
    that clone only.

    :returns: whether it is gone.
    """
    for found in image.snapshots():
        if found.id == snapshot_id:
            was_for_it = (found.in_trash or is_own_snapshot(found.name)
                          or is_taken_by_stock(found.name))
            if not was_for_it or image.children(snapshot_id):
                return False
            _remove(image, found)
    return True


def _remove(image: Image, found: SnapshotInfo) -> None:
    if found.is_protected:
        image.unprotect_snapshot(found.name)
    image.remove_snapshot_by_id(found.id)
