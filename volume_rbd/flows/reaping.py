# SPDX-License-Identifier: Apache-2.0
"""What lies in the store's pool under the id of an image: whose it is, and
how it goes."""

from __future__ import annotations

import contextlib

import tenacity
from oslo_log import log as logging

from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Pool
from volume_rbd.flows import owning
from volume_rbd.flows.base import Tools

LOG = logging.getLogger(__name__)

# A killed client's watch lasts 30 seconds; Glance may hold the clone open.
_REAP_TIMEOUT_S = 40


def reap_own(pool: Pool, image_id: str) -> None:
    """Remove what an earlier, unfinished job of ours left under the image's
    name; Glance's own data or anybody else's is never touched.

    :raises ImageExists: it is not ours.
    """
    try:
        with pool.open(image_id, read_only=True) as image:
            mark = lineage.get_lineage(image)
    except exception.ImageNotFound:
        return
    if mark is None or mark.kind != lineage.GLANCE_IMAGE:
        raise exception.ImageExists(
            f'{pool.name}/{image_id} exists already and is not ours.',
            remedy='Look at it with "rbd info"; it is named after an image '
                   'that Glance holds to be without data.')
    LOG.info('Removing %s/%s, left by job %s', pool.name, image_id, mark.job)
    reap(pool, image_id)


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(
        (exception.ImageBusy, exception.ImageHasSnapshots)),
    stop=tenacity.stop_after_delay(_REAP_TIMEOUT_S),
    wait=tenacity.wait_exponential(0.2, max=5), reraise=True)
def reap(pool: Pool, image_id: str) -> None:
    """Remove a clone of ours with its snapshots, as far as it is there.

    Glance may have deleted some of it itself, or hold it open for a moment.
    """
    with contextlib.suppress(exception.ImageNotFound,
                             exception.SnapshotNotFound), \
            pool.open(image_id) as image:
        for snapshot in image.snapshots():
            if snapshot.is_protected:
                image.unprotect_snapshot(snapshot.name)
            if not snapshot.in_trash:
                image.remove_snapshot(snapshot.name)
    # Also where it cannot be opened: its removal may have been interrupted.
    with contextlib.suppress(exception.ImageNotFound):
        pool.remove(image_id)


def undo(tools: Tools, image_id: str, store_pool: str, is_ours: owning.Test
         ) -> None:
    """Remove what a job has made for an image, if it is there.

    :raises GlanceConflict: Glance has it, or is about to: then it stays.
    """
    check_not_taken(tools, image_id, store_pool)
    owning.drop(tools.cluster.pool(store_pool), image_id, is_ours, reap)


def check_not_taken(tools: Tools, image_id: str, store_pool: str) -> None:
    """Asked by whoever takes up a job, before anything is removed or made
    anew that Glance may have by now.

    :raises GlanceConflict: it has, or is about to: then it stays.
    """
    if not tools.is_resumed:
        return
    with contextlib.suppress(exception.GlanceImageNotFound):
        if is_taken(tools, image_id, location_of(
                image_id, tools.cluster.fsid, store_pool)):
            raise exception.GlanceConflict(
                f'Glance has {store_pool}/{image_id} as the data of '
                'that image.', remedy='Delete the image.')


def is_taken(tools: Tools, image_id: str, url: str) -> bool:
    """Whether Glance has *url* as the image's data, or is at work on it.

    :raises GlanceImageNotFound:
    """
    image = tools.glance.get_image(image_id)
    if has_data(image):
        return url in tools.glance.get_locations(image_id)
    tasks = tools.glance.get_tasks(image_id)
    return bool(tasks) and tasks[-1].get('status') not in (
        'success', 'failure')


def has_data(image: model.GlanceImage) -> bool:
    """Whether somebody may use it, or could again."""
    return image.status in ('active', 'deactivated')


def location_of(image_id: str, fsid: str, store_pool: str) -> str:
    """The URL of what a job has made for an image."""
    return model.RBDLocation(fsid, store_pool, image_id,
                             model.GLANCE_SNAPSHOT).url
