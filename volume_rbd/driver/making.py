# SPDX-License-Identifier: Apache-2.0
"""How a volume comes to be that is not made from an image: what is decided
before the flow that makes it, or does not."""

from __future__ import annotations

import uuid
from typing import Any, cast

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import ancestry
from volume_rbd.ceph.interface import Cluster, Image
from volume_rbd.copying import luks, qemu_img
from volume_rbd.copying.copier import Copier
from volume_rbd.flows import copy_part, create_volume, encrypt, making
from volume_rbd.flows.base import DiskFile, Flattener, Result, Tools
from volume_rbd.flows.create_volume import Flatten, Way
from volume_rbd.glance.interface import Glance
from volume_rbd.jobs.jobs import Jobs

#: For flows none of whose tasks asks Glance: there may be no credentials.
NO_GLANCE = cast(Glance, None)


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
                 jobs: Jobs, flattener: Flattener, copier: Copier,
                 converter: qemu_img.Converter) -> None:
        self._jobs = jobs
        self._config = config
        self._cluster = cluster
        self._pool = cluster.pool(config.pool)
        self._flattener = flattener
        self._copier = copier
        self._converter = converter

    def make_blank(self, volume: model.VolumeSpec, size_bytes: int,
                   report: progress.Progress, *,
                   encryption: luks.Encryption | None = None,
                   is_undone_when_lost: bool = False) -> Result:
        """An empty volume; an encrypted one is larger by its header.

        :raises ImageExists, QuotaExceeded:
        """
        plan.check_quota(size_bytes, self._config.max_volume_bytes)
        return self._run(Way.BLANK, volume, size_bytes, report,
                         is_undone_when_lost, encryption=encryption)

    def make_from_file(self, volume: model.VolumeSpec, file: DiskFile,
                       report: progress.Progress, *,
                       encryption: luks.Encryption | None = None) -> Result:
        """The disk inside of *file*, as large as *volume* is to be, or in
        whole GiB.

        :raises ImageExists, InvalidSize, QuotaExceeded:
        """
        size_bytes = (volume.size_bytes
                      or model.gib_for(file.disk_bytes) * model.GIB)
        making.check_not_smaller(size_bytes, file.path, file.disk_bytes)
        plan.check_quota(size_bytes, self._config.max_volume_bytes)
        # Who takes it up has no such file.
        return self._run(Way.FILE, volume, size_bytes, report, True,
                         encryption=encryption, file=file)

    def clone_volume(self, volume: model.VolumeSpec, source: str,
                     report: progress.Progress, *,
                     is_undone_when_lost: bool = False) -> Result:
        """A clone of *source* as it is now, flattened where that has to be.

        :raises ImageNotFound, ImageExists, InvalidSize, QuotaExceeded:
        """
        with self._pool.open(source, read_only=True) as opened:
            size_bytes = self.size_for(volume, opened)
            flatten = self._when_to_flatten(opened)
        return self._run(Way.CLONE, volume, size_bytes, report,
                         is_undone_when_lost, source=source, flatten=flatten)

    def clone_snapshot(self, volume: model.VolumeSpec, source: str,
                       snapshot: str, report: progress.Progress, *,
                       is_undone_when_lost: bool = False) -> Result:
        """A clone of ``source@snapshot``, flattened where that has to be; a
        copy where it is part of a group's snapshot.

        :raises ImageNotFound, SnapshotNotFound, ImageExists, InvalidSize,
            QuotaExceeded:
        """
        try:
            with self._pool.open(source, snapshot=snapshot,
                                 read_only=True) as opened:
                size_bytes = self.size_for(volume, opened)
                flatten = self._when_to_flatten(opened)
        except exception.SnapshotNotFound:
            return self._copy_part(volume, source, snapshot, report,
                                   is_undone_when_lost)
        return self._run(Way.CLONE, volume, size_bytes, report,
                         is_undone_when_lost, source=source,
                         snapshot=snapshot, flatten=flatten)

    def _copy_part(self, volume: model.VolumeSpec, source: str,
                   snapshot: str, report: progress.Progress,
                   is_undone_when_lost: bool) -> Result:
        with copy_part.opened(self._pool, source, snapshot) as (part, _):
            size_bytes = self.size_for(volume, part)
        return self._run(Way.COPY, volume, size_bytes, report,
                         is_undone_when_lost, source=source,
                         snapshot=snapshot)

    def _when_to_flatten(self, source: Image) -> Flatten:
        return when_to_flatten(
            self._config, ancestry.depth(self._cluster, source) + 1)

    def size_for(self, volume: model.VolumeSpec, source: Image) -> int:
        """:raises InvalidSize, QuotaExceeded:"""
        # An encrypted one has room for its LUKS header besides.
        extra = (source.size_bytes % model.GIB
                 if encrypt.is_encrypted_volume(volume, source) else 0)
        size_bytes = (volume.size_bytes + extra if volume.size_bytes
                      else source.size_bytes)
        making.check_not_smaller(size_bytes, source.spec, source.size_bytes)
        plan.check_quota(size_bytes - extra, self._config.max_volume_bytes)
        return size_bytes

    def _run(self, way: Way, volume: model.VolumeSpec, size_bytes: int,
             report: progress.Progress, is_undone_when_lost: bool, *,
             encryption: luks.Encryption | None = None,
             file: DiskFile | None = None, **source: Any) -> Result:
        job = str(uuid.uuid4())
        arguments = create_volume.get_arguments(
            way, volume, size_bytes, job=job,
            has_passphrase=encryption is not None, **source)
        tools = Tools(self._config, self._cluster, NO_GLANCE, report,
                      converter=self._converter, copier=self._copier,
                      encryption=encryption, file=file,
                      flattener=self._flattener)
        return self._jobs.run(
            create_volume.NAME, arguments, tools,
            check=lambda: making.check_free(self._pool, volume.name),
            is_undone_when_lost=is_undone_when_lost)
