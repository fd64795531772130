# SPDX-License-Identifier: Apache-2.0
"""A long upload outlives the token that asked for it, and keeps it secret."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator

import psutil
import pytest
from cinderclient import client as cinder_client
from keystoneauth1 import session
from keystoneauth1.identity import v3

from tests.e2e.traces import POOLS, Traces, opened, soon
from tests.functional import content
from volume_rbd.sandbox import Sandbox

SECONDS = 4
SIZE = 1024 ** 3


@pytest.fixture
def traces(sandbox: Sandbox) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


def test_an_upload_outlives_its_token_which_nobody_can_read(
        traces: Traces, sandbox: Sandbox) -> None:
    volume = traces.volume('off')
    digest = _fill(traces, volume)
    short = _authenticate(traces, sandbox.env('member')['OS_AUTH_URL'])
    token = short.get_token()
    _, body = cinder_client.Client('3.70', session=short) \
        .volumes.upload_to_image(volume, False, 'e2e', 'bare', 'raw',
                                 'private', False)
    image = str(body['os-volume_upload_image']['image_id'])
    traces.glance.wait_for_status(image, 'saving')
    _check_unseen(token)
    assert soon(lambda: not _is_valid(traces, token), SECONDS + 6)
    assert traces.glance.status(image) == 'saving', 'it was too short'
    traces.glance.wait_for_status(image, 'active', 120)
    traces.cinder.wait_for_status(volume, 'available')
    assert traces.glance.digest(image) == digest
    assert token not in traces.logged()
    traces.glance.delete(image)


def _fill(traces: Traces, volume: str) -> str:
    piece = content.random_bytes(4 * content.MIB)
    pool, name = POOLS['off'], f'volume-{volume}'
    with traces.cluster.open(pool, name) as image:
        for offset in range(0, SIZE, len(piece)):
            image.write(piece, offset)
    return traces.digest(volume, pool)


def _authenticate(traces: Traces, url: str) -> session.Session:
    """Keystone gives a token of an application credential no longer a life
    than that has."""
    expires = (datetime.datetime.now(datetime.UTC)
               + datetime.timedelta(seconds=SECONDS))
    own = traces.cinder.session
    made = own.post(
        f'{url}/users/{own.get_user_id()}/application_credentials', json={
            'application_credential': {
                'name': str(uuid.uuid4()),
                'expires_at': f'{expires:%FT%T.%f}'}},
        ).json()['application_credential']
    auth = v3.ApplicationCredential(
        auth_url=url, application_credential_id=made['id'],
        application_credential_secret=made['secret'])
    # A token that ends soon would be thought to have ended.
    auth.MIN_TOKEN_LIFE_SECONDS = 0
    return session.Session(auth=auth)


def _is_valid(traces: Traces, token: str) -> bool:
    own = traces.cinder.session
    url = own.auth.auth_url
    answer = own.get(f'{url}/auth/tokens', raise_exc=False,
                     headers={'X-Subject-Token': token})
    return bool(answer.ok)


def _check_unseen(token: str) -> None:
    """No process was given it where others can read it."""
    for process in psutil.process_iter():
        try:
            shown = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        assert not any(token in text for text in shown)
