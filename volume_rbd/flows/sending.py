# SPDX-License-Identifier: Apache-2.0
"""An rbd_image's bytes as the data of a Glance image."""

from __future__ import annotations

import time

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph.interface import Image
from volume_rbd.copying import inbound, outbound
from volume_rbd.flows.base import Tools

LOG = logging.getLogger(__name__)

_LET_GO_TIMEOUT_S = 30
_BEGUN_AFTER_S = 1.0


def send(tools: Tools, source: Image, image_id: str, store_id: str | None
         ) -> int:
    """Send all of *source* through Glance's API; holes are not read.

    :returns: the bytes that were read.
    :raises GlanceImageNotUsable: the image went while another process sent.
    """
    size_bytes = source.size_bytes
    if tools.is_resumed:
        if _was_sent(tools, image_id, size_bytes):
            return 0
        tools.report.check()
    operations = inbound.operations_within_memory(
        tools.config.copy_operations, outbound.CHUNK_BYTES)
    report = tools.transfer()
    report.start(size_bytes)
    with outbound.SourceStream(source, operations=operations,
                               report=report) as stream:
        try:
            tools.glance.upload(image_id, stream, size_bytes=size_bytes,
                                store_id=store_id)
        except BaseException:
            _wait_until_let_go(tools, image_id)
            raise
        return stream.read_bytes


def _was_sent(tools: Tools, image_id: str, size_bytes: int) -> bool:
    """Whether Glance has all of it from a process that was killed; what it
    had of a part it has let go of."""
    _wait_until_let_go(tools, image_id)
    try:
        image = tools.glance.get_image(image_id)
    except exception.GlanceImageNotFound as error:
        raise exception.GlanceImageNotUsable(
            f'Image {image_id} was deleted while it was uploaded.',
            remedy='Upload the volume again.') from error
    if image.status == 'active' and image.size_bytes == size_bytes:
        return True
    if image.status != 'queued':
        raise exception.GlanceImageNotUsable(
            f'Image {image_id} became {image.status}, with '
            f'{image.size_bytes} bytes, while it was uploaded.',
            remedy='Upload the volume again.')
    return False


def _wait_until_let_go(tools: Tools, image_id: str) -> None:
    """Wait until Glance has removed what it had of a broken transfer.

    It may begin with it only now (queued, then saving), notices the break,
    removes the data, and only then makes the image queued again. A record
    that is deleted before leaves the data behind for a while.
    """
    started = time.monotonic()
    was_saving = False
    while (waited_s := time.monotonic() - started) < _LET_GO_TIMEOUT_S:
        try:
            is_saving = tools.glance.get_image(image_id).status == 'saving'
            if not is_saving and (was_saving or waited_s > _BEGUN_AFTER_S):
                return
            was_saving = was_saving or is_saving
        except exception.VolumeRBDError as error:
            LOG.debug('Image %s cannot be looked at: %s', image_id, error)
            return
        time.sleep(0.03)
    LOG.warning('Glance still holds image %s after a broken transfer.',
                image_id)
