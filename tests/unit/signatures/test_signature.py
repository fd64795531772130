# SPDX-License-Identifier: Apache-2.0
"""What is asked of an image, by policy."""

from __future__ import annotations

import pytest

from volume_rbd import exception, model
from volume_rbd.signatures import Policy, Signature, find_signature

PROPERTIES = {'img_signature': 'c2ln', 'img_signature_hash_method': 'SHA-256',
              'img_signature_key_type': 'RSA-PSS',
              'img_signature_certificate_uuid': 'id'}
FOUND = Signature('c2ln', 'SHA-256', 'RSA-PSS', 'id')


def image(**properties: str) -> model.GlanceImage:
    return model.GlanceImage('i', 'x', 'active', properties=properties)


@pytest.mark.parametrize('policy', [Policy.WHEN_PRESENT, Policy.REQUIRED])
def test_a_signed_image_is_verified(policy: Policy) -> None:
    assert find_signature(image(**PROPERTIES, other='x'), policy) == FOUND


def test_nobody_looks_where_the_policy_is_off() -> None:
    assert find_signature(image(**PROPERTIES), Policy.OFF) is None
    assert find_signature(image(img_signature='x'), Policy.OFF) is None


def test_an_unsigned_image_is_taken_unless_a_signature_is_required() -> None:
    assert find_signature(image(), Policy.WHEN_PRESENT) is None
    with pytest.raises(exception.SignatureInvalid, match='not signed'):
        find_signature(image(), Policy.REQUIRED)


@pytest.mark.parametrize('gone', PROPERTIES)
@pytest.mark.parametrize('policy', [Policy.WHEN_PRESENT, Policy.REQUIRED])
@pytest.mark.parametrize('rest', [None, ''])
def test_a_part_of_a_signature_is_none_and_says_what_is_missing(
        gone: str, policy: Policy, rest: str | None) -> None:
    properties = {key: value for key, value in PROPERTIES.items()
                  if key != gone}
    if rest is not None:
        properties[gone] = rest
    with pytest.raises(exception.SignatureInvalid, match=gone):
        find_signature(image(**properties), policy)


def test_a_signature_goes_through_json() -> None:
    assert Signature.from_dict(FOUND.as_dict()) == FOUND
