# SPDX-License-Identifier: Apache-2.0
"""Where certificates come from: a key manager, or a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from castellan.common import exception as castellan_exception
from castellan.common.objects import x_509
from castellan.key_manager import not_implemented_key_manager
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from oslo_config import cfg
from oslo_log import log as logging

from volume_rbd import exception, key_manager, opts

LOG = logging.getLogger(__name__)

# The id is an image's property, so anybody's text.
_ID = re.compile(r'[0-9A-Za-z][0-9A-Za-z_-]{0,63}\Z')


class Certificates(Protocol):
    """Certificates by their id."""

    def get(self, certificate_id: str) -> bytes:
        """The certificate in DER.

        :raises SignatureInvalid: there is none, or nobody to ask.
        """


class NoCertificates:
    """Where nobody said where certificates are."""

    def get(self, certificate_id: str) -> bytes:
        raise exception.SignatureInvalid(
            f'The certificate {certificate_id} cannot be fetched: no key '
            'manager was named.')


class FolderKeyManager(
        not_implemented_key_manager.NotImplementedKeyManager):
    """A key manager that is a folder of certificates: ``<id>.pem``.

    For this project by ``signature_certificates_dir`` alone. Cinder, Nova and
    Glance, which all use castellan, take it by its name::

        [DEFAULT]
        signature_certificates_dir = /etc/volume-rbd/certificates
        [key_manager]
        backend = volume_rbd.signatures.certificates.FolderKeyManager
    """

    def __init__(self, configuration: cfg.ConfigOpts | None = None) -> None:
        conf = configuration or cfg.CONF
        conf.register_opts(opts.certificate_opts)
        self._folder: str | None = conf.signature_certificates_dir

    def get(self, context: Any, managed_object_id: str,
            metadata_only: bool = False) -> x_509.X509:
        """:raises KeyManagerError: no folder, no such file, or no
        certificate in it."""
        if not self._folder:
            raise castellan_exception.KeyManagerError(
                'signature_certificates_dir is not set')
        if not _ID.match(managed_object_id):
            raise castellan_exception.ManagedObjectNotFoundError(
                uuid=managed_object_id)
        path = Path(self._folder) / f'{managed_object_id}.pem'
        try:
            found = x509.load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            raise castellan_exception.ManagedObjectNotFoundError(
                uuid=managed_object_id) from None
        except (OSError, ValueError) as error:
            raise castellan_exception.KeyManagerError(
                f'{path}: {error}') from error
        return x_509.X509(found.public_bytes(serialization.Encoding.DER))


class KeyManagerCertificates:
    """Certificates of the key manager that *conf* names.

    The folder of ``signature_certificates_dir`` where that is set, else
    ``[key_manager] backend`` (barbican by default).

    :param get_auth: called when a key manager wants to know who asks; gives
        a keystoneauth plugin, or None where there is nobody.
    """

    def __init__(self, conf: cfg.ConfigOpts,
                 get_auth: Callable[[], Any] = lambda: None) -> None:
        self._conf = conf
        self._get_auth = get_auth

    def get(self, certificate_id: str) -> bytes:
        try:
            found = self._fetch(certificate_id)
            encoded = found.get_encoded()
        except castellan_exception.ManagedObjectNotFoundError:
            raise exception.SignatureInvalid(
                f'The certificate {certificate_id} is not in the key '
                'manager.',
                remedy=f'Put it there: {self._place(certificate_id)}.'
                ) from None
        except Exception as error:  # noqa: BLE001
            # Each key manager has errors of its own, and not only
            # castellan's. Without a certificate there is no verdict.
            LOG.warning('The certificate %(id)s cannot be fetched: '
                        '%(kind)s', {'id': certificate_id,
                                     'kind': type(error).__name__})
            raise exception.SignatureInvalid(
                f'The certificate {certificate_id} cannot be fetched: '
                f'{key_manager.describe(error)}.',
                remedy='Check [key_manager] and what it leads to, or set '
                       'signature_certificates_dir.') from None
        if not encoded or getattr(found, 'format', '') != 'X.509':
            raise exception.SignatureInvalid(
                f'What the key manager has as {certificate_id} is no X.509 '
                'certificate.')
        return bytes(encoded)

    def _fetch(self, certificate_id: str) -> Any:
        if _folder(self._conf):
            return FolderKeyManager(self._conf).get(None, certificate_id)
        return key_manager.KeyManager(self._conf, self._get_auth).get(
            certificate_id)

    def _place(self, certificate_id: str) -> str:
        folder = _folder(self._conf)
        if folder:
            return f'{folder}/{certificate_id}.pem'
        return 'it must be readable for whoever uses the image'


def _folder(conf: cfg.ConfigOpts) -> str | None:
    conf.register_opts(opts.certificate_opts)
    folder: str | None = conf.signature_certificates_dir
    return folder
