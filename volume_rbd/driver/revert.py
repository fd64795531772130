# SPDX-License-Identifier: Apache-2.0
"""Reverting a volume, so that it can be taken back.

A rollback changes the volume in place and can fail half-way. So a snapshot of
the volume as it is goes before, and the volume is rolled back to that where
the rollback fails. Whoever is killed leaves it there; the next revert finds
it, and goes back to *that* state where it fails in its turn.
"""

from __future__ import annotations

from oslo_log import log as logging

from volume_rbd import exception, opts, progress
from volume_rbd.ceph import groupmark
from volume_rbd.ceph.interface import Cluster, Image, SnapshotInfo
from volume_rbd.copying.copier import Copier
from volume_rbd.driver import debris

LOG = logging.getLogger(__name__)

#: The volume as it was before a revert that has not ended.
SAFETY = f'{debris.OWN_PREFIX}revert'
#: Image metadata, the image's id: a revert has begun and not ended.
_UNDER_WAY = f'{debris.OWN_PREFIX}reverting'


class Reverter:
    """Reverts the volumes of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 copier: Copier) -> None:
        self._copier = copier
        self._pool = cluster.pool(config.pool)

    def revert(self, volume: str, name: str, *, keep_size: bool,
               report: progress.Progress) -> None:
        """See :class:`~volume_rbd.driver.snapshots.Snapshots`."""
        with self._pool.open(volume) as image:
            plain = image.find_snapshot(name)
            found = plain or groupmark.find(image, name)
            if found is None:
                raise exception.SnapshotNotFound(
                    f'Volume {volume!r} has no snapshot {name!r}.')
            debris.refuse_watchers(
                image, '; a revert would change it under its user')
            report.check()
            size_bytes = _keep_safe(image)
            try:
                self._go_to(image, found, plain is not None, report)
                if keep_size and image.size_bytes < size_bytes:
                    image.resize(size_bytes)
            except BaseException as error:
                _go_back(image, error)
                raise
            _end(image)

    def _go_to(self, image: Image, found: SnapshotInfo, is_plain: bool,
               report: progress.Progress) -> None:
        report.step('reverting the volume')
        if is_plain:
            image.rollback(found.name)
            return
        # A part of a group's snapshot cannot be rolled back to by name.
        with self._pool.open_by_id(image.id, snapshot_id=found.id) as part:
            image.resize(0, allow_shrink=True)
            image.resize(part.size_bytes)
            self._copier.fill(
                part, image, report=report,
                reopen=lambda: self._pool.open(image.spec.name,
                                               read_only=True))


def _keep_safe(image: Image) -> int:
    """:returns: the size of the volume as it is to be gone back to."""
    safety = image.find_snapshot(SAFETY)
    is_under_way = image.metadata().get(_UNDER_WAY) == image.id
    if safety is not None and not is_under_way:
        # Of a revert that had ended: it is older than the volume.
        image.remove_snapshot(SAFETY)
        safety = None
    if safety is None:
        size_bytes = image.size_bytes
        image.create_snapshot(SAFETY)
        try:
            image.set_metadata(_UNDER_WAY, image.id)
        except BaseException:
            _end(image)
            raise
        return size_bytes
    LOG.warning('An earlier revert of %s had not ended', image.spec)
    return safety.size_bytes


def _go_back(image: Image, error: BaseException) -> None:
    try:
        image.rollback(SAFETY)
        _end(image)
    except exception.VolumeRBDError as problem:
        LOG.error('%s is half reverted, and could not be taken back; it is '
                  'in its snapshot %s: %s', image.spec, SAFETY, problem)
        if isinstance(error, exception.VolumeRBDError):
            error.message = (
                f'{error.message.rstrip(".")}. What the volume was before is '
                f'in its snapshot {SAFETY!r}; revert it once more.')


def _end(image: Image) -> None:
    try:
        image.remove_metadata(_UNDER_WAY)
        image.remove_snapshot(SAFETY)
    except exception.VolumeRBDError as error:
        LOG.warning('Snapshot %s@%s stays for now: %s', image.spec, SAFETY,
                    error)
