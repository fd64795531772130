# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor or a backup service needs to open a volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cinder import exception as cinder_exception
from cinder import objects

from volume_rbd.cinder import errors
from volume_rbd.cinder.backend import Backend

_CEPH_BACKUP = 'backup.drivers.ceph'


class Attaching(Backend):
    """Connections. Nothing is exported: clients open the rbd_image."""

    def validate_connector(self, connector: Any) -> None:
        """:raises InvalidConnectorException: it does not say who attaches."""
        if not isinstance(connector, Mapping) or not connector.get('host'):
            raise cinder_exception.InvalidConnectorException(missing='host')

    def initialize_connection(self, volume: Any, connector: Any,
                              **kwargs: Any) -> dict[str, Any]:
        """For os-brick and libvirt. Holds no key: a connection is shown to
        whoever may see the attachment (OSSN-0085)."""
        with errors.translating():
            found = self.backend().connections.get(volume.name)
        return {'driver_volume_type': 'rbd', 'data': {
            'name': found.name,
            'hosts': list(found.hosts),
            'ports': list(found.ports),
            'cluster_name': found.cluster_name,
            'auth_enabled': found.auth_enabled,
            'auth_username': found.auth_username,
            'secret_type': found.secret_type,
            'secret_uuid': found.secret_uuid,
            'volume_id': volume.id,
            'discard': found.discard,
        }}

    def terminate_connection(self, volume: Any, connector: Any,
                             **kwargs: Any) -> None:
        """Nothing was set up."""

    def _attach_volume(self, context: Any, volume: Any, properties: Any,
                       remote: bool = False) -> Any:
        """Of all that Cinder would attach here only the clone of an encrypted
        volume is left, to change its key, which was done when it was made.
        Cinder would find that RBD is not among the protocols for which it
        can; but os-brick would first want the key of the hypervisors' user
        in /etc/ceph."""
        raise cinder_exception.RekeyNotSupported

    def ensure_export(self, context: Any, volume: Any) -> None:
        """Nothing is exported."""

    def create_export(self, context: Any, volume: Any, connector: Any
                      ) -> None:
        """Nothing is exported."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Nothing is exported."""

    def get_backup_device(self, context: Any, backup: Any
                          ) -> tuple[Any, bool]:
        """The volume itself for Ceph's own backup driver, which takes
        snapshots of it; others get a temporary one from Cinder."""
        if _CEPH_BACKUP not in (backup.service or '') or backup.snapshot_id:
            device: tuple[Any, bool] = super().get_backup_device(
                context, backup)
            return device
        return objects.Volume.get_by_id(context, backup.volume_id), False
