# SPDX-License-Identifier: Apache-2.0
"""An image's bytes on their way from Glance, verified as they pass."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from concurrent import futures
from typing import Any

import urllib3.exceptions
from oslo_log import log as logging

from volume_rbd import exception, model
from volume_rbd.glance import channel as channels
from volume_rbd.glance import errors

LOG = logging.getLogger(__name__)


class Verifier:
    """Counts and hashes what passes, as far as the record says what to.

    A location that was registered a moment ago has no hash yet, or never
    gets one: then only the size is checked.

    The hash is computed on a thread, one chunk behind, while the next chunk
    comes in: both take about as long (tried: 440 MiB/s in turn, 630 at the
    same time).
    """

    def __init__(self, image: model.GlanceImage) -> None:
        self._image = image
        self._hash, self._expected = choose_hash(image)
        self._count = 0
        self._thread = futures.ThreadPoolExecutor(1, 'glance-hash')
        self._pending: futures.Future[None] | None = None

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.shutdown()

    def update(self, chunk: bytes) -> None:
        self._count += len(chunk)
        if self._hash is not None:
            self._wait()
            self._pending = self._thread.submit(self._hash.update, chunk)

    def check(self) -> None:
        """:raises DataCorrupted: the whole was not what was promised."""
        self._wait()
        size_bytes = self._image.size_bytes
        if size_bytes is not None and self._count != size_bytes:
            raise self.corrupted(
                f'it has {size_bytes} bytes and {self._count} arrived')
        if self._hash is not None:
            computed = self._hash.hexdigest()
            if computed != self._expected:
                raise self.corrupted(
                    f'its {self._hash.name} should be {self._expected} and '
                    f'is {computed}')

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def corrupted(self, how: str) -> exception.DataCorrupted:
        return exception.DataCorrupted(
            f'Glance image {self._image.id} arrived damaged: {how}.')


def download(channel: channels.Channel, image: model.GlanceImage,
             chunk_bytes: int) -> Generator[bytes, None, None]:
    """The bytes of *image*. Opens the connection at the first ``next()``."""
    what = f'Downloading Glance image {image.id}'
    url = channels.image_url(image.id, '/file')
    response = channel.call(what, lambda: channel.receive(url))
    # The response last: closing it ends the connection of a body that was
    # not read to its end.
    with Verifier(image) as verifier, contextlib.closing(response):
        if response.status_code == 204 and image.size_bytes != 0:
            raise exception.GlanceImageNotUsable(
                f'Glance image {image.id} has no data: it is '
                f'{image.status}.',
                remedy='Wait until it is active, or choose another.')
        while chunk := _read(response.raw, chunk_bytes, what, verifier):
            verifier.update(chunk)
            yield chunk
        verifier.check()


def _read(raw: Any, length: int, what: str, verifier: Verifier) -> bytes:
    """Exactly *length* bytes; fewer only at the end."""
    try:
        chunk: bytes = raw.read(length, decode_content=False)
    except errors.FOREIGN as error:
        missing = _missing_bytes(error)
        if missing:
            raise verifier.corrupted(
                f'the body ended {missing} bytes early') from error
        raise errors.translate(error, what) from error
    return chunk


def _missing_bytes(error: BaseException) -> int:
    """How much of the body is missing after an orderly end; else 0.

    A reset or a timeout says something about the connection. An end that
    comes too early says that Glance had no more to give.
    """
    inner = error.args[1] if len(error.args) > 1 else error
    if isinstance(inner, urllib3.exceptions.IncompleteRead):
        return inner.expected
    return 0


def choose_hash(image: model.GlanceImage) -> tuple[Any, str | None]:
    """os_hash_value if this Python can compute it, else the checksum.

    :returns: a new hash and what it should come to; None, None where the
        record has neither.
    """
    if image.os_hash_algo and image.os_hash_value:
        try:
            return (hashlib.new(image.os_hash_algo, usedforsecurity=False),
                    image.os_hash_value)
        except ValueError:
            LOG.warning(
                'Glance image %(id)s is verified by its md5 checksum: there '
                'is no %(algo)s here.',
                {'id': image.id, 'algo': image.os_hash_algo})
    if image.checksum:
        return hashlib.md5(usedforsecurity=False), image.checksum
    LOG.info('Glance image %s has no hash: only its size is verified.',
             image.id)
    return None, None
