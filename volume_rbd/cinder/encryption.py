# SPDX-License-Identifier: Apache-2.0
"""The keys of encrypted volumes.

The key manager is Cinder's, asked with the token of whoever made the volume.
The key goes to the driver's process over a socket that nobody else has, and
is written nowhere.
"""

from __future__ import annotations

import binascii
from typing import Any

from castellan import key_manager
from cinder.volume import volume_utils
from oslo_config import cfg

CONF = cfg.CONF


def get_arguments(volume: Any, context: Any = None) -> dict[str, Any]:
    """What the driver needs to know to encrypt *volume*.

    :param context: of the request; None: the one the volume came with.
    """
    context = context or volume.obj_context
    found = volume_utils.check_encryption_provider(volume, context)
    key = key_manager.API(CONF).get(context, found['encryption_key_id'])
    return {
        # As the hypervisors and os-brick give it to cryptsetup.
        'passphrase': binascii.hexlify(key.get_encoded()).decode(),
        'cipher': found['cipher'],
        'key_size': found['key_size'],
        'provider': found['provider'],
    }
