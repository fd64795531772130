# SPDX-License-Identifier: Apache-2.0
"""What users have in a pool that changes hands, and what must be in it.

All is made through Cinder's API. The cluster's administrator writes into the
volumes, as hypervisors would, and reads them: a volume's content is known
before and after whatever is done to it, whoever does it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.cinder import CinderAPI
from tests.functional import content
from tests.functional.api import GlanceAPI
from tests.functional.cluster import Cluster
from volume_rbd.ceph import bindings
from volume_rbd.sandbox import Sandbox

POOL = 'volumes-stock'
TYPE = 'stock'
HOST = 'sandbox@stock#stock'
OURS = 'volume_rbd.cinder.RBDDriver'

#: A type that every backend may serve, so that its volumes migrate.
ANY_TYPE = 'anywhere'
LIMITED_TYPE = 'stock-limited'
QOS = {'total_iops_sec': '500', 'read_bytes_sec': '1000000000'}
#: The same as librbd has it.
LIMITS = {'iops_limit': 500, 'read_bps_limit': 1_000_000_000}

STOCK_CLONE = '.clone_snap'
STOCK_DELETED = '.deleted'


class Estate:
    """The volumes, snapshots and images of one test module.

    :param volume_type: of the volumes; also the name of the backend.
    """

    def __init__(self, sandbox: Sandbox, volume_type: str = TYPE,
                 pool: str = POOL) -> None:
        self.sandbox = sandbox
        self.cluster = Cluster(sandbox.env()['CEPH_CONF'])
        self.cinder = CinderAPI(sandbox.env('member'))
        self.admin = CinderAPI(sandbox.env('admin'))
        self.glance = GlanceAPI(sandbox.env('member'))
        self.use(volume_type, pool)
        #: Whose word it is: by the id of a volume or a snapshot.
        self.digests: dict[str, str] = {}

    def use(self, backend: str, pool: str) -> None:
        """Be that of another backend of the sandbox."""
        self.type, self.pool = backend, pool
        self.host = f'sandbox@{backend}#{backend}'

    # -- who drives the backend ----------------------------------------------
    def hand_over(self, driver: str | None, **options: object) -> None:
        """Change the line ``volume_driver`` of the section.

        :param driver: None: Cinder's own again.
        :param options: more lines of that section.
        """
        line = {} if driver is None else {'volume_driver': driver}
        self.sandbox.configure_cinder({self.type: {
            # Who tries again need not wait long between.
            'rados_connection_interval': 1, **line, **options}})

    # -- making --------------------------------------------------------------
    def volume(self, volume_type: str | None = None, **fields: Any) -> str:
        """With data of its own; :returns: its id."""
        volume = self.cinder.create(volume_type or self.type, **fields)
        self.write(volume)
        return volume

    def write(self, volume: str) -> None:
        """Change the volume, here and there."""
        name = self.name(volume)
        size = self.cluster.size(self.pool, name)
        for offset in (8 * content.MIB, size // 2, size - 4 * content.MIB):
            self.cluster.write(self.pool, name, content.random_bytes(
                content.BLOCK), offset)
        self.digests[volume] = self.digest(volume)

    def snapshot(self, volume: str) -> str:
        snapshot = self.cinder.create_snapshot(volume)
        self.digests[snapshot] = self.digests[volume]
        return snapshot

    def clone(self, volume: str, **fields: Any) -> str:
        made = self.cinder.create(fields.pop('volume_type', self.type),
                                  source_volid=volume, **fields)
        self.digests[made] = self.digests[volume]
        return made

    def from_snapshot(self, snapshot: str, **fields: Any) -> str:
        made = self.cinder.create(fields.pop('volume_type', self.type),
                                  snapshot_id=snapshot, **fields)
        self.digests[made] = self.digests[snapshot]
        return made

    def family(self) -> dict[str, str]:
        source = self.volume()
        clone = self.clone(source)
        return {'source': source, 'clone': clone,
                'clone_of_clone': self.clone(clone)}

    def image(self, size_bytes: int = 32 * content.MIB) -> str:
        data = content.sparse_bytes(size_bytes)
        image = self.glance.make(data, 'rbd')
        self.digests[image] = content.digest_of_bytes(data)
        return image

    def from_image(self, image: str) -> str:
        made = self.cinder.create(self.type, imageRef=image)
        self.digests[made] = self.digests[image]
        return made

    def from_qcow2(self) -> str:
        """Of an image that no driver can clone."""
        data = content.sparse_bytes(32 * content.MIB)
        with tempfile.TemporaryDirectory() as folder:
            raw, qcow2 = Path(folder) / 'raw', Path(folder) / 'qcow2'
            raw.write_bytes(data)
            subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O',
                            'qcow2', raw, qcow2], check=True)
            image = self.glance.make(qcow2.read_bytes(), 'rbd',
                                     disk_format='qcow2')
        self.digests[image] = content.digest_of_bytes(data)
        return self.from_image(image)

    def upload(self, volume: str, **fields: Any) -> str:
        image = self.cinder.upload(volume, **fields)
        self.glance.wait_for_status(image, 'active')
        self.cinder.wait_for_status(volume, 'available')
        self.digests[image] = self.digests[volume]
        return image

    # -- looking -------------------------------------------------------------
    def name(self, volume: str) -> str:
        """Of the rbd_image; one that was migrated may bear another id."""
        row = self.admin.show(volume).to_dict()
        found = row.get('os-vol-mig-status-attr:name_id')
        return f'volume-{found or volume}'

    def digest(self, volume: str, snapshot: str | None = None,
               pool: str | None = None) -> str:
        """Without a LUKS header: each clone has its own key there."""
        return self.cluster.digest(
            pool or self.pool, self.name(volume),
            snapshot and f'snapshot-{snapshot}', skip_luks=True)

    def check(self, volume: str, *snapshots: str, pool: str | None = None
              ) -> None:
        """What was written is what is there."""
        assert self.digest(volume, pool=pool) == self.digests[volume]
        for snapshot in snapshots:
            assert (self.digest(volume, snapshot, pool)
                    == self.digests[snapshot])

    def check_image(self, image: str) -> None:
        assert self.glance.digest(image) == self.digests[image]

    def snapshots(self, name: str) -> list[str]:
        """Names, without those in the trash namespace."""
        return self.cluster.snapshots(self.pool, name)

    def names(self) -> list[str]:
        return self.cluster.names(self.pool)

    def trash(self) -> list[str]:
        return sorted(entry['name'] for entry in self.cluster.trash(self.pool))

    def features(self, volume: str) -> int:
        with self.cluster.open(self.pool, self.name(volume), read_only=True
                               ) as image:
            return int(image.features())

    def parent(self, volume: str) -> str | None:
        return self.cluster.parent(self.pool, self.name(volume))

    def depth(self, volume: str) -> int:
        """How many ancestors it has, whatever pool they are in."""
        pool, name, depth = self.pool, self.name(volume), 0
        while (parent := self.cluster.parent(pool, name)) is not None:
            pool, _, name = parent.partition('/')
            depth += 1
        return depth

    def limits(self, volume: str) -> dict[str, int]:
        """librbd's own option, without ``rbd_qos_``, to the volume's."""
        found = self.cluster.metadata(self.pool, self.name(volume))
        return {key.removeprefix('conf_rbd_qos_'): int(value)
                for key, value in found.items()
                if key.startswith('conf_rbd_qos_') and int(value)}

    # -- the end -------------------------------------------------------------
    def delete_everything(self) -> None:
        """As users would: snapshots before their volumes."""
        for volume in self._volumes():
            self.admin.delete_snapshot(*self._snapshots_of(volume.id))
            self.admin.delete(volume.id)

    def reclaim(self, *words: str) -> set[str]:
        """``volume-rbd reclaim WORDS`` with Cinder's own configuration.

        :returns: the names of what it speaks of in the pool.
        """
        return {row['name'] for row in self._command('reclaim', *words)
                if row['pool'] == self.pool}

    def remove(self, name: str) -> None:
        """``volume-rbd delete NAME``, as an operator who looks at it."""
        self._command('delete', name)

    def _command(self, *words: str) -> list[dict[str, Any]]:
        program = str(Path(sys.prefix) / 'bin' / 'volume-rbd')
        config = str(self.sandbox.folder / 'cinder' / 'cinder.conf')
        done = subprocess.run(
            [program, '--config-file', config, '--backend', self.type,
             *words, '-f', 'json'], capture_output=True, text=True,
            check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def scrub(self) -> None:
        """By force, so that the next module starts clean."""
        for volume in self._volumes():
            for snapshot in self._snapshots_of(volume.id):
                self.admin.client.volume_snapshots.delete(snapshot,
                                                          force=True)
                with contextlib.suppress(AssertionError):
                    self.admin.wait_for_snapshot(snapshot, None, 20)
            volume.force_delete()
            with contextlib.suppress(AssertionError):
                self.admin.wait_for_status(volume.id, None, 20)
        self.cluster.scrub(set(), [self.pool])

    def _volumes(self) -> list[Any]:
        """Of the backend, whoever's they are; clones before their sources."""
        return list(self.admin.client.volumes.list(
            sort='created_at:desc',
            search_opts={'all_tenants': 1, 'host': self.host}))

    def _snapshots_of(self, volume: str) -> list[str]:
        return [found.id for found in self.admin.client.volume_snapshots.list(
            search_opts={'all_tenants': 1, 'volume_id': volume})]

    def close(self) -> None:
        self.cluster.close()


