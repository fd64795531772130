# SPDX-License-Identifier: Apache-2.0
"""Where certificates come from."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from castellan import key_manager
from castellan.common import exception as castellan_exception

from tests.signing import Signer, make_signer
from volume_rbd import exception, opts
from volume_rbd.signatures import KeyManagerCertificates

SIGNER = make_signer('ECC_SECP384R1')
BY_NAME = 'volume_rbd.signatures.certificates.FolderKeyManager'


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / 'certificates'
    made.mkdir()
    SIGNER.keep(made)
    return made


def load(tmp_path: pathlib.Path, text: str) -> Any:
    path = tmp_path / 'cinder.conf'
    path.write_text('[DEFAULT]\n' + text)
    return opts.load_config([str(path)])


def test_a_folder_has_them_by_id(folder: pathlib.Path) -> None:
    conf = load(folder.parent, f'signature_certificates_dir = {folder}\n')
    assert KeyManagerCertificates(conf).get(SIGNER.id) == SIGNER.der


def test_a_certificate_that_is_not_there_says_where_it_belongs(
        folder: pathlib.Path) -> None:
    conf = load(folder.parent, f'signature_certificates_dir = {folder}\n')
    with pytest.raises(exception.SignatureInvalid) as caught:
        KeyManagerCertificates(conf).get('other')
    assert f'{folder}/other.pem' in caught.value.remedy


@pytest.mark.parametrize('name', [
    '../secret', '/etc/passwd', '', '.', 'a/b', 'a\0b', 'x' * 65, 'é'])
def test_an_id_is_no_path(folder: pathlib.Path, name: str) -> None:
    (folder.parent / 'secret.pem').write_bytes(SIGNER.pem)
    conf = load(folder.parent, f'signature_certificates_dir = {folder}\n')
    with pytest.raises(exception.SignatureInvalid, match='not in the key'):
        KeyManagerCertificates(conf).get(name)


def test_a_file_that_is_no_certificate_is_named(folder: pathlib.Path
                                                ) -> None:
    (folder / 'x.pem').write_text('nothing')
    conf = load(folder.parent, f'signature_certificates_dir = {folder}\n')
    with pytest.raises(exception.SignatureInvalid, match=r'x\.pem'):
        KeyManagerCertificates(conf).get('x')


def test_castellan_takes_the_folder_by_its_name(folder: pathlib.Path
                                                ) -> None:
    conf = load(folder.parent, f'signature_certificates_dir = {folder}\n'
                               f'[key_manager]\nbackend = {BY_NAME}\n')
    found = key_manager.API(conf).get(None, SIGNER.id)
    assert found.get_encoded() == SIGNER.der
    assert found.format == 'X.509'


class OneKeyManager:
    """A key manager as an operator may name one."""

    answer: Any = None

    def __init__(self, configuration: Any) -> None:
        pass

    def get(self, context: Any, managed_object_id: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
          ) -> KeyManagerCertificates:
    conf = load(tmp_path, '')
    monkeypatch.setattr(key_manager, 'API', OneKeyManager)
    return KeyManagerCertificates(conf)


class Certificate:
    format = 'X.509'

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def get_encoded(self) -> bytes:
        return self._signer.der


def test_the_key_manager_of_the_configuration_is_asked(
        named: KeyManagerCertificates, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    monkeypatch.setattr(OneKeyManager, 'answer', Certificate(SIGNER))
    assert named.get('x') == SIGNER.der


@pytest.mark.parametrize('error', [
    castellan_exception.KeyManagerError(reason='it is locked'),
    castellan_exception.Forbidden(), RuntimeError('token gAAAAs3cret')])
def test_a_key_manager_that_fails_is_no_verdict_and_quotes_no_secret(
        named: KeyManagerCertificates, monkeypatch: pytest.MonkeyPatch,
        error: Exception) -> None:
    monkeypatch.setattr(OneKeyManager, 'answer', error)
    with pytest.raises(exception.SignatureInvalid,
                       match='cannot be fetched') as caught:
        named.get('x')
    assert 's3cret' not in str(caught.value)
    assert '[key_manager]' in caught.value.remedy


def test_what_is_no_certificate_is_refused(
        named: KeyManagerCertificates, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    class Key(Certificate):
        format = 'RAW'

    monkeypatch.setattr(OneKeyManager, 'answer', Key(SIGNER))
    with pytest.raises(exception.SignatureInvalid, match=r'X\.509'):
        named.get('x')
