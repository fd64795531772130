# SPDX-License-Identifier: Apache-2.0
"""Whose something is: what is read off it, and what Glance and the jobs say.

A job that is open owns what bears its id, and what it claims. Who cannot be
asked has said nothing: then nothing is proved. Neither is it where jobs leave
no record: whoever is at work lets go of what he makes between two steps.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from oslo_log import log as logging

from volume_rbd import exception, opts
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Image, Pool, TrashEntry
from volume_rbd.glance.interface import Glance
from volume_rbd.jobs import books

LOG = logging.getLogger(__name__)

#: Whether the job of an id may still go on.
IsJobOpen = Callable[[str], bool]
#: Whether a job has claimed a thing: ``volume/NAME`` or ``image/ID``.
IsClaimed = Callable[[str], bool]


def nothing_is_open(_: str) -> bool:
    """For who has no jobs to ask."""
    return False


class Proofs:
    """Touches nothing.

    :param is_job_open: see :data:`IsJobOpen`.
    :param is_claimed: see :data:`IsClaimed`.
    """

    def __init__(self, config: opts.BackendConfig,
                 open_glance: Callable[[], Glance],
                 is_job_open: IsJobOpen = nothing_is_open,
                 is_claimed: IsClaimed = nothing_is_open) -> None:
        self._config = config
        self._open_glance = open_glance
        self.is_claimed = is_claimed
        self._is_job_open = is_job_open

    # -- jobs ----------------------------------------------------------------
    @property
    def are_jobs_kept(self) -> bool:
        """Whether nobody is at work where no record says so."""
        return self._config.flow_connection != books.MEMORY

    def is_job_over(self, mark: lineage.Lineage | None) -> bool:
        return mark is None or not (mark.job and self._is_job_open(mark.job))

    # -- rbd_images ----------------------------------------------------------
    def is_nobodys(self, pool: Pool, image: Image, name: str) -> bool:
        """Whether a trashed rbd_image may go, once it is childless."""
        mark = lineage.get_lineage(image)
        if not self.is_job_over(mark):
            return False
        if pool.name == self._config.pool:
            return mark is not None and mark.state == lineage.TRASHED
        return self.is_deleted_in_glance(name)

    def is_nobodys_clone(self, image: Image, name: str) -> bool:
        """Whether a clone or copy of ours in a pool of images is no
        glance_image's: its registration stayed pending for good, or Glance
        forgot the image and left its data.

        It is only believed to be this Glance's where it was made of a volume
        of this backend's.
        """
        mark = lineage.get_lineage(image)
        if (mark is None or mark.kind != lineage.GLANCE_IMAGE
                or not self.is_job_over(mark)
                or self.is_claimed(f'image/{name}')):
            return False
        is_of_here = mark.origin.startswith(f'rbd:{self._config.pool}/')
        return is_of_here and self.is_deleted_in_glance(name)

    # -- Glance --------------------------------------------------------------
    def is_deleted_in_glance(self, name: str) -> bool:
        if not _is_uuid(name):
            return False
        try:
            return not self._open_glance().has_image(name)
        except exception.VolumeRBDError as error:
            LOG.warning('Glance cannot be asked for image %s: %s', name,
                        error)
            return False

    def is_settled_in_glance(self, image_id: str) -> bool:
        """Whether nobody uploads it any more: it is active, or gone."""
        if not _is_uuid(image_id):
            return False
        try:
            if self._open_glance().get_image(image_id).status == 'active':
                return True
        except exception.GlanceImageNotFound:
            return self.is_deleted_in_glance(image_id)
        except exception.VolumeRBDError as error:
            LOG.warning('Glance cannot be asked for image %s: %s', image_id,
                        error)
        return False


def _is_uuid(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True


def find_due(pool: Pool, image_id: str) -> TrashEntry | None:
    """The entry of the trash, if it is there and not kept any longer."""
    entry = pool.find_trashed(image_id)
    if entry is None or entry.deferred_until > time.time():
        return None
    return entry
