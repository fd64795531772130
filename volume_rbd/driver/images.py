# SPDX-License-Identifier: Apache-2.0
"""The two big operations: create from image, upload to image.

Every method may be given the *glance* of whoever asks, for this one call;
without it Glance is used as whoever the process acts for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable

from oslo_log import log as logging

from volume_rbd import exception, model, opts, plan, progress, signatures
from volume_rbd.ceph import lineage, settings
from volume_rbd.ceph.interface import Cluster
from volume_rbd.copying import luks, qemu_img
from volume_rbd.copying.copier import Copier
from volume_rbd.driver import debris, facts
from volume_rbd.driver.background import Flattener
from volume_rbd.driver.bases import Bases, check_downloadable
from volume_rbd.driver.from_file import FromFile
from volume_rbd.driver.making import NO_GLANCE
from volume_rbd.flows import (
    copies,
    create_from_image,
    registration,
    upload_to_image,
)
from volume_rbd.flows.base import Result, Tools
from volume_rbd.glance.interface import Glance
from volume_rbd.jobs import registry
from volume_rbd.jobs.job import Job
from volume_rbd.jobs.jobs import Jobs

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """The image that an upload is to make.

    :param image_id: of a queued record that the caller made and keeps;
        None: the flow makes the record, and undoes it on failure.
    :param gives_up_record: it may be deleted where the upload is undone with
        nobody waiting for it any more.
    :param store_id: None for the default store.
    :param is_compressed: where it is converted to qcow2.
    :param is_decrypted: it is to be the disk inside of an encrypted volume,
        and not what is encrypted.
    """

    name: str
    image_id: str | None = None
    disk_format: str = 'raw'
    container_format: str = 'bare'
    store_id: str | None = None
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    is_compressed: bool = False
    is_decrypted: bool = False
    gives_up_record: bool = False


class Images:
    """Volumes from images and images from volumes of one backend."""

    def __init__(self, config: opts.BackendConfig, cluster: Cluster,
                 open_glance: Callable[[], Glance], flattener: Flattener,
                 open_certificates: Callable[[], signatures.Certificates],
                 converter: qemu_img.Converter, files: FromFile,
                 bases: Bases, copier: Copier, jobs: Jobs) -> None:
        self._jobs = jobs
        self._config = config
        self._cluster = cluster
        self._open_glance = open_glance
        self._open_certificates = open_certificates
        self._verdicts = signatures.Verdicts()
        self._flattener = flattener
        self._converter = converter
        self._files = files
        self._copier = copier
        self._bases = bases

    # -- create from image ---------------------------------------------------
    def plan_create(self, volume: model.VolumeSpec, image_id: str, *,
                    glance: Glance | None = None) -> plan.Plan:
        """Which way, and why; touches nothing.

        :param volume: *is_encrypted* where it is to be.
        :raises ImageExists: the volume is there already.
        :raises SignatureInvalid: the image is not signed as it must be.
        """
        return self._plan_create(volume, image_id,
                                 glance or self._open_glance())[0]

    def _plan_create(self, volume: model.VolumeSpec, image_id: str,
                     glance: Glance
                     ) -> tuple[plan.Plan, model.GlanceImage,
                                signatures.Signature | None]:
        debris.check_new_name(volume.name)
        settings.check(volume)
        self._check_free(volume.name)
        is_encrypted = bool(volume.is_encrypted)
        known = facts.for_create(
            self._config, self._cluster, glance, image_id, volume.size_bytes,
            _find_no_base if is_encrypted else self._find_base,
            encryption_wanted=is_encrypted)
        return plan.plan_create(known), known.image, self._find_signature(
            known.image)

    def _check_free(self, name: str) -> None:
        """:raises ImageExists: and no process that was killed has left it.
        """
        pool = self._cluster.pool(self._config.pool)
        if pool.has_image(name) and not copies.is_left(
                pool, name, lineage.VOLUME):
            raise exception.ImageExists(
                f'Volume {name!r} exists already in pool {pool.name!r}.',
                remedy='Choose another name.')

    def _find_signature(self, image: model.GlanceImage
                        ) -> signatures.Signature | None:
        return signatures.find_signature(
            image, signatures.Policy(self._config.verify_signatures))

    def _find_base(self, image: model.GlanceImage
                   ) -> tuple[bool, plan.BaseFacts | None]:
        """Who verifies a signature reads the file that was signed, and does
        not believe what is written beside a base."""
        if (not self._config.image_base_cache
                or image.disk_format not in plan.READABLE_FORMATS
                or self._find_signature(image) is not None):
            return False, None
        return True, self._bases.find(image)

    def create(self, volume: model.VolumeSpec, image_id: str, *,
               report: progress.Progress | None = None,
               glance: Glance | None = None,
               certificates: signatures.Certificates | None = None,
               encryption: luks.Encryption | None = None,
               is_undone_when_lost: bool = False) -> Result:
        """Make *volume* from a Glance image.

        Among the result's values is ``signature_verified``, unless the
        backend does not look at signatures.

        :param certificates: for whoever asks, as *glance* is.
        :param encryption: how to encrypt it; of an image that is encrypted
            already, what opens that.
        :param is_undone_when_lost: where this process is killed, nobody
            wants the volume any more.
        :raises JobConflict: it is being made.
        :raises WrongPassphrase: it does not.
        :raises SignatureInvalid: and every other
        :raises VolumeRBDError: nothing was left behind.
        """
        glance = glance or self._open_glance()
        volume = _as_encrypted(volume, encryption)
        decided, image, signature = self._plan_create(volume, image_id,
                                                      glance)
        checker = self._find_checker(image_id, signature, certificates)
        if decided.leaves_base or decided.reason is plan.Reason.BASE_CACHED:
            by_base = self._create_by_base(
                volume, decided, image, glance, report or progress.Silent(),
                is_undone_when_lost=is_undone_when_lost)
            if by_base is not None:
                return self._with_verdict(by_base, checker)
            decided = plan.plan_create(facts.for_create(
                self._config, self._cluster, glance, image_id,
                volume.size_bytes))
        return self._run_create(volume, decided, image, glance, report,
                                checker, encryption,
                                is_undone_when_lost=is_undone_when_lost)

    def _create_by_base(self, volume: model.VolumeSpec, decided: plan.Plan,
                        image: model.GlanceImage, glance: Glance,
                        report: progress.Progress, *,
                        is_undone_when_lost: bool) -> Result | None:
        """Clone the image's base, which is made where it is not there.

        :returns: None where it cannot be: it is too large for the volume,
            there is no room for it, or it went in that moment.
        """
        made = None
        if decided.leaves_base:
            made = self._bases.ensure(
                image, lambda name: self._make_base(name, decided, image,
                                                    glance, report), report,
                is_direct=decided.source is not None)
            decided = self._plan_create(volume, image.id, glance)[0]
        if decided.reason is not plan.Reason.BASE_CACHED:
            return None
        if decided.must_be_downloadable and made is None:
            check_downloadable(glance, image.id)
        try:
            result = self._run_create(
                volume, decided, image, glance, report, None,
                is_undone_when_lost=is_undone_when_lost)
        except exception.NotCloneable as error:
            LOG.info('The base of image %s is not used: %s', image.id, error)
            return None
        self._bases.note_use(image.id)
        if made is None:
            return result
        return dataclasses.replace(
            result, strategy=made.strategy, reason=made.reason,
            sentence=made.sentence, attempts=made.attempts,
            seconds=made.seconds + result.seconds,
            bytes_moved=made.bytes_moved)

    def _make_base(self, name: str, decided: plan.Plan,
                   image: model.GlanceImage, glance: Glance,
                   report: progress.Progress) -> Result:
        """As large as the disk inside, whatever the volume's size is."""
        virtual_gib = model.gib_for(image.virtual_size_bytes or 0)
        size_bytes = max(virtual_gib, 1) * model.GIB
        return self._run_create(
            model.VolumeSpec(name), dataclasses.replace(
                decided, size_bytes=size_bytes, is_size_fixed=False),
            image, glance, report, None, is_undone_when_lost=True)

    def _run_create(self, volume: model.VolumeSpec, decided: plan.Plan,
                    image: model.GlanceImage, glance: Glance,
                    report: progress.Progress | None,
                    checker: signatures.Checker | None,
                    encryption: luks.Encryption | None = None, *,
                    is_undone_when_lost: bool = False) -> Result:
        job = str(uuid.uuid4())
        arguments = create_from_image.get_arguments(
            decided, job=job, image=image, volume_name=volume.name,
            volume=volume, has_passphrase=encryption is not None)
        result = self._with_verdict(self._jobs.run(
            create_from_image.NAME, arguments,
            self._tools(glance, report, checker, encryption),
            check=lambda: self._check_free(volume.name),
            is_undone_when_lost=is_undone_when_lost), checker)
        origin = f'glance:{image.id}'
        if result.strategy in (plan.Strategy.CLONE, plan.Strategy.COPY):
            origin = f'rbd:{decided.source}'
        return dataclasses.replace(result, lineage={
            'kind': 'volume', 'origin': origin, 'job': job})

    def _find_checker(self, image_id: str,
                      signature: signatures.Signature | None,
                      certificates: signatures.Certificates | None
                      ) -> signatures.Checker | None:
        if signature is None:
            return None
        return signatures.Checker(
            image_id, signature, certificates or self._open_certificates(),
            self._config.trusted_certificates, self._verdicts)

    def replace(self, volume: model.VolumeSpec, image_id: str, *,
                report: progress.Progress | None = None,
                glance: Glance | None = None,
                certificates: signatures.Certificates | None = None
                ) -> Result:
        """The disk of a Glance image becomes the content of a volume that is
        there and not open. Size and snapshots stay; where it fails after
        the image was found to do, the content is undefined, and surely not
        what was refused.

        :raises ImageNotFound, ImageBusy: the volume.
        :raises InvalidSize, ImageUnsafe, SignatureInvalid: the image.
        """
        glance = glance or self._open_glance()
        with self._cluster.pool(self._config.pool).open(
                volume.name, read_only=True) as image:
            size_bytes = image.size_bytes
        known = dataclasses.replace(
            facts.for_create(self._config, self._cluster, glance, image_id,
                             size_bytes),
            # Its own bytes, and not a clone; it is as large as it is.
            flatten_wanted=True, max_volume_bytes=None,
            built=plan.BUILT - {plan.Strategy.CLONE})
        decided = plan.plan_create(known)
        signature = signatures.find_signature(
            known.image, signatures.Policy(self._config.verify_signatures))
        checker = self._find_checker(image_id, signature, certificates)
        if checker is not None:
            checker.open()  # before the content is gone
        job = str(uuid.uuid4())
        arguments = create_from_image.get_arguments(
            decided, job=job, image=known.image, volume_name=volume.name)
        return self._with_verdict(self._jobs.run(
            registry.REPLACE_CONTENT, arguments,
            self._tools(glance, report, checker)), checker)

    def create_from_file(self, volume: model.VolumeSpec, path: str,
                         disk_format: str, *, replace: bool = False,
                         report: progress.Progress | None = None) -> None:
        """The disk inside of a local file becomes the content of *volume*.

        :param disk_format: Glance's word; the file must be of it.
        :param replace: a volume that is there keeps its size and snapshots,
            and nothing else of what it holds, not even where this fails.
        :raises ImageUnsafe, NotSupported, InvalidSize: before anything is
            touched.
        :raises ImageExists: it is there, and is not to be replaced.
        """
        self._files.write(volume, path, disk_format, replace=replace,
                          report=report or progress.Silent())

    def _with_verdict(self, result: Result,
                      checker: signatures.Checker | None) -> Result:
        if self._config.verify_signatures == signatures.Policy.OFF:
            return result
        return dataclasses.replace(result, values={
            **result.values,
            'signature_verified': checker is not None
                                  and checker.is_verified})

    # -- upload to image -----------------------------------------------------
    def plan_upload(self, volume: model.VolumeSpec, request: ImageRequest, *,
                    glance: Glance | None = None) -> plan.Plan:
        """Which way, and why; touches nothing.

        :raises ImageNotFound: no such volume.
        """
        return plan.plan_upload(self._facts_for_upload(
            volume, request, glance or self._open_glance()))

    def _facts_for_upload(self, volume: model.VolumeSpec,
                          request: ImageRequest, glance: Glance
                          ) -> plan.UploadFacts:
        return facts.for_upload(
            self._config, self._cluster, glance, volume,
            disk_format=request.disk_format,
            container_format=request.container_format,
            store_id=request.store_id,
            decryption_wanted=request.is_decrypted)

    def upload(self, volume: model.VolumeSpec, request: ImageRequest, *,
               report: progress.Progress | None = None,
               glance: Glance | None = None, passphrase: str | None = None
               ) -> Result:
        """Make a Glance image of *volume*, as it is at this moment.

        One that is encrypted makes an image that is, with the same key, and
        says so in its properties where the flow makes the record.

        :param passphrase: opens the volume, where it is to be decrypted.
        :raises WrongPassphrase: it does not.
        :raises InvalidInput: it is needed, and was not given.
        :raises RegistrationPending: Glance took the clone or copy and did
            not finish in time; that and the record stay.
        :raises VolumeRBDError: nothing was left behind.
        """
        glance = glance or self._open_glance()
        known = self._facts_for_upload(volume, request, glance)
        decided = plan.plan_upload(known)
        is_sealed = known.is_encrypted and not request.is_decrypted
        job = str(uuid.uuid4())
        image = model.GlanceImage(
            id=request.image_id or str(uuid.uuid4()), name=request.name,
            status='queued', disk_format=request.disk_format,
            container_format=request.container_format,
            # What is encrypted has a header behind whole GiB.
            min_disk_gib=(decided.size_bytes // model.GIB if is_sealed
                          else model.gib_for(decided.size_bytes)),
            properties={**({model.ENCRYPT_FORMAT_PROPERTY: 'LUKS'}
                           if is_sealed else {}), **request.properties})
        arguments = upload_to_image.get_arguments(
            decided, job=job, image=image,
            record_exists=request.image_id is not None,
            gives_up_record=request.gives_up_record,
            volume_name=volume.name, fsid=self._cluster.fsid,
            is_compressed=request.is_compressed
            and request.disk_format == 'qcow2')
        tools = self._tools(
            glance, report, encryption=luks.Encryption(passphrase)
            if passphrase and request.is_decrypted else None)
        result = self._jobs.run(upload_to_image.NAME, arguments, tools)
        self._after_registration(result, image.id, decided,
                                 report or progress.Silent())
        snapshot = registration.source_snapshot(image.id)
        return dataclasses.replace(result, lineage={
            'kind': 'glance_image', 'job': job,
            'origin': f'rbd:{self._config.pool}/{volume.name}@{snapshot}'})

    def _after_registration(self, result: Result, image_id: str,
                            decided: plan.Plan, report: progress.Progress
                            ) -> None:
        if (result.strategy not in (plan.Strategy.CLONE, plan.Strategy.COPY)
                or decided.store is None):
            return
        pool = decided.store.pool or ''
        if result.values.get('registration') == registration.PENDING:
            raise exception.RegistrationPending(
                f'Glance accepted image {image_id} and has not made it '
                f'active within {self._config.registration_timeout_s:g} s. '
                f'Its {result.strategy} {pool}/{image_id} stays, marked '
                'pending.',
                remedy='Wait for the image to become active; "volume-rbd '
                       f'jobs resume {result.job}" looks again, and '
                       'registers it anew where Glance has lost it. To give '
                       'it up, delete the image and do the same.')
        if (result.strategy == plan.Strategy.CLONE
                and self._config.clone_upload_flatten == 'background'):
            report.step('flattening the image in the background')
            self._flattener.submit(pool, image_id)

    def make_tools(self, job: Job) -> Tools:
        """For a job that is taken up: nobody waits for it."""
        if not registry.get(job.operation).asks_glance:
            return self._tools(NO_GLANCE, None)
        glance = self._open_glance()
        checker = None
        if job.operation == create_from_image.NAME:
            with contextlib.suppress(exception.GlanceImageNotFound):
                image = glance.get_image(job.arguments['image_id'])
                checker = self._find_checker(
                    image.id, self._find_signature(image), None)
        return self._tools(glance, None, checker)

    def _tools(self, glance: Glance, report: progress.Progress | None,
               checker: signatures.Checker | None = None,
               encryption: luks.Encryption | None = None) -> Tools:
        return Tools(self._config, self._cluster, glance,
                     report or progress.Silent(), checker, self._converter,
                     self._copier, encryption, flattener=self._flattener)


def _find_no_base(image: model.GlanceImage
                  ) -> tuple[bool, plan.BaseFacts | None]:
    """A clone of a base would share bytes that are not encrypted."""
    return False, None


def _as_encrypted(volume: model.VolumeSpec,
                  encryption: luks.Encryption | None) -> model.VolumeSpec:
    """:raises InvalidInput: it is to be encrypted, and nothing says how."""
    if encryption is None:
        if volume.is_encrypted:
            raise exception.InvalidInput(
                f'Volume {volume.name!r} cannot be encrypted without a '
                'passphrase.', remedy='Give one.')
        return volume
    encryption.check()
    return dataclasses.replace(volume, is_encrypted=True)
