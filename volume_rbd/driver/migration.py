# SPDX-License-Identifier: Apache-2.0
"""Moving a volume to another pool of the same cluster.

It is copied state by state, the oldest snapshot first: of each only what has
changed since the one before, and what does not exist stays a hole. (librbd's
deep copy cannot be used: with Ceph 16 it fails on a clone whose parent
snapshot was removed, and it can be neither watched nor stopped.) The copy
shares nothing with anybody.

Until it is whole the copy bears a name of our own in the other pool; whoever
is killed leaves it there, and the next one who migrates the volume removes
it. The volume itself goes last, by way of the trash, where its clones keep
what they need of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator

from oslo_log import log as logging

from volume_rbd import exception, model, opts, progress
from volume_rbd.ceph import groupmark, interface, lineage
from volume_rbd.ceph.interface import Cluster, Image, Pool, SnapshotInfo
from volume_rbd.copying.copier import Copier, Reopen
from volume_rbd.driver import debris
from volume_rbd.driver.reclaim import Reclaimer

LOG = logging.getLogger(__name__)

# An rbd_image cannot be made with these without more being said.
_NOT_KEPT = interface.DATA_POOL | interface.STRIPINGV2


@dataclasses.dataclass(frozen=True)
class _Way:
    """From where to where.

    :param unfinished: the copy's name until it is whole.
    """

    source: model.ImageSpec
    source_id: str
    pool: Pool
    name: str

    @property
    def unfinished(self) -> str:
        return f'{debris.OWN_PREFIX}migrate-{self.name}'

    @property
    def origin(self) -> str:
        return f'{debris.MIGRATED}{self.source}#{self.source_id}'


class Migration:
    """Moves volumes of one backend away."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 reclaimer: Reclaimer, copier: Copier | None = None
                 ) -> None:
        self._copier = copier or Copier()
        self._cluster = cluster
        self._pool = cluster.pool(config.pool)
        self._reclaimer = reclaimer

    def migrate(self, name: str, pool: str, new_name: str | None = None, *,
                report: progress.Progress | None = None) -> None:
        """Move a volume to *pool*, with its snapshots, limits and holes. A
        part in a snapshot of a group becomes a plain snapshot there.

        :raises ImageNotFound, PoolNotFound, InvalidInput:
        :raises ImageExists: the other pool has one of that name; it is not
            touched.
        :raises ImageBusy: somebody has the volume open.
        :raises VolumeRBDError: the volume is where it was, and nothing else.
        """
        report = report or progress.Silent()
        model.check_name(name)
        if new_name is not None and new_name != name:
            debris.check_new_name(new_name)
        if pool == self._pool.name:
            raise exception.InvalidInput(
                f'Volume {name!r} is in pool {pool!r} already.',
                remedy='Name another pool.')
        with self._pool.open(name) as source:
            debris.refuse_watchers(source, '; it cannot be migrated')
            _refuse_groups_of_others(source)
            way = _Way(source.spec, source.id, self._cluster.pool(pool),
                       new_name or name)
            _clear(way)
            report.check()
            with _undone_on_failure(way.pool, way.unfinished):
                self._copy(source, way, report)
                debris.refuse_watchers(source, '; it may have changed while '
                                               'it was migrated')
                report.check()
                way.pool.rename(way.unfinished, way.name)
        self._remove_source(way)
        with way.pool.open(way.name) as made:
            lineage.set_state(made, lineage.COMPLETE)

    def _remove_source(self, way: _Way) -> None:
        """Or the copy, where the volume surely stays. Never both: an error
        may be that of an answer that got lost."""
        try:
            self._reclaimer.remove_volume(way.source.name,
                                          check=debris.refuse_watchers)
        except BaseException as error:
            if self._is_there(way):
                _remove(way.pool, way.name)
                raise
            LOG.warning('%s is in pool %s now, although: %s', way.source,
                        way.pool.name, error)

    def _is_there(self, way: _Way) -> bool:
        try:
            with self._pool.open(way.source.name, read_only=True) as image:
                return image.id == way.source_id
        except exception.ImageNotFound:
            return False

    def _copy(self, source: Image, way: _Way, report: progress.Progress
              ) -> None:
        way.pool.create(way.unfinished, source.size_bytes,
                        features=source.features & ~_NOT_KEPT,
                        layout=model.Layout(source.object_size_bytes))
        with way.pool.open(way.unfinished) as made:
            lineage.adopt(made, kind=lineage.VOLUME, origin=way.origin,
                          job=str(uuid.uuid4()), state=lineage.PENDING)
            states = _States(
                source, self._pool, made, self._copier, report,
                lambda: way.pool.open(way.unfinished, read_only=True))
            for snapshot in _snapshots(source):
                states.copy(snapshot)
            states.copy(None)
            for key, value in source.metadata().items():
                if not key.startswith(debris.OWN_PREFIX):
                    made.set_metadata(key, value)


