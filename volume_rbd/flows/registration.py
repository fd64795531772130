# SPDX-License-Identifier: Apache-2.0
"""The clone strategy of an upload: clone into the store's pool, register; and
what the copy strategy shares with it.

Glance registers in the background: it answers 202 and may still fail. Until
then an undo could leave an *active* image without data, so from the answer on
nothing is undone before the image was read again and says how it ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from volume_rbd import exception, model, plan
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Pool
from volume_rbd.flows import owning, reaping
from volume_rbd.flows.base import Task, Tools

LOG = logging.getLogger(__name__)

ACTIVE = 'active'
PENDING = 'pending'

# Registering takes about 0.15 s; the tasks are asked for when it takes longer.
# All who wait in this process share the rate: twenty at once would keep Glance
# from the very work that they wait for.
_POLL_FIRST_S = 0.05
_POLL_LONGEST_S = 1.5
_ASK_TASKS_AFTER_S = 0.3
_REGISTER_PAUSES_S = (0.2, 0.5, 1.5)


def get_tasks(tools: Tools) -> list[Task]:
    tasks: list[Task] = [CloneVolume(tools)]
    if tools.config.clone_upload_flatten == 'before_register':
        tasks.append(FlattenClone(tools))
    tasks += [PublishSnapshot(tools), Register(tools), AwaitActive(tools)]
    return tasks


class CloneVolume(Task):
    """Clone the volume's snapshot into the store's pool, named as Glance
    names it, and mark it pending."""

    title = 'cloning the volume'

    def execute(self, job: str, image_id: str, volume_name: str,
                store_pool: str) -> None:
        source = source_of(self.tools, volume_name, image_id)
        pool = self.tools.cluster.pool(store_pool)
        reaping.check_not_taken(self.tools, image_id, store_pool)
        if self.tools.is_resumed:
            owning.drop(pool, image_id, owning.made_by(
                self.tools, job, owning.is_clone_begun(source)), reaping.reap)
        try:
            self._clone(pool, source, image_id)
        except exception.CephPermissionDenied as error:
            raise _not_cloneable(plan.Reason.CLONE_DENIED, error) from None
        except (exception.NotSupported, exception.PoolNotFound) as error:
            raise _not_cloneable(plan.Reason.CLONE_FAILED, error) from None
        with self.or_undo(lambda: pool.remove(image_id)), \
                pool.open(image_id) as clone:
            lineage.adopt(clone, kind=lineage.GLANCE_IMAGE, job=job,
                          origin=f'rbd:{source}', state=lineage.PENDING)

    @staticmethod
    def _clone(pool: Pool, source: model.SnapSpec, image_id: str) -> None:
        try:
            pool.clone(source, image_id)
        except exception.ImageExists:
            reaping.reap_own(pool, image_id)
            pool.clone(source, image_id)

    def revert(self, job: str, image_id: str, volume_name: str,
               store_pool: str, result: object, **kwargs: Any) -> None:
        source = source_of(self.tools, volume_name, image_id)
        reaping.undo(self.tools, image_id, store_pool, owning.made_by(
            self.tools, job, owning.is_clone_begun(source), result))


class FlattenClone(Task):
    """Cut the clone loose before Glance sees it."""

    title = 'flattening the clone'

    def execute(self, image_id: str, store_pool: str) -> None:
        report = self.tools.report

        def on_progress(done: int, total: int) -> None:
            report.check()

        with self.tools.cluster.pool(store_pool).open(image_id) as clone:
            clone.flatten(on_progress)


class PublishSnapshot(Task):
    """Take and protect the snapshot that Glance's URL names; it goes with the
    whole clone.

    Protected always: Glance's own add does it, and other clients of the pool
    may clone with format 1.
    """

    title = 'taking the snapshot of the image'

    def execute(self, image_id: str, store_pool: str) -> None:
        with self.tools.cluster.pool(store_pool).open(image_id) as clone:
            if clone.find_snapshot(model.GLANCE_SNAPSHOT) is None:
                clone.create_snapshot(model.GLANCE_SNAPSHOT)
            clone.protect_snapshot(model.GLANCE_SNAPSHOT)


class Registering(Task):
    """Ask Glance to take what lies in the store's pool as the image's data.

    One that was interrupted may have been taken: it is not cancelled, and what
    Glance made of it is waited for.
    """

    looks_back = True

    def register(self, image_id: str, fsid: str, store_pool: str,
                 hashes: model.Hashes | None) -> str:
        url = reaping.location_of(image_id, fsid, store_pool)
        # From here on there is no way back.
        if not self.tools.is_resumed:
            self.tools.report.check()
        elif reaping.is_taken(self.tools, image_id, url):
            return url
        try:
            self._register(image_id, url, hashes)
        except exception.ApiNotImplemented as error:
            self._register_legacy(
                image_id, url, hashes, plan.Reason.LOCATION_API_MISSING,
                error)
        except exception.GlanceForbidden as error:
            self._register_legacy(
                image_id, url, hashes, plan.Reason.LOCATION_FORBIDDEN, error)
        except exception.InvalidInput as error:
            raise _refused(plan.Reason.LOCATION_REFUSED, error) from None
        return url

    def _register(self, image_id: str, url: str,
                  hashes: model.Hashes | None) -> None:
        """POST, again where no clear answer came.

        Glance takes one registration at a time and only for a queued image,
        so after an unclear answer a 409 says that the first one was taken.
        """
        is_unclear = False
        for pause_s in (*_REGISTER_PAUSES_S, None):
            try:
                self.tools.glance.register_location(image_id, url, hashes)
                return
            except exception.GlanceConflict:
                if self._was_taken(image_id, url,
                                   is_unclear or self.tools.is_resumed):
                    return
                raise
            except exception.GlanceImageNotFound:
                raise
            except exception.VolumeRBDError as error:
                # Once one may have been taken, a refusal of the next says
                # nothing of the first.
                if not (is_unclear or _may_have_been_taken(error)):
                    raise
                is_unclear = True
                LOG.warning('No clear answer to the registration of image '
                            '%s: %s', image_id, error)
            if pause_s is not None:
                time.sleep(pause_s)
        # Glance may have taken it all the same: only the image can tell.

    def _register_legacy(self, image_id: str, url: str,
                         hashes: model.Hashes | None, reason: plan.Reason,
                         why: exception.VolumeRBDError) -> None:
        if not self.tools.config.allow_legacy_locations:
            raise _refused(reason, why)
        try:
            self.tools.glance.register_location_legacy(image_id, url, hashes)
        except (exception.GlanceForbidden, exception.ApiNotImplemented,
                exception.InvalidInput) as error:
            raise _refused(reason, error) from None
        except exception.GlanceConflict:
            if not self._was_taken(image_id, url, False):
                raise
        except exception.GlanceUnavailable as error:
            _without_answer(image_id, error)

    def _was_taken(self, image_id: str, url: str, is_unclear: bool) -> bool:
        """Whether a 409 says that Glance has taken *url* already; an image
        that is active may have somebody else's data."""
        try:
            image = self.tools.glance.get_image(image_id)
            if image.status == 'active':
                return url in self.tools.glance.get_locations(image_id)
        except exception.GlanceImageNotFound:
            raise
        except exception.VolumeRBDError:
            if not is_unclear:
                raise
        return is_unclear


