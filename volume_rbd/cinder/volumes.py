# SPDX-License-Identifier: Apache-2.0
"""Volumes and their snapshots, as Cinder asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from volume_rbd import exception, model
from volume_rbd.cinder import encryption, errors, specs
from volume_rbd.cinder.backend import Backend

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

Update = dict[str, Any]


class Volumes(Backend):
    """Create, clone, grow, change, delete."""

    def create_volume(self, volume: Any) -> Update:
        with errors.translating():
            spec = specs.get_volume(volume)
            if spec.is_encrypted:
                self.backend().encryption.create_blank(
                    spec, **encryption.get_arguments(volume))
            else:
                self.backend().volumes.create(spec)
        return specs.describe(spec)

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any
                                    ) -> Update:
        with errors.translating():
            spec = specs.get_volume(volume)
            self.backend().volumes.create_from_snapshot(
                spec, snapshot.volume_name, snapshot.name)
            return specs.describe(spec) | self._change_key(volume, spec)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> Update:
        with errors.translating():
            spec = specs.get_volume(volume)
            self.backend().volumes.create_from_volume(spec, src_vref.name)
            return specs.describe(spec) | self._change_key(volume, spec)

    def _change_key(self, volume: Any, spec: model.VolumeSpec) -> Update:
        """Who has the key of a volume shall not be able to open its clones.

        Cinder would do this for what os-brick attaches as a local device; of
        an rbd_image it can not.
        """
        if not spec.is_encrypted:
            return {}
        try:
            with encryption.changing_key(volume) as key:
                self.backend().encryption.change_passphrase(
                    spec.name, passphrase=key.passphrase,
                    new_passphrase=key.new_passphrase)
        except exception.NotSupported as error:
            LOG.warning('Volume %s keeps the key of its source: %s',
                        volume.id, error)
            return {}
        except BaseException:
            with contextlib.suppress(exception.VolumeRBDError):
                self.backend().volumes.delete(spec.name)
            raise
        return {'encryption_key_id': key.key_id}

    def delete_volume(self, volume: Any) -> None:
        with errors.translating():
            try:
                self.backend().volumes.delete(volume.name)
            except exception.ImageNotFound:
                # Cinder calls this also after a create that failed.
                LOG.info('Volume %s is gone already', volume.name)

    def extend_volume(self, volume: Any, new_size: Any) -> None:
        size_bytes = specs.get_bytes(new_size)
        with errors.translating():
            volumes = self.backend().volumes
            try:
                volumes.extend(volume.name, size_bytes)
            except exception.InvalidSize:
                # A service that was killed had grown it and not told Cinder.
                if volumes.show(volume.name).size_bytes != size_bytes:
                    raise
                LOG.info('Volume %s has grown already', volume.name)

    # -- snapshots -----------------------------------------------------------
    def create_snapshot(self, snapshot: Any) -> None:
        with errors.translating():
            self.backend().snapshots.create(
                snapshot.volume_name, snapshot.name)

    def delete_snapshot(self, snapshot: Any) -> None:
        with errors.translating():
            try:
                self.backend().snapshots.delete(
                    snapshot.volume_name, snapshot.name)
            except (exception.SnapshotNotFound, exception.ImageNotFound):
                LOG.info('Snapshot %s@%s is gone already',
                         snapshot.volume_name, snapshot.name)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any
                           ) -> None:
        with errors.translating():
            self.backend().snapshots.revert(volume.name, snapshot.name,
                                            keep_size=True)

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        """The driver takes a snapshot of its own to go back to."""
        return False

    # -- changes -------------------------------------------------------------
    def retype(self, context: Any, volume: Any, new_type: Any,
               diff: Mapping[str, Any] | None,
               host: Mapping[str, Any] | None) -> tuple[bool, Update | None]:
        """In place, where that can be; the volume keeps its data."""
        if diff and diff.get('encryption'):
            # Other bytes: Cinder makes a new volume and copies.
            return False, None
        with errors.translating():
            driver = self.backend()
            old = specs.get_volume(volume)
            new = specs.get_volume(volume, new_type)
            # Only where they change: an operator may have set others by hand.
            if new.qos != old.qos:
                driver.qos.set(volume.name, new.qos)
            try:
                if new.is_multiattach != old.is_multiattach:
                    driver.volumes.set_multiattach(
                        volume.name, new.is_multiattach,
                        specs.get_saved_features(volume))
            except exception.VolumeRBDError:
                if new.qos != old.qos:
                    driver.qos.set(volume.name, old.qos)
                raise
        return True, specs.describe(new, was_multiattach=old.is_multiattach)

    def migrate_volume(self, context: Any, volume: Any,
                       host: Mapping[str, Any]
                       ) -> tuple[bool, Update | None]:
        """To another pool of the same cluster, snapshots and holes kept.

        Anything else is left to Cinder, which copies through a host.
        """
        pool = self._pool_of(host)
        if pool is None or volume.status not in (
                'available', 'retyping', 'maintenance'):
            return False, None
        with errors.translating():
            self.backend().migration.migrate(volume.name, pool)
        return True, None

    def _pool_of(self, host: Mapping[str, Any]) -> str | None:
        """The pool of another backend on this cluster; None if it is not."""
        capabilities = host.get('capabilities') or {}
        info = capabilities.get('location_info') or ''
        try:
            # The stock driver's form, so that both can be migrated between.
            _, _, fsid, _, pool = info.split(':')
        except ValueError:
            LOG.info('%r says nothing of its place: Cinder migrates', host)
            return None
        with errors.translating():
            is_ours = fsid == self.backend().get_fsid()
        if not is_ours or pool == self.config.pool:
            return None
        return str(pool)

    def update_migrated_volume(self, context: Any, volume: Any,
                               new_volume: Any, original_volume_status: str
                               ) -> Update:
        """Give the copy the original's name where it is free.

        The original may still be there (a migration within one pool), or be
        in use by a hypervisor: then Cinder notes under which id the data is.
        """
        kept: Update = {
            '_name_id': new_volume['_name_id'] or new_volume['id'],
            'provider_location': new_volume['provider_location']}
        if original_volume_status == 'in-use':
            return kept
        with errors.translating():
            try:
                self.backend().volumes.rename(
                    new_volume.name,
                    CONF.volume_name_template % volume['id'])
            except (exception.ImageExists, exception.ImageNotFound,
                    exception.ImageBusy) as error:
                LOG.info('%s keeps its name: %s', new_volume.name, error)
                return kept
        return {'_name_id': None,
                'provider_location': new_volume['provider_location']}
