# SPDX-License-Identifier: Apache-2.0
"""Volumes from images, and images from volumes.

Cinder downloads an image to a local file before it asks a driver to copy it,
unless ``clone_image`` has done the work. So it does, whatever the strategy:
cloning, converting, or streaming from Glance.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from cinder.image import image_utils
from cinder.message import api as message_api
from cinder.message import message_field
from oslo_config import cfg
from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.cinder import encryption, errors, specs
from volume_rbd.cinder.backend import Backend
from volume_rbd.driver.images import ImageRequest

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

Update = dict[str, Any]

_MESSAGES = {
    exception.SignatureInvalid:
        message_field.Detail.SIGNATURE_VERIFICATION_FAILED,
    exception.InvalidSize: message_field.Detail.NOT_ENOUGH_SPACE_FOR_IMAGE,
    exception.GlanceImageNotUsable:
        message_field.Detail.IMAGE_FORMAT_UNACCEPTABLE,
    exception.ImageUnsafe: message_field.Detail.IMAGE_FORMAT_UNACCEPTABLE,
}


class Images(Backend):
    """create_from_image and upload_to_image."""

    @functools.cached_property
    def message_api(self) -> Any:
        """Cinder's messages to users; looks into the database when made."""
        return message_api.API()

    def clone_image(self, context: Any, volume: Any, image_location: Any,
                    image_meta: Mapping[str, Any], image_service: Any
                    ) -> tuple[Update, bool]:
        """Make the volume of the image, by the best way there is.

        The locations that Cinder found are not looked at: they are what the
        user's token shows; the driver asks with the service's.
        """
        spec = specs.get_volume(volume)
        try:
            result = self.backend(context).images.create(
                spec, image_meta['id'])
        except exception.NotSupported as error:
            # Cinder can still download it to a file and convert that.
            LOG.warning('Volume %s is not made from image %s by the driver: '
                        '%s', volume.name, image_meta['id'], error)
            return {}, False
        except exception.VolumeRBDError as error:
            self._tell_user(context, volume, error)
            with errors.translating(errors.FROM_IMAGE):
                raise
        LOG.info('Volume %s was made from image %s by %s: %s', volume.name,
                 image_meta['id'], result.strategy, result.sentence)
        self._note_signature(context, volume, result.values)
        return specs.describe(spec), True

    def copy_image_to_volume(self, context: Any, volume: Any,
                             image_service: Any, image_id: str,
                             disable_sparse: bool = False) -> None:
        """Put the image's bytes into the volume that is there.

        Cinder calls this after it has downloaded the image to a file of its
        own, or to give a volume another image; its snapshots stay.
        """
        with errors.translating(errors.FROM_IMAGE):
            spec = specs.get_volume(volume)
            path = _find_file(context, image_service, image_id)
            images = self.backend(context).images
            if path is None:
                images.replace(spec, image_id)
            else:
                images.create_from_file(
                    spec, path, _get_format(context, image_service, image_id),
                    replace=True)

    def copy_image_to_encrypted_volume(self, context: Any, volume: Any,
                                       image_service: Any, image_id: str,
                                       disable_sparse: bool = False) -> None:
        """The same, encrypted on the way; the file is Cinder's own."""
        key = encryption.get_arguments(volume, context)
        with contextlib.ExitStack() as stack:
            path = _find_file(context, image_service, image_id)
            if path is None:
                path = stack.enter_context(image_utils.TemporaryImages.fetch(
                    image_service, context, image_id))
            stack.enter_context(errors.translating(errors.FROM_IMAGE))
            self.backend(context).encryption.create_from_file(
                specs.get_volume(volume), path,
                _get_format(context, image_service, image_id), **key)

    def copy_volume_to_image(self, context: Any, volume: Any,
                             image_service: Any,
                             image_meta: Mapping[str, Any]) -> None:
        """Make the image of the volume as it is now, in use or not."""
        request = ImageRequest(
            name=image_meta.get('name') or '', image_id=image_meta['id'],
            disk_format=image_meta['disk_format'],
            container_format=image_meta['container_format'],
            is_compressed=CONF.image_compress_on_upload,
            store_id=specs.get_store(volume),
            # Cinder deletes it itself, unless it is killed meanwhile.
            gives_up_record=True)
        with _worked_at(volume), errors.translating():
            result = self.backend(context).images.upload(
                specs.get_volume(volume), request)
        LOG.info('Image %s was made from volume %s by %s: %s',
                 image_meta['id'], volume.name, result.strategy,
                 result.sentence)

    # -- what Cinder notes beside it ----------------------------------------
    def _note_signature(self, context: Any, volume: Any,
                        values: Mapping[str, Any]) -> None:
        verified = values.get('signature_verified')
        if verified is not None and self.db is not None:
            self.db.volume_glance_metadata_bulk_create(
                context, volume.id, {'signature_verified': verified})

    def _tell_user(self, context: Any, volume: Any,
                   error: exception.VolumeRBDError) -> None:
        for kind, detail in _MESSAGES.items():
            if isinstance(error, kind):
                self.message_api.create(
                    context, message_field.Action.COPY_IMAGE_TO_VOLUME,
                    resource_uuid=volume.id, detail=detail)


@contextlib.contextmanager
def _worked_at(volume: Any) -> Iterator[None]:
    """Have Cinder give the volume back when its service was killed: it does
    so for what it has written down, which for uploads it does not do."""
    volume.set_worker()
    try:
        yield
    finally:
        try:
            volume.unset_worker()
        except Exception as error:  # noqa: BLE001, the image is what it is
            LOG.warning('Volume %s stays written down as worked at, until the '
                        'next start: %s', volume.id, error)


def _find_file(context: Any, image_service: Any, image_id: str) -> str | None:
    """The file that Cinder has downloaded the image to, if it has."""
    images = image_utils.TemporaryImages.for_image_service(image_service)
    path: str | None = images.get(context, image_id)
    return path


def _get_format(context: Any, image_service: Any, image_id: str) -> str:
    return str(image_service.show(context, image_id)['disk_format'])
