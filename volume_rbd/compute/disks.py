# SPDX-License-Identifier: Apache-2.0
"""Disks of guests in RBD: volumes of the compute agent's own pool.

They are made, grown, reverted and made images of by the same flows as the
volumes of the block-storage service. What is decided here is a compute
agent's policy: when Glance is asked for a copy that can be cloned, and
whether bytes may be moved at all.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oslo_log import log as logging

from volume_rbd import exception, model, plan, progress, signatures
from volume_rbd.compute import clean_up, copy_image, migration
from volume_rbd.compute.clean_up import CleanedUp
from volume_rbd.compute.config import ComputeConfig
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.driver.reclaim import Deletion
from volume_rbd.driver.volumes import VolumeInfo
from volume_rbd.flows.base import Result
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)


def get_name(instance: str, name: str) -> str:
    """What the disk *name* of an instance is called: ``{uuid}_{name}``.

    :raises InvalidName: *instance* is no UUID, or *name* names no disk.
    """
    try:
        instance = str(uuid.UUID(instance))
    except ValueError:
        raise exception.InvalidName(
            f'{instance!r} is not the UUID of an instance.') from None
    if not name:
        raise exception.InvalidName(
            f'A disk of instance {instance} needs a name.')
    return model.check_name(f'{instance}_{name}', 'disk')


def split_name(disk: str) -> tuple[str, str] | None:
    """The uuid of the instance and the name; None for what is no disk."""
    instance, _, name = disk.partition('_')
    try:
        return (instance, name) if get_name(instance, name) == disk else None
    except exception.InvalidName:
        return None


@dataclasses.dataclass(frozen=True)
class Capacity:
    """The room for disks.

    :param pool: the ceph_pool that takes their bytes.
    :param free_bytes: that can still be written (MAX_AVAIL); replicas and a
        quota are taken into account.
    """

    pool: str
    total_bytes: int
    used_bytes: int
    free_bytes: int


class Disks:
    """The disks of one compute agent.

    :param open_glance: called when Glance is first needed.
    :ivar snapshots: of the disks: create, list, delete.
    """

    def __init__(self, config: ComputeConfig, driver: RBDDriver,
                 open_glance: Callable[[], Glance]) -> None:
        self._config = config
        self._driver = driver
        self._open_glance = open_glance
        self._pool = driver.cluster.pool(config.disks.pool)
        self.snapshots = driver.snapshots

    def check(self) -> None:
        """Try the connection and the pools.

        :raises ClusterUnavailable, PoolNotFound, CephPermissionDenied:
        """
        self._driver.check()
        if data_pool := self._config.disks.layout.data_pool:
            self._driver.cluster.pool(data_pool).check()

    # -- making ----------------------------------------------------------
    def plan_create(self, name: str, image_id: str,
                    size_bytes: int | None = None, *,
                    glance: Glance | None = None) -> plan.Plan:
        """Which way a disk would be made now, and why; touches nothing.

        :raises InvalidSize: it would be smaller than its image.
        """
        return self._driver.images.plan_create(
            model.VolumeSpec(name, size_bytes), image_id, glance=glance)

    def create(self, name: str, image_id: str,
               size_bytes: int | None = None, *,
               report: progress.Progress | None = None,
               glance: Glance | None = None,
               certificates: signatures.Certificates | None = None
               ) -> Result:
        """A disk of a Glance image: a clone wherever one of its locations can
        be cloned, else what is next best; see ``driver.images``.

        With images_rbd_glance_store_name, an image that lies nowhere where
        it could be cloned is copied there by Glance before. The result's
        values then have ``copied_to_store``, or ``not_copied``: why not.

        :param size_bytes: None: that of the image, in whole GiB.
        :param glance: that of whoever asks; likewise *certificates*.
        :raises InvalidSize: the disk would be smaller than its image.
        :raises NotCloneable: images_rbd_must_clone is on, and it cannot be.
        :raises VolumeRBDError: nothing was left behind.
        """
        volume = model.VolumeSpec(name, size_bytes)
        glance = glance or self._open_glance()
        copied = self._copy_where_it_helps(
            volume, image_id, glance, report or progress.Silent())
        result = self._driver.images.create(
            volume, image_id, report=report, glance=glance,
            certificates=certificates)
        return _with_values(result, copied)

    def _copy_where_it_helps(self, volume: model.VolumeSpec, image_id: str,
                             glance: Glance, report: progress.Progress
                             ) -> dict[str, str]:
        """:returns: for the result's values."""
        store = self._config.copy_store
        if store is None:
            return {}
        if not copy_image.would_help(self._why_no_clone(volume, image_id,
                                                        glance)):
            return {}
        try:
            is_copied = copy_image.ensure(
                glance, image_id, store, fsid=self._driver.cluster.fsid,
                poll_s=self._config.copy_poll_s,
                timeout_s=self._config.copy_timeout_s, report=report)
        except exception.Cancelled:
            raise
        except exception.VolumeRBDError as error:
            if self._config.disks.must_clone:
                raise
            LOG.warning('Image %s is not cloned: %s', image_id, error)
            return {'not_copied': error.message}
        return {'copied_to_store': store} if is_copied else {}

    def _why_no_clone(self, volume: model.VolumeSpec, image_id: str,
                      glance: Glance) -> str:
        """The reason of the plan, which for a clone is that of the clone."""
        try:
            return self._driver.images.plan_create(
                volume, image_id, glance=glance).reason.value
        except exception.NotCloneable as error:
            return error.reason

    def create_blank(self, name: str, size_bytes: int) -> None:
        """An empty disk.

        :raises ImageExists, InvalidName, InvalidSize:
        """
        self._driver.volumes.create(model.VolumeSpec(name, size_bytes))

    # -- looking ---------------------------------------------------------
    def exists(self, name: str) -> bool:
        return self._driver.volumes.exists(name)

    def size(self, name: str) -> int:
        """In bytes, as RBD has it. :raises ImageNotFound:"""
        with self._pool.open(name, read_only=True) as image:
            return image.size_bytes

    def layout(self, name: str) -> model.Layout:
        """How it lies in RADOS. :raises ImageNotFound:"""
        with self._pool.open(name, read_only=True) as image:
            return image.layout

    def check_size(self, name: str, size_bytes: int) -> None:
        """See that a guest may have it.

        :param size_bytes: the most that its flavor allows.
        :raises InvalidSize: the disk is larger.
        """
        found = self.size(name)
        if found > size_bytes:
            raise exception.InvalidSize(
                f'Disk {name!r} has {found} bytes, more than the '
                f'{size_bytes} that are allowed.',
                remedy=f'Use a flavor with {model.gib_for(found)} GiB.')

    def show(self, name: str) -> VolumeInfo:
        """:raises ImageNotFound:"""
        return self._driver.volumes.show(name)

    def names(self, wanted: clean_up.Filter | None = None
              ) -> Sequence[str]:
        """Those of all disks, or of those that are wanted."""
        return clean_up.find(self._driver, wanted)

    def list(self, wanted: clean_up.Filter | None = None
             ) -> Iterator[VolumeInfo]:
        """By name; one that goes meanwhile is left out."""
        for name in self.names(wanted):
            try:
                yield self.show(name)
            except exception.ImageNotFound:
                continue

    def capacity(self) -> Capacity:
        """One ``df``, however many disks there are.

        :raises PoolNotFound:
        """
        pool = self._config.disks.layout.data_pool or self._pool.name
        usage = self._driver.cluster.pool(pool).usage()
        free_bytes = usage.max_available_bytes
        return Capacity(pool, free_bytes + usage.stored_bytes,
                        usage.stored_bytes, free_bytes)

    # -- changing --------------------------------------------------------
    def resize(self, name: str, size_bytes: int) -> None:
        """Grow it, also while it is in use; nothing where it has that size.

        :raises InvalidSize: it would shrink, and the guest lose data.
        :raises ImageNotFound:
        """
        if size_bytes != self.size(name):
            self._driver.volumes.extend(name, size_bytes)

    def rollback(self, name: str, snapshot: str, *,
                 report: progress.Progress | None = None) -> None:
        """Make it what it was at the snapshot, or leave it as it is.

        :raises ImageNotFound, SnapshotNotFound:
        :raises ImageBusy: a guest has it open.
        """
        self.snapshots.revert(name, snapshot, report=report)

    def delete(self, name: str) -> Deletion:
        """:raises ImageNotFound, ImageBusy, ImageHasSnapshots:"""
        return self._driver.volumes.delete(name)

    def clean_up(self, wanted: clean_up.Filter, *,
                 with_snapshots: bool = False,
                 timeout_s: float = clean_up.TIMEOUT_S,
                 report: progress.Progress | None = None
                 ) -> Sequence[CleanedUp]:
        """Remove the disks that are wanted, and nothing else.

        :param wanted: what their names begin with, for instance an
            instance's UUID and "_"; or says of a name whether it is one.
        :param with_snapshots: those go too; else such a disk stays.
        :param timeout_s: how long those that are still open are tried.
        :returns: what became of each of them.
        :raises InvalidInput: the filter would let everything go.
        """
        return clean_up.clean_up(
            self._driver, wanted, with_snapshots=with_snapshots,
            timeout_s=timeout_s, report=report or progress.Silent())

    def migrate_xml(self, xml: str) -> str:
        """The XML of a guest for the host that it moves to: its disks are
        found by the monitors that are there now; see
        :mod:`volume_rbd.compute.migration`.

        :raises InvalidInput: it is no XML.
        """
        return migration.migrate_xml(xml, self._config, self._driver)

    # -- snapshots as images ---------------------------------------------
    def snapshot_to_image(self, name: str, request: ImageRequest | str, *,
                          report: progress.Progress | None = None,
                          glance: Glance | None = None) -> Result:
        """Make a Glance image of a disk, as it is at this moment: a flattened
        clone where Glance's store is in the same cluster and may be written
        to; see ``driver.images.upload``.

        :param request: a title alone is in snapshot_image_format. Where the
            record is there already, its formats count: what is registered is
            what was said there.
        :raises ImageNotFound: there is no such disk.
        :raises InvalidInput: the record does not say its formats.
        :raises VolumeRBDError: nothing was left behind.
        """
        glance = glance or self._open_glance()
        if isinstance(request, str):
            request = ImageRequest(
                request, disk_format=self._config.snapshot_format or 'raw')
        if request.image_id is not None:
            request = _as_recorded(request, glance.get_image(
                request.image_id))
        return self._driver.images.upload(
            model.VolumeSpec(name), request, report=report, glance=glance)


def _with_values(result: Result, copied: dict[str, str]) -> Result:
    if not copied:
        return result
    values: dict[str, Any] = {**result.values, **copied}
    sentence = result.sentence
    if 'not_copied' in copied:
        sentence = f'{sentence} {copied["not_copied"]}'
    return dataclasses.replace(result, values=values, sentence=sentence)


def _as_recorded(request: ImageRequest, image: model.GlanceImage
                 ) -> ImageRequest:
    if not (image.disk_format and image.container_format):
        raise exception.InvalidInput(
            f'The record of image {image.id} has no disk_format or no '
            'container_format, so what is registered could be anything.',
            remedy='Set both, or let the record be made here.')
    return dataclasses.replace(
        request, disk_format=image.disk_format,
        container_format=image.container_format)
