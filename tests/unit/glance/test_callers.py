# SPDX-License-Identifier: Apache-2.0
"""A request's token, the service's beside it, and who says where Glance is.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.glance.http_server import (
    IMAGE,
    IMAGE_ID,
    Request,
    Server,
    serving,
)
from tests.unit.glance.test_faults import free_port
from volume_rbd import exception, glance, opts
from volume_rbd.model import Caller

CALLER = Caller(auth_token='s3cret', user_id='u', project_id='p',
                roles=('member',), request_id='req-1')
VERSIONS = {'versions': [{'id': 'v2.17', 'status': 'CURRENT', 'links': []}]}
STORES = {'stores': [{'id': 'rbd', 'type': 'rbd'}]}


class Cloud:
    """A Keystone and a Glance that note who asks what.

    :ivar seen: (method, path, user's token, service's token), Glance only.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None, str | None]] = []
        self.issued = 0
        self.lifetime_s = 3600
        self.answer: Callable[[Request], bool] = lambda request: False
        self.glance_url = ''

    def keystone(self, request: Request) -> None:
        request.read_body()
        if request.method == 'GET':
            return request.answer(404)
        self.issued += 1
        expires = time.strftime('%Y-%m-%dT%H:%M:%S.000000Z', time.gmtime(
            time.time() + self.lifetime_s))
        request.answer(201, {'token': {
            'methods': ['password'], 'expires_at': expires,
            'issued_at': expires, 'user': {'id': 's', 'name': 'cinder',
                                           'domain': {'id': 'd'}},
            'roles': [{'id': 'r', 'name': 'service'}],
            'catalog': [{'type': 'image', 'id': 'i', 'name': 'g',
                         'endpoints': [
                             {'id': 'e', 'interface': interface,
                              'region': 'Here', 'region_id': 'Here',
                              'url': f'{self.glance_url}/{interface}'}
                             for interface in ('public', 'internal')]}]}},
            X_Subject_Token=f'service-{self.issued}')

    def glance(self, request: Request) -> None:
        path = request.path
        self.seen.append((request.method, path,
                          request.headers.get('x-auth-token'),
                          request.headers.get('x-service-token')))
        if self.answer(request):
            return
        if path.endswith('/info/stores/detail'):
            request.answer(body=STORES)
        elif request.method == 'POST':
            request.answer(202)
        elif path.endswith('/file'):
            request.read_body()
            request.answer(204)
        elif '/images/' in path:
            request.answer(body=IMAGE)
        else:
            request.answer(300, VERSIONS)

    def tokens(self, part: str) -> list[tuple[str | None, str | None]]:
        """The two tokens of each request whose path has *part*."""
        return [(user, service) for _, path, user, service in self.seen
                if part in path]


@dataclasses.dataclass
class House:
    cloud: Cloud
    folder: pathlib.Path
    keystone: str
    glance: str

    def conf(self, text: str, *, with_server: bool = True) -> Any:
        path = self.folder / 'cinder.conf'
        servers = f'glance_api_servers = {self.glance}\n' * with_server
        path.write_text(f'[DEFAULT]\nglance_num_retries = 0\n{servers}{text}')
        return opts.load_config([str(path)])

    def credentials(self, group: str, name: str = 'cinder') -> str:
        return (f'[{group}]\nauth_type = v3password\n'
                f'auth_url = {self.keystone}\nusername = {name}\n'
                'password = hidden\nproject_name = service\n'
                'user_domain_name = Default\n'
                'project_domain_name = Default\n')

    def open(self, text: str, caller: Caller | None = CALLER, **options: bool
             ) -> Any:
        return glance.open_for_caller(self.conf(text, **options), caller)


@pytest.fixture
def house(tmp_path: pathlib.Path) -> Iterator[House]:
    cloud = Cloud()
    keystone: Server
    with serving(cloud.keystone) as keystone, \
            serving(cloud.glance) as server:
        cloud.glance_url = server.url
        yield House(cloud, tmp_path, f'{keystone.url}/v3', server.url)


# -- the caller ---------------------------------------------------------------

def test_a_token_is_in_no_repr() -> None:
    assert 's3cret' not in repr(CALLER)
    assert 's3cret' not in f'{CALLER}'
    assert pickle.loads(pickle.dumps(CALLER)) == CALLER


def test_a_caller_comes_out_of_a_request_context() -> None:
    found = Caller.find({  # as Cinder 29 writes it down
        'user': 'u', 'user_id': 'u', 'project': 'p', 'project_id': 'p',
        'user_domain': 'ud', 'project_domain': 'pd', 'domain': None,
        'is_admin': False, 'read_deleted': 'no', 'roles': ['member'],
        'auth_token': 's3cret', 'request_id': 'req-1',
        'global_request_id': 'req-5', 'user_identity': 'u p - ud pd',
        'service_catalog': [{'type': 'image', 'endpoints': []}]})
    assert found == Caller('s3cret', 'u', 'p', 'ud', 'pd', ('member',),
                           'req-5')
    assert found is not None
    assert found.service_catalog == ({'type': 'image', 'endpoints': []},)