class Register(Registering):
    """Ask Glance to take the clone as the image's data. It has no hashes: to
    compute them takes reading it all."""

    title = 'registering the image'

    def execute(self, image_id: str, fsid: str, store_pool: str) -> str:
        return self.register(image_id, fsid, store_pool, None)


def _may_have_been_taken(error: exception.VolumeRBDError) -> bool:
    return isinstance(error, exception.GlanceUnavailable) and error.was_sent


def _without_answer(image_id: str, error: exception.GlanceUnavailable
                    ) -> None:
    """Go on where Glance may have taken it: only the image can tell."""
    if not error.was_sent:
        raise error
    LOG.warning('No answer to the registration of image %s: %s', image_id,
                error)


class AwaitActive(Task):
    """Read the image again until Glance has settled it.

    Provides ``registration``: ACTIVE, or PENDING when time ran out; then
    clone and record stay.
    """

    title = 'waiting for the image to be active'
    is_cancellable = False
    default_provides = 'registration'

    def execute(self, image_id: str, store_pool: str) -> str:
        state = wait_until_settled(
            self.tools, image_id, self.tools.config.registration_timeout_s)
        if state == ACTIVE:
            self._complete(image_id, store_pool)
        return state

    def _complete(self, image_id: str, store_pool: str) -> None:
        try:
            with self.tools.cluster.pool(store_pool).open(image_id) as clone:
                lineage.set_state(clone, lineage.COMPLETE)
        except Exception as error:  # noqa: BLE001
            # The image is active; a stale mark must not undo it.
            LOG.warning('Image %s stays marked pending: %s', image_id, error)


