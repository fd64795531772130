# SPDX-License-Identifier: Apache-2.0
"""A Glance image becomes a local file, straight from RBD where that goes.

``export`` reads the image's snapshot as a user of its own: only what exists,
several chunks in flight. ``download`` streams the image through Glance's API.
Either way the bytes are hashed and the signature is verified as they pass,
each time by a fresh verifier; the file is inspected; and only what is found
good gets its name, at once and as a whole (cache.py).

A refusal of the cluster (no such snapshot, no right to read it, no answer)
says nothing of the image, and Glance is asked. Bytes that are not those of the
image do: they end the fetch, and nobody asks Glance, which would read them
from the same place, or hide what was done to them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from oslo_log import log as logging

from volume_rbd import exception, model, plan, progress, signatures
from volume_rbd.ceph.interface import Cluster
from volume_rbd.compute import cache, content
from volume_rbd.compute.config import ComputeConfig
from volume_rbd.compute.existing import Existing
from volume_rbd.compute.record import Record
from volume_rbd.copying import inbound, local_file, qemu_img
from volume_rbd.copying.bandwidth import Bandwidth
from volume_rbd.copying.copier import Copier
from volume_rbd.driver import facts
from volume_rbd.glance.interface import Glance

LOG = logging.getLogger(__name__)

_CHUNK_BYTES = 1 * model.MIB

# The cluster's; said of a local file they have other types.
_REFUSALS: Mapping[type[exception.VolumeRBDError], plan.Reason] = {
    exception.ImageNotFound: plan.Reason.MISSING_SNAPSHOT,
    exception.SnapshotNotFound: plan.Reason.MISSING_SNAPSHOT,
    exception.PoolNotFound: plan.Reason.MISSING_SNAPSHOT,
    exception.CephPermissionDenied: plan.Reason.SNAPSHOT_DENIED,
    exception.Unavailable: plan.Reason.CLUSTER_UNAVAILABLE,
}
# What no other way would change.
_FINAL = (exception.Cancelled, exception.LimitExceeded, exception.Conflict,
          exception.DataCorrupted, exception.AccessDenied,
          exception.NotFound, exception.InvalidInput)


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A file that holds an image.

    :param strategy: ``export`` (from RBD), ``download`` (through Glance) or
        ``reuse`` (it was there), with its reason and sentence.
    :param attempts: every strategy that was tried, in order, with reasons.
    :param bytes_moved: that were really written; holes are not.
    :param size_bytes: of the file.
    :param disk_bytes: the size of the disk inside.
    :param disk_format: of the file, in Glance's word.
    :param hash: ``algorithm:value`` that the image's bytes were found to
        have; None: Glance has none.
    :param signature_verified: None: nobody looks at signatures.
    """

    image_id: str
    path: Path
    strategy: str
    reason: str
    sentence: str
    attempts: tuple[Mapping[str, str], ...]
    seconds: float
    bytes_moved: int
    size_bytes: int
    disk_bytes: int
    disk_format: str
    hash: str | None
    signature_verified: bool | None


