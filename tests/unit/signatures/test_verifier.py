# SPDX-License-Identifier: Apache-2.0
"""Good signatures are good, all others are not."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.signing import Signer, make_signer
from volume_rbd import exception, model
from volume_rbd.signatures import (
    Checker,
    Policy,
    Signature,
    Verdicts,
    Verifier,
    find_signature,
)

DATA = b'data' * 1000
RSA = make_signer()


class Box:
    """Certificates by id; counts who asks."""

    def __init__(self, *signers: Signer) -> None:
        self.certificates = {each.id: each.der for each in signers}
        self.asked: list[str] = []

    def get(self, certificate_id: str) -> bytes:
        self.asked.append(certificate_id)
        try:
            return self.certificates[certificate_id]
        except KeyError:
            raise exception.SignatureInvalid('no certificate') from None


def signature_of(properties: dict[str, str]) -> Signature:
    found = find_signature(
        model.GlanceImage('i', 'x', 'active', properties=properties),
        Policy.REQUIRED)
    assert found is not None
    return found


def verify(signer: Signer, properties: dict[str, str], data: bytes = DATA,
           trusted: tuple[Signer, ...] = ()) -> None:
    verifier = Verifier('i', signature_of(properties), signer.der,
                        [each.der for each in trusted])
    for start in range(0, len(data), 1000):
        verifier.update(memoryview(data)[start:start + 1000])
    verifier.finish()


@pytest.mark.parametrize('key_type', [
    'RSA-PSS', 'ECC_SECP384R1', 'ECC_SECP521R1'])
@pytest.mark.parametrize('hash_method', ['SHA-256', 'SHA-512'])
def test_a_good_signature_is_good(key_type: str, hash_method: str) -> None:
    signer = make_signer(key_type)
    verify(signer, signer.sign(DATA, hash_method))


@pytest.mark.parametrize('key_type', ['RSA-PSS', 'ECC_SECP384R1'])
def test_one_changed_byte_is_seen(key_type: str) -> None:
    signer = make_signer(key_type)
    with pytest.raises(exception.SignatureInvalid, match='fit the data'):
        verify(signer, signer.sign(DATA), DATA[:-1] + b'x')


@pytest.mark.parametrize('data', [b'', DATA[:-1], DATA + b'\0'])
def test_the_length_counts(data: bytes) -> None:
    with pytest.raises(exception.SignatureInvalid):
        verify(RSA, RSA.sign(DATA), data)


@pytest.mark.parametrize('other', ['RSA-PSS', 'ECC_SECP384R1'])
def test_another_ones_certificate_does_not_do(other: str) -> None:
    with pytest.raises(exception.SignatureInvalid):
        verify(make_signer(other), RSA.sign(DATA))


@pytest.mark.parametrize(('change', 'why'), [
    ({'img_signature': 'no base64!'}, 'base64|fit the data|empty'),
    ({'img_signature': '===='}, 'base64|fit the data|empty'),
    ({'img_signature_hash_method': 'MD5'}, 'MD5'),
    ({'img_signature_hash_method': 'SHA-384'}, 'fit the data'),
    ({'img_signature_key_type': 'PGP'}, 'PGP'),
    ({'img_signature_key_type': 'ECC_SECP384R1'}, 'not of the type'),
])
def test_properties_that_make_no_sense_are_named(
        change: dict[str, str], why: str) -> None:
    with pytest.raises(exception.SignatureInvalid, match=why) as caught:
        verify(RSA, RSA.sign(DATA) | change)
    assert caught.value.remedy


@pytest.mark.parametrize('days', [(-3, -1), (1, 3)])
def test_a_certificate_counts_between_its_dates(days: tuple[int, int]
                                                ) -> None:
    signer = make_signer(days=days)
    with pytest.raises(exception.SignatureInvalid, match='not valid now'):
        verify(signer, signer.sign(DATA))


def test_what_is_no_certificate_is_said() -> None:
    with pytest.raises(exception.SignatureInvalid, match='cannot be read'):
        Verifier('i', signature_of(RSA.sign(DATA)), b'no certificate')


# -- trust --------------------------------------------------------------------

AUTHORITY = make_signer('ECC_SECP384R1', is_authority=True)


def test_who_is_trusted_may_issue() -> None:
    signer = make_signer(issuer=AUTHORITY)
    verify(signer, signer.sign(DATA), trusted=(RSA, AUTHORITY))


def test_who_is_trusted_is_trusted_itself() -> None:
    verify(RSA, RSA.sign(DATA), trusted=(AUTHORITY, RSA))


def test_an_unknown_issuer_is_not_trusted() -> None:
    other = make_signer('ECC_SECP384R1', is_authority=True)
    for signer in (make_signer(issuer=other), RSA):
        with pytest.raises(exception.SignatureInvalid,
                           match='signature_trusted_certificates'):
            verify(signer, signer.sign(DATA), trusted=(AUTHORITY,))


def test_who_is_trusted_and_no_authority_issues_nothing() -> None:
    signer = make_signer(issuer=RSA)
    with pytest.raises(exception.SignatureInvalid, match='issued'):
        verify(signer, signer.sign(DATA), trusted=(RSA,))


# -- the checker --------------------------------------------------------------

def checker(box: Box, verdicts: Verdicts | None = None,
            signer: Signer = RSA, data: bytes = DATA) -> Checker:
    return Checker('i', signature_of(signer.sign(data)), box,
                   verdicts=verdicts)


def chunks(data: bytes = DATA) -> Generator[bytes, None, None]:
    for start in range(0, len(data), 900):
        yield data[start:start + 900]


def test_a_stream_passes_unchanged_and_is_verified_at_its_end() -> None:
    checks = checker(Box(RSA))
    stream = checks.pass_on(chunks())
    passed = [next(stream)]
    assert not checks.is_verified
    passed += stream
    assert b''.join(passed) == DATA
    assert checks.is_verified


def test_a_forged_stream_fails_instead_of_ending() -> None:
    checks = checker(Box(RSA))
    with pytest.raises(exception.SignatureInvalid):
        list(checks.pass_on(chunks(DATA[:-1] + b'x')))
    assert not checks.is_verified


def test_nothing_is_read_where_there_is_no_certificate() -> None:
    def never() -> Iterator[bytes]:
        raise AssertionError('it was read')
        yield b''

    with pytest.raises(exception.SignatureInvalid, match='no certificate'):
        next(checker(Box()).pass_on(never()))


def test_a_verifier_of_its_own_for_each_pass() -> None:
    checks = checker(Box(RSA))
    list(checks.pass_on(chunks()))
    list(checks.pass_on(chunks()))


def test_what_was_verified_is_not_read_again() -> None:
    verdicts, box = Verdicts(), Box(RSA)
    signature = signature_of(RSA.sign(DATA))
    first = Checker('i', signature, box, verdicts=verdicts)
    second = Checker('j', signature, box, verdicts=verdicts)
    assert first.check(('fsid', 1), chunks)
    assert not second.check(('fsid', 1), chunks)
    assert second.is_verified
    assert second.check(('fsid', 2), chunks)


def test_a_verdict_holds_for_its_own_signature_and_certificate_only() -> None:
    verdicts, box = Verdicts(), Box(RSA)
    signature = signature_of(RSA.sign(DATA))
    Checker('i', signature, box, verdicts=verdicts).check('x', chunks)
    assert checker(box, verdicts).check('x', chunks)  # signed once more
    box.certificates[RSA.id] = make_signer().der
    with pytest.raises(exception.SignatureInvalid):
        Checker('i', signature, box, verdicts=verdicts).check('x', chunks)


def test_a_certificate_that_is_gone_ends_a_known_verdict() -> None:
    verdicts, box = Verdicts(), Box(RSA)
    signature = signature_of(RSA.sign(DATA))
    Checker('i', signature, box, verdicts=verdicts).check('x', chunks)
    box.certificates.clear()
    with pytest.raises(exception.SignatureInvalid):
        Checker('i', signature, box, verdicts=verdicts).check('x', chunks)


def test_a_bad_verdict_is_not_kept() -> None:
    verdicts, box = Verdicts(), Box(RSA)
    signature = signature_of(RSA.sign(DATA))
    checks = Checker('i', signature, box, verdicts=verdicts)
    for _ in range(2):
        with pytest.raises(exception.SignatureInvalid):
            checks.check('x', lambda: chunks(b'forged'))
    assert not checks.is_verified
    assert checks.check('x', chunks)