class _States:
    """Makes an empty rbd_image what another was at each of its snapshots.

    :ivar since: the last snapshot whose name librbd can compare with.
    """

    def __init__(self, source: Image, pool: Pool, made: Image,
                 copier: Copier, report: progress.Progress, reopen: Reopen
                 ) -> None:
        self._source = source
        self._pool = pool
        self._made = made
        self._copier = copier
        self._report = report
        self._reopen = reopen
        self._is_empty = True
        self._since: str | None = None

    def copy(self, snapshot: SnapshotInfo | None) -> None:
        """The next one; None for the volume as it is now."""
        if snapshot is None:
            self._report.step('copying the volume')
            self._copy_from(self._source)
            return
        self._report.step(f'copying the snapshot {snapshot.name}')
        with self._pool.open_by_id(self._source.id, snapshot_id=snapshot.id
                                   ) as opened:
            self._copy_from(opened)
        self._made.create_snapshot(snapshot.name)
        if snapshot.is_protected:
            self._made.protect_snapshot(snapshot.name)
        if self._source.find_snapshot(snapshot.name):
            self._since = snapshot.name

    def _copy_from(self, opened: Image) -> None:
        self._made.resize(opened.size_bytes, allow_shrink=True)
        if self._is_empty:
            self._copier.fill(opened, self._made, report=self._report,
                              reopen=self._reopen)
        else:
            # Before the first named one, everything has to be compared with.
            extents = (opened.extents() if self._since is None
                       else opened.changes(self._since))
            self._copier.change(opened, self._made, extents,
                                report=self._report, reopen=self._reopen)
        self._is_empty = False


def _snapshots(source: Image) -> list[SnapshotInfo]:
    """Those that somebody wants to keep, oldest first."""
    found = [each for each in source.snapshots() if not (
        each.in_trash or debris.is_own_snapshot(each.name)
        or debris.is_taken_by_stock(each.name))]
    return sorted([*found, *groupmark.parts(source)],
                  key=lambda each: each.id)


def _refuse_groups_of_others(source: Image) -> None:
    ours = {part.id for part in groupmark.parts(source)}
    groups = [part.group for part in source.group_snapshots()
              if part.id not in ours]
    if groups:
        raise exception.ImageHasSnapshots(
            f'Volume {source.spec.name!r} is part of snapshots of the RBD '
            f'groups: {", ".join(groups)}.',
            remedy='Remove them with "rbd group snap remove".')


def _clear(way: _Way) -> None:
    """Remove what a killed run of ours has left.

    :raises ImageExists: there is something else of that name.
    """
    if way.pool.has_image(way.name):
        with way.pool.open(way.name) as there:
            mark = lineage.get_lineage(there)
            if (mark is None or mark.state != lineage.PENDING
                    or mark.origin != way.origin or there.watchers()):
                raise exception.ImageExists(
                    f'Cannot migrate {way.source}: there is '
                    f'{way.pool.name}/{way.name} already.',
                    remedy='Migrate it under another name, or remove that '
                           'one if nobody needs it.')
        _remove(way.pool, way.name)
    if way.pool.has_image(way.unfinished):
        with way.pool.open(way.unfinished) as there:
            debris.refuse_watchers(there, '; another migration may be '
                                          'under way')
        _remove(way.pool, way.unfinished)


@contextlib.contextmanager
def _undone_on_failure(pool: Pool, name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        try:
            _remove(pool, name)
        except exception.VolumeRBDError as error:
            LOG.error('%s/%s was not finished and cannot be removed now: %s',
                      pool.name, name, error)
        raise


def _remove(pool: Pool, name: str) -> None:
    try:
        with pool.open(name) as image:
            debris.drop_snapshots(image)
    except exception.ImageNotFound:
        LOG.debug('%s/%s is half removed, or not there', pool.name, name)
    with contextlib.suppress(exception.ImageNotFound):
        pool.remove(name)
