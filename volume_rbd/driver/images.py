# SPDX-License-Identifier: Apache-2.0
"""The two big operations: create from image, upload to image."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph.interface import Cluster
from volume_rbd.driver import facts
from volume_rbd.driver.background import Flattener
from volume_rbd.flows import (
    create_from_image,
    engine,
    registration,
    upload_to_image,
)
from volume_rbd.flows.base import Result, Tools
from volume_rbd.glance.interface import Glance


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """The image that an upload is to make.

    :param image_id: of a queued record that the caller made and keeps;
        None: the flow makes the record, and undoes it on failure.
    :param store_id: None for the default store.
    """

    name: str
    image_id: str | None = None
    disk_format: str = 'raw'
    container_format: str = 'bare'
    store_id: str | None = None
    properties: dict[str, str] = dataclasses.field(default_factory=dict)


class Images:
    """Volumes from images and images from volumes of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance],
                 flattener: Flattener) -> None:
        self._config = config
        self._cluster = cluster
        self._open_glance = open_glance
        self._flattener = flattener

    # -- create from image ---------------------------------------------------
    def plan_create(self, volume: model.VolumeSpec, image_id: str
                    ) -> plan.Plan:
        """Which way, and why; touches nothing.

        :raises ImageExists: the volume is there already.
        """
        return self._plan_create(volume, image_id)[0]

    def _plan_create(self, volume: model.VolumeSpec, image_id: str
                     ) -> tuple[plan.Plan, model.GlanceImage]:
        model.check_name(volume.name)
        pool = self._cluster.pool(self._config.pool)
        if pool.has_image(volume.name):
            raise exception.ImageExists(
                f'Volume {volume.name!r} exists already in pool '
                f'{pool.name!r}.', remedy='Choose another name.')
        known = facts.for_create(self._config, self._cluster,
                                 self._open_glance(), image_id,
                                 volume.size_bytes)
        return plan.plan_create(known), known.image

    def create(self, volume: model.VolumeSpec, image_id: str, *,
               report: progress.Progress | None = None) -> Result:
        """Make *volume* from a Glance image.

        :raises VolumeRBDError: nothing was left behind.
        """
        decided, image = self._plan_create(volume, image_id)
        job = str(uuid.uuid4())
        arguments = create_from_image.get_arguments(
            decided, job=job, image=image, volume_name=volume.name)
        flow = create_from_image.get_flow(self._tools(report), arguments)
        result = engine.run(flow, arguments, job=job,
                            connection=self._config.flow_connection)
        origin = f'glance:{image_id}'
        if result.strategy == plan.Strategy.CLONE:
            origin = f'rbd:{decided.source}'
        return dataclasses.replace(result, lineage={
            'kind': 'volume', 'origin': origin, 'job': job})

    # -- upload to image -----------------------------------------------------
    def plan_upload(self, volume: model.VolumeSpec, request: ImageRequest
                    ) -> plan.Plan:
        """Which way, and why; touches nothing.

        :raises ImageNotFound: no such volume.
        """
        return plan.plan_upload(facts.for_upload(
            self._config, self._cluster, self._open_glance(), volume,
            disk_format=request.disk_format,
            container_format=request.container_format,
            store_id=request.store_id))

    def upload(self, volume: model.VolumeSpec, request: ImageRequest, *,
               report: progress.Progress | None = None) -> Result:
        """Make a Glance image of *volume*, as it is at this moment.

        :raises RegistrationPending: Glance took the clone and did not
            finish in time; the clone and the record stay.
        :raises VolumeRBDError: nothing was left behind.
        """
        decided = self.plan_upload(volume, request)
        job = str(uuid.uuid4())
        image = model.GlanceImage(
            id=request.image_id or str(uuid.uuid4()), name=request.name,
            status='queued', disk_format=request.disk_format,
            container_format=request.container_format,
            min_disk_gib=model.gib_for(decided.size_bytes),
            properties=request.properties)
        arguments = upload_to_image.get_arguments(
            decided, job=job, image=image,
            record_exists=request.image_id is not None,
            volume_name=volume.name, fsid=self._cluster.fsid)
        flow = upload_to_image.get_flow(self._tools(report), arguments)
        result = engine.run(flow, arguments, job=job,
                            connection=self._config.flow_connection)
        self._after_clone(result, image.id, decided,
                          report or progress.Silent())
        snapshot = registration.source_snapshot(image.id)
        return dataclasses.replace(result, lineage={
            'kind': 'glance_image', 'job': job,
            'origin': f'rbd:{self._config.pool}/{volume.name}@{snapshot}'})

    def _after_clone(self, result: Result, image_id: str,
                     decided: plan.Plan, report: progress.Progress
                     ) -> None:
        if result.strategy != plan.Strategy.CLONE or decided.store is None:
            return
        pool = decided.store.pool or ''
        if result.values.get('registration') == registration.PENDING:
            raise exception.RegistrationPending(
                f'Glance accepted image {image_id} and has not made it '
                f'active within {self._config.registration_timeout_s:g} s. '
                f'Its clone {pool}/{image_id} stays, marked pending.',
                remedy='Wait for the image to become active. If it stays '
                       'queued, delete it, run "volume-rbd reclaim --yes" '
                       'to remove the clone, and upload again.')
        if self._config.clone_upload_flatten == 'background':
            report.step('flattening the image in the background')
            self._flattener.submit(pool, image_id)

    def _tools(self, report: progress.Progress | None) -> Tools:
        return Tools(self._config, self._cluster, self._open_glance(),
                     report or progress.Silent())
