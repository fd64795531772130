# SPDX-License-Identifier: Apache-2.0
"""Ceph's keys in libvirt's keeping: what pools and guests sign in with."""

from __future__ import annotations

import base64

from volume_rbd.compute import xml
from volume_rbd.compute.pools import bindings
from volume_rbd.compute.pools.connection import Connection


class Secrets:
    """libvirt shows a value to nobody (private), and keeps it over its own
    restart, in files that only root may read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def has(self, uuid: str) -> bool:
        with self._connection.secrets('look up', f'secret {uuid}') as conn:
            found = bindings.find(conn.secretLookupByUUIDString, uuid)
            return found is not None

    def ensure(self, uuid: str, user: str, key: bytes) -> bool:
        """Define the secret *uuid*, with the key of a cephx user as value.
        Idempotent; a key that was changed is set.

        :param key: as keyrings have it, in base64.
        :returns: whether it was not there before.
        """
        value = base64.b64decode(key, validate=True)
        with self._connection.secrets('define', f'secret {uuid}') as conn:
            found = bindings.find(conn.secretLookupByUUIDString, uuid)
            # Usage names are unique, also between clusters.
            secret = found or conn.secretDefineXML(xml.build_secret(
                xml.Secret(uuid, f'client.{user} {uuid}')))
            # It cannot be asked which value it has.
            secret.setValue(value, 0)
            return found is None

    def remove(self, uuid: str) -> None:
        """Idempotent. Pools that are started go on until they are not."""
        with self._connection.secrets('remove', f'secret {uuid}') as conn:
            found = bindings.find(conn.secretLookupByUUIDString, uuid)
            if found is not None:
                found.undefine()
