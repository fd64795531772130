# SPDX-License-Identifier: Apache-2.0
"""Cinder's API through python-cinderclient, as one of the sandbox's users.

A wait that fails says what Cinder told the user (its messages) and, where
the state is an error, ends at once.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

with warnings.catch_warnings():
    # Libraries about each other, while they are imported.
    warnings.simplefilter('ignore')
    from cinderclient import client as cinder_client
    from cinderclient import exceptions
    from keystoneauth1 import loading, session

TIMEOUT_S = 120.0
GROUP_TYPE = 'consistent'

#: What a hypervisor says of itself when it attaches.
CONNECTOR: Mapping[str, Any] = {
    'host': 'compute', 'ip': '127.0.0.1', 'multipath': False,
    'initiator': 'iqn.2026-01.test:compute', 'platform': 'x86_64',
    'os_type': 'linux', 'do_local_attach': False,
}
_POLL_S = 0.2


class CinderAPI:
    """:param env: of :meth:`volume_rbd.sandbox.Sandbox.env`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        auth = loading.get_plugin_loader('password').load_from_options(
            auth_url=env['OS_AUTH_URL'], username=env['OS_USERNAME'],
            password=env['OS_PASSWORD'],
            project_name=env['OS_PROJECT_NAME'],
            user_domain_name=env['OS_USER_DOMAIN_NAME'],
            project_domain_name=env['OS_PROJECT_DOMAIN_NAME'])
        self.session = session.Session(auth=auth)
        #: python-cinderclient, for what has no method here.
        self.client = cinder_client.Client(
            env['OS_VOLUME_API_VERSION'], session=self.session,
            region_name=env['OS_REGION_NAME'])
        self._numbers = itertools.count(1)

    # -- volumes -----------------------------------------------------------
    def create(self, volume_type: str = 'on', size_gib: int = 1, *,
               status: str | None = 'available', **fields: Any) -> str:
        """A volume; :returns: its id.

        :param status: waited for; None: return at once.
        :param fields: of cinderclient's create: imageRef, snapshot_id,
            source_volid, group_id …
        """
        fields.setdefault('name', f'e2e-{next(self._numbers)}')
        volume = self.client.volumes.create(
            size_gib, volume_type=volume_type, **fields)
        if status:
            self.wait_for_status(volume.id, status)
        return str(volume.id)

    def show(self, volume: str) -> Any:
        """The volume's record. :raises AssertionError: there is none."""
        try:
            return self.client.volumes.get(volume)
        except exceptions.NotFound:
            raise AssertionError(f'there is no volume {volume}') from None

    def encryption_key_id(self, volume: str) -> str:
        """In the key manager; see volume_rbd.sandbox.keys."""
        found = self.client.volumes.get_encryption_metadata(volume)
        return str(found['encryption_key_id'])

    def status(self, volume: str) -> str | None:
        """None where Cinder knows no such volume."""
        return _find_status(lambda: self.client.volumes.get(volume))

    def wait_for_status(self, volume: str, wanted: str | None,
                        timeout_s: float = TIMEOUT_S) -> None:
        """Wait for a state; None: until the volume is gone.

        :raises AssertionError: it did not come, with the user's messages.
        """
        self._wait(volume, lambda: self.status(volume), wanted, timeout_s)

    def delete(self, *volumes: str, timeout_s: float = TIMEOUT_S) -> None:
        """Delete volumes and wait until they are gone."""
        for volume in volumes:
            self.client.volumes.delete(volume)
        for volume in volumes:
            self.wait_for_status(volume, None, timeout_s)

    def extend(self, volume: str, size_gib: int) -> None:
        status = self.show(volume).status
        self.client.volumes.extend(volume, size_gib)
        self.wait_for_status(volume, status)
        assert self.show(volume).size == size_gib

    def retype(self, volume: str, volume_type: str,
               policy: str = 'never') -> None:
        """:param policy: ``on-demand`` migrates where it must."""
        status = self.show(volume).status
        self.client.volumes.retype(volume, volume_type, policy)
        self.wait_for_status(volume, status)

    def migrate(self, volume: str, host: str, *, force_copy: bool = False,
                timeout_s: float = TIMEOUT_S) -> None:
        """Wait until it lies on *host* (``sandbox@stock#stock``); admin.

        :raises AssertionError: it does not come there.
        """
        self.client.volumes.migrate_volume(volume, host, force_copy, False)
        deadline = time.monotonic() + timeout_s
        while True:
            row = self.show(volume).to_dict()
            status = row.get('migration_status')
            assert status != 'error', self._explain(volume)
            if row['os-vol-host-attr:host'] == host and (
                    status in (None, 'success')):
                return
            assert time.monotonic() < deadline, f'{status}: ' \
                f'{self._explain(volume)}'
            time.sleep(_POLL_S)

    def messages(self, resource: str) -> list[str]:
        """What Cinder has told the user about a resource."""
        found = self.client.messages.list(
            search_opts={'resource_uuid': resource})
        return [f'{row.event_id}: {row.user_message}' for row in found]

    # -- snapshots ---------------------------------------------------------
    def create_snapshot(self, volume: str, *, force: bool = False,
                        status: str | None = 'available') -> str:
        """:returns: its id. From 3.66 on, force is always on."""
        del force  # an in-use volume needs no flag any more
        snapshot = self.client.volume_snapshots.create(
            volume, name=f'e2e-{next(self._numbers)}')
        if status:
            self.wait_for_snapshot(snapshot.id, status)
        return str(snapshot.id)

    def wait_for_snapshot(self, snapshot: str, wanted: str | None,
                          timeout_s: float = TIMEOUT_S) -> None:
        self._wait(snapshot, lambda: _find_status(
            lambda: self.client.volume_snapshots.get(snapshot)),
            wanted, timeout_s)

    def delete_snapshot(self, *snapshots: str) -> None:
        for snapshot in snapshots:
            self.client.volume_snapshots.delete(snapshot)
        for snapshot in snapshots:
            self.wait_for_snapshot(snapshot, None)

    def revert(self, volume: str, snapshot: str) -> None:
        """To its newest snapshot."""
        self.client.volumes.revert_to_snapshot(volume, snapshot)
        self.wait_for_status(volume, 'available')

    # -- images ------------------------------------------------------------
    def upload(self, volume: str, *, disk_format: str = 'raw',
               force: bool = False, name: str = 'e2e') -> str:
        """Ask for an image of the volume; :returns: the image's id.

        Does not wait: see :meth:`wait_for_status` and
        ``GlanceAPI.wait_for_status``.
        """
        _, body = self.client.volumes.upload_to_image(
            volume, force, name, 'bare', disk_format, 'private', False)
        return str(body['os-volume_upload_image']['image_id'])

    # -- attachments -------------------------------------------------------
    def attach(self, volume: str,
               connector: Mapping[str, Any] = CONNECTOR
               ) -> tuple[str, dict[str, Any]]:
        """Attach as Nova does, but for no instance.

        Before an attachment of an instance goes, Cinder asks Nova, and there
        is none.

        :returns: the attachment's id and the connection info (``data`` and
            ``driver_volume_type`` in one).
        """
        made = self.client.attachments.create(volume, dict(connector))
        attachment = made['id'] if isinstance(made, dict) else made.id
        self.client.attachments.complete(attachment)
        self.wait_for_status(volume, 'in-use')
        found = self.client.attachments.show(attachment)
        return str(attachment), dict(found.connection_info)

    def detach(self, volume: str, attachment: str,
               status: str = 'available') -> None:
        self.client.attachments.delete(attachment)
        self.wait_for_status(volume, status)

    @contextmanager
    def attached(self, volume: str) -> Iterator[dict[str, Any]]:
        """The connection info, while the volume is in use."""
        attachment, connection = self.attach(volume)
        try:
            yield connection
        finally:
            self.detach(volume, attachment)

    # -- groups ------------------------------------------------------------
    def create_group(self, volume_types: Sequence[str] = ('on',),
                     group_type: str = GROUP_TYPE) -> str:
        """An empty group whose snapshots are consistent; :returns: its id."""
        types = {row.name: row.id for row in self.client.group_types.list()}
        known = {row.name: row.id for row in self.client.volume_types.list()}
        group = self.client.groups.create(
            types[group_type], ','.join(known[t] for t in volume_types),
            name=f'e2e-{next(self._numbers)}')
        self._wait_for_group(group.id, 'available')
        return str(group.id)

    def delete_group(self, group: str, *, with_volumes: bool = True) -> None:
        self.client.groups.delete(group, delete_volumes=with_volumes)
        self._wait_for_group(group, None)

    def create_group_snapshot(self, group: str,
                              status: str = 'available') -> str:
        made = self.client.group_snapshots.create(group)
        self._wait_for_group_snapshot(made.id, status)
        return str(made.id)

    def delete_group_snapshot(self, group_snapshot: str) -> None:
        self.client.group_snapshots.delete(group_snapshot)
        self._wait_for_group_snapshot(group_snapshot, None)

    def _wait_for_group(self, group: str, wanted: str | None) -> None:
        self._wait(group, lambda: _find_status(
            lambda: self.client.groups.get(group)), wanted, TIMEOUT_S)

    def _wait_for_group_snapshot(self, group_snapshot: str,
                                 wanted: str | None) -> None:
        self._wait(group_snapshot, lambda: _find_status(
            lambda: self.client.group_snapshots.get(group_snapshot)),
            wanted, TIMEOUT_S)

    # -- waiting -----------------------------------------------------------
    def _wait(self, resource: str, get: Callable[[], str | None],
              wanted: str | None, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (found := get()) != wanted:
            is_over = time.monotonic() > deadline or (
                found is None or found.startswith('error'))
            assert not is_over, f'{resource} is {found}, not {wanted}: ' \
                f'{self._explain(resource)}'
            time.sleep(_POLL_S)

    def _explain(self, resource: str) -> str:
        return '; '.join(self.messages(resource)) or 'Cinder says nothing'


def _find_status(get: Callable[[], Any]) -> str | None:
    try:
        return str(get().status)
    except exceptions.NotFound:
        return None
