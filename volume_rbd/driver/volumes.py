# SPDX-License-Identifier: Apache-2.0
"""Volumes: make, list, show, grow, delete."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Sequence

from oslo_log import log as logging

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import ancestry, lineage
from volume_rbd.ceph.interface import Cluster, Image, ParentInfo
from volume_rbd.driver.reclaim import (
    Deletion,
    Reclaimer,
    is_own_snapshot,
)

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class VolumeInfo:
    """:param parent: ``pool/image@snapshot`` a clone shares data with.
    :param depth: how many ancestors it has.
    :param lineage: its own mark; None if it bears none.
    """

    name: str
    pool: str
    size_bytes: int
    image_id: str
    parent: str | None
    depth: int
    snapshots: tuple[str, ...]
    watchers: tuple[str, ...]
    lineage: lineage.Lineage | None


class Volumes:
    """The volumes of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 reclaimer: Reclaimer) -> None:
        self._config = config
        self._cluster = cluster
        self._pool = cluster.pool(config.pool)
        self._reclaimer = reclaimer

    # -- making --------------------------------------------------------------
    def create(self, volume: model.VolumeSpec) -> None:
        """An empty volume.

        :raises ImageExists, InvalidName, InvalidSize, QuotaExceeded:
        """
        model.check_name(volume.name)
        if not volume.size_bytes or volume.size_bytes < 0:
            raise exception.InvalidSize(
                f'Volume {volume.name!r} needs a size.',
                remedy='Give a whole number of GiB, 1 or more.')
        plan.check_quota(volume.size_bytes, self._config.max_volume_bytes)
        self._pool.create(volume.name, volume.size_bytes,
                          object_size_bytes=self._config.object_size_bytes)
        self._adopt_or_remove(volume.name, 'blank', str(uuid.uuid4()))

    def create_from_snapshot(self, volume: model.VolumeSpec, source: str,
                             snapshot: str, *,
                             report: progress.Progress | None = None) -> None:
        """A clone of ``source@snapshot``, flattened where the policy or the
        depth of the chain asks for it.

        :raises ImageNotFound, SnapshotNotFound, ImageExists, InvalidSize:
        """
        model.check_name(volume.name)
        parent = model.SnapSpec(self._pool.name, source, snapshot)
        with self._pool.open(source, snapshot=snapshot,
                             read_only=True) as opened:
            size_bytes = self._size_for(volume, opened)
            depth = ancestry.depth(self._cluster, opened) + 1
        report = report or progress.Silent()
        report.check()
        report.step('cloning the volume')
        self._pool.clone(parent, volume.name)
        self._adopt_or_remove(volume.name, f'rbd:{parent}',
                              str(uuid.uuid4()), size_bytes, report)
        if (self._config.flatten_volume_from_snapshot
                or depth > self._config.max_clone_depth):
            self._flatten_or_remove(volume.name, report)

    def create_from_volume(self, volume: model.VolumeSpec, source: str, *,
                           report: progress.Progress | None = None) -> None:
        """A clone of a volume as it is now."""
        snapshot = f'volume_rbd.clone-{volume.name}'
        report = report or progress.Silent()
        with self._pool.open(source) as opened:
            self._size_for(volume, opened)
            report.check()
            report.step('taking a snapshot of the volume')
            # One that is there was left by a run that was killed.
            _drop_snapshot(opened, snapshot)
            opened.create_snapshot(snapshot)
        try:
            self.create_from_snapshot(volume, source, snapshot, report=report)
        finally:
            try:
                with self._pool.open(source) as opened:
                    _drop_snapshot(opened, snapshot)
            except exception.VolumeRBDError as error:
                LOG.warning('Snapshot %s@%s stays for now: %s', source,
                            snapshot, error)

    def _size_for(self, volume: model.VolumeSpec, source: Image) -> int:
        size_bytes = volume.size_bytes or source.size_bytes
        if size_bytes < source.size_bytes:
            raise exception.InvalidSize(
                f'A volume of {model.gib_for(size_bytes)} GiB is smaller '
                f'than its source {source.spec}, which has '
                f'{model.gib_for(source.size_bytes)} GiB.',
                remedy='Ask for that size or more.')
        plan.check_quota(size_bytes, self._config.max_volume_bytes)
        return size_bytes

    def _adopt_or_remove(self, name: str, origin: str, job: str,
                         size_bytes: int | None = None,
                         report: progress.Progress | None = None) -> None:
        try:
            with self._pool.open(name) as image:
                lineage.adopt(image, kind=lineage.VOLUME, origin=origin,
                              job=job)
                if size_bytes is not None and size_bytes > image.size_bytes:
                    image.resize(size_bytes)
            if report is not None:
                report.check()
        except BaseException:
            self._pool.remove(name)
            raise

    def _flatten_or_remove(self, name: str,
                           report: progress.Progress | None) -> None:
        report = report or progress.Silent()
        report.step('flattening the volume')

        def on_progress(done: int, total: int) -> None:
            report.check()

        try:
            with self._pool.open(name) as image:
                image.flatten(on_progress)
        except BaseException:
            self._pool.remove(name)
            raise

    # -- looking -------------------------------------------------------------
    def names(self) -> Sequence[str]:
        return sorted(image.name for image in self._pool.images())

    def list(self) -> Iterator[VolumeInfo]:
        """All volumes by name; one that goes meanwhile is left out."""
        for name in self.names():
            try:
                yield self.show(name)
            except exception.ImageNotFound:
                continue

    def show(self, name: str) -> VolumeInfo:
        """:raises ImageNotFound:"""
        with self._pool.open(name, read_only=True) as image:
            return VolumeInfo(
                name=name, pool=self._pool.name, size_bytes=image.size_bytes,
                image_id=image.id, parent=_describe(image.parent),
                depth=ancestry.depth(self._cluster, image),
                snapshots=tuple(found.name for found in image.snapshots()
                                if not found.in_trash),
                watchers=tuple(image.watchers()),
                lineage=lineage.get_lineage(image))

    # -- changing ------------------------------------------------------------
    def extend(self, name: str, size_bytes: int) -> None:
        """:raises InvalidSize: it would not grow.
        :raises QuotaExceeded, ImageNotFound:
        """
        plan.check_quota(size_bytes, self._config.max_volume_bytes)
        with self._pool.open(name) as image:
            if size_bytes <= image.size_bytes:
                raise exception.InvalidSize(
                    f'Volume {name!r} has {model.gib_for(image.size_bytes)} '
                    f'GiB; {model.gib_for(size_bytes)} GiB is no growth.',
                    remedy='A volume can only be made larger.')
            image.resize(size_bytes)

    def delete(self, name: str) -> Deletion:
        """Remove a volume; where clones still need it, out of sight now and
        for good when the last of them goes.

        :raises ImageNotFound:
        :raises ImageHasSnapshots: it has snapshots of its owner's.
        :raises ImageBusy: somebody has it open.
        """
        with self._pool.open(name) as image:
            _refuse_snapshots(image)
            _refuse_watchers(image)
        return self._reclaimer.remove_volume(name)


def _drop_snapshot(image: Image, name: str) -> None:
    """With a clone of format 1 it stays, until that clone goes."""
    found = image.find_snapshot(name)
    if found is not None and not (
            found.is_protected and image.children(found.id)):
        image.unprotect_snapshot(name)
        image.remove_snapshot(name)


def _describe(parent: ParentInfo | None) -> str | None:
    if parent is None:
        return None
    where = ' (in trash)' if parent.in_trash else ''
    return f'{parent.pool}/{parent.image}@{parent.snapshot}{where}'


def _refuse_snapshots(image: Image) -> None:
    names = [found.name for found in image.snapshots()
             if not found.in_trash and not is_own_snapshot(found.name)]
    if names:
        raise exception.ImageHasSnapshots(
            f'Volume {image.spec.name!r} has snapshots: '
            f'{", ".join(names)}.',
            remedy='Delete them first with "volume-rbd snapshot delete".')


def _refuse_watchers(image: Image) -> None:
    watchers = image.watchers()
    if watchers:
        raise exception.ImageBusy(
            f'Volume {image.spec.name!r} is open at '
            f'{", ".join(watchers)}.')
