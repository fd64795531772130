# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes, those that are parts of a group's included."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from oslo_log import log as logging

from volume_rbd import exception, opts, progress
from volume_rbd.ceph import groupmark
from volume_rbd.ceph.interface import ChildInfo, Cluster, Image, SnapshotInfo
from volume_rbd.copying.copier import Copier
from volume_rbd.driver import debris
from volume_rbd.driver.background import Flattener
from volume_rbd.driver.making import NO_GLANCE
from volume_rbd.driver.reclaim import Reclaimer
from volume_rbd.driver.revert import Reverter
from volume_rbd.flows import volume_snapshot
from volume_rbd.flows.base import Tools
from volume_rbd.jobs.jobs import Jobs

LOG = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of one backend's volumes."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 reclaimer: Reclaimer, jobs: Jobs, flattener: Flattener, *,
                 resized: Callable[[str], None] = lambda name: None,
                 copier: Copier | None = None) -> None:
        """:param resized: is told which volume has another size now."""
        self._config = config
        self._cluster = cluster
        self._pool = cluster.pool(config.pool)
        self._jobs = jobs
        self._reclaimer = reclaimer
        self._flattener = flattener
        self._resized = resized
        self._reverter = Reverter(config, cluster, copier or Copier())

    def create(self, volume: str, name: str) -> None:
        """Protected, as the stock driver has it.

        :raises ImageNotFound, SnapshotExists, InvalidName:
        """
        debris.check_new_name(name, 'snapshot')
        with self._pool.open(volume, read_only=True) as image:
            if groupmark.find(image, name) is not None:
                raise exception.SnapshotExists(
                    f'Volume {volume!r} has a snapshot {name!r}, of a group.')
        self._run(volume_snapshot.CREATE, volume, name,
                  lambda: self._check_free(volume, name))

    def _check_free(self, volume: str, name: str) -> None:
        with self._pool.open(volume, read_only=True) as image:
            if image.find_snapshot(name) is not None:
                raise exception.SnapshotExists(
                    f'A snapshot {name!r} of volume {volume!r} exists.')

    def _run(self, operation: str, volume: str, name: str,
             check: Callable[[], None] = lambda: None) -> None:
        self._jobs.run(
            operation, volume_snapshot.get_arguments(
                str(uuid.uuid4()), volume, name),
            Tools(self._config, self._cluster, NO_GLANCE, progress.Silent()),
            check=check)

    def list(self, volume: str) -> list[SnapshotInfo]:
        """Those of the volume's owner; not what was removed and still has
        clones.

        :raises ImageNotFound:
        """
        with self._pool.open(volume, read_only=True) as image:
            found = [*image.snapshots(), *groupmark.parts(image)]
        return sorted((each for each in found if not each.in_trash),
                      key=lambda each: each.id)

    def delete(self, volume: str, name: str, *,
               report: progress.Progress | None = None) -> None:
        """Clones of it go on living. Those of format 1, which the stock
        driver makes, must be flattened first; in the pool of the volumes
        that is done here, as it does.

        :raises ImageNotFound, SnapshotNotFound:
        :raises SnapshotBusy: it has clones of format 1 in another pool.
        """
        with self._pool.open(volume) as image:
            found = image.find_snapshot(name)
            if found is None:
                delete_group_part(image, name)
                return
        try:
            self._run(volume_snapshot.DELETE, volume, name)
        except exception.SnapshotBusy:
            with self._pool.open(volume, read_only=True) as image:
                self._let_go(image, found, report or progress.Silent())
            self._run(volume_snapshot.DELETE, volume, name)

    def _let_go(self, image: Image, snapshot: SnapshotInfo,
                report: progress.Progress) -> None:
        """Let clones of format 1 need it no more."""
        children = self._children_of_format_1(image, snapshot)
        others = [f'{child.pool}/{child.image}' for child in children
                  if child.pool != self._pool.name]
        if others:
            raise exception.SnapshotBusy(
                f'Snapshot {image.spec}@{snapshot.name} has clones of format '
                f'1: {", ".join(others)}.',
                remedy='Flatten them with "rbd flatten", or remove them.')
        for child in children:
            self._flatten(child, report)

    def _children_of_format_1(self, image: Image, snapshot: SnapshotInfo
                              ) -> Sequence[ChildInfo]:
        found = []
        for child in image.children(snapshot.id):
            try:
                with self._cluster.pool(child.pool).open_by_id(
                        child.image_id, read_only=True) as opened:
                    if not opened.is_clone_v2:
                        found.append(child)
            except exception.ImageNotFound:
                continue
        return found

    def _flatten(self, child: ChildInfo, report: progress.Progress) -> None:
        if child.in_trash and self._reclaimer.purge_now(
                child.image_id, report.check):
            return
        report.step(f'flattening {child.image}, a clone of the snapshot')
        LOG.info('Flattening %s/%s: it is a clone of format 1 of a snapshot '
                 'that is to be deleted', child.pool, child.image)

        def on_progress(done: int, total: int) -> None:
            report.check()

        with self._flattener.slot(report.check), self._cluster.pool(
                child.pool).open_by_id(child.image_id) as image:
            image.flatten(on_progress)

    def revert(self, volume: str, name: str, *, keep_size: bool = False,
               report: progress.Progress | None = None) -> None:
        """Make the volume what it was at the snapshot.

        Where that fails or is killed half-way, the volume is what it was
        before: at once, or with the next revert.

        :param keep_size: a volume that has grown since keeps its size, what
            it has grown by reading as zeros; otherwise it shrinks again.
        :raises ImageNotFound, SnapshotNotFound:
        :raises ImageBusy: somebody has the volume open.
        """
        try:
            self._reverter.revert(volume, name, keep_size=keep_size,
                                  report=report or progress.Silent())
        finally:
            self._resized(volume)


def delete_group_part(image: Image, name: str) -> None:
    """Remove the volume's part in a snapshot of a group.

    :raises SnapshotNotFound: it has none of that name.
    """
    found = groupmark.find(image, name)
    if found is None and not groupmark.has_mark(image, name):
        raise exception.SnapshotNotFound(
            f'Volume {image.spec.name!r} has no snapshot {name!r}.')
    if found is not None:
        image.remove_snapshot_by_id(found.id)
    groupmark.remove_mark(image, name)
