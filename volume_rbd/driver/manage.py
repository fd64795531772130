# SPDX-License-Identifier: Apache-2.0
"""Taking over rbd_images that somebody else made, and letting them go.

An rbd_image is taken over under another name; its data stays where it is. To
rename it is the last step and the only one that others see: whatever fails
before, it is as it was.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence

from oslo_log import log as logging

from volume_rbd import exception, model, opts
from volume_rbd.ceph import lineage, multiattach, qos
from volume_rbd.ceph.interface import Cluster, Image, SnapshotInfo
from volume_rbd.driver.debris import (
    STOCK_CLONE,
    STOCK_DELETED,
    check_new_name,
    is_own_snapshot,
)

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ManageableVolume:
    """:param reason_not_safe: why it had better be left alone; None where it
        can be managed."""

    name: str
    size_bytes: int
    reason_not_safe: str | None


@dataclasses.dataclass(frozen=True)
class ManageableSnapshot:
    """:param reason_not_safe: see :class:`ManageableVolume`."""

    volume: str
    name: str
    size_bytes: int
    reason_not_safe: str | None


class Manage:
    """What is in one backend's pool, and whose it is."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster) -> None:
        self._pool = cluster.pool(config.pool)

    # -- volumes -------------------------------------------------------------
    def sizes(self) -> dict[str, int]:
        """Name to size in bytes of all rbd_images of the pool, by name.

        None is opened: to be sorted and cut into pages, of which
        :meth:`list_volumes` tells the rest.
        """
        images = sorted(self._pool.images(), key=lambda image: image.name)
        known = self._pool.sizes(image.id for image in images)
        return {image.name: known[image.id] for image in images
                if image.id in known}

    def list_volumes(self, names: Sequence[str] | None = None
                     ) -> list[ManageableVolume]:
        """Those of *names* that are there, in that order; each is opened.

        :param names: None for all of the pool.
        """
        found = []
        for name in self.sizes() if names is None else names:
            try:
                with self._pool.open(name, read_only=True) as image:
                    found.append(ManageableVolume(
                        name, image.size_bytes, _reason_not_safe(image)))
            except exception.ImageNotFound:
                continue
            except exception.Unavailable:
                raise
            except exception.VolumeRBDError as error:
                LOG.warning('%s is not listed: %s', name, error)
        return found

    def get_size_bytes(self, name: str) -> int:
        """:raises ImageNotFound:"""
        with self._pool.open(name, read_only=True) as image:
            return image.size_bytes

    def manage(self, existing: str, new_name: str, *,
               qos_specs: Mapping[str, str] | None = None,
               is_multiattach: bool = False) -> None:
        """Take the rbd_image *existing* over as the volume *new_name*.

        :param qos_specs: its limits; None leaves those that it has.
        :raises ImageNotFound, ImageExists, InvalidName, InvalidInput:
        :raises ImageBusy: somebody has it open.
        :raises Conflict: it is somebody else's.
        :raises VolumeRBDError: it is as it was.
        """
        check_new_name(new_name)
        qos.check(qos_specs or {})
        with self._pool.open(existing) as image:
            _refuse_unsafe(image)
            if new_name != existing and self._pool.has_image(new_name):
                raise exception.ImageExists(
                    f'Cannot manage {existing!r}: there is a volume '
                    f'{new_name!r} already.')
            before = _Before(image)
            try:
                lineage.mark(image, kind=lineage.VOLUME,
                             origin=f'managed:{existing}',
                             job=str(uuid.uuid4()))
                if qos_specs is not None:
                    qos.replace(image, qos_specs)
                if is_multiattach:
                    multiattach.enable(image)
                if new_name != existing:
                    self._pool.rename(existing, new_name)
            except BaseException:
                before.restore(image)
                raise

    def unmanage(self, name: str) -> None:
        """Let a volume go: it stays as it is, under its name, and no longer
        bears our mark, so that nothing here ever takes it for ours. One that
        is gone already is no error.
        """
        try:
            with self._pool.open(name) as image:
                image.remove_metadata(lineage.KEY)
        except exception.ImageNotFound:
            LOG.info('There is no volume %s to unmanage', name)

    # -- snapshots -----------------------------------------------------------
    def list_snapshots(self, volumes: Sequence[str]
                       ) -> list[ManageableSnapshot]:
        """Those of *volumes* that are there, oldest first."""
        found = []
        for name in volumes:
            try:
                with self._pool.open(name, read_only=True) as image:
                    found += [ManageableSnapshot(
                        name, snapshot.name, snapshot.size_bytes,
                        _snapshot_reason(snapshot.name))
                        for snapshot in image.snapshots()
                        if not snapshot.in_trash]
            except exception.ImageNotFound:
                continue
        return found

    def get_snapshot_size_bytes(self, volume: str, name: str) -> int:
        """:raises ImageNotFound, SnapshotNotFound:"""
        with self._pool.open(volume, read_only=True) as image:
            return _get_snapshot(image, name).size_bytes

    def manage_snapshot(self, volume: str, existing: str, new_name: str
                        ) -> None:
        """Take a snapshot over as *new_name*. Protected or not, it stays so.

        :raises ImageNotFound, SnapshotNotFound, SnapshotExists, InvalidName:
        :raises Conflict: it is of use to somebody.
        """
        check_new_name(new_name, 'snapshot')
        with self._pool.open(volume) as image:
            _get_snapshot(image, existing)
            reason = _snapshot_reason(existing)
            if reason:
                raise exception.Conflict(
                    f'Snapshot {volume}@{existing} cannot be managed: '
                    f'{reason}.', remedy='Choose another one.')
            if new_name != existing:
                image.rename_snapshot(existing, new_name)

    def unmanage_snapshot(self, volume: str, name: str) -> None:
        """Let a snapshot go: it stays, without the protection that no clone
        needs. One that is gone already is no error."""
        try:
            with self._pool.open(volume) as image:
                found = _get_snapshot(image, name)
                if found.is_protected and not image.children(found.id):
                    image.unprotect_snapshot(name)
        except (exception.ImageNotFound, exception.SnapshotNotFound):
            LOG.info('There is no snapshot %s@%s to unmanage', volume, name)


