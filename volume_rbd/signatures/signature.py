# SPDX-License-Identifier: Apache-2.0
"""What an image says of its signature, and what is asked of it. No I/O."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Self

from volume_rbd import exception, model

# Field to property. The names are Glance's; see its metadefs.
_PROPERTIES = {
    'value': 'img_signature',
    'hash_method': 'img_signature_hash_method',
    'key_type': 'img_signature_key_type',
    'certificate_id': 'img_signature_certificate_uuid',
}


class Policy(enum.StrEnum):
    """Which images must be verified."""

    OFF = 'off'
    WHEN_PRESENT = 'when_present'
    REQUIRED = 'required'


@dataclasses.dataclass(frozen=True)
class Signature:
    """As the image's properties have it; nothing in it is secret or checked.

    :param value: the signature in base64.
    """

    value: str
    hash_method: str
    key_type: str
    certificate_id: str

    @classmethod
    def from_dict(cls, values: Mapping[str, str]) -> Self:
        return cls(**{name: str(values[name]) for name in _PROPERTIES})

    def as_dict(self) -> dict[str, str]:
        return dataclasses.asdict(self)


def find_signature(image: model.GlanceImage, policy: Policy
                   ) -> Signature | None:
    """The signature that must be verified; None where none must be.

    :raises SignatureInvalid: it is required and not there, or not whole: who
        takes one property away must not get around the rest.
    """
    if policy is Policy.OFF:
        return None
    values = {field: image.properties[name]
              for field, name in _PROPERTIES.items()
              if image.properties.get(name)}
    missing = [name for field, name in _PROPERTIES.items()
               if field not in values]
    if not missing:
        return Signature.from_dict(values)
    if values:
        raise exception.SignatureInvalid(
            f'The signature of Glance image {image.id} is not complete: '
            f'{", ".join(missing)} missing.',
            remedy='Set all four img_signature properties of the image, or '
                   'none.')
    if policy is Policy.REQUIRED:
        raise exception.SignatureInvalid(
            f'Glance image {image.id} is not signed, and verify_signatures '
            'is required.',
            remedy='Sign the image, or use a backend that takes unsigned '
                   'ones.')
    return None
