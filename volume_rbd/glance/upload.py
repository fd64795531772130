# SPDX-License-Identifier: Apache-2.0
"""An image's bytes on their way to Glance.

The body is sent chunked, as glanceclient does it, but in other pieces. A
source that fails, or ends too early, breaks the connection off before the
last chunk, so that Glance cannot take what it got for the whole image.
(Tried, with the RBD and the file store: Glance puts such an image back to
queued and removes what it had written; and it compares the size.)
"""

from __future__ import annotations

from collections.abc import Iterator

from volume_rbd import exception, model
from volume_rbd.glance import channel as channels
from volume_rbd.glance import errors
from volume_rbd.glance.interface import Readable

PIECE_BYTES = 4 * model.MIB

# Two reasons to send smaller pieces than are read. A timeout covers one call
# of sendall() as a whole, however much of it went out: small calls make it
# one for progress. And gunicorn takes a body of 256 KiB chunks in faster than
# one of 1 MiB chunks (glanceclient's) or of known length, because it copies
# what it has buffered for each read of the store (tried, medians in MiB/s:
# file store 155, 98, 66; RBD store 126, 91, 90).
SEND_BYTES = 256 * 1024


class SourceFailed(Exception):
    """The source raised; what it raised is the cause.

    Not an OSError, whatever the source raises: urllib3 takes a reset or a
    broken pipe for the server's and would wait for an answer.
    """


class Body:
    """A source as requests sends it, iterated over only once.

    It has no length on purpose: requests would send it unchunked.
    """

    def __init__(self, data: Readable, size_bytes: int) -> None:
        self._data = data
        self._size_bytes = size_bytes
        self._is_used = False

    def __iter__(self) -> Iterator[memoryview]:
        for piece in self._pieces():
            view = memoryview(piece)
            for offset in range(0, len(view), SEND_BYTES):
                yield view[offset:offset + SEND_BYTES]

    def _pieces(self) -> Iterator[bytes]:
        if self._is_used:
            raise SourceFailed from exception.GlanceUnavailable(
                'The upload would have to start again, but its source has '
                'been read.', remedy='Try again.')
        self._is_used = True
        left = self._size_bytes
        while left:
            piece = self._read(min(PIECE_BYTES, left))
            if not piece:
                raise SourceFailed from _wrong_size(
                    self._size_bytes, self._size_bytes - left)
            left -= len(piece)
            if left < 0:
                raise SourceFailed from _wrong_size(
                    self._size_bytes, self._size_bytes - left)
            yield piece

    def _read(self, length: int) -> bytes | None:
        try:
            return self._data.read(length)
        except BaseException as error:
            raise SourceFailed from error


def upload(channel: channels.Channel, image_id: str, data: Readable, *,
           size_bytes: int, store_id: str | None) -> None:
    """Send *data* to the image; returns when Glance has made it active.

    :raises DataCorrupted: *data* ended before *size_bytes*, or gave more.
    """
    what = f'Uploading Glance image {image_id}'
    headers = {
        'Content-Type': 'application/octet-stream',
        'x-openstack-image-size': str(size_bytes),
    }
    if store_id is not None:
        headers['x-image-meta-store'] = store_id
    url = channels.image_url(image_id, '/file')
    failed = None
    try:
        channel.send(url, Body(data, size_bytes), headers)
    except SourceFailed as error:
        failed = error.__cause__
    except errors.FOREIGN as error:
        raise channel.translate(error, what) from error
    if failed is not None:
        # Out here, so that it keeps a cause and a context of its own.
        raise failed


def _wrong_size(promised: int, got: int) -> exception.DataCorrupted:
    return exception.DataCorrupted(
        f'The source of an upload was to give {promised} bytes and gave '
        f'{got}{" or more" if got > promised else ""}.',
        remedy='Nothing was kept. Check that the source does not change '
               'during the upload.')
