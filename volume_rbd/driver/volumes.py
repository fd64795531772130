# SPDX-License-Identifier: Apache-2.0
"""Volumes: make, list, show, grow, delete."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Sequence

from oslo_log import log as logging

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import (
    ancestry,
    groupmark,
    lineage,
    multiattach,
    settings,
)
from volume_rbd.ceph.interface import Cluster, ParentInfo
from volume_rbd.driver import debris, making
from volume_rbd.driver.reclaim import Deletion, Reclaimer
from volume_rbd.flows import delete_volume
from volume_rbd.flows.base import Tools
from volume_rbd.jobs.jobs import Jobs

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
                 reclaimer: Reclaimer, jobs: Jobs, maker: making.Maker, *,
                 resized: Callable[[str], None] = lambda name: None) -> None:
        """:param resized: is told which volume has another size now."""
        self._config = config
        self._cluster = cluster
        self._pool = cluster.pool(config.pool)
        self._reclaimer = reclaimer
        self._jobs = jobs
        self._maker = maker
        self._resized = resized

    # -- making --------------------------------------------------------------
    def create(self, volume: model.VolumeSpec, *,
               is_undone_when_lost: bool = False) -> None:
        """An empty volume.

        :param is_undone_when_lost: where this process is killed, nobody
            wants it any more; likewise below.
        :raises ImageExists, InvalidName, InvalidSize, QuotaExceeded:
        """
        debris.check_new_name(volume.name)
        settings.check(volume)
        if not volume.size_bytes or volume.size_bytes < 0:
            raise exception.InvalidSize(
                f'Volume {volume.name!r} needs a size.',
                remedy='Give a whole number of GiB, 1 or more.')
        self._maker.make_blank(volume, volume.size_bytes, progress.Silent(),
                               is_undone_when_lost=is_undone_when_lost)

    def create_from_snapshot(self, volume: model.VolumeSpec, source: str,
                             snapshot: str, *,
                             report: progress.Progress | None = None,
                             is_undone_when_lost: bool = False) -> None:
        """A clone of ``source@snapshot``, flattened where the policy or the
        depth of the chain asks for it; a copy where it is part of a group's
        snapshot.

        :raises ImageNotFound, SnapshotNotFound, ImageExists, InvalidSize:
        """
        debris.check_new_name(volume.name)
        settings.check(volume)
        self._maker.clone_snapshot(volume, source, snapshot,
                                   report or progress.Silent(),
                                   is_undone_when_lost=is_undone_when_lost)

    def create_from_volume(self, volume: model.VolumeSpec, source: str, *,
                           report: progress.Progress | None = None,
                           is_undone_when_lost: bool = False) -> None:
        """A clone of a volume as it is now."""
        debris.check_new_name(volume.name)
        settings.check(volume)
        self._maker.clone_volume(volume, source,
                                 report or progress.Silent(),
                                 is_undone_when_lost=is_undone_when_lost)

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

    def exists(self, name: str) -> bool:
        return self._pool.has_image(name)

    def show(self, name: str) -> VolumeInfo:
        """:raises ImageNotFound:"""
        with self._pool.open(name, read_only=True) as image:
            return VolumeInfo(
                name=name, pool=self._pool.name, size_bytes=image.size_bytes,
                image_id=image.id, parent=_describe(image.parent),
                depth=ancestry.depth(self._cluster, image),
                snapshots=tuple(found.name for found in [
                    *image.snapshots(), *groupmark.parts(image)]
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
        self._resized(name)

    def set_multiattach(self, name: str, is_on: bool,
                        saved_features: int | None = None) -> int:
        """Let several have it open for writing, or one only.

        :param saved_features: of the stock driver's provider_location, for a
            volume that it has turned on.
        :returns: the features that it has while it is off, which the stock
            driver wants to know.
        :raises ImageNotFound:
        :raises ImageBusy: somebody has it open: he would lose the lock that
            he relies on, or meet one that he does not know of.
        """
        with self._pool.open(name) as image:
            debris.refuse_watchers(image)
            if is_on:
                return multiattach.enable(image)
            return multiattach.disable(image, saved_features)

    def rename(self, name: str, new_name: str) -> None:
        """:raises ImageNotFound, ImageExists, InvalidName:"""
        debris.check_new_name(new_name)
        self._pool.rename(name, new_name)

    def delete(self, name: str) -> Deletion:
        """Remove a volume: out of sight now, its data in the background, or
        where clones still need it, when the last of them goes. As quick for
        a large one as for a small one.

        :raises ImageNotFound:
        :raises ImageHasSnapshots: it has snapshots of its owner's.
        :raises ImageBusy: somebody has it open.
        """
        delay_s = self._config.deletion_delay_s
        with self._pool.open(name, read_only=True) as image:
            debris.refuse_snapshots(image)
            debris.refuse_watchers(image)
            has_clones = bool(image.snapshots()) and bool(image.children())
            arguments = delete_volume.get_arguments(
                image, job=str(uuid.uuid4()), delay_s=delay_s)
        self._jobs.run(delete_volume.NAME, arguments, Tools(
            self._config, self._cluster, making.NO_GLANCE,
            progress.Silent()))
        return self._reclaimer.purge_soon(
            name, arguments['image_id'], has_clones=has_clones,
            delay_s=delay_s)


def _describe(parent: ParentInfo | None) -> str | None:
    if parent is None:
        return None
    where = ' (in trash)' if parent.in_trash else ''
    return f'{parent.pool}/{parent.image}@{parent.snapshot}{where}'
