# SPDX-License-Identifier: Apache-2.0
"""A request's token: it ends, and the operation that it asked for does not.

Keystone gives a token of an application credential no longer a life than that
has, so a token that lives for seconds is to be had of an ordinary Keystone.
"""

from __future__ import annotations

import datetime
import logging
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import NO_SERVICE, House, Overrides
from tests.functional.steps import Steps
from volume_rbd import exception, glance, model, opts
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.base import Result
from volume_rbd.glance.interface import Glance

DATA = content.sparse_bytes(24 * MIB)
DIGEST = content.digest_of_bytes(DATA)

#: Both ways to upload, by the backend.
BOTH = pytest.mark.parametrize(('backend', 'strategy'), [
    ('ceph', 'upload'), ('optimized', 'clone')])


class Tokens:
    """Tokens of the member, of any length of life."""

    def __init__(self, house: House) -> None:
        self._env = house.sandbox.env('member')
        self._made: list[str] = []

    def long(self) -> model.Caller:
        return self._caller(self._authenticate({
            'methods': ['password'], 'password': {'user': {
                'name': self._env['OS_USERNAME'],
                'password': self._env['OS_PASSWORD'],
                'domain': {'name': self._env['OS_USER_DOMAIN_NAME']}}}},
            {'project': {
                'name': self._env['OS_PROJECT_NAME'],
                'domain': {'name': self._env['OS_PROJECT_DOMAIN_NAME']}}}))

    def short(self, seconds: int) -> model.Caller:
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(
            seconds=seconds)
        owner = self.long()
        answer = self._do('POST', f'/users/{owner.user_id}/application_'
                          'credentials', owner.auth_token, json={
                              'application_credential': {
                                  'name': str(uuid.uuid4()),
                                  'expires_at': f'{expires:%FT%T.%f}'}})
        made = answer.json()['application_credential']
        self._made.append(made['id'])
        return self._caller(self._authenticate({
            'methods': ['application_credential'],
            'application_credential': {'id': made['id'],
                                       'secret': made['secret']}}))

    def revoke(self, caller: model.Caller) -> None:
        self._do('DELETE', '/auth/tokens', self.long().auth_token,
                 headers={'X-Subject-Token': caller.auth_token})

    def is_valid(self, caller: model.Caller) -> bool:
        return requests.get(
            self._env['OS_AUTH_URL'] + '/auth/tokens', timeout=60,
            headers={'X-Auth-Token': self.long().auth_token,
                     'X-Subject-Token': caller.auth_token}).ok

    def wait_until_expired(self, caller: model.Caller) -> None:
        deadline = time.monotonic() + 60
        while self.is_valid(caller):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def close(self) -> None:
        owner = self.long()
        for made in self._made:
            self._do('DELETE', f'/users/{owner.user_id}/application_'
                     f'credentials/{made}', owner.auth_token)

    def _authenticate(self, identity: Any, scope: Any = None) -> Any:
        auth = {'identity': identity} | ({'scope': scope} if scope else {})
        return self._do('POST', '/auth/tokens', None, json={'auth': auth})

    def _do(self, method: str, path: str, token: str | None,
            headers: dict[str, str] | None = None, **options: Any
            ) -> requests.Response:
        answer = requests.request(
            method, self._env['OS_AUTH_URL'] + path, timeout=60,
            headers={**({'X-Auth-Token': token} if token else {}),
                     **(headers or {})}, **options)
        assert answer.ok, f'{method} {path}: {answer.text}'
        return answer

    @staticmethod
    def _caller(answer: requests.Response) -> model.Caller:
        token = answer.json()['token']
        return model.Caller(
            answer.headers['X-Subject-Token'], token['user']['id'],
            token['project']['id'],
            roles=tuple(role['name'] for role in token['roles']),
            request_id=f'req-{uuid.uuid4()}')


@pytest.fixture
def tokens(house: House) -> Iterator[Tokens]:
    made = Tokens(house)
    yield made
    made.close()


def door(house: House, overrides: Overrides | None = None) -> glance.Door:
    return glance.Door(opts.load_config([house.config(overrides)]))


def upload(driver: RBDDriver, volume: str, client: Glance,
           report: Steps | None = None) -> Result:
    return driver.images.upload(
        model.VolumeSpec(volume), ImageRequest('functional'), report=report,
        glance=client)


@BOTH
def test_what_a_request_asks_for_is_its_users(
        house: House, tokens: Tokens, backend: str, strategy: str) -> None:
    volume = house.volume(DATA)
    caller = tokens.long()
    result = upload(house.driver(backend, role='other'), volume,
                    door(house).for_caller(caller))
    assert result.strategy == strategy
    image_id = str(result.values['image_id'])
    assert house.member.get(image_id)['owner'] == caller.project_id
    assert house.member.digest(image_id) == DIGEST


@BOTH
def test_an_upload_outlives_the_token_that_asked_for_it(
        house: House, tokens: Tokens, backend: str, strategy: str,
        caplog: pytest.LogCaptureFixture) -> None:
    volume = house.volume(DATA)
    caller = tokens.short(6)
    report = Steps('taking a snapshot of the volume',
                   lambda: tokens.wait_until_expired(caller))
    with caplog.at_level(logging.DEBUG):
        result = upload(house.driver(backend), volume,
                        door(house).for_caller(caller), report)
    assert not tokens.is_valid(caller)
    assert result.strategy == strategy
    image_id = str(result.values['image_id'])
    assert house.member.digest(image_id) == DIGEST
    assert caller.auth_token not in caplog.text
    assert caller.auth_token not in repr(result)