class _Waiting:
    """How many registrations this process waits for."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.count -= 1


_waiting = _Waiting()


def wait_until_settled(tools: Tools, image_id: str, timeout_s: float) -> str:
    """:returns: ACTIVE or PENDING.
    :raises RegistrationRefused: Glance gave up and queued the image again.
    :raises GlanceImageNotUsable: somebody deleted it meanwhile.
    """
    with _waiting:
        return _poll(tools, image_id, timeout_s)


def _poll(tools: Tools, image_id: str, timeout_s: float) -> str:
    started = time.monotonic()
    pause_s = _POLL_FIRST_S
    while True:
        time.sleep(min(pause_s * _waiting.count, _POLL_LONGEST_S, timeout_s))
        pause_s *= 1.3
        waited_s = time.monotonic() - started
        try:
            if _is_settled(tools, image_id, waited_s):
                return ACTIVE
        except (exception.GlanceImageNotUsable,
                exception.RegistrationRefused):
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it does not say that Glance gave up.
            LOG.warning('Cannot read image %s: %s', image_id, error)
        if waited_s >= timeout_s:
            return PENDING


def _is_settled(tools: Tools, image_id: str, waited_s: float) -> bool:
    try:
        image = tools.glance.get_image(image_id)
    except exception.GlanceImageNotFound:
        raise exception.GlanceImageNotUsable(
            f'Image {image_id} was deleted while it was registered.',
            remedy='Upload the volume again.') from None
    if image.status == 'active':
        return True
    if image.status in ('deleted', 'pending_delete', 'killed'):
        raise exception.GlanceImageNotUsable(
            f'Image {image_id} became {image.status} while it was '
            'registered.', remedy='Upload the volume again.')
    if image.status == 'queued' and waited_s > _ASK_TASKS_AFTER_S:
        failed = _failed_task(tools.glance.get_tasks(image_id))
        if failed is not None:
            raise exception.RegistrationRefused(
                failed, reason=plan.Reason.LOCATION_TASK_FAILED.value)
    return False


def _failed_task(tasks: list[Mapping[str, str]]) -> str | None:
    """The message of the newest task if it failed."""
    if tasks and tasks[-1].get('status') == 'failure':
        return tasks[-1].get('message') or 'Glance gave no reason'
    return None


def source_of(tools: Tools, volume_name: str, image_id: str
              ) -> model.SnapSpec:
    """The snapshot of the volume that an upload reads."""
    return model.SnapSpec(tools.config.pool, volume_name,
                          source_snapshot(image_id))


def source_snapshot(image_id: str) -> str:
    """Its name."""
    return f'volume_rbd.upload-{image_id}'


def _not_cloneable(reason: plan.Reason, error: exception.VolumeRBDError
                   ) -> exception.NotCloneable:
    return exception.NotCloneable(error.message, reason=reason.value)


def _refused(reason: plan.Reason, error: exception.VolumeRBDError
             ) -> exception.RegistrationRefused:
    return exception.RegistrationRefused(error.message, reason=reason.value)