class _Before:
    """What of an open image :meth:`Manage.manage` changes."""

    def __init__(self, image: Image) -> None:
        known = image.metadata()
        self._metadata = {key: known.get(key) for key in (
            lineage.KEY, multiattach.KEY, *qos.KEYS.values())}
        self._features = image.features

    def restore(self, image: Image) -> None:
        try:
            lost = self._features & ~image.features
            if lost:
                multiattach.disable(image, lost)
            now = image.metadata()
            for key, value in self._metadata.items():
                if value is None and key in now:
                    image.remove_metadata(key)
                elif value is not None and now.get(key) != value:
                    image.set_metadata(key, value)
        except exception.VolumeRBDError as error:
            LOG.error('%s is not quite as it was: %s', image.spec, error)


def _refuse_unsafe(image: Image) -> None:
    watchers = image.watchers()
    if watchers:
        raise exception.ImageBusy(
            f'Cannot manage {image.spec}: it is open at '
            f'{", ".join(watchers)}.')
    reason = _reason_not_safe(image)
    if reason:
        raise exception.Conflict(
            f'Cannot manage {image.spec}: {reason}.',
            remedy='Choose another rbd_image.')


def _reason_not_safe(image: Image) -> str | None:
    """In the stock driver's words, where it has them."""
    name = image.spec.name
    if image.watchers():
        return 'volume in use'
    if name.endswith(STOCK_DELETED):
        return 'volume marked as deleted'
    mark = lineage.get_lineage(image)
    if is_own_snapshot(name) or (mark is not None and (
            mark.kind != lineage.VOLUME or mark.state == lineage.PENDING)):
        # One that bears the mark of the trash was brought back from there.
        return 'used by this driver'
    if _is_uuid(name) and image.find_snapshot(model.GLANCE_SNAPSHOT):
        return 'an image of Glance'
    return None


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _snapshot_reason(name: str) -> str | None:
    """In the stock driver's words, where it has them."""
    if name.endswith(STOCK_CLONE):
        return 'used for clone snap'
    if name.startswith('backup') and '.snap.' in name:
        return 'used for volume backup'
    if is_own_snapshot(name):
        return 'used by this driver'
    return None


def _get_snapshot(image: Image, name: str) -> SnapshotInfo:
    found = image.find_snapshot(name)
    if found is None:
        raise exception.SnapshotNotFound(
            f'Volume {image.spec.name!r} has no snapshot {name!r}.')
    return found
