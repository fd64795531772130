# SPDX-License-Identifier: Apache-2.0
"""A place in the backend's pool for bytes on their way: a temporary rbd_image
instead of a local file. Whatever happens to the operation, it goes."""

from __future__ import annotations

import time

from oslo_log import log as logging

from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import CLUSTERS_LAYOUT, Image, Pool

LOG = logging.getLogger(__name__)

#: No volume is called so; see is_own_snapshot in debris.py.
PREFIX = 'volume_rbd.stage-'

# A killed client's watch lasts 30 seconds, where it cannot be ended.
_LET_GO_TIMEOUT_S = 40
_PAUSE_S = 0.1


def stage_name(owner: str) -> str:
    """:param owner: the volume or the image that the bytes are for."""
    return PREFIX + owner


def make(pool: Pool, name: str, size_bytes: int, *, job: str, origin: str,
         layout: model.Layout = CLUSTERS_LAYOUT) -> None:
    """An empty one, marked.

    :raises ImageBusy: another operation of the same name is at work.
    """
    drop_left(pool, name)
    pool.create(name, size_bytes, layout=layout)
    try:
        mark(pool, name, job=job, origin=origin)
    except BaseException:
        pool.remove(name)
        raise


def mark(pool: Pool, name: str, *, job: str, origin: str) -> None:
    with pool.open(name) as stage:
        lineage.adopt(stage, kind=lineage.STAGE, job=job, origin=origin,
                      state=lineage.PENDING)


def drop_left(pool: Pool, name: str) -> None:
    """Remove what an operation that was killed has left under *name*."""
    try:
        with pool.open(name) as stage:
            watchers = stage.watchers()
    except exception.ImageNotFound:
        return
    if watchers:
        raise exception.ImageBusy(
            f'{pool.name}/{name} is in use at {", ".join(watchers)}.')
    LOG.info('Removing %s/%s, left by an earlier operation', pool.name, name)
    pool.remove(name)


def drop(pool: Pool, name: str) -> None:
    """Remove it, if it is there."""
    try:
        pool.remove(name)
    except exception.ImageNotFound:
        return


def drop_held(pool: Pool, name: str) -> None:
    """As :func:`drop`, where a child of ours may have it open."""
    wait_until_let_go(pool, name)
    drop(pool, name)


def wait_until_let_go(pool: Pool, name: str) -> None:
    """End the watch of a child of ours that was killed, so that the
    rbd_image *name* can be removed. Nobody else has it open yet."""
    try:
        with pool.open(name) as image:
            deadline = time.monotonic() + _LET_GO_TIMEOUT_S
            _fence(image)
            while image.watchers() and time.monotonic() < deadline:
                time.sleep(_PAUSE_S)
    except exception.ImageNotFound:
        return


def _fence(image: Image) -> None:
    try:
        if image.watchers():
            image.fence_writer()
    except exception.VolumeRBDError as error:
        # Then its watch ends by itself.
        LOG.warning('The watch of a process that was killed is waited for: '
                    '%s', error)


def try_to_drop(pool: Pool, name: str) -> str | None:
    """As :func:`drop`, after the work is done: that it cannot go now does
    not make the operation a failure.

    :returns: its name if it stays.
    """
    try:
        drop(pool, name)
    except Exception as error:  # noqa: BLE001
        LOG.warning('%s/%s stays for now: %s', pool.name, name, error)
        return name
    return None
