# SPDX-License-Identifier: Apache-2.0
"""How a volume comes to be: made, marked, given what its type asks for; or
not at all.

It bears the name that it will have from the beginning, marked *pending*. So
whoever was killed half-way is found by the next one who makes a volume of
that name, and by the service when it deletes the volume.
"""

from __future__ import annotations

import contextlib
import enum
import uuid
from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import ancestry, groupmark, lineage, settings
from volume_rbd.ceph.interface import Cluster, Image, SnapshotInfo
from volume_rbd.copying.copier import Copier
from volume_rbd.driver import debris
from volume_rbd.driver.background import Flattener
from volume_rbd.driver.reclaim import Reclaimer
from volume_rbd.flows import encrypt

LOG = logging.getLogger(__name__)


class Flatten(enum.Enum):
    """When a new clone is cut loose."""

    NEVER = 'never'
    LATER = 'later'
    NOW = 'now'


def when_to_flatten(config: opts.BackendConfig, depth: int) -> Flatten:
    """:param depth: the ancestors that the new clone has, those included
        that a flatten in the background will take from it."""
    if depth > config.max_clone_depth:
        return Flatten.NOW
    if config.flatten_when == 'background':
        is_due = (config.flatten_volume_from_snapshot
                  or depth == config.max_clone_depth)
        return Flatten.LATER if is_due else Flatten.NEVER
    if config.flatten_volume_from_snapshot:
        return Flatten.NOW
    return Flatten.NEVER


class Maker:
    """Makes the volumes of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 reclaimer: Reclaimer, flattener: Flattener, copier: Copier
                 ) -> None:
        self._config = config
        self._cluster = cluster
        self._pool = cluster.pool(config.pool)
        self._reclaimer = reclaimer
        self._flattener = flattener
        self._copier = copier

    # -- the ways ------------------------------------------------------------
    def make_blank(self, volume: model.VolumeSpec, size_bytes: int,
                   origin: str = 'blank',
                   report: progress.Progress | None = None
                   ) -> contextlib.AbstractContextManager[Image]:
        """An empty volume, complete when the ``with`` block is left."""
        return self._making(volume, origin, report or progress.Silent(),
                            lambda: self._pool.create(
                                volume.name, size_bytes, object_size_bytes=(
                                    self._config.object_size_bytes)))

    def clone(self, volume: model.VolumeSpec, parent: model.SnapSpec,
              report: progress.Progress) -> None:
        """A clone of *parent*, flattened where that has to be.

        :raises ImageNotFound, SnapshotNotFound, ImageExists, InvalidSize:
        """
        with self._cluster.pool(parent.pool).open(
                parent.image, snapshot=parent.snapshot,
                read_only=True) as opened:
            size_bytes = self.size_for(volume, opened)
            depth = ancestry.depth(self._cluster, opened) + 1
        flatten = when_to_flatten(self._config, depth)
        report.check()
        report.step('cloning the volume')
        with self._making(
                volume, f'rbd:{parent}', report,
                lambda: self._pool.clone(parent, volume.name)) as image:
            if size_bytes > image.size_bytes:
                image.resize(size_bytes)
            if flatten is Flatten.NOW:
                self._flatten(image, report)
        if flatten is Flatten.LATER:
            self._flattener.submit(self._pool.name, volume.name)

    def _flatten(self, image: Image, report: progress.Progress) -> None:
        report.step('flattening the volume')

        def on_progress(done: int, total: int) -> None:
            report.check()

        with self._flattener.slot(report.check):
            image.flatten(on_progress)

    def copy_group_part(self, volume: model.VolumeSpec, source: str,
                        snapshot: str, report: progress.Progress) -> None:
        """A copy of a volume's part in a snapshot of a group: before Ceph 19
        it cannot be cloned.

        :raises ImageNotFound, SnapshotNotFound, ImageExists, InvalidSize:
        """
        with self._pool.open(source, read_only=True) as image:
            found = groupmark.find(image, snapshot)
            image_id = image.id
        if found is None:
            raise exception.SnapshotNotFound(
                f'Volume {source!r} has no snapshot {snapshot!r}.')
        with self._pool.open_by_id(image_id, snapshot_id=found.id) as part:
            size_bytes = self.size_for(volume, part)
            origin = f'rbd:{self._pool.name}/{source}@{snapshot}'
            report.check()
            with self.make_blank(volume, size_bytes, origin,
                                 report) as image:
                report.step('copying the snapshot')
                self._copier.fill(
                    part, image, report=report,
                    reopen=lambda: self._pool.open(volume.name,
                                                   read_only=True))

    def size_for(self, volume: model.VolumeSpec, source: Image) -> int:
        """:raises InvalidSize, QuotaExceeded:"""
        # An encrypted one has room for its LUKS header besides.
        extra = (source.size_bytes % model.GIB
                 if encrypt.is_encrypted_volume(volume, source) else 0)
        size_bytes = (volume.size_bytes + extra if volume.size_bytes
                      else source.size_bytes)
        if size_bytes < source.size_bytes:
            raise exception.InvalidSize(
                f'A volume of {model.gib_for(size_bytes)} GiB is smaller '
                f'than its source {source.spec}, which has '
                f'{model.gib_for(source.size_bytes)} GiB.',
                remedy='Ask for that size or more.')
        plan.check_quota(size_bytes - extra, self._config.max_volume_bytes)
        return size_bytes

    # -- what they share -----------------------------------------------------
    @contextlib.contextmanager
    def _making(self, volume: model.VolumeSpec, origin: str,
                report: progress.Progress, make: Callable[[], object]
                ) -> Iterator[Image]:
        """The new volume, open; what fails inside removes it again."""
        try:
            make()
        except exception.ImageExists:
            if not self._remove_unfinished(volume.name):
                raise
            make()
        try:
            with self._pool.open(volume.name) as image:
                lineage.adopt(image, kind=lineage.VOLUME, origin=origin,
                              job=str(uuid.uuid4()), state=lineage.PENDING)
                yield image
                settings.apply_settings(image, volume)
                report.check()
                lineage.set_state(image, lineage.COMPLETE)
        except BaseException:
            self._undo(volume.name)
            raise

    def _undo(self, name: str) -> None:
        try:
            self._reclaimer.remove_volume(name)
        except exception.ImageNotFound:
            return
        except exception.VolumeRBDError as error:
            LOG.error('Volume %s was not finished and cannot be removed: %s',
                      name, error)

    def _remove_unfinished(self, name: str) -> bool:
        """:returns: whether there was one that a killed process left."""
        with self._pool.open(name) as image:
            mark = lineage.get_lineage(image)
            if (mark is None or mark.kind != lineage.VOLUME
                    or mark.state != lineage.PENDING or image.watchers()):
                return False
        LOG.warning('Volume %s was left unfinished; it is made anew', name)
        self._reclaimer.remove_volume(name)
        return True


def drop_own_snapshot(image: Image, name: str) -> None:
    """With a clone of format 1 it stays, until that clone goes."""
    found: SnapshotInfo | None = image.find_snapshot(name)
    if found is not None and not (
            found.is_protected and image.children(found.id)):
        image.unprotect_snapshot(name)
        image.remove_snapshot(name)


def clone_snapshot(name: str) -> str:
    """Our snapshot of a volume from which the volume *name* is cloned."""
    return f'{debris.OWN_PREFIX}clone-{name}'
