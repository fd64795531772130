# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and signed images, made on the spot."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import pathlib
import uuid
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)
_HASHES = {'SHA-256': hashes.SHA256(), 'SHA-384': hashes.SHA384(),
           'SHA-512': hashes.SHA512(), 'SHA-224': hashes.SHA224()}


@dataclasses.dataclass(frozen=True)
class Signer:
    """A key with its certificate.

    :param key_type: as Glance's metadefs name it.
    """

    key_type: str
    key: Any
    certificate: x509.Certificate
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def keep(self, folder: pathlib.Path) -> None:
        """As a certificate of ``signature_certificates_dir``."""
        (folder / f'{self.id}.pem').write_bytes(self.pem)

    def sign(self, data: bytes, hash_method: str = 'SHA-256'
             ) -> dict[str, str]:
        """The four properties of an image with *data*."""
        hasher = _HASHES[hash_method]
        if self.key_type == 'RSA-PSS':
            signature = self.key.sign(data, padding.PSS(
                padding.MGF1(hasher), padding.PSS.MAX_LENGTH), hasher)
        else:
            signature = self.key.sign(data, ec.ECDSA(hasher))
        return {'img_signature': base64.b64encode(signature).decode(),
                'img_signature_hash_method': hash_method,
                'img_signature_key_type': self.key_type,
                'img_signature_certificate_uuid': self.id}


def make_signer(key_type: str = 'RSA-PSS', *, days: tuple[int, int] = (-1, 1),
                issuer: Signer | None = None, is_authority: bool = False
                ) -> Signer:
    """:param days: from and until when the certificate is valid, from now.
    :param issuer: who signs it; None: itself."""
    key: Any
    if key_type == 'RSA-PSS':
        key = rsa.generate_private_key(65537, 2048)
    elif key_type == 'ECC_SECP384R1':
        key = ec.generate_private_key(ec.SECP384R1())
    else:
        key = ec.generate_private_key(ec.SECP521R1())
    name = _name(str(uuid.uuid4()))
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        subject_name=name, public_key=key.public_key(),
        issuer_name=issuer.certificate.subject if issuer else name,
        serial_number=x509.random_serial_number(),
        not_valid_before=now + days[0] * _DAY,
        not_valid_after=now + days[1] * _DAY,
    ).add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    if is_authority:
        builder = builder.add_extension(x509.KeyUsage(
            digital_signature=False, content_commitment=False,
            key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=False,
            encipher_only=False, decipher_only=False), critical=True)
    return Signer(key_type, key, builder.sign(
        issuer.key if issuer else key, hashes.SHA256()))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
