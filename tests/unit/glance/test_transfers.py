# SPDX-License-Identifier: Apache-2.0
"""What becomes of an upload or a download when Glance misbehaves."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.unit.glance.http_server import (
    IMAGE,
    IMAGE_ID,
    Request,
    open_client,
    serving,
)
from volume_rbd import exception, model
from volume_rbd.glance import client

MIB = model.MIB


# -- uploading --------------------------------------------------------------
def uploading(put: Callable[[Request], None]) -> Callable[[Request], None]:
    """The image is queued; its data is met by *put*."""
    def handle(request: Request) -> None:
        if request.method == 'GET':
            request.answer(body=IMAGE)
        else:
            put(request)

    return handle


def upload(glance: client.GlanceClient, size_bytes: int = 64 * MIB) -> None:
    glance.upload(IMAGE_ID, io.BytesIO(bytes(size_bytes)),
                  size_bytes=size_bytes)


def test_a_quota_that_is_reported_in_the_middle_of_an_upload_is_heard(
        ) -> None:
    def put(request: Request) -> None:
        request.read(MIB)
        request.answer(413, b'413 Too Large: quota', Connection='close',
                       Content_Type='text/plain')
        request.connection.close()  # with unread data: a reset

    with serving(uploading(put)) as server, \
            pytest.raises(exception.QuotaExceeded, match='quota'):
        upload(open_client(server.url))


def test_a_status_that_glanceclient_does_not_know_is_told_apart() -> None:
    def put(request: Request) -> None:
        request.read_body()
        request.answer(410)

    with serving(uploading(put)) as server, \
            pytest.raises(exception.GlanceConflict, match='410'):
        upload(open_client(server.url), MIB)


@pytest.mark.parametrize('status', [401, 307, 503])
def test_a_body_is_never_sent_twice(status: int) -> None:
    def put(request: Request) -> None:
        request.read_body()
        request.answer(status, Location='http://127.0.0.1:1/elsewhere')

    with serving(uploading(put)) as server:
        with pytest.raises(exception.VolumeRBDError):
            upload(open_client(server.url), MIB)
        assert len([r for r in server.requests if 'PUT' in r]) == 1


def test_an_upload_that_makes_progress_may_outlast_the_timeout() -> None:
    def put(request: Request) -> None:
        request.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for _ in range(5):
            time.sleep(0.5)
            request.read(256 * 1024)
        request.read_body()
        request.answer(204)

    with serving(uploading(put)) as server:
        started = time.monotonic()
        upload(open_client(server.url, timeout_s=2), 16 * MIB)
        assert time.monotonic() - started > 2


def test_an_upload_that_is_not_taken_in_is_given_up() -> None:
    done = threading.Event()

    def put(request: Request) -> None:
        done.wait(30)

    with serving(uploading(put)) as server:
        glance = open_client(server.url, timeout_s=1)
        started = time.monotonic()
        with pytest.raises(exception.GlanceUnavailable):
            upload(glance)
        assert time.monotonic() - started < 10
        done.set()


# -- downloading ------------------------------------------------------------
ACTIVE = IMAGE | {'status': 'active', 'size': 8 * MIB}


def downloading(send: Callable[[Request], None], image: object = ACTIVE
                ) -> Callable[[Request], None]:
    def handle(request: Request) -> None:
        if request.path.endswith('/file'):
            head = ('HTTP/1.1 200 OK\r\nContent-Type: application/'
                    f'octet-stream\r\nContent-Length: {8 * MIB}\r\n\r\n')
            request.connection.sendall(head.encode())
            send(request)
        else:
            request.answer(body=image)

    return handle


def test_a_reset_in_the_middle_of_a_download_is_unavailable() -> None:
    def send(request: Request) -> None:
        request.connection.sendall(bytes(5 * MIB))
        time.sleep(0.5)
        request.reset()

    with serving(downloading(send)) as server, \
            pytest.raises(exception.GlanceUnavailable):
        list(open_client(server.url).download(IMAGE_ID))


def test_a_download_that_ends_early_is_damaged() -> None:
    def send(request: Request) -> None:
        request.connection.sendall(bytes(5 * MIB))
        request.connection.close()

    with serving(downloading(send)) as server, \
            pytest.raises(exception.DataCorrupted, match=str(3 * MIB)):
        list(open_client(server.url).download(IMAGE_ID))


def test_a_download_that_stalls_is_given_up() -> None:
    done = threading.Event()

    def send(request: Request) -> None:
        request.connection.sendall(bytes(5 * MIB))
        done.wait(30)

    with serving(downloading(send)) as server:
        glance = open_client(server.url, timeout_s=1)
        with pytest.raises(exception.GlanceUnavailable, match='timed out'):
            list(glance.download(IMAGE_ID))
        done.set()


@pytest.mark.parametrize('record', [
    {'os_hash_algo': 'sha512', 'os_hash_value': '00', 'checksum': None},
    {'os_hash_algo': 'sha7', 'os_hash_value': '00', 'checksum': '00'},
    {'checksum': '00'},
])
def test_a_wrong_hash_is_damage(record: dict[str, str]) -> None:
    with serving(downloading(
            lambda request: request.connection.sendall(bytes(8 * MIB)),
            ACTIVE | record)) as server, \
            pytest.raises(exception.DataCorrupted, match='00'):
        list(open_client(server.url).download(IMAGE_ID))


def test_an_image_without_a_hash_is_verified_by_its_size() -> None:
    with serving(downloading(
            lambda request: request.connection.sendall(bytes(8 * MIB)))
            ) as server:
        chunks = list(open_client(server.url).download(IMAGE_ID, 3 * MIB))
    assert [len(chunk) for chunk in chunks] == [3 * MIB, 3 * MIB, 2 * MIB]
