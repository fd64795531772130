# SPDX-License-Identifier: Apache-2.0
"""Keys of the key manager."""

from __future__ import annotations

import logging
import pathlib
from typing import Any

import pytest
from castellan import key_manager as castellan
from castellan.common import exception as castellan_exception
from castellan.common.objects import symmetric_key
from castellan.key_manager import barbican_key_manager

from volume_rbd import exception, key_manager, opts
from volume_rbd.sandbox.keys import SandboxKeyManager

KEY = bytes.fromhex('00ff') * 16


class Broken:
    """A key manager that says too much."""

    error: Exception = RuntimeError('token gAAAAs3cret')

    def __init__(self, configuration: Any) -> None:
        pass

    def get(self, context: Any, managed_object_id: str) -> Any:
        logging.getLogger('keystoneauth.session').debug('RESP: s3cret')
        raise self.error


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> Any:
    path = tmp_path / 'cinder.conf'
    path.write_text(
        '[key_manager]\n'
        'backend = volume_rbd.sandbox.keys.SandboxKeyManager\n'
        f'folder = {tmp_path}\n')
    return opts.load_config([str(path)])


def test_a_passphrase_is_the_key_in_hexadecimal(conf: Any) -> None:
    """As os-brick and the hypervisors have it."""
    found = castellan.API(conf)
    assert isinstance(found, SandboxKeyManager)
    key_id = found.store(None, symmetric_key.SymmetricKey('AES', 256, KEY))
    assert key_manager.KeyManager(conf).get_passphrase(key_id) == KEY.hex()


@pytest.mark.parametrize('key_id', [
    'c7d93c5c-7a11-4b80-8a9b-5a0a0c8b4a0e', '../x', ''])
def test_a_key_that_is_not_there_is_named(conf: Any, key_id: str) -> None:
    with pytest.raises(exception.KeyNotFound) as caught:
        key_manager.KeyManager(conf).get_passphrase(key_id)
    assert f'The key {key_id} ' in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize('error', [
    castellan_exception.KeyManagerError(reason='it is locked'),
    castellan_exception.Forbidden(), Broken.error])
def test_a_key_manager_that_fails_tells_no_secret(
        conf: Any, monkeypatch: pytest.MonkeyPatch, error: Exception,
        caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(castellan, 'API', Broken)
    monkeypatch.setattr(Broken, 'error', error)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, 'keystoneauth')
    with pytest.raises(exception.Unavailable) as caught:
        key_manager.KeyManager(conf).get_passphrase('k')
    assert 's3cret' not in str(caught.value) + caplog.text
    assert '[key_manager]' in caught.value.remedy
    assert logging.getLogger('keystoneauth').level == logging.DEBUG


def test_barbican_is_asked_as_whoever_asked_us(conf: Any) -> None:
    auth = object()
    manager = barbican_key_manager.BarbicanKeyManager(conf)
    context = key_manager._Context(auth)
    assert manager._get_keystone_auth(context) is auth