def test_a_caller_goes_through_json() -> None:
    text = json.dumps(dataclasses.asdict(CALLER))
    assert Caller.find(json.loads(text)) == CALLER


def test_a_context_without_a_token_has_no_caller() -> None:
    assert Caller.find({'user_id': 'u', 'auth_token': None}) is None


# -- whose token goes where ---------------------------------------------------

def test_both_tokens_go_with_what_the_user_asked_for(house: House) -> None:
    client = house.open(house.credentials('service_user'))
    client.get_image(IMAGE_ID)
    client.register_location(IMAGE_ID, 'rbd://f/images/i/snap')
    assert set(house.cloud.tokens('/')) == {('s3cret', 'service-1')}


def test_the_bytes_go_with_both_tokens(house: House) -> None:
    import io
    client = house.open(house.credentials('glance'))
    client.upload(IMAGE_ID, io.BytesIO(b'1234'), size_bytes=4)
    [tokens] = house.cloud.tokens('/file')
    assert tokens == ('s3cret', 'service-1')


def test_stores_are_asked_for_as_the_service_alone(house: House) -> None:
    client = house.open(house.credentials('glance'))
    client.get_stores()
    assert house.cloud.tokens('stores') == [('service-1', None)]


def test_the_token_beside_is_that_of_service_user_and_the_rest_that_of_glance(
        house: House) -> None:
    client = house.open(house.credentials('glance')
                        + house.credentials('service_user', 'nova'))
    client.get_stores()
    client.get_image(IMAGE_ID)
    assert house.cloud.tokens('stores') == [('service-1', None)]
    assert house.cloud.tokens(IMAGE_ID) == [('s3cret', 'service-2')]


def test_the_id_of_the_request_goes_along(house: House) -> None:
    ids = []

    def note(request: Request) -> bool:
        ids.append(request.headers.get('x-openstack-request-id'))
        return False

    house.cloud.answer = note
    house.open(house.credentials('glance')).get_image(IMAGE_ID)
    assert ids == ['req-1']


def test_without_a_service_the_caller_is_alone(house: House) -> None:
    client = house.open('')
    client.get_image(IMAGE_ID)
    client.get_stores()
    assert set(house.cloud.tokens('/')) == {('s3cret', None)}
    assert house.cloud.issued == 0


def test_an_operation_without_a_caller_acts_as_the_service(house: House
                                                           ) -> None:
    client = house.open(house.credentials('glance'), caller=None)
    client.get_image(IMAGE_ID)
    assert house.cloud.tokens('/') == [('service-1', None)]


def test_nobody_at_all_is_a_configuration_error(house: House) -> None:
    with pytest.raises(exception.ConfigurationError) as caught:
        house.open('', caller=None)
    assert 'keystone_authtoken' in caught.value.remedy


def test_send_service_user_token_off_leaves_only_the_registration_paired(
        house: House) -> None:
    client = house.open(house.credentials('service_user')
                        + 'send_service_user_token = false\n')
    client.get_image(IMAGE_ID)
    assert house.cloud.tokens(IMAGE_ID) == [('s3cret', None)]
    client.register_location(IMAGE_ID, 'rbd://f/images/i/snap')
    assert house.cloud.tokens('/locations') == [('s3cret', 'service-1')]


def test_send_service_user_token_without_credentials_is_refused(
        house: House) -> None:
    with pytest.raises(exception.ConfigurationError,
                       match='send_service_user_token'):
        house.open('[service_user]\nsend_service_user_token = true\n')


def test_credentials_may_stand_in_keystone_authtoken(house: House) -> None:
    client = house.open(house.credentials('keystone_authtoken')
                        + '[service_user]\nauth_section = '
                          'keystone_authtoken\n')
    client.get_image(IMAGE_ID)
    assert house.cloud.tokens(IMAGE_ID) == [('s3cret', 'service-1')]


def test_keystone_authtoken_alone_is_nobodys_credentials(house: House
                                                         ) -> None:
    client = house.open(house.credentials('keystone_authtoken'))
    client.get_image(IMAGE_ID)
    assert house.cloud.tokens(IMAGE_ID) == [('s3cret', None)]


# -- one door, many callers ---------------------------------------------------

def test_callers_share_the_services_token_and_its_answers(house: House
                                                          ) -> None:
    door = glance.Door(house.conf(house.credentials('glance')))
    for number in range(5):
        caller = dataclasses.replace(CALLER, auth_token=f'user-{number}')
        client = door.for_caller(caller)
        client.get_image(IMAGE_ID)
        client.get_stores()
    assert [user for user, _ in house.cloud.tokens(IMAGE_ID)] == [
        f'user-{number}' for number in range(5)]
    assert {service for _, service in house.cloud.tokens(IMAGE_ID)} == {
        house.cloud.tokens(IMAGE_ID)[0][1]}
    assert len(house.cloud.tokens('stores')) == 1
    assert house.cloud.issued <= 2  # [glance] for itself, and beside


