# SPDX-License-Identifier: Apache-2.0
"""Who may come in: a real Keystone decides, so there is no fake of it."""

from __future__ import annotations

import logging
import socket
import threading
import uuid

import pytest

from tests.contract.glance_worlds import RealWorld
from volume_rbd import exception, glance, opts

pytest_plugins = ('tests.contract.glance_fixtures',)
pytestmark = pytest.mark.real


def test_a_wrong_password_is_refused_without_repeating_it(
        real_glance: RealWorld, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = real_glance.open_client('member', OS_PASSWORD='s3cret!')
        with pytest.raises(exception.GlanceUnauthorized) as caught:
            client.get_image(str(uuid.uuid4()))
    assert 'OS_*' in caught.value.remedy
    assert 's3cret!' not in str(caught.value)
    assert 's3cret!' not in caplog.text


def test_neither_passwords_nor_tokens_are_logged(
        real_glance: RealWorld, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = real_glance.open_client('member')
        image_id = str(uuid.uuid4())
        client.create_image(image_id=image_id, name='contract',
                            disk_format='raw', container_format='bare')
        client.register_location(image_id, 'nonsense')
        client.get_stores()
        client.delete_image(image_id)
    environ = real_glance.environ('member')
    assert 'X-Service-Token' in caplog.text  # it was looked for
    assert environ['OS_PASSWORD'] not in caplog.text
    assert real_glance.environ('cinder')['OS_PASSWORD'] not in caplog.text
    assert 'gAAAA' not in caplog.text


def test_a_token_that_is_none_is_refused(real_glance: RealWorld) -> None:
    client = real_glance.open_client(
        'member', OS_AUTH_TYPE='v3token', OS_TOKEN='gAAAAnonsense')
    with pytest.raises(exception.GlanceUnauthorized) as caught:
        client.get_image(str(uuid.uuid4()))
    assert 'gAAAAnonsense' not in str(caught.value)


def test_a_keystone_that_is_away_is_unavailable(
        real_glance: RealWorld) -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    client = real_glance.open_client(
        'member', OS_AUTH_URL=f'http://127.0.0.1:{port}/v3')
    with pytest.raises(exception.GlanceUnavailable,
                       match=str(port)) as caught:
        client.get_image(str(uuid.uuid4()))
    assert 'Keystone' in caught.value.remedy
    assert not caught.value.was_sent


def test_an_unknown_region_is_a_configuration_error(
        real_glance: RealWorld) -> None:
    conf = opts.load_config([])  # no glance_api_servers: the catalog's
    client = glance.open_glance(conf, real_glance.environ('member') | {
        'OS_REGION_NAME': 'Atlantis'})
    with pytest.raises(exception.ConfigurationError):
        client.get_image(str(uuid.uuid4()))


def test_the_catalog_leads_to_glance(real_glance: RealWorld) -> None:
    client = glance.open_glance(
        opts.load_config([]), real_glance.environ('member'))
    with pytest.raises(exception.GlanceImageNotFound):
        client.get_image(str(uuid.uuid4()))


def test_who_is_no_admin_cannot_tell_that_an_image_is_gone(
        real_glance: RealWorld) -> None:
    client = glance.open_glance(
        opts.load_config([]), real_glance.environ('member'))
    with pytest.raises(exception.GlanceForbidden):
        client.has_image(str(uuid.uuid4()))


def test_an_operator_with_only_a_cinder_conf_acts_as_the_service(
        real_glance: RealWorld) -> None:
    conf = opts.load_config([real_glance.config_file])
    client = glance.open_glance(conf, {'PATH': '/usr/bin'})
    assert client.get_stores()
    image_id = str(uuid.uuid4())
    client.create_image(image_id=image_id, name='contract',
                        disk_format='raw', container_format='bare')
    client.register_location(image_id, 'nonsense')
    client.delete_image(image_id)


def test_threads_share_a_client_whose_token_is_not_there_yet(
        real_glance: RealWorld) -> None:
    client = real_glance.open_client('member')
    answers: list[bool] = []

    def ask() -> None:
        for _ in range(5):
            answers.append(client.has_image(str(uuid.uuid4())))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [False] * 40
