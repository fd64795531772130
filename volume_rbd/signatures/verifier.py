# SPDX-License-Identifier: Apache-2.0
"""A signature against bytes as they pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from cryptography import exceptions as crypto_exceptions
from cryptography import x509
from cursive import certificate_utils, signature_utils
from cursive import exception as cursive_exception

from volume_rbd import exception
from volume_rbd.signatures.signature import Signature


class Verifier:
    """Is fed the image's bytes in order, and says whether they are those
    that were signed.

    Good for one pass: who reads an image a second time, after a fallback for
    instance, opens another.

    :param image_id: for the errors.
    :param certificate: in DER.
    :param trusted: certificates (DER) of which one must have signed it; none:
        whatever the key manager has is trusted.
    :ivar terms: a digest of all that the verdict depends on beside the bytes.
    :raises SignatureInvalid: the signature cannot be verified with that
        certificate, whatever the bytes.
    """

    def __init__(self, image_id: str, signature: Signature,
                 certificate: bytes, trusted: Sequence[bytes] = ()) -> None:
        self._image_id = image_id
        self._signature = signature
        self.terms = hashlib.sha256(json.dumps(
            [signature.as_dict(), certificate.hex()]).encode()).hexdigest()
        try:
            self._inner = self._open(_load(certificate),
                                     [_load(each) for each in trusted])
        except cursive_exception.SignatureVerificationError as error:
            raise self._invalid(' '.join(str(error).split())) from None
        except ValueError as error:
            raise self._invalid(
                f'the certificate {signature.certificate_id} cannot be read'
                ) from error

    def _open(self, certificate: x509.Certificate,
              trusted: Sequence[x509.Certificate]
              ) -> signature_utils.verifiers.RSAVerifier:
        signature = self._signature
        if not certificate_utils.is_within_valid_dates(certificate):
            raise self._invalid(
                f'the certificate {signature.certificate_id} is not valid '
                f'now, but from {certificate.not_valid_before_utc:%Y-%m-%d} '
                f'to {certificate.not_valid_after_utc:%Y-%m-%d}')
        if trusted:
            self._check_trust(certificate, trusted)
        kind = signature_utils.SignatureKeyType.lookup(signature.key_type)
        public_key = certificate.public_key()
        if not isinstance(public_key, kind.public_key_type):
            raise self._invalid(
                f'the key of the certificate {signature.certificate_id} is '
                f'not of the type {signature.key_type}')
        inner = kind.create_verifier(
            signature_utils.get_signature(signature.value),
            signature_utils.get_hash_method(signature.hash_method),
            public_key)
        if inner is None:
            raise self._invalid('it is empty')
        return inner

    def _check_trust(self, certificate: x509.Certificate,
                     trusted: Sequence[x509.Certificate]) -> None:
        if certificate in trusted:
            return
        context = certificate_utils.CertificateVerificationContext(
            [(str(number), each) for number, each in enumerate(trusted)])
        context.update(certificate)
        try:
            context.verify()
        except (cursive_exception.SignatureVerificationError, TypeError):
            # TypeError: cursive compares keys of different kinds.
            raise self._invalid(
                f'the certificate {self._signature.certificate_id} was not '
                'issued by one in signature_trusted_certificates') from None

    def update(self, data: bytes | memoryview) -> None:
        self._inner.update(data)

    def finish(self) -> None:
        """:raises SignatureInvalid: these are not the bytes that were
        signed, or not by the key of the certificate."""
        try:
            self._inner.verify()
        except crypto_exceptions.InvalidSignature:
            raise self._invalid('it does not fit the data') from None
        except ValueError as error:
            # A signature that this key cannot have made at all.
            raise self._invalid(str(error)) from None

    def _invalid(self, why: str) -> exception.SignatureInvalid:
        return exception.SignatureInvalid(
            f'The signature of Glance image {self._image_id} is not valid: '
            f'{why.rstrip(".")}.')


def _load(certificate: bytes) -> x509.Certificate:
    """:raises ValueError: it is none."""
    return x509.load_der_x509_certificate(certificate)
