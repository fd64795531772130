# SPDX-License-Identifier: Apache-2.0
"""Cinder's objects in the driver's plain terms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cinder import context as cinder_context
from cinder.volume import qos_specs

from volume_rbd import exception, model

#: How Cinder writes a true value in an extra spec.
_TRUE = '<is> True'
_MULTIATTACH = 'multiattach'
_REPLICATION = 'replication_enabled'
_STORE = 'image_service:store_id'
#: layering, exclusive-lock, object-map, fast-diff, deep-flatten.
_SAVED_FEATURES = 61


def get_volume(volume: Any, volume_type: Any = None) -> model.VolumeSpec:
    """:param volume_type: which it is to become; None: the one it has.
    :raises NotSupported: its type wants what this release does not do.
    """
    volume_type = volume_type or volume.volume_type
    if _extra_spec(volume_type, _REPLICATION) == _TRUE:
        raise exception.NotSupported(
            'The volume type asks for replication, which this release of '
            'the driver does not do.',
            remedy='Use a type without replication_enabled.')
    return model.VolumeSpec(
        name=volume.name, size_bytes=volume.size * model.GIB,
        is_encrypted=volume.encryption_key_id is not None,
        is_multiattach=is_multiattach(volume_type),
        qos=get_qos(volume_type))


def describe(spec: model.VolumeSpec, *, was_multiattach: bool = False
             ) -> dict[str, Any]:
    """What Cinder is to keep of the volume.

    The stock driver restores from here what multiattach took away, should
    the volume be its again one day.
    """
    if spec.is_multiattach:
        return {'provider_location': json.dumps(
            {'saved_features': _SAVED_FEATURES}, separators=(',', ':'))}
    return {'provider_location': None} if was_multiattach else {}


def get_saved_features(volume: Any) -> int | None:
    """What :func:`describe`, or the stock driver, has kept."""
    try:
        saved: int = json.loads(volume.provider_location)['saved_features']
    except (TypeError, ValueError, KeyError):
        return None
    return saved


def is_multiattach(volume_type: Any) -> bool:
    return _extra_spec(volume_type, _MULTIATTACH) == _TRUE


def get_qos(volume_type: Any) -> Mapping[str, str]:
    """What the back end is to enforce, in Cinder's words."""
    specs_id = volume_type.get('qos_specs_id') if volume_type else None
    if specs_id is None:
        return {}
    found = qos_specs.get_qos_specs(cinder_context.get_admin_context(),
                                    specs_id)
    if found['consumer'] not in ('back-end', 'both'):
        return {}
    return {key: str(value) for key, value in found['specs'].items()}


def get_store(volume: Any) -> str | None:
    """The Glance store that uploads of this type of volume go to."""
    return _extra_spec(volume.volume_type, _STORE)


def _extra_spec(volume_type: Any, key: str) -> str | None:
    if not volume_type:
        return None
    # An object of Cinder's, or the dictionary that its DB API gives.
    specs = volume_type.get('extra_specs') or {}
    value: str | None = specs.get(key)
    return value


def get_caller(context: Any) -> model.Caller | None:
    """Who asked; None where nobody's token came along."""
    return None if context is None else model.Caller.find(context.to_dict())


def get_bytes(size_gib: object) -> int:
    return int(str(size_gib)) * model.GIB
