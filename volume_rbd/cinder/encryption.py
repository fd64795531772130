# SPDX-License-Identifier: Apache-2.0
"""The keys of encrypted volumes.

The key manager is Cinder's, asked with the token of whoever made the volume.
The key goes to the driver's process over a socket that nobody else has, and
is written nowhere.
"""

from __future__ import annotations

import binascii
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from castellan import key_manager
from cinder.volume import volume_utils
from oslo_config import cfg

CONF = cfg.CONF


@dataclasses.dataclass(frozen=True)
class NewKey:
    """A key of the key manager, and what opens a volume before and after."""

    key_id: str
    passphrase: str = dataclasses.field(repr=False)
    new_passphrase: str = dataclasses.field(repr=False)


def get_arguments(volume: Any, context: Any = None) -> dict[str, Any]:
    """What the driver needs to know to encrypt *volume*.

    :param context: of the request; None: the one the volume came with.
    """
    context = context or volume.obj_context
    found = volume_utils.check_encryption_provider(volume, context)
    return {
        'passphrase': _get_passphrase(key_manager.API(CONF), context,
                                      found['encryption_key_id']),
        'cipher': found['cipher'],
        'key_size': found['key_size'],
        'provider': found['provider'],
    }


@contextlib.contextmanager
def changing_key(volume: Any) -> Iterator[NewKey]:
    """A key of its own for a clone, which has its source's so far.

    When the block is done the key it had is deleted; when it fails the new
    one is, which then nothing needs.
    """
    context = volume.obj_context
    manager = key_manager.API(CONF)
    passphrase = _get_passphrase(manager, context, volume.encryption_key_id)
    key_id = volume_utils.create_encryption_key(
        context, manager, volume.volume_type_id)
    try:
        yield NewKey(key_id, passphrase,
                     _get_passphrase(manager, context, key_id))
    except BaseException:
        volume_utils.delete_encryption_key(context, manager, key_id)
        raise
    volume_utils.delete_encryption_key(
        context, manager, volume.encryption_key_id)


def _get_passphrase(manager: Any, context: Any, key_id: str) -> str:
    """As the hypervisors and os-brick give it to cryptsetup."""
    key = manager.get(context, key_id)
    return binascii.hexlify(key.get_encoded()).decode()
