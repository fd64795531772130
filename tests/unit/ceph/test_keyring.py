# SPDX-License-Identifier: Apache-2.0
"""The key by which records are signed."""

from __future__ import annotations

import pathlib

import pytest

from volume_rbd import exception
from volume_rbd.ceph import keyring

KEYRING = '''# a note
[client.cinder]
\tkey = AQBsecretA==
\tcaps mon = "profile rbd"
[client.nova]
key = AQBsecretB==
'''


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'keyring'
    path.write_text(KEYRING)
    return path


@pytest.mark.parametrize(('who', 'key'), [
    ('client.cinder', b'AQBsecretA=='), ('client.nova', b'AQBsecretB==')])
def test_it_is_found_where_librados_finds_it(path: pathlib.Path, who: str,
                                             key: bytes) -> None:
    places = {'keyring': f'/not/there, {path}'}
    assert keyring.find_key(places.get, who) == key


def test_a_key_of_its_own_goes_first(path: pathlib.Path) -> None:
    file = path.parent / 'key'
    file.write_text('AQBfile==\n')
    places = {'keyring': str(path), 'keyfile': str(file)}
    assert keyring.find_key(places.get, 'client.cinder') == b'AQBfile=='
    places['key'] = 'AQBown=='
    assert keyring.find_key(places.get, 'client.cinder') == b'AQBown=='


def test_without_cephx_there_is_none() -> None:
    places = {'auth_client_required': 'none'}
    assert keyring.find_key(places.get, 'client.cinder') == b''


@pytest.mark.parametrize('text', ['', '[client.cinder]\n', 'key = x\n',
                                  '\0\xff', '[client.glance]\nkey = AQBx==\n'])
def test_no_key_is_an_error_without_any_line_of_the_file(
        path: pathlib.Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(exception.ConfigurationError) as caught:
        keyring.find_key({'keyring': str(path)}.get, 'client.cinder')
    assert 'AQB' not in str(caught.value)


def test_what_cannot_be_read_is_said(path: pathlib.Path) -> None:
    with pytest.raises(exception.ConfigurationError, match='keyring'):
        keyring.find_key({'keyring': str(path.parent)}.get, 'client.cinder')
