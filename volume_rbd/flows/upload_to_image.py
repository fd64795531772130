# SPDX-License-Identifier: Apache-2.0
"""upload_to_image: a volume becomes a Glance image.

Always from a snapshot, so that the image is one point in time even while the
volume is written to.

Arguments (JSON): job, image_id, image_name, disk_format, is_compressed,
container_format, properties, min_disk_gib, record_exists, gives_up_record,
volume_name, size_bytes, fsid, store_id, store_pool, choices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging
from taskflow.patterns import linear_flow

from volume_rbd import exception, model, plan
from volume_rbd.flows import (
    convert_volume,
    copy_volume,
    encrypt,
    owning,
    reaping,
    registration,
    snapshots,
    strategies,
)
from volume_rbd.flows.base import Task, Tools, is_cancelled
from volume_rbd.flows.registration import source_snapshot
from volume_rbd.flows.sending import send

LOG = logging.getLogger(__name__)

NAME = plan.Operation.UPLOAD_TO_IMAGE.value


def get_arguments(decided: plan.Plan, *, job: str, image: model.GlanceImage,
                  record_exists: bool, volume_name: str, fsid: str,
                  is_compressed: bool = False, gives_up_record: bool = False
                  ) -> dict[str, Any]:
    """:param image: what the record is, or is to be; name, formats, id and
        properties count.
    :param is_compressed: where the format can be.
    :param record_exists: the caller made the record and keeps it.
    :param gives_up_record: but for where the caller is gone."""
    return {
        'job': job,
        'image_id': image.id,
        'image_name': image.name or '',
        'disk_format': image.disk_format,
        'is_compressed': is_compressed,
        'container_format': image.container_format,
        'properties': dict(image.properties),
        'min_disk_gib': image.min_disk_gib,
        'record_exists': record_exists,
        'gives_up_record': gives_up_record,
        'volume_name': volume_name,
        'size_bytes': decided.size_bytes,
        'fsid': fsid,
        'store_id': decided.store.id if decided.store else None,
        'store_pool': decided.store.pool if decided.store else None,
        'choices': [choice.as_dict() for choice in decided.choices],
    }


def get_flow(tools: Tools, arguments: Mapping[str, Any]) -> linear_flow.Flow:
    encrypt.check_given(tools, arguments)
    branches: dict[str, list[Task]] = {
        plan.Strategy.CLONE: registration.get_tasks(tools),
        plan.Strategy.COPY: copy_volume.get_tasks(tools),
        plan.Strategy.CONVERT: convert_volume.get_tasks(tools),
        plan.Strategy.UPLOAD: [Upload(tools)],
    }
    flow = linear_flow.Flow(NAME)
    if not arguments['record_exists']:
        flow.add(CreateRecord(tools))
    elif arguments['gives_up_record']:
        flow.add(GiveUpRecord(tools))
    flow.add(
        SnapshotVolume(tools),
        strategies.get_flow(tools, arguments['choices'], branches),
        DropSnapshot(tools))
    return flow


class CreateRecord(Task):
    """Make the queued image record."""

    title = 'creating the image record'

    def execute(self, image_id: str, image_name: str, disk_format: str,
                container_format: str, properties: Mapping[str, str],
                min_disk_gib: int) -> None:
        try:
            self.tools.glance.create_image(
                image_id=image_id, name=image_name, disk_format=disk_format,
                container_format=container_format, properties=properties,
                min_disk_gib=min_disk_gib)
        except exception.GlanceConflict:
            # The id was made for it; only a killed process may have used it.
            if not self.tools.is_resumed or not _is_such(
                    self.tools.glance.get_image(image_id), image_name,
                    disk_format, container_format):
                raise

    def revert(self, image_id: str, image_name: str, disk_format: str,
               container_format: str, result: object, **kwargs: Any) -> None:
        # Nobody else's record has an id that was made for it.
        if owning.was_taken(result, exception.GlanceConflict):
            return
        with contextlib.suppress(exception.GlanceImageNotFound):
            image = self.tools.glance.get_image(image_id)
            if not _is_such(image, image_name, disk_format,
                            container_format):
                return
            if self.tools.is_resumed and reaping.has_data(image):
                # The job may be one that was over long ago, whose record
                # somebody has put back.
                raise exception.GlanceConflict(
                    f'Image {image_id} is {image.status}, and stays.',
                    remedy='Delete the image.')
            self.tools.glance.delete_image(image_id)


def _is_such(image: model.GlanceImage, name: str, disk_format: str,
             container_format: str) -> bool:
    return (image.name or '', image.disk_format, image.container_format
            ) == (name, disk_format, container_format)


class GiveUpRecord(Task):
    """Whoever made the record deletes it when the upload fails; where nobody
    waits for the upload any more, that is done here."""

    title = 'taking the image record'

    def execute(self) -> None:
        pass

    def revert(self, image_id: str, **kwargs: Any) -> None:
        if self._is_waited_for():
            return
        with contextlib.suppress(exception.GlanceImageNotFound):
            image = self.tools.glance.get_image(image_id)
            if image.status in ('queued', 'saving'):
                self.tools.glance.delete_image(image_id)

    def _is_waited_for(self) -> bool:
        return not (self.tools.is_resumed
                    or is_cancelled(self.tools.report))


class SnapshotVolume(Task):
    """Take the snapshot that the image will show."""

    title = 'taking a snapshot of the volume'

    def execute(self, image_id: str, volume_name: str) -> None:
        name = source_snapshot(image_id)
        with self.tools.pool.open(volume_name) as volume:
            # Named after the image: one that is there is this job's own.
            if volume.find_snapshot(name) is None:
                volume.create_snapshot(name)

    def revert(self, image_id: str, volume_name: str, **kwargs: Any) -> None:
        drop_snapshot(self.tools, volume_name, image_id)


class Upload(Task):
    """Send the snapshot's bytes through Glance's API, holes never read."""

    title = 'uploading the volume'
    looks_back = True
    default_provides = 'bytes_moved'

    def execute(self, image_id: str, volume_name: str,
                store_id: str | None) -> int:
        pool = self.tools.pool
        # The volume itself is held open too: its watch keeps others from
        # deleting it, and ends by itself if this process is killed.
        with pool.open(volume_name), \
                pool.open(volume_name, read_only=True,
                          snapshot=source_snapshot(image_id)) as volume:
            return send(self.tools, volume, image_id, store_id)


class DropSnapshot(Task):
    """The image is there: the source snapshot has done its work.

    With clone v2 it moves to the trash namespace where the clone still needs
    it. A snapshot that cannot go now does not make the upload a failure.
    """

    title = 'removing the snapshot of the volume'
    is_cancellable = False
    default_provides = 'leftover'

    def execute(self, image_id: str, volume_name: str) -> str | None:
        try:
            drop_snapshot(self.tools, volume_name, image_id)
        except Exception as error:  # noqa: BLE001, the image is active
            LOG.warning('The snapshot of the upload stays for now: %s', error)
            return f'{volume_name}@{source_snapshot(image_id)}'
        return None


def drop_snapshot(tools: Tools, volume_name: str, image_id: str) -> None:
    snapshots.drop(tools.pool, volume_name, source_snapshot(image_id))
