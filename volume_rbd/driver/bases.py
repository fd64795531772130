# SPDX-License-Identifier: Apache-2.0
"""The cache of raw bases: an image that is not raw is converted once.

Who converts holds a small rbd_image open, ``volume_rbd.making-ID``, which
only one can make, on whatever host. The others wait until there is a base, or
until nobody has that open any more: then he was killed, and the next one does
it anew. Where nobody comes, the sweeper removes what he left.

A base never goes while it has clones, and only by way of the trash: whoever
clones it at that very moment either keeps it there, or is told that it is
gone and converts for himself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from oslo_log import log as logging

from volume_rbd import exception, model, opts, plan, progress
from volume_rbd.ceph import base
from volume_rbd.ceph.interface import Cluster
from volume_rbd.driver.reclaim import Reclaimer
from volume_rbd.flows import staging
from volume_rbd.flows.base import Result
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)

_PAUSE_S = 0.2
# Between its making and its opening nobody has it open, for a moment.
_APART_S = 5.0
# A use is written down no more often, for each base.
_NOTED_S = 60.0
# Then it is better to convert for oneself.
_PATIENCE_S = 1800.0


class Bases:
    """Of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 reclaimer: Reclaimer) -> None:
        self._config = config
        self._pool = cluster.pool(config.pool)
        self._reclaimer = reclaimer
        self._noted: dict[str, float] = {}

    # -- using ---------------------------------------------------------------
    def find(self, image: model.GlanceImage) -> plan.BaseFacts | None:
        """The base of *image*, if there is one that is surely its disk."""
        name = base.base_name(image.id)
        try:
            with self._pool.open(name, read_only=True) as opened:
                note = base.find_note(opened)
        except exception.ImageNotFound:
            return None
        if note is None or not note.is_of(image,
                                          self._config.vmdk_allowed_types):
            return None
        return plan.BaseFacts(model.SnapSpec(
            self._pool.name, name, base.SNAPSHOT), note.size_bytes,
            note.is_direct)

    def note_use(self, image_id: str) -> None:
        """Its volume is there: that this fails does it no harm."""
        now = time.monotonic()
        if now - self._noted.get(image_id, -_NOTED_S) < _NOTED_S:
            return
        name = base.base_name(image_id)
        try:
            with self._pool.open(name) as opened:
                note = base.find_note(opened)
                if note is not None:
                    base.set_used(opened, note)
            self._noted[image_id] = now
        except exception.VolumeRBDError as error:
            LOG.warning('That %s was used cannot be written down: %s', name,
                        error)

    # -- making --------------------------------------------------------------
    def ensure(self, image: model.GlanceImage,
               convert: Callable[[str], Result],
               report: progress.Progress, *, is_direct: bool
               ) -> Result | None:
        """Let there be a base of *image*, where that can be.

        :param convert: makes a volume of the given name of it.
        :param is_direct: and reads it from the pool of Glance's store.
        :returns: what *convert* did; None where somebody else did it, or
            there is no room for a base.
        :raises VolumeRBDError: it failed, and nothing was left behind.
        """
        with self._making(image, report) as is_ours:
            if not is_ours:
                return None
            if not self._make_room(1, plan.base_bytes(image)):
                LOG.info('There is no room for a base of image %s: the bases '
                         'that are there have clones', image.id)
                return None
            name = base.base_name(image.id)
            if not self._drop_unfit(name):
                return None
            result = convert(name)
            try:
                with self._pool.open(name) as opened:
                    note = base.finish(
                        opened, image, job=result.job,
                        vmdk_types=self._config.vmdk_allowed_types,
                        is_direct=is_direct)
            except BaseException:
                self._reclaimer.remove_volume(name)
                raise
        self._make_room_after(note, name)
        return result

    def _make_room_after(self, note: base.Note, name: str) -> None:
        """How much it uses is known only now."""
        if 0 < self._config.base_cache_max_bytes < note.data_bytes:
            # It would not fit either if all the others went.
            LOG.warning(
                'The base of image %s uses %d bytes, more than '
                'image_base_cache_max_gib allows for all; it goes as soon as '
                'it has no clones and room is needed', note.image_id,
                note.data_bytes)
            return
        self._make_room(0, 0, keep=name)

    @contextlib.contextmanager
    def _making(self, image: model.GlanceImage, report: progress.Progress
                ) -> Iterator[bool]:
        """Be the only one who makes this base.

        Gives False once there is one, or after too long.
        """
        name = base.making_name(image.id)
        deadline = time.monotonic() + _PATIENCE_S
        is_told = False
        seen: tuple[str, float] = ('', 0.0)
        with contextlib.ExitStack() as stack:
            while True:
                if (self.find(image) is not None
                        or time.monotonic() > deadline):
                    yield False
                    return
                if self._try_to_hold(name, stack):
                    break
                if not is_told:
                    report.step('waiting for who converts the image')
                    is_told = True
                report.check()
                seen = self._look_at_other(name, seen)
                time.sleep(_PAUSE_S)
            # It may have been made between the look and the hold.
            yield self.find(image) is None

    def _try_to_hold(self, name: str, stack: contextlib.ExitStack) -> bool:
        try:
            self._pool.create(name, 0)
            stack.callback(staging.try_to_drop, self._pool, name)
            stack.enter_context(self._pool.open(name))
        except exception.ImageExists:
            return False
        except exception.ImageNotFound:
            # Somebody took it for a left one.
            return False
        return True

    def _look_at_other(self, name: str, seen: tuple[str, float]
                       ) -> tuple[str, float]:
        """Remove what a killed one left.

        :param seen: the id that nobody had open, and since when.
        """
        try:
            with self._pool.open(name, read_only=True) as opened:
                if opened.watchers():
                    return '', 0.0
                found = opened.id
            now = time.monotonic()
            if found != seen[0]:
                return found, now
            if now - seen[1] >= _APART_S:
                staging.drop_left(self._pool, name)
        except (exception.ImageNotFound, exception.ImageBusy):
            return '', 0.0
        return seen

    def _drop_unfit(self, name: str) -> bool:
        """What lies under the base's name is none: it was left half done, or
        is of what the image was said to be before.

        :returns: whether the name is free now.
        """
        try:
            with self._pool.open(name, read_only=True) as opened:
                if opened.children():
                    return False
            self._reclaimer.remove_volume(name)
        except exception.ImageNotFound:
            return True
        except exception.ImageBusy:
            return False
        LOG.info('Removed %s/%s, no base of this image', self._pool.name,
                 name)
        return True

    # -- limits --------------------------------------------------------------
    def _make_room(self, count: int, size_bytes: int, keep: str = ''
                   ) -> bool:
        """Remove unused bases until *count* more of together *size_bytes*
        fit.

        :returns: whether they do.
        """
        kept = sorted(self._reclaimer.find_bases(),
                      key=lambda found: found.note.used_at)
        for found in list(kept):
            if self._has_room([each.note for each in kept], count,
                              size_bytes):
                return True
            if found.name != keep and self._reclaimer.remove_base(
                    found.name):
                LOG.info('Removed base %s to make room', found.name)
                kept.remove(found)
        return self._has_room([each.note for each in kept], count,
                              size_bytes)

    def _has_room(self, notes: list[base.Note], count: int, size_bytes: int
                  ) -> bool:
        most = self._config.base_cache_max_count
        most_bytes = self._config.base_cache_max_bytes
        used = sum(note.data_bytes for note in notes)
        return ((not most or len(notes) + count <= most)
                and (not most_bytes or used + size_bytes <= most_bytes))


def check_downloadable(glance: Glance, image_id: str) -> None:
    """:raises GlanceForbidden: the policy lets this user see the image and
        not its bytes, which only the download itself tells."""
    with contextlib.closing(glance.download(image_id, 1)) as chunks:
        next(chunks, None)
