# SPDX-License-Identifier: Apache-2.0
"""create_volume: a volume that is empty, holds the disk of a local file, or
comes from another one of the same pool: a clone of a snapshot, a clone of a
volume as it is now, a copy of its part in a group's snapshot.

Arguments (JSON): job, volume_name, size_bytes, is_size_fixed (False: as large
as what it comes from), source_volume, source_snapshot (None: one is taken for
the flow), flatten, choice, settings (of the volume's type; None where it asks
for none), has_passphrase. The file is none of them: a record names no path,
and only the process that was asked can read it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, ClassVar

from oslo_log import log as logging
from taskflow.patterns import linear_flow

from volume_rbd import exception, model
from volume_rbd.copying import qemu_img
from volume_rbd.flows import encrypt, making, owning, snapshots, staging
from volume_rbd.flows.base import Task, Tools
from volume_rbd.flows.copy_part import CopyPart

LOG = logging.getLogger(__name__)

NAME = 'create_volume'


class Way(enum.StrEnum):
    """The strategies; which one it is, the source tells."""

    BLANK = 'blank'
    FILE = 'file'
    CLONE = 'clone'
    COPY = 'copy'


_WHY = {
    Way.BLANK: ('no_source', 'The volume comes from nothing: it is empty.'),
    Way.FILE: ('local_file', 'The content comes from a file on this host.'),
    Way.CLONE: ('same_pool',
                'Source and volume lie in one pool, so the data is shared.'),
    Way.COPY: ('part_of_group',
               "The snapshot is a part of a group's, which cannot be cloned."),
}


class Flatten(enum.StrEnum):
    """When a new clone is cut loose."""

    NEVER = 'never'
    LATER = 'later'
    NOW = 'now'


def get_arguments(way: Way, volume: model.VolumeSpec, size_bytes: int, *,
                  job: str, source: str | None = None,
                  snapshot: str | None = None,
                  flatten: Flatten = Flatten.NEVER,
                  has_passphrase: bool = False) -> dict[str, Any]:
    """:param size_bytes: that the volume will have; of its LUKS header only
        one that comes with a source counts.
    :param source: another volume.
    :param snapshot: of *source*; None: of this moment.
    :param has_passphrase: the tools have one, to encrypt it with.
    """
    reason, sentence = _WHY[way]
    return {
        'job': job,
        'volume_name': volume.name,
        'size_bytes': size_bytes,
        'is_size_fixed': bool(volume.size_bytes),
        'source_volume': source,
        'source_snapshot': snapshot,
        'flatten': flatten.value,
        'choice': {'strategy': way.value, 'reason': reason,
                   'sentence': sentence},
        'settings': making.get_settings(volume),
        'has_passphrase': has_passphrase,
    }


def get_flow(tools: Tools, arguments: Mapping[str, Any]) -> linear_flow.Flow:
    way = Way(arguments['choice']['strategy'])
    flatten = Flatten(arguments['flatten'])
    takes_snapshot = way is Way.CLONE and arguments['source_snapshot'] is None
    flow = linear_flow.Flow(NAME)
    if takes_snapshot:
        flow.add(SnapshotSource(tools))
    fill = _get_fill(tools, arguments, way)
    flow.add(_MAKERS[way](
        tools, is_last=flatten is not Flatten.NOW and not fill), *fill)
    if flatten is Flatten.NOW:
        flow.add(FlattenVolume(tools))
    if takes_snapshot:
        flow.add(DropSourceSnapshot(tools))
    if flatten is Flatten.LATER:
        flow.add(FlattenLater(tools))
    return flow


def _get_fill(tools: Tools, arguments: Mapping[str, Any], way: Way
              ) -> list[Task]:
    """What is written into a volume that is new."""
    encrypt.check_given(tools, arguments)
    fill = encrypt.before_write(tools, arguments)
    if way is Way.FILE:
        fill.append(ConvertLocalFile(tools))
    return [*fill, FinishVolume(tools)] if fill else []


class SnapshotSource(Task):
    """Take a snapshot of the source, which the volume is cloned from."""

    title = 'taking a snapshot of the volume'

    def execute(self, volume_name: str, source_volume: str) -> None:
        name = own_snapshot(volume_name)
        with self.tools.pool.open(source_volume) as source:
            # One that is there was left by a process that was killed, and
            # shows the source as it was then.
            snapshots.drop_of(source, name)
            source.create_snapshot(name)

    def revert(self, volume_name: str, source_volume: str, **kwargs: Any
               ) -> None:
        snapshots.drop(self.tools.pool, source_volume,
                       own_snapshot(volume_name))


class MakeBlank(making.Making):
    """Make an empty volume."""

    title = 'creating the volume'
    origin: ClassVar[str] = 'blank'

    def execute(self, job: str, volume_name: str, size_bytes: int,
                settings: Mapping[str, Any] | None) -> None:
        with self.made(job, volume_name, self.origin,
                       lambda: self.tools.pool.create(
                           volume_name, size_bytes,
                           layout=self.tools.config.layout),
                       owning.is_blank(size_bytes), settings):
            pass

    def revert(self, job: str, volume_name: str, size_bytes: int,
               result: object, **kwargs: Any) -> None:
        owning.drop(self.tools.pool, volume_name, owning.made_by(
            self.tools, job, owning.is_blank(size_bytes), result))


class MakeForFile(MakeBlank):
    """Make a volume that the disk of a local file is written to."""

    origin = 'file'


class ConvertLocalFile(Task):
    """Write the disk inside of the tools' file onto the volume."""

    title = 'converting the file'
    default_provides = 'bytes_moved'

    def execute(self, job: str, volume_name: str) -> int:
        tools, pool, file = self.tools, self.tools.pool, self.tools.file
        if file is None:
            raise exception.InvalidInput(
                f'The file that volume {volume_name!r} is made from is '
                'needed.', remedy='Make the volume again, with the file.')
        with making.filling(pool, volume_name, job, self.or_undo(
                lambda: staging.wait_until_let_go(pool, volume_name))):
            tools.converter.to_disk(
                qemu_img.FileDisk(file.path), file.disk_format,
                qemu_img.RBDDisk(pool.name, volume_name,
                                 tools.config.cluster),
                # What is not written decrypts to anything, not to zeros.
                is_zero=tools.encryption is None, size_bytes=file.disk_bytes,
                report=tools.report, key=tools.key)
        return file.disk_bytes

    def revert(self, volume_name: str, **kwargs: Any) -> None:
        if self.tools.is_resumed:
            # The watch of a killed process' child, if not itself.
            staging.wait_until_let_go(self.tools.pool, volume_name)


