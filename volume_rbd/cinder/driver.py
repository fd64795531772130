# SPDX-License-Identifier: Apache-2.0
"""The class that ``volume_driver`` names."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

from cinder import exception as cinder_exception
from cinder import interface
from cinder.volume import driver as cinder_driver
from oslo_log import log as logging

from volume_rbd import exception, model, opts
from volume_rbd.cinder import errors, setup
from volume_rbd.cinder.attaching import Attaching
from volume_rbd.cinder.groups import Groups
from volume_rbd.cinder.images import Images
from volume_rbd.cinder.managing import Managing
from volume_rbd.cinder.volumes import Volumes
from volume_rbd.process.client import BackendProcess

LOG = logging.getLogger(__name__)


@interface.volumedriver
class RBDDriver(Volumes, Images, Managing, Groups, Attaching,
                cinder_driver.CloneableImageVD, cinder_driver.MigrateVD,
                cinder_driver.ManageableVD,
                cinder_driver.ManageableSnapshotsVD):
    """Volumes in RBD that share their data with Glance's images.

    Setting up starts one process for the backend; all work is done there.
    """

    VERSION = importlib.metadata.version('volume-rbd')
    # The name by which Cinder's own list of drivers would find the tests.
    CI_WIKI_NAME = 'volume_rbd'
    STORAGE_PROTOCOL = 'ceph'
    SUPPORTS_ACTIVE_ACTIVE = True

    def __init__(self, *args: Any, active_backend_id: str | None = None,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(opts.backend_opts)
        self._stats: dict[str, Any] = {}
        self._failed_over_to = active_backend_id

    @staticmethod
    def get_driver_options() -> list[Any]:
        """For the configuration reference."""
        return opts.backend_opts

    # -- setting up ----------------------------------------------------------
    def do_setup(self, context: Any) -> None:
        """Start the backend's process. Cinder calls this again where the
        setting up had failed.

        :raises InvalidConfigurationValue: with a sentence that says what is
            wrong and what to do.
        """
        self._close()
        with errors.translating():
            hello = setup.get_hello(self.configuration)
            self.config = hello.backend
            self.process = BackendProcess(hello)

    def check_for_setup_error(self) -> None:
        """Reach the cluster and the pool."""
        if self._failed_over_to:
            refuse_replication()
        with errors.translating():
            self.backend().check()

    def _close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.close()

    # -- what the scheduler knows of it --------------------------------------
    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        if refresh or not self._stats:
            self._stats = self._get_stats()
        return self._stats

    def _get_stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = {
            'volume_backend_name': self.configuration.safe_get(
                'volume_backend_name') or 'RBD',
            'vendor_name': 'Open Source',
            'driver_version': self.VERSION,
            'storage_protocol': self.STORAGE_PROTOCOL,
            'total_capacity_gb': 'unknown',
            'free_capacity_gb': 'unknown',
            'reserved_percentage': self.configuration.safe_get(
                'reserved_percentage'),
            'max_over_subscription_ratio': self.configuration.safe_get(
                'max_over_subscription_ratio'),
            'multiattach': True,
            'thin_provisioning_support': True,
            'qos_support': True,
            'consistent_group_snapshot_enabled': True,
            'replication_enabled': False,
            'backend_state': 'down',
        }
        try:
            found = self.backend().stats.get()
            cluster = self.config.cluster
            stats['location_info'] = ':'.join((
                cluster.cluster_name, cluster.ceph_conf, found.fsid,
                str(cluster.user), self.config.pool))
        except exception.VolumeRBDError as error:
            LOG.error('Backend %s cannot tell its capacity: %s',
                      stats['volume_backend_name'], error)
            return stats
        stats['total_capacity_gb'] = _in_gib(found.total_bytes)
        stats['free_capacity_gb'] = _in_gib(found.free_bytes)
        if found.provisioned_bytes is not None:
            stats['provisioned_capacity_gb'] = _in_gib(
                found.provisioned_bytes)
        stats['backend_state'] = 'up'
        return stats

    # -- what does nothing, or comes later -----------------------------------
    def accept_transfer(self, context: Any, volume: Any, new_user: str,
                        new_project: str) -> None:
        """Whose a volume is stands in Cinder's database only."""

    def freeze_backend(self, context: Any) -> bool:
        """Cinder itself refuses what would change a frozen backend."""
        return True

    def thaw_backend(self, context: Any) -> bool:
        return True

    def failover_host(self, context: Any, volumes: Sequence[Any],
                      secondary_id: str | None = None,
                      groups: Sequence[Any] | None = None) -> Any:
        refuse_replication()

    def failover(self, context: Any, volumes: Sequence[Any],
                 secondary_id: str | None = None,
                 groups: Sequence[Any] | None = None) -> Any:
        refuse_replication()

    def failover_completed(self, context: Any,
                           active_backend_id: str | None = None) -> None:
        """:param active_backend_id: None or empty when failed back."""
        if active_backend_id:
            refuse_replication()


def refuse_replication() -> None:
    raise cinder_exception.UnableToFailOver(
        reason='this release of the driver does not replicate. Keep the '
               'backend on its primary cluster, or use the stock driver for '
               'it.')


def _in_gib(size_bytes: int) -> float:
    return round(size_bytes / model.GIB, 2)
