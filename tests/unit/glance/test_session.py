# SPDX-License-Identifier: Apache-2.0
"""Who the layer acts as, and what it says when it does not know."""

from __future__ import annotations

import pathlib

import pytest
from oslo_config import cfg

from volume_rbd import exception, glance, opts
from volume_rbd.glance import session

CONFIG = opts.GlanceConfig()
USER = {
    'OS_AUTH_URL': 'http://keystone/v3', 'OS_USERNAME': 'anna',
    'OS_PASSWORD': 's3cret', 'OS_PROJECT_NAME': 'demo',
    'OS_USER_DOMAIN_NAME': 'Default', 'OS_PROJECT_DOMAIN_NAME': 'Default',
}
SERVICE = '''
auth_type = password
auth_url = http://keystone/v3
username = cinder
password = s3cret
project_name = service
user_domain_name = Default
project_domain_name = Default
'''


def load(tmp_path: pathlib.Path, text: str) -> cfg.ConfigOpts:
    path = tmp_path / 'cinder.conf'
    path.write_text('[DEFAULT]\n' + text)
    return opts.load_config([str(path)])


def test_a_password_makes_a_session() -> None:
    auth = session.user_session(USER, CONFIG).auth
    assert type(auth).__name__ == 'Password'
    assert auth._username == 'anna'


@pytest.mark.parametrize('kind', [None, 'token', 'v3token'])
def test_a_token_makes_a_session(kind: str | None) -> None:
    environ = {'OS_AUTH_URL': 'http://keystone/v3', 'OS_TOKEN': 's3cret',
               'OS_PROJECT_ID': 'p'}
    if kind:
        environ['OS_AUTH_TYPE'] = kind
    auth = session.user_session(environ, CONFIG).auth
    assert 'Token' in type(auth).__name__


def test_an_application_credential_needs_no_project() -> None:
    session.user_session({
        'OS_AUTH_TYPE': 'v3applicationcredential',
        'OS_AUTH_URL': 'http://keystone/v3',
        'OS_APPLICATION_CREDENTIAL_ID': 'i',
        'OS_APPLICATION_CREDENTIAL_SECRET': 's3cret'}, CONFIG)


@pytest.mark.parametrize('name', [
    'OS_AUTH_URL', 'OS_USERNAME', 'OS_PASSWORD', 'OS_PROJECT_NAME'])
def test_a_missing_variable_is_named(name: str) -> None:
    environ = {key: value for key, value in USER.items() if key != name}
    with pytest.raises(exception.ConfigurationError, match=name) as caught:
        session.user_session(environ, CONFIG)
    assert 'sandbox env' in caught.value.remedy
    assert 's3cret' not in str(caught.value)


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(exception.ConfigurationError) as caught:
        session.user_session({}, CONFIG)
    for name in ('OS_AUTH_URL', 'OS_USERNAME', 'OS_PASSWORD'):
        assert name in str(caught.value)


def test_an_unknown_way_to_authenticate_is_named() -> None:
    with pytest.raises(exception.ConfigurationError, match='handshake'):
        session.user_session({'OS_AUTH_TYPE': 'handshake'}, CONFIG)


def test_tls_settings_reach_the_session() -> None:
    config = opts.GlanceConfig(ca_file='/ours', request_timeout_s=7)
    assert session.user_session(USER, config).verify == '/ours'
    assert session.user_session(USER, config).timeout == 7
    environ = USER | {'OS_CACERT': '/theirs'}
    assert session.user_session(environ, config).verify == '/theirs'
    environ = USER | {'OS_INSECURE': 'true'}
    assert session.user_session(environ, config).verify is False


@pytest.mark.parametrize('group', ['glance', 'service_user'])
def test_the_service_comes_from_either_section(
        tmp_path: pathlib.Path, group: str) -> None:
    conf = load(tmp_path, f'[{group}]{SERVICE}')
    found = session.service_session(conf, CONFIG)
    assert found is not None
    assert found.auth._username == 'cinder'


def test_the_glance_section_goes_first(tmp_path: pathlib.Path) -> None:
    conf = load(tmp_path, f'[service_user]{SERVICE}[glance]{SERVICE}'
                          'username = glance-client\n')
    found = session.service_session(conf, CONFIG)
    assert found is not None
    assert found.auth._username == 'glance-client'


def test_a_section_may_point_to_another(tmp_path: pathlib.Path) -> None:
    conf = load(tmp_path, '[service_user]\nauth_section = shared\n'
                          f'[shared]{SERVICE}')
    found = session.service_session(conf, CONFIG)
    assert found is not None
    assert found.auth._username == 'cinder'


def test_without_credentials_there_is_no_service(
        tmp_path: pathlib.Path) -> None:
    conf = load(tmp_path, '')
    assert session.service_session(conf, CONFIG) is None


@pytest.mark.parametrize('text', [
    'auth_type = handshake\n', 'auth_type = v3adfspassword\n',
    'auth_type = password\n'])
def test_unusable_credentials_are_a_configuration_error(
        tmp_path: pathlib.Path, text: str) -> None:
    conf = load(tmp_path, f'[glance]\n{text}')
    with pytest.raises(exception.ConfigurationError, match='glance'):
        session.service_session(conf, CONFIG)


def test_both_tokens_go_together(tmp_path: pathlib.Path) -> None:
    conf = load(tmp_path, f'[glance]{SERVICE}')
    user, service = session.open_sessions(conf, CONFIG, USER)
    pair = session.paired_session(user, service)
    assert pair.auth.user_auth is user.auth
    assert service is not None
    assert pair.auth.service_auth is service.auth


def test_without_a_user_the_service_acts(
        tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    conf = load(tmp_path, f'[glance]{SERVICE}')
    with caplog.at_level('INFO'):
        user, service = session.open_sessions(conf, CONFIG, {'HOME': '/'})
    assert user is service
    assert 'service user' in caplog.text


def test_with_nobody_at_all_it_says_what_to_set(
        tmp_path: pathlib.Path) -> None:
    with pytest.raises(exception.ConfigurationError, match='OS_AUTH_URL'):
        session.open_sessions(load(tmp_path, ''), CONFIG, {})


def test_half_a_user_is_not_the_service(tmp_path: pathlib.Path) -> None:
    conf = load(tmp_path, f'[glance]{SERVICE}')
    with pytest.raises(exception.ConfigurationError, match='OS_AUTH_URL'):
        session.open_sessions(conf, CONFIG, {'OS_USERNAME': 'anna'})


def test_the_door_opens_without_asking_anybody(
        tmp_path: pathlib.Path) -> None:
    conf = load(tmp_path, f'glance_api_servers = 127.0.0.1:1\n'
                          f'[glance]{SERVICE}')
    glance.open_glance(conf, USER | {'OS_INTERFACE': 'internalURL',
                                     'OS_REGION_NAME': 'Here'})