class FinishVolume(Task):
    """Its content is there: say so."""

    title = 'finishing the volume'

    def execute(self, job: str, volume_name: str,
                settings: Mapping[str, Any] | None) -> None:
        with self.tools.pool.open(volume_name) as volume:
            making.check_made_by(job, volume)
            making.finish(volume, settings, self.tools.report)


class CloneSnapshot(making.Making):
    """Clone the source's snapshot, make the clone ours, grow it."""

    title = 'cloning the volume'

    def execute(self, job: str, volume_name: str, size_bytes: int,
                is_size_fixed: bool, source_volume: str,
                source_snapshot: str | None,
                settings: Mapping[str, Any] | None) -> None:
        source = self._source(volume_name, source_volume, source_snapshot)
        with self.made(job, volume_name, f'rbd:{source}',
                       lambda: self.tools.pool.clone(
                           source, volume_name,
                           layout=self.tools.config.layout.of_clone()),
                       owning.is_clone_begun(source, self.tools.cluster),
                       settings) as volume:
            if is_size_fixed:
                # The source may have grown since it was looked at.
                making.check_not_smaller(size_bytes, source,
                                         volume.size_bytes)
                if volume.size_bytes < size_bytes:
                    volume.resize(size_bytes)

    def revert(self, job: str, volume_name: str, source_volume: str,
               source_snapshot: str | None, result: object, **kwargs: Any
               ) -> None:
        source = self._source(volume_name, source_volume, source_snapshot)
        owning.drop(self.tools.pool, volume_name, owning.made_by(
            self.tools, job,
            owning.is_clone_begun(source, self.tools.cluster), result))

    def _source(self, volume_name: str, source_volume: str,
                source_snapshot: str | None) -> model.SnapSpec:
        return model.SnapSpec(self.tools.pool.name, source_volume,
                              source_snapshot or own_snapshot(volume_name))


class FlattenVolume(Task):
    """Cut the clone loose before anybody uses it, and finish it."""

    title = 'flattening the volume'

    def execute(self, job: str, volume_name: str,
                settings: Mapping[str, Any] | None) -> None:
        def on_progress(done: int, total: int) -> None:
            self.tools.report.check()

        with self.tools.flattener.slot(), \
                self.tools.pool.open(volume_name) as volume:
            making.check_made_by(job, volume)
            volume.flatten(on_progress)
            making.finish(volume, settings, self.tools.report)


class DropSourceSnapshot(Task):
    """The volume is there: the snapshot of its source has done its work.

    With clone v2 it moves to the trash namespace where the clone still needs
    it. One that cannot go now does not make the volume a failure.
    """

    title = 'removing the snapshot of the source'
    default_provides = 'leftover'

    def execute(self, volume_name: str, source_volume: str) -> str | None:
        name = own_snapshot(volume_name)
        try:
            snapshots.drop(self.tools.pool, source_volume, name)
        except exception.VolumeRBDError as error:
            LOG.warning('Snapshot %s@%s stays for now: %s', source_volume,
                        name, error)
            return f'{source_volume}@{name}'
        return None


class FlattenLater(Task):
    """Have the volume, which is complete, cut loose in the background."""

    title = 'flattening the volume in the background'
    is_cancellable = False

    def execute(self, volume_name: str) -> None:
        self.tools.flattener.submit(self.tools.pool.name, volume_name)


def own_snapshot(volume_name: str) -> str:
    """The snapshot of another volume that *volume_name* is cloned from,
    where none was named."""
    return f'volume_rbd.clone-{volume_name}'


_MAKERS: Mapping[Way, type[making.Making]] = {
    Way.BLANK: MakeBlank, Way.FILE: MakeForFile, Way.CLONE: CloneSnapshot,
    Way.COPY: CopyPart}