class Fetcher:
    """Images of one agent as files.

    :param open_cluster: called when a location is first to be looked at.
    :param note_fetched: called when the cache has another file.
    """

    def __init__(self, config: ComputeConfig,
                 open_cluster: Callable[[], Cluster],
                 open_glance: Callable[[], Glance],
                 open_certificates: Callable[[], signatures.Certificates]
                 = signatures.NoCertificates,
                 converter: qemu_img.Converter | None = None,
                 note_fetched: Callable[[], object] = lambda: None) -> None:
        disks = config.disks
        self._note_fetched = note_fetched
        self._folder = config.fetch.cache_folder
        self._is_direct = 'rbd' in config.fetch.schemes
        self._config = disks
        self._open_cluster = open_cluster
        self._open_glance = open_glance
        self._open_certificates = open_certificates
        self._converter = converter or qemu_img.QemuImg()
        self._copier = Copier(disks.copy_operations,
                              Bandwidth(disks.copy_bytes_per_s),
                              disks.verify_copies)
        self._existing = Existing(disks.vmdk_allowed_types)

    def get_path(self, image_id: str) -> Path:
        """Where the cache has the file of an image, or would have it."""
        return self._folder / cache.name_for(image_id)

    def get_plan(self, image_id: str, *, glance: Glance | None = None
                 ) -> plan.Plan:
        """Which way, and why; touches nothing.

        :raises GlanceImageNotFound, GlanceImageNotUsable:
        """
        glance = glance or self._open_glance()
        return self._plan(glance.get_image(image_id), glance)

    def fetch(self, image_id: str, target: str | Path | None = None, *,
              convert_to: str | None = None,
              report: progress.Progress | None = None,
              glance: Glance | None = None,
              certificates: signatures.Certificates | None = None
              ) -> Fetched:
        """Let a local file hold the image.

        A file that is there is never written to: it is used where it is this
        image, in the format that is wanted.

        :param target: a name in the cache, or a path; None: Nova's name in
            the cache. The cache is made where it is not there.
        :param convert_to: ``raw``; None: as the image is.
        :param glance, certificates: of whoever asks.
        :raises GlanceImageNotFound, GlanceImageNotUsable, ImageUnsafe,
            SignatureInvalid, DataCorrupted: the image.
        :raises NoSpace, AccessDenied, NotFound: the folder.
        :raises Conflict: the file is there, and is something else.
        :raises VolumeRBDError: nothing was left behind.
        """
        started = time.monotonic()
        report = report or progress.Silent()
        glance = glance or self._open_glance()
        image = glance.get_image(image_id)
        plan.check_image_usable(image)
        wanted = content.check_format(image, convert_to)
        checker = self._find_checker(image, certificates)
        path = self._folder / (target or cache.name_for(image.id))
        if path.parent == self._folder:
            cache.ensure_folder(path.parent)
        slot = cache.hold(path, report)
        if slot is None:
            record = self._existing.get(path, image, wanted, checker, report)
            found = _Way(plan.Strategy.REUSE, plan.Reason.ALREADY_FETCHED)
        else:
            with slot:
                cache.clean(path.parent)
                found = self._fill(slot, image, glance, checker, report)
                record = self._finish(slot, image, wanted, checker, report)
            if path.parent == self._folder:
                self._note_fetched()
        return Fetched(
            image.id, path, attempts=tuple(found.attempts),
            seconds=time.monotonic() - started,
            bytes_moved=found.bytes_moved, size_bytes=record.size_bytes,
            disk_bytes=record.disk_bytes, disk_format=record.disk_format,
            hash=record.hash, signature_verified=self._verdict(checker),
            **found.attempts[-1])

    def _plan(self, image: model.GlanceImage, glance: Glance) -> plan.Plan:
        known = plan.FetchFacts(image)
        if not self._is_direct:
            return plan.plan_fetch(dataclasses.replace(
                known, obstacle=plan.Reason.DIRECT_DISABLED))
        try:
            places = facts.find_places(self._open_cluster(), glance, image.id,
                                       self._config.image_pools)
        except exception.GlanceUnavailable:
            raise
        except (exception.Unavailable, exception.CephPermissionDenied
                ) as error:
            return plan.plan_fetch(dataclasses.replace(
                known, obstacle=_find_reason(error), detail=error.message))
        return plan.plan_fetch(dataclasses.replace(known, locations=places))

    def _find_checker(self, image: model.GlanceImage,
                      certificates: signatures.Certificates | None
                      ) -> signatures.Checker | None:
        signature = signatures.find_signature(
            image, signatures.Policy(self._config.verify_signatures))
        if signature is None:
            return None
        checker = signatures.Checker(
            image.id, signature, certificates or self._open_certificates(),
            self._config.trusted_certificates)
        checker.open()  # what is wrong with it is said before bytes move
        return checker

    def _verdict(self, checker: signatures.Checker | None) -> bool | None:
        if self._config.verify_signatures == signatures.Policy.OFF:
            return None
        return checker is not None and checker.is_verified

    # -- the bytes -----------------------------------------------------------
    def _fill(self, slot: cache.Slot, image: model.GlanceImage,
              glance: Glance, checker: signatures.Checker | None,
              report: progress.Progress) -> _Way:
        """The image's bytes into the slot, by the first way that goes."""
        decided = self._plan(image, glance)
        way = _Way(decided.strategy, decided.reason, decided.sentence)
        if decided.source is not None:
            try:
                way.bytes_moved = self._export(
                    slot, decided.source, image, checker, report)
                return way
            except exception.NotThisWay as refusal:
                LOG.info('Image %s is downloaded: %s', image.id, refusal)
                reason = plan.Reason(refusal.reason)
                way.add(plan.Strategy.DOWNLOAD, reason,
                        f'{plan.SENTENCES[reason]} ({refusal.message})')
        way.bytes_moved = self._download(slot, image, glance, checker, report)
        return way

    def _export(self, slot: cache.Slot, source: model.SnapSpec,
                image: model.GlanceImage,
                checker: signatures.Checker | None,
                report: progress.Progress) -> int:
        """:raises NotThisWay: the snapshot cannot be read."""
        report.step('reading the image from RBD')
        with _saying_not_this_way(), self._open_cluster().pool(
                source.pool).open(source.image, snapshot=source.snapshot,
                                  read_only=True) as snapshot:
            content.check_size(image, snapshot.size_bytes)
            slot.check_room(content.count_data(snapshot))
            with slot.part.emptied(snapshot.size_bytes) as file, \
                    content.checking(image, checker) as sinks:
                return self._copier.fill(
                    snapshot, file, sinks=sinks, report=report,
                    reopen=lambda: local_file.opened(str(slot.part.path)))

    def _download(self, slot: cache.Slot, image: model.GlanceImage,
                  glance: Glance, checker: signatures.Checker | None,
                  report: progress.Progress) -> int:
        report.step('downloading the image')
        size_bytes = content.get_size(image)
        slot.check_room(size_bytes)
        report = self._copier.limited(report)
        report.start(size_bytes)
        with contextlib.closing(glance.download(image.id, _CHUNK_BYTES)
                                ) as chunks, \
                slot.part.emptied(size_bytes) as file:
            return inbound.write_stream(
                checker.pass_on(chunks) if checker else chunks, file,
                operations=inbound.operations_within_memory(
                    self._config.copy_operations, _CHUNK_BYTES),
                report=report)

    # -- the file ------------------------------------------------------------
    def _finish(self, slot: cache.Slot, image: model.GlanceImage, wanted: str,
                checker: signatures.Checker | None,
                report: progress.Progress) -> Record:
        """Give the slot's file its name, if it is found to be harmless."""
        report.check()
        report.step('inspecting the image')
        part = slot.part
        with part.opened() as file:
            disk_bytes = content.inspect(file, image.disk_format or '',
                                         self._config.vmdk_allowed_types)
        if not content.is_same_format(image.disk_format, wanted):
            part = self._convert(slot, image, disk_bytes, report)
        record = Record(
            image.id, wanted, part.size_bytes, disk_bytes,
            content.describe_hash(image), checker.terms if checker else None)
        report.check()
        part.publish(slot.path, record)
        return record

    def _convert(self, slot: cache.Slot, image: model.GlanceImage,
                 disk_bytes: int, report: progress.Progress) -> cache.Part:
        report.step('converting the image')
        # At least: what is compressed needs more, and then it is said.
        slot.check_room(min(disk_bytes, slot.part.used_bytes))
        made = slot.add_converted()
        with made.emptied(disk_bytes) as file:
            self._converter.to_file(
                qemu_img.FileDisk(str(slot.part.path), is_ours=True),
                image.disk_format or '',
                qemu_img.FileDisk(str(made.path), is_ours=True),
                size_bytes=disk_bytes, report=report)
            file.flush()
        return made


class _Way:
    """The strategies that were tried, the last of which did it."""

    def __init__(self, strategy: plan.Strategy, reason: plan.Reason,
                 sentence: str = '') -> None:
        self.attempts: list[dict[str, str]] = []
        self.bytes_moved = 0
        self.add(strategy, reason, sentence or plan.SENTENCES[reason])

    def add(self, strategy: plan.Strategy, reason: plan.Reason,
            sentence: str) -> None:
        self.attempts.append({'strategy': strategy.value,
                              'reason': reason.value, 'sentence': sentence})


@contextlib.contextmanager
def _saying_not_this_way() -> Iterator[None]:
    """What only the cluster refuses lets Glance be asked.

    :raises NotThisWay:
    """
    try:
        yield
    except exception.VolumeRBDError as error:
        reason = _find_reason(error)
        if reason is None and isinstance(error, _FINAL):
            raise
        raise exception.NotThisWay(error.message, reason=(
            reason or plan.Reason.EXPORT_FAILED).value) from error


def _find_reason(error: exception.VolumeRBDError) -> plan.Reason | None:
    return next((reason for kind, reason in _REFUSALS.items()
                 if isinstance(error, kind)), None)
