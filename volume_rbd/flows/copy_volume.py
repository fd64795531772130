# SPDX-License-Identifier: Apache-2.0
"""The copy strategy of an upload: the bytes of the volume's snapshot into a
new rbd_image in the store's pool, which is then registered as a clone is.

It shares nothing with the volume, so Glance needs no access to the volumes'
pool and no chain gets longer. Only what exists is read and written.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from volume_rbd import exception, model, opts, plan
from volume_rbd.ceph import checkpoint, lineage
from volume_rbd.ceph.interface import CLONE_FEATURES, Image, Pool
from volume_rbd.flows import copies, owning, reaping, registration
from volume_rbd.flows.base import Task, Tools


def get_tasks(tools: Tools) -> list[Task]:
    return [CopyVolume(tools), PublishCopy(tools), RegisterCopy(tools),
            AwaitCopyActive(tools)]


class CopyVolume(Task):
    """Copy the volume's snapshot into the store's pool, named as Glance names
    it and marked pending. Hashes are computed on the way where Glance does
    not compute them itself.

    One that was killed is gone on with where the snapshot is the same.
    """

    title = 'copying the volume'
    default_provides = ('bytes_moved', 'hashes')

    def execute(self, job: str, image_id: str, volume_name: str,
                store_pool: str) -> tuple[int, dict[str, Any] | None]:
        tools = self.tools
        pool = tools.cluster.pool(store_pool)
        source = registration.source_of(tools, volume_name, image_id)
        reaping.check_not_taken(tools, image_id, store_pool)
        # The volume itself is held open too: its watch keeps others from
        # deleting it, and ends by itself if this process is killed.
        with tools.pool.open(volume_name), tools.pool.open(
                volume_name, read_only=True, snapshot=source.snapshot
                ) as snapshot, copies.saying_not_this_way(
                    plan.Reason.CLONE_DENIED):
            origin = checkpoint.Origin.of(snapshot, source.snapshot)
            target = _target(pool, image_id, snapshot)
            if tools.is_resumed:
                copies.drop_unfit(target, owning.made_by(
                    self.tools, job, owning.is_blank()), reaping.reap)
            start = self._prepare(target, origin)
            with copies.filling(target, start, self.or_undo(
                    lambda: reaping.reap(pool, image_id))) as made:
                checkpoints = copies.begin(made, target.kind, job, source,
                                           origin, start)
                hashing = _Hashing(tools.config)
                written = tools.copier.fill(
                    snapshot, made, report=tools.report, sinks=hashing.sinks,
                    start=start, checkpoints=checkpoints,
                    reopen=lambda: pool.open(image_id, read_only=True))
                checkpoint.remove(made)
        return written, hashing.result()

    def _prepare(self, target: copies.Target, origin: checkpoint.Origin
                 ) -> int:
        try:
            return copies.prepare(target, origin, self.tools.report)
        except exception.ImageExists:
            # Ours it may be all the same: filled, and then not registered.
            reaping.reap_own(target.pool, target.name)
            target.create()
            return 0

    def revert(self, job: str, image_id: str, store_pool: str,
               result: object, **kwargs: Any) -> None:
        reaping.undo(self.tools, image_id, store_pool, owning.made_by(
            self.tools, job, owning.is_blank(), result))


class PublishCopy(registration.PublishSnapshot):
    """As for a clone."""


class RegisterCopy(registration.Registering):
    """Ask Glance to take the copy as the image's data, with its hashes."""

    title = registration.Register.title

    def execute(self, image_id: str, fsid: str, store_pool: str,
                hashes: Mapping[str, Any] | None) -> str:
        return self.register(image_id, fsid, store_pool,
                             model.Hashes(**hashes) if hashes else None)


class AwaitCopyActive(registration.AwaitActive):
    """As for a clone."""


class _Hashing:
    """What is computed of the bytes as they pass.

    Nothing where Glance reads them all again: it would be done twice. MD5 is
    computed only for the old API, the one that takes it.
    """

    def __init__(self, config: opts.BackendConfig) -> None:
        names = []
        if not config.glance_secure_hash:
            names.append(config.glance_hashing_algorithm)
            if config.allow_legacy_locations:
                names.append('md5')
        self._hashes = {name: hashlib.new(name, usedforsecurity=False)
                        for name in names}
        self._algorithm = config.glance_hashing_algorithm
        self.sinks = tuple(self._hashes.values())

    def result(self) -> dict[str, Any] | None:
        """The fields of :class:`model.Hashes`, as JSON."""
        if not self._hashes:
            return None
        md5 = self._hashes.get('md5')
        return dataclasses.asdict(model.Hashes(
            self._algorithm, self._hashes[self._algorithm].hexdigest(),
            md5.hexdigest() if md5 else None))


def _target(pool: Pool, image_id: str, snapshot: Image) -> copies.Target:
    # Objects as the volume has them: what is whole there stays so.
    return copies.Target(
        pool, image_id, lineage.GLANCE_IMAGE, snapshot.size_bytes,
        lambda: pool.create(image_id, snapshot.size_bytes,
                            features=CLONE_FEATURES,
                            layout=model.Layout(
                                snapshot.object_size_bytes)))
