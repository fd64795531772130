# SPDX-License-Identifier: Apache-2.0
"""The copy strategy of an upload: the bytes of the volume's snapshot into a
new rbd_image in the store's pool, which is then registered as a clone is.

It shares nothing with the volume, so Glance needs no access to the volumes'
pool and no chain gets longer. Only what exists is read and written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from volume_rbd import exception, model, opts, plan
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import CLONE_FEATURES, Image, Pool
from volume_rbd.flows import registration
from volume_rbd.flows.base import Task, Tools

# What an upload through Glance would meet as well, or must not paper over.
_FINAL = (exception.Cancelled, exception.Unavailable, exception.LimitExceeded,
          exception.Conflict, exception.DataCorrupted)


def get_tasks(tools: Tools) -> list[Task]:
    return [CopyVolume(tools), PublishCopy(tools), RegisterCopy(tools),
            AwaitCopyActive(tools)]


class CopyVolume(Task):
    """Copy the volume's snapshot into the store's pool, named as Glance names
    it and marked pending. Hashes are computed on the way where Glance does
    not compute them itself."""

    title = 'copying the volume'
    default_provides = ('bytes_moved', 'hashes')

    def execute(self, job: str, image_id: str, volume_name: str,
                store_pool: str) -> tuple[int, dict[str, Any] | None]:
        tools = self.tools
        pool = tools.cluster.pool(store_pool)
        source = registration.source_of(tools, volume_name, image_id)
        # The volume itself is held open too: its watch keeps others from
        # deleting it, and ends by itself if this process is killed.
        with tools.pool.open(volume_name), tools.pool.open(
                volume_name, read_only=True, snapshot=source.snapshot
                ) as snapshot, _saying_not_this_way():
            self._create(pool, image_id, snapshot)
            with self.or_undo(lambda: registration.reap(pool, image_id)), \
                    pool.open(image_id) as made:
                lineage.adopt(made, kind=lineage.GLANCE_IMAGE, job=job,
                              origin=f'rbd:{source}', state=lineage.PENDING)
                hashing = _Hashing(tools.config)
                written = tools.copier.fill(
                    snapshot, made, report=tools.report, sinks=hashing.sinks,
                    reopen=lambda: pool.open(image_id, read_only=True))
        return written, hashing.result()

    @staticmethod
    def _create(pool: Pool, image_id: str, snapshot: Image) -> None:
        def create() -> None:
            # Objects as the volume has them: what is whole there stays so.
            pool.create(image_id, snapshot.size_bytes,
                        features=CLONE_FEATURES,
                        object_size_bytes=snapshot.object_size_bytes)

        try:
            create()
        except exception.ImageExists:
            registration.reap_own(pool, image_id)
            create()

    def revert(self, image_id: str, store_pool: str, result: object,
               **kwargs: Any) -> None:
        if self.was_done(result):
            registration.reap(self.tools.cluster.pool(store_pool), image_id)


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


@contextlib.contextmanager
def _saying_not_this_way() -> Iterator[None]:
    """What the upload through Glance does not meet lets that go on."""
    try:
        yield
    except exception.CephPermissionDenied as error:
        raise _not_copyable(plan.Reason.CLONE_DENIED, error) from None
    except _FINAL:
        raise
    except exception.VolumeRBDError as error:
        raise _not_copyable(plan.Reason.COPY_FAILED, error) from None


def _not_copyable(reason: plan.Reason, error: exception.VolumeRBDError
                  ) -> exception.NotCopyable:
    return exception.NotCopyable(error.message, reason=reason.value)