def soon(is_so: Callable[[], bool], timeout_s: float = 20) -> bool:
    """Whether it becomes so: what goes in the background is waited for."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


# -- the whole ---------------------------------------------------------------
@contextlib.contextmanager
def opened(sandbox: Sandbox) -> Iterator[Estate]:
    """An empty pool in the stock driver's hands; nothing is left after it."""
    with contextlib.ExitStack() as stack:
        made = Estate(sandbox)
        stack.callback(made.close)
        # Cinder opens a clone of an encrypted volume itself, and the stock
        # driver what it uploads.
        sandbox.set_etc_ceph(True)
        stack.callback(sandbox.set_etc_ceph, False)
        stack.callback(sandbox.configure_cinder, {})
        stack.enter_context(limited_type(made.admin, ANY_TYPE))
        stack.enter_context(limited_type(
            made.admin, LIMITED_TYPE, TYPE, QOS))
        stack.callback(made.scrub)
        made.hand_over(None)
        yield made


@contextlib.contextmanager
def limited_type(admin: CinderAPI, name: str, backend: str | None = None,
                 limits: Mapping[str, str] | None = None) -> Iterator[None]:
    """A volume type of one backend, or of any, for a while."""
    client = admin.client
    with contextlib.ExitStack() as stack:
        made = client.volume_types.create(name)
        stack.callback(client.volume_types.delete, made.id)
        if backend:
            made.set_keys({'volume_backend_name': backend})
        if limits:
            qos = client.qos_specs.create(
                name, {'consumer': 'back-end', **limits})
            stack.callback(client.qos_specs.delete, qos.id, force=True)
            client.qos_specs.associate(qos.id, made.id)
        yield


@contextlib.contextmanager
def clone_format_2(estate: Estate) -> Iterator[None]:
    """As where require_min_compat_client is mimic or later."""
    ioctx, key = estate.cluster.ioctx(POOL), 'conf_rbd_default_clone_format'
    rbd = bindings.rbd().RBD()
    rbd.pool_metadata_set(ioctx, key, '2')
    try:
        yield
    finally:
        rbd.pool_metadata_remove(ioctx, key)
