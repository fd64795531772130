# SPDX-License-Identifier: Apache-2.0
"""Bases of the base cache: those that bear our own mark, have no clones, and
whose image Glance no longer has."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph import base, lineage
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.driver.reclaim.items import Reclaimable, owner_of
from volume_rbd.driver.reclaim.proofs import Proofs
from volume_rbd.driver.reclaim.removing import Remover

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Base:
    """One that can be cloned.

    :param name: of the rbd_image in the backend's own pool.
    :param owner: who made it, see :class:`.items.Reclaimable`.
    """

    name: str
    note: base.Note
    has_clones: bool
    owner: str


class UnusedBases:
    """A :class:`~volume_rbd.driver.reclaim.items.Source`.

    :param pool: of the volumes.
    """

    kinds = ('unused_base',)

    def __init__(self, pool: Pool, proofs: Proofs, remover: Remover) -> None:
        self._pool = pool
        self._proofs = proofs
        self._remover = remover

    def find_all(self) -> Iterator[Base]:
        """Also those in use. One listing where there is none."""
        for summary in self._pool.images():
            if not summary.name.startswith(base.PREFIX):
                continue
            try:
                with self._pool.open(summary.name, read_only=True) as image:
                    note = base.find_note(image)
                    if note is not None:
                        yield Base(summary.name, note,
                                   bool(image.children()),
                                   owner_of(lineage.get_lineage(image)))
            except exception.ImageNotFound:
                continue
            except exception.AccessDenied as error:
                LOG.warning('%s/%s is left alone: %s', self._pool.name,
                            summary.name, error)

    def find(self, pools: Sequence[Pool] = ()) -> Iterator[Reclaimable]:
        for found in self.find_all():
            if not found.has_clones and self._proofs.is_deleted_in_glance(
                    found.note.image_id):
                yield Reclaimable(
                    what='unused_base', pool=self._pool.name,
                    name=found.name, image_id=found.note.base_id,
                    size_bytes=found.note.size_bytes, owner=found.owner,
                    age_s=time.time() - found.note.used_at,
                    why='the base of an image that Glance no longer has, '
                        'and no clone needs it')

    def remove(self, item: Reclaimable) -> bool:
        if not self._proofs.is_deleted_in_glance(
                item.name.removeprefix(base.PREFIX)):
            return False
        self._remover.to_trash(item.name, check=check_unused)
        return self._remover.purge(self._pool, item.image_id)


def check_unused(image: Image) -> None:
    """:raises ImageBusy: it is no base, or has clones, or is held open."""
    if (base.find_note(image) is None or image.children()
            or image.watchers()):
        raise exception.ImageBusy(f'{image.spec.name} is no unused base.')
