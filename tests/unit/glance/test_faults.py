# SPDX-License-Identifier: Apache-2.0
"""What the layer makes of a Glance that is slow, away or rude."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent import futures

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


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_closed_port_is_unavailable_after_bounded_attempts() -> None:
    pauses: list[float] = []
    glance = open_client(f'http://127.0.0.1:{free_port()}', retries=3,
                         pauses=pauses)
    with pytest.raises(exception.GlanceUnavailable, match=IMAGE_ID):
        glance.get_image(IMAGE_ID)
    assert len(pauses) == 3
    assert all(0 < pause <= 8 for pause in pauses)


def test_a_silent_glance_is_given_up_after_the_timeout_and_not_retried(
        ) -> None:
    with serving(lambda request: time.sleep(60)) as server:
        glance = open_client(server.url, timeout_s=1)
        started = time.monotonic()
        with pytest.raises(exception.GlanceUnavailable, match='timed out'):
            glance.get_image(IMAGE_ID)
        assert 0.9 < time.monotonic() - started < 5
        assert len(server.requests) == 1
        _forget_sleepers(server)


def _forget_sleepers(server: object) -> None:
    # A handler that sleeps ends with the process; nobody waits for it.
    server._threads = []  # type: ignore[attr-defined]


def test_a_reset_connection_is_tried_again() -> None:
    def handle(request: Request) -> None:
        if len(server.requests) < 3:
            request.reset()
        else:
            request.answer(body=IMAGE)

    with serving(handle) as server:
        assert open_client(server.url).get_image(IMAGE_ID).id == IMAGE_ID
        assert len(server.requests) == 3


def test_a_connection_that_always_resets_is_given_up() -> None:
    with serving(Request.reset) as server:
        with pytest.raises(exception.GlanceUnavailable):
            open_client(server.url, retries=2).get_image(IMAGE_ID)
        assert len(server.requests) == 3


def test_a_kept_alive_connection_may_be_closed_between_two_calls() -> None:
    def handle(request: Request) -> None:
        request.answer(body=IMAGE)
        request.reset()

    with serving(handle) as server:
        glance = open_client(server.url)
        for _ in range(5):
            glance.get_image(IMAGE_ID)


@pytest.mark.parametrize('status', [429, 502, 503, 504])
def test_a_passing_failure_is_tried_again(status: int) -> None:
    def handle(request: Request) -> None:
        if len(server.requests) == 1:
            request.answer(status, f'{status} Passing'.encode(),
                           Content_Type='text/plain')
        else:
            request.answer(body=IMAGE)

    with serving(handle) as server:
        assert open_client(server.url).get_image(IMAGE_ID).id == IMAGE_ID


def test_a_failure_inside_glance_is_not_tried_again() -> None:
    with serving(lambda request: request.answer(500)) as server:
        with pytest.raises(exception.GlanceUnavailable, match='500'):
            open_client(server.url).get_image(IMAGE_ID)
        assert len(server.requests) == 1


def test_the_stores_are_asked_for_once_more_after_a_500() -> None:
    # The first requests of a burst trip over each other inside Glance.
    answers = iter([(500, b''), (200, b'{"stores": []}')])
    with serving(lambda request: request.answer(*next(answers))) as server:
        assert open_client(server.url).get_stores() == []
        assert len(server.requests) == 2


def test_a_burst_asks_for_the_stores_once() -> None:
    with serving(lambda request: request.answer(200, b'{"stores": []}')
                 ) as server:
        glance = open_client(server.url)
        with futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: glance.get_stores(), range(8)))
        assert answers == [[]] * 8
        assert len(server.requests) == 1


def test_an_answer_that_is_not_glances_is_unavailable() -> None:
    with serving(lambda request: request.answer(
            404, b'{"message": "no route"}')) as server, \
            pytest.raises(exception.GlanceUnavailable):
        open_client(server.url).get_image(IMAGE_ID)


# -- creating ---------------------------------------------------------------
def create(glance: client.GlanceClient, name: str = 'test'
           ) -> model.GlanceImage:
    return glance.create_image(image_id=IMAGE_ID, name=name,
                               disk_format='raw', container_format='bare')


def creating(second: Callable[[Request], None]
             ) -> Callable[[Request], None]:
    """The first POST is done but its answer is lost; then *second*."""
    posts: list[Request] = []

    def handle(request: Request) -> None:
        if request.method == 'GET':
            request.answer(body=IMAGE)
        elif posts:
            second(request)
        else:
            posts.append(request)
            request.reset()

    return handle


def test_a_record_whose_answer_was_lost_is_recognised() -> None:
    with serving(creating(lambda request: request.answer(409))) as server:
        assert create(open_client(server.url)).status == 'queued'


def test_a_record_of_that_id_that_differs_is_a_conflict() -> None:
    with serving(creating(lambda request: request.answer(409))) as server, \
            pytest.raises(exception.GlanceConflict):
        create(open_client(server.url), name='another')


def test_a_lost_record_is_looked_for_when_attempts_are_over() -> None:
    with serving(creating(Request.reset)) as server:
        assert create(open_client(server.url)).id == IMAGE_ID


def test_an_id_that_was_taken_from_the_start_is_a_conflict() -> None:
    def handle(request: Request) -> None:
        if request.method == 'GET':
            request.answer(body=IMAGE)
        else:
            request.answer(409)

    with serving(handle) as server:
        with pytest.raises(exception.GlanceConflict):
            create(open_client(server.url))
        assert len(server.requests) == 1


# -- deleting ---------------------------------------------------------------
def test_a_deletion_whose_answer_was_lost_is_done() -> None:
    def handle(request: Request) -> None:
        if len(server.requests) == 1:
            request.reset()
        else:
            request.answer(404)

    with serving(handle) as server:
        open_client(server.url).delete_image(IMAGE_ID)
        assert len(server.requests) == 2


def test_a_deletion_that_met_the_end_of_the_hashing_is_tried_again() -> None:
    with serving(lambda request: request.answer(
            500 if len(server.requests) == 1 else 204)) as server:
        open_client(server.url).delete_image(IMAGE_ID)
        assert len(server.requests) == 2


# -- registering ------------------------------------------------------------
def test_a_registration_is_sent_once() -> None:
    def handle(request: Request) -> None:
        if request.method == 'GET':
            request.answer(body={'versions': [
                {'id': 'v2.17', 'status': 'CURRENT'}]})
        else:
            request.reset()

    with serving(handle) as server:
        with pytest.raises(exception.GlanceUnavailable):
            open_client(server.url).register_location(IMAGE_ID, 'rbd://x')
        assert len([r for r in server.requests if 'POST' in r]) == 1


HASHES = model.Hashes('sha512', 'ab', 'cd')


def _sent(register: Callable[[client.GlanceClient], None]) -> object:
    """The body of the one request that is no GET."""
    bodies = []

    def handle(request: Request) -> None:
        if request.method == 'GET':
            request.answer(body={'versions': [
                {'id': 'v2.17', 'status': 'CURRENT'}]})
            return
        bodies.append(request.read_json())
        request.answer(202)

    with serving(handle) as server:
        register(open_client(server.url))
    [body] = bodies
    return body


def test_a_hash_is_sent_with_the_location_and_the_checksum_is_not() -> None:
    assert _sent(lambda glance: glance.register_location(
        IMAGE_ID, 'rbd://x', HASHES)) == {
            'url': 'rbd://x', 'validation_data': {
                'os_hash_algo': 'sha512', 'os_hash_value': 'ab'}}
    assert _sent(lambda glance: glance.register_location(
        IMAGE_ID, 'rbd://x')) == {'url': 'rbd://x', 'validation_data': {}}


@pytest.mark.parametrize(('hashes', 'expected'), [
    (HASHES, {'validation_data': {'os_hash_algo': 'sha512',
                                  'os_hash_value': 'ab', 'checksum': 'cd'}}),
    (model.Hashes('sha512', 'ab'), {'validation_data': {
        'os_hash_algo': 'sha512', 'os_hash_value': 'ab'}}),
    (None, {})])
def test_the_old_api_is_sent_the_checksum_too(
        hashes: model.Hashes | None, expected: dict[str, object]) -> None:
    assert _sent(lambda glance: glance.register_location_legacy(
        IMAGE_ID, 'rbd://x', hashes)) == [{
            'op': 'add', 'path': '/locations/-',
            'value': {'url': 'rbd://x', 'metadata': {}, **expected}}]


def test_an_old_glance_cannot_register() -> None:
    with serving(lambda request: request.answer(body={'versions': [
            {'id': 'v2.16', 'status': 'CURRENT'}]})) as server:
        with pytest.raises(exception.ApiNotImplemented):
            open_client(server.url).register_location(IMAGE_ID, 'rbd://x')
        assert not [r for r in server.requests if 'POST' in r]


# -- threads ----------------------------------------------------------------
def test_threads_may_share_a_client() -> None:
    with serving(lambda request: request.answer(body=IMAGE | {
            'id': request.path.rpartition('/')[2]})) as server:
        glance = open_client(server.url)
        wrong: list[str] = []

        def look(number: int) -> None:
            for turn in range(50):
                image_id = f'{number}-{turn}'
                if glance.get_image(image_id).id != image_id:
                    wrong.append(image_id)

        threads = [threading.Thread(target=look, args=(number,))
                   for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