def test_a_service_token_that_ends_soon_is_renewed(house: House) -> None:
    house.cloud.lifetime_s = 5  # keystoneauth renews 30 s before
    client = house.open(house.credentials('glance'))
    client.get_image(IMAGE_ID)
    client.get_image(IMAGE_ID)
    assert house.cloud.tokens(IMAGE_ID) == [
        ('s3cret', 'service-1'), ('s3cret', 'service-2')]


def test_a_service_token_that_is_refused_is_renewed_once(house: House
                                                         ) -> None:
    def refuse_the_first(request: Request) -> bool:
        if request.headers['x-service-token'] != 'service-1':
            return False
        request.answer(401)
        return True

    house.cloud.answer = refuse_the_first
    client = house.open(house.credentials('glance'))
    assert client.get_image(IMAGE_ID).id == IMAGE_ID
    assert house.cloud.tokens(IMAGE_ID) == [
        ('s3cret', 'service-1'), ('s3cret', 'service-2')]


# -- refused ------------------------------------------------------------------

def refuse(request: Request) -> bool:
    request.answer(401, b'no', Content_Type='text/plain')
    return True


def test_a_token_that_is_refused_with_the_services_says_why(
        house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.cloud.answer = refuse
    client = house.open(house.credentials('glance'))
    with caplog.at_level('DEBUG'), \
            pytest.raises(exception.GlanceUnauthorized) as caught:
        client.get_image(IMAGE_ID)
    assert 'service_token_roles' in caught.value.remedy
    assert 's3cret' not in str(caught.value)
    assert 's3cret' not in caplog.text


def test_a_token_that_is_refused_alone_says_how_to_outlast_it(
        house: House) -> None:
    house.cloud.answer = refuse
    with pytest.raises(exception.GlanceUnauthorized) as caught:
        house.open('').get_image(IMAGE_ID)
    assert '[service_user]' in caught.value.remedy


def test_a_broken_transfer_says_the_same(house: House) -> None:
    import io

    def refuse_bytes(request: Request) -> bool:
        return request.path.endswith('/file') and refuse(request)

    house.cloud.answer = refuse_bytes
    client = house.open(house.credentials('glance'))
    with pytest.raises(exception.GlanceUnauthorized) as caught:
        client.upload(IMAGE_ID, io.BytesIO(b'1234'), size_bytes=4)
    assert 'service_token_roles' in caught.value.remedy


# -- where Glance is ----------------------------------------------------------

@pytest.mark.parametrize(('info', 'interface'), [
    ('', 'public'),
    ('glance_catalog_info = image:anything:internalURL\n', 'internal')])
def test_the_catalog_of_the_service_leads_to_glance(
        house: House, info: str, interface: str) -> None:
    client = house.open(info + house.credentials('glance')
                        + 'region_name = Here\n', with_server=False)
    client.get_image(IMAGE_ID)
    [(_, path, *_)] = [row for row in house.cloud.seen if IMAGE_ID in row[1]]
    assert path.startswith(f'/{interface}/')


def test_without_a_service_the_catalog_of_the_request_does(house: House
                                                           ) -> None:
    caller = dataclasses.replace(CALLER, service_catalog=({
        'type': 'image', 'name': 'glance', 'endpoints': [
            {'publicURL': house.glance, 'region': 'Here'}]},))
    house.open('', caller, with_server=False).get_image(IMAGE_ID)
    assert house.cloud.tokens(IMAGE_ID) == [('s3cret', None)]


def test_a_request_without_a_catalog_says_so(house: House) -> None:
    with pytest.raises(exception.ConfigurationError,
                       match='catalog') as caught:
        house.open('', with_server=False).get_image(IMAGE_ID)
    assert 'glance_api_servers' in caught.value.remedy


def test_a_catalog_info_that_is_none_is_refused(house: House) -> None:
    with pytest.raises(exception.ConfigurationError,
                       match='glance_catalog_info'):
        house.open('glance_catalog_info = publicURL\n')


# -- Keystone is not Glance ---------------------------------------------------

def test_a_keystone_that_is_away_is_not_called_glance(house: House) -> None:
    house.keystone = f'http://127.0.0.1:{free_port()}/v3'
    client = house.open(house.credentials('glance'))
    for call in (lambda: client.get_image(IMAGE_ID), client.get_stores,
                 lambda: client.register_location(IMAGE_ID, 'rbd://x')):
        with pytest.raises(exception.GlanceUnavailable) as caught:
            call()
        assert 'Keystone' in caught.value.remedy
        assert 'glance-api' not in caught.value.remedy
        assert not caught.value.was_sent


def test_a_glance_that_is_away_is_called_glance(house: House) -> None:
    house.glance = f'http://127.0.0.1:{free_port()}'
    client = house.open(house.credentials('glance'))
    with pytest.raises(exception.GlanceUnavailable) as caught:
        client.get_image(IMAGE_ID)
    assert 'glance-api' in caught.value.remedy