def test_a_token_that_ends_while_the_bytes_are_on_their_way(
        house: House, tokens: Tokens) -> None:
    volume = house.volume(DATA)
    caller = tokens.short(6)

    class Stopping(Steps):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            super().advance(done_bytes, skipped_bytes)
            if self._action is not None:
                action, self._action = self._action, None
                action()

    report = Stopping('', lambda: tokens.wait_until_expired(caller))
    result = upload(house.driver('ceph'), volume,
                    door(house).for_caller(caller), report)
    assert house.member.digest(str(result.values['image_id'])) == DIGEST


@BOTH
def test_an_upload_that_fails_after_the_token_has_expired_is_undone(
        house: House, tokens: Tokens, backend: str, strategy: str) -> None:
    volume = house.volume(DATA)
    caller = tokens.short(6)
    step = {'upload': 'uploading the volume',
            'clone': 'taking the snapshot of the image'}[strategy]
    report = Steps(step)

    def expire_and_cancel() -> None:
        tokens.wait_until_expired(caller)
        report.cancel()

    report._action = expire_and_cancel
    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        upload(house.driver(backend), volume,
               door(house).for_caller(caller), report)


def test_a_create_outlives_the_token_that_asked_for_it(
        house: House, tokens: Tokens) -> None:
    image_id = house.member.make(DATA, 'file')
    caller = tokens.short(6)
    name = f'volume-{uuid.uuid4()}'
    report = Steps('downloading the image',
                   lambda: tokens.wait_until_expired(caller))
    result = house.driver().images.create(
        model.VolumeSpec(name), image_id, report=report,
        glance=door(house).for_caller(caller))
    assert result.strategy == 'download'
    assert house.cluster.digest('volumes', name) == DIGEST


def test_others_images_stay_others_whatever_the_service_may_see(
        house: House, tokens: Tokens) -> None:
    image_id = house.other.make(DATA)
    client = door(house).for_caller(tokens.long())
    with house.nothing_changes(), \
            pytest.raises(exception.GlanceImageNotFound):
        house.driver().images.create(
            model.VolumeSpec(f'volume-{uuid.uuid4()}'), image_id,
            glance=client)


@pytest.mark.parametrize(('overrides', 'words'), [
    (NO_SERVICE | {'service_user': {'auth_type': None,
                                    'send_service_user_token': None}},
     '[service_user]'),
    ({'service_user': {'send_service_user_token': 'false'}},
     'send_service_user_token')])
def test_without_the_services_token_an_expired_one_ends_the_upload(
        house: House, tokens: Tokens, overrides: Overrides, words: str
        ) -> None:
    volume = house.volume(DATA)
    caller = tokens.short(6)
    report = Steps('taking a snapshot of the volume',
                   lambda: tokens.wait_until_expired(caller))
    image_id = house.member.create()
    with house.nothing_changes(), \
            pytest.raises(exception.GlanceUnauthorized) as caught:
        house.driver('ceph').images.upload(
            model.VolumeSpec(volume),
            ImageRequest('functional', image_id=image_id), report=report,
            glance=door(house, overrides).for_caller(caller))
    assert words in caught.value.remedy
    assert caller.auth_token not in str(caught.value)


def test_a_revoked_token_is_refused_although_the_services_is_good(
        house: House, tokens: Tokens) -> None:
    volume = house.volume(DATA)
    caller = tokens.long()
    client = door(house).for_caller(caller)
    tokens.revoke(caller)
    with house.nothing_changes(), \
            pytest.raises(exception.GlanceUnauthorized) as caught:
        upload(house.driver(), volume, client)
    assert 'revoked' in caught.value.remedy


def test_without_a_service_a_clone_says_its_reason(
        house: House, tokens: Tokens) -> None:
    volume = house.volume(DATA)
    client = door(house, NO_SERVICE | {'service_user': {
        'auth_type': None, 'send_service_user_token': None}}
        ).for_caller(tokens.long())
    result = upload(house.driver(), volume, client)
    assert (result.strategy, result.reason) == ('upload',
                                                'stores_forbidden')


def test_no_record_of_a_flow_has_the_token(
        house: House, tokens: Tokens) -> None:
    caller = tokens.long()
    volume = house.volume(DATA)
    driver = house.driver(optimized={'flow_connection': house.database_url})
    seen: list[str] = []
    report = Steps('registering the image',
                   lambda: seen.append(_dump(house, driver)))
    upload(driver, volume, door(house).for_caller(caller), report)
    assert volume in seen[0]
    assert caller.auth_token not in seen[0]
    assert 'gAAAA' not in seen[0]


def _dump(house: House, driver: RBDDriver) -> str:
    """What is in the database, and what is in RADOS."""
    records = driver.cluster.records(driver.config.pool, 'volume_rbd.jobs')
    return '\n'.join([
        *(str(row) for table in ('logbooks', 'flowdetails', 'atomdetails')
          for row in house._sql('volume_rbd', f'SELECT * FROM {table}')),
        *(str(records.read(name)) for name in records.names())])


def test_nobody_asked_and_the_service_acts(house: House) -> None:
    volume = house.volume(DATA)
    result = upload(house.driver(), volume, door(house).for_caller(None))
    image_id = str(result.values['image_id'])
    assert house.member.status(image_id) is None  # it is in the service's
    assert house.service.status(image_id) == 'active'
