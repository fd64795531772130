# SPDX-License-Identifier: Apache-2.0
"""The key manager of a sandbox's Cinder: keys as files in a folder.

Each volume has a key of its own, as with barbican, and unlike Cinder's
ConfKeyManager, which has one for all. For tests and demonstrations: whoever
may read the folder may read the keys.
"""

from __future__ import annotations

import json
import os
import secrets
import uuid
from pathlib import Path
from typing import Any

from castellan.common import exception as castellan_exception
from castellan.common.objects import symmetric_key
from castellan.key_manager import not_implemented_key_manager
from oslo_config import cfg

from volume_rbd.sandbox import files

GROUP = 'key_manager'
_OPTION = cfg.StrOpt('folder', help='Where the keys are.')


class SandboxKeyManager(
        not_implemented_key_manager.NotImplementedKeyManager):
    """Symmetric keys, ``<id>.json``."""

    def __init__(self, configuration: cfg.ConfigOpts | None = None) -> None:
        conf = configuration or cfg.CONF
        conf.register_opt(_OPTION, GROUP)
        self._folder = Path(conf.key_manager.folder)

    def create_key(self, context: Any, algorithm: str, length: int,
                   expiration: str | None = None, name: str | None = None
                   ) -> str:
        """:param length: in bits."""
        return self.store(context, symmetric_key.SymmetricKey(
            algorithm, length, secrets.token_bytes(length // 8), name=name))

    def store(self, context: Any, managed_object: Any,
              expiration: str | None = None) -> str:
        key_id = str(uuid.uuid4())
        files.write_private(self._path(key_id), json.dumps({
            'algorithm': managed_object.algorithm,
            'bits': managed_object.bit_length,
            'key': managed_object.get_encoded().hex()}))
        return key_id

    def get(self, context: Any, managed_object_id: str,
            metadata_only: bool = False) -> symmetric_key.SymmetricKey:
        """:raises ManagedObjectNotFoundError:"""
        try:
            found = json.loads(self._path(managed_object_id).read_text())
        except FileNotFoundError:
            raise _not_found(managed_object_id) from None
        return symmetric_key.SymmetricKey(
            found['algorithm'], found['bits'], bytes.fromhex(found['key']),
            id=managed_object_id)

    def delete(self, context: Any, managed_object_id: str,
               force: bool = False) -> None:
        """:raises ManagedObjectNotFoundError:"""
        try:
            os.unlink(self._path(managed_object_id))
        except FileNotFoundError:
            raise _not_found(managed_object_id) from None

    def _path(self, key_id: str) -> Path:
        try:
            return self._folder / f'{uuid.UUID(key_id)}.json'
        except ValueError:
            raise _not_found(key_id) from None


def _not_found(key_id: str) -> Exception:
    missing: Exception = castellan_exception.ManagedObjectNotFoundError(
        uuid=key_id)
    return missing
