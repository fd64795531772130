# SPDX-License-Identifier: Apache-2.0
"""Having Glance copy an image into the RBD store that disks are cloned from.

It is done once for each image, in Glance's own time; whoever asks while it is
under way waits for that. Glance tells which stores it is copying to, and which
of them failed, in properties of the image.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from oslo_log import log as logging

from volume_rbd import exception, model, plan, progress
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)

_IMPORTING = 'os_glance_importing_to_stores'
_FAILED = 'os_glance_failed_import'
#: As long as a task is at work with the image.
_LOCK = 'os_glance_import_task'
_TASK = 'api_image_import'
_FIRST_PAUSE_S = 0.25
# So often it is looked whether the operation is cancelled.
_SLICE_S = 0.25

# What another location can do away with.
_ABOUT_LOCATIONS = frozenset({
    plan.Reason.NO_LOCATION, plan.Reason.NOT_RBD,
    plan.Reason.MALFORMED_LOCATION, plan.Reason.OTHER_CLUSTER,
    plan.Reason.FOREIGN_LOCATION, plan.Reason.MISSING_SNAPSHOT,
    plan.Reason.SNAPSHOT_DENIED, plan.Reason.SNAPSHOT_UNREADABLE})

# The message of Glance's task, for people.
_COPIED = re.compile(r'Copied (\d+) MiB')


def would_help(reason: str) -> bool:
    """Whether it is only for where the image lies that it is not cloned.

    :param reason: of the plan.
    """
    return reason in _ABOUT_LOCATIONS


def ensure(glance: Glance, image_id: str, store_id: str, *, fsid: str,
           poll_s: float, timeout_s: float, report: progress.Progress,
           sleep: Callable[[float], None] = time.sleep) -> bool:
    """Let the image lie in the store.

    :param fsid: of the cluster that the store must be in.
    :param poll_s: between two looks; the first ones are quicker.
    :returns: False where it lies there already, so that it does not help.
    :raises StoreNotFound: Glance has no such store.
    :raises ConfigurationError: it is not in RBD, or in another cluster.
    :raises GlanceForbidden: whoever asks may not have it copied.
    :raises ImageNotCopied: Glance failed to.
    :raises OperationTimeout: it did not come to an end in time.
    """
    _check_store(glance, store_id, fsid)
    if store_id in glance.get_image(image_id).stores:
        return False
    report.check()
    report.step(f'waiting for Glance to copy the image into {store_id}')
    waiting = _Waiting(glance, image_id, store_id, report)
    deadline = time.monotonic() + timeout_s
    pause_s = min(_FIRST_PAUSE_S, poll_s)
    while not waiting.look():
        if time.monotonic() >= deadline:
            raise exception.OperationTimeout(
                f'Glance has not copied image {image_id} into store '
                f'{store_id!r} within {timeout_s:g} s; it goes on.',
                remedy='Try again later, or raise '
                       'images_rbd_glance_copy_timeout.')
        _pause(min(pause_s, deadline - time.monotonic()), report, sleep)
        pause_s = min(pause_s * 2, poll_s)
    return True


def _check_store(glance: Glance, store_id: str, fsid: str) -> None:
    try:
        stores = {store.id: store for store in glance.get_stores()}
    except (exception.GlanceForbidden, exception.GlanceUnavailable) as error:
        LOG.debug('Whether store %s will do is not known: %s', store_id,
                  error)
        return
    if store_id not in stores:
        raise exception.StoreNotFound(
            f'Glance has no store {store_id!r}.',
            remedy='Correct images_rbd_glance_store_name; it has: '
                   f'{", ".join(stores)}.')
    store = stores[store_id]
    if store.type != 'rbd' or (store.fsid and store.fsid != fsid):
        raise exception.ConfigurationError(
            f"Glance's store {store_id!r} is not in the cluster of the "
            'disks.', remedy='Correct images_rbd_glance_store_name.')


class _Waiting:
    """For one image to be in one store.

    :ivar is_asked: it has been asked for, by us or by somebody else.
    """

    def __init__(self, glance: Glance, image_id: str, store_id: str,
                 report: progress.Progress) -> None:
        self._glance = glance
        self._image_id = image_id
        self._store_id = store_id
        self._report = report
        self._is_asked = False
        self._copied_bytes = 0

    def look(self) -> bool:
        """Whether it is there; asks for it where nobody is at it."""
        image = self._glance.get_image(self._image_id)
        if self._store_id in image.stores:
            return True
        if image.properties.get(_LOCK):
            if self._store_id in _split(image, _IMPORTING):
                self._is_asked = True
                self._tell(image)
        elif not self._is_asked:
            self._ask()
        else:
            self._check_failed(image)
        return False

    def _check_failed(self, image: model.GlanceImage) -> None:
        """:raises ImageNotCopied: nobody is at it any more."""
        # A task that fails before it comes to the store leaves that among
        # those it is importing to, and says no more.
        tasks = [task for task in self._glance.get_tasks(self._image_id)
                 if task['type'] == _TASK]
        failed = [task for task in tasks if task['status'] == 'failure']
        if failed or self._store_id in _split(image, _FAILED):
            said = f': {failed[-1]["message"]}' if failed else ''
            raise exception.ImageNotCopied(
                f'Glance failed to copy image {self._image_id} into store '
                f'{self._store_id!r}{said.rstrip(".")}.')

    def _ask(self) -> None:
        try:
            self._glance.copy_image(self._image_id, [self._store_id])
        except exception.GlanceConflict as error:
            # Somebody else's copy, perhaps into another store.
            LOG.debug('Image %s: %s', self._image_id, error)
            return
        except exception.InvalidInput:
            # It is there by now, or there is something else wrong.
            image = self._glance.get_image(self._image_id)
            if self._store_id not in image.stores:
                raise
        self._is_asked = True

    def _tell(self, image: model.GlanceImage) -> None:
        for task in reversed(self._glance.get_tasks(self._image_id)):
            found = _COPIED.search(task['message'])
            if not found or not image.size_bytes:
                continue
            copied_bytes = min(int(found[1]) * model.MIB, image.size_bytes)
            if not self._copied_bytes:
                self._report.start(image.size_bytes)
            self._report.advance(max(copied_bytes - self._copied_bytes, 0))
            self._copied_bytes = max(copied_bytes, self._copied_bytes)
            return


def _split(image: model.GlanceImage, key: str) -> list[str]:
    names = image.properties.get(key, '').split(',')
    return [name.strip() for name in names if name.strip()]


def _pause(seconds: float, report: progress.Progress,
           sleep: Callable[[float], None]) -> None:
    while seconds > 0:
        report.check()
        sleep(min(seconds, _SLICE_S))
        seconds -= _SLICE_S
    report.check()
