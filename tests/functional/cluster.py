# SPDX-License-Identifier: Apache-2.0
"""The cluster as its administrator sees it, by the bindings alone.

Nothing of the product's own layers is used here: what is looked at must not
be what is looked through.
"""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.functional import content
from volume_rbd.ceph import bindings

POOLS = ('volumes', 'images', 'vms')


class Cluster:
    """:param conf: the path of the ceph.conf."""

    def __init__(self, conf: str) -> None:
        self.conf = conf
        self._rbd = bindings.rbd()
        self._handle = bindings.rados().Rados(
            name='client.admin', conffile=conf,
            conf={'rbd_default_clone_format': '2'})
        self._handle.connect()
        self._ioctxs: dict[str, Any] = {}

    @property
    def fsid(self) -> str:
        return str(self._handle.get_fsid())

    def close(self) -> None:
        for ioctx in self._ioctxs.values():
            ioctx.close()
        self._ioctxs.clear()
        self._handle.shutdown()

    def ioctx(self, pool: str) -> Any:
        if pool not in self._ioctxs:
            self._ioctxs[pool] = self._handle.open_ioctx(pool)
        return self._ioctxs[pool]

    def ceph(self, *words: str) -> str:
        """What ``ceph WORDS`` says."""
        return subprocess.run(
            ['ceph', '--conf', self.conf, *words], check=True, timeout=60,
            capture_output=True, text=True).stdout

    # -- rbd_images --------------------------------------------------------
    @contextlib.contextmanager
    def open(self, pool: str, name: str | None = None,
             snapshot: str | None = None, **options: Any) -> Iterator[Any]:
        ioctx = self.ioctx(pool)
        image = self._rbd.Image(ioctx, name, snapshot=snapshot, **options)
        try:
            yield image
        finally:
            # Else librbd may crash, see doc/source/contributor/decisions/
            # 0021-closed-when-it-is-safe.rst.
            ioctx.aio_stat('rbd_directory', lambda *_: None
                           ).wait_for_complete_and_cb()
            image.close()

    def names(self, pool: str) -> list[str]:
        return sorted(self._rbd.RBD().list(self.ioctx(pool)))

    def trash(self, pool: str) -> list[dict[str, Any]]:
        return list(self._rbd.RBD().trash_list(self.ioctx(pool)))

    def make(self, pool: str, name: str, data: bytes = b'',
             size_bytes: int | None = None, *,
             features: int | None = None) -> None:
        self._rbd.RBD().create(
            self.ioctx(pool), name,
            len(data) if size_bytes is None else size_bytes,
            old_format=False, features=features)
        if data:
            self.write(pool, name, data)

    def write(self, pool: str, name: str, data: bytes, offset: int = 0
              ) -> None:
        """Write what is not zero."""
        with self.open(pool, name) as image:
            for at in range(0, len(data), content.BLOCK):
                block = data[at:at + content.BLOCK]
                if not content.is_zero(block):
                    image.write(block, offset + at)

    def take_snapshot(self, pool: str, name: str, snapshot: str, *,
                      protect: bool = False) -> None:
        with self.open(pool, name) as image:
            image.create_snap(snapshot)
            if protect:
                image.protect_snap(snapshot)

    def clone(self, parent: tuple[str, str, str], pool: str, name: str, *,
              clone_format: int = 2) -> None:
        # Only the configuration of a connection says the format.
        handle = self._handle
        if clone_format == 1:
            handle = bindings.rados().Rados(
                name='client.admin', conffile=self.conf,
                conf={'rbd_default_clone_format': '1'})
            handle.connect()
        try:
            with handle.open_ioctx(parent[0]) as source, \
                    handle.open_ioctx(pool) as target:
                self._rbd.RBD().clone(source, parent[1], parent[2], target,
                                      name)
        finally:
            if handle is not self._handle:
                handle.shutdown()

    def rename(self, pool: str, name: str, new_name: str) -> None:
        self._rbd.RBD().rename(self.ioctx(pool), name, new_name)

    def move_to_trash(self, pool: str, name: str) -> None:
        self._rbd.RBD().trash_move(self.ioctx(pool), name, 0)

    def restore(self, pool: str, image_id: str, name: str) -> None:
        self._rbd.RBD().trash_restore(self.ioctx(pool), image_id, name)

    def size(self, pool: str, name: str) -> int:
        with self.open(pool, name, read_only=True) as image:
            return int(image.size())

    def snapshots(self, pool: str, name: str) -> list[str]:
        """Of its owner, without those in the trash namespace."""
        with self.open(pool, name, read_only=True) as image:
            return [found['name'] for found in image.list_snaps()
                    if found['namespace'] == 0]

    def parent(self, pool: str, name: str) -> str | None:
        """``pool/name`` of the parent."""
        with self.open(pool, name, read_only=True) as image:
            try:
                found = image.get_parent_image_spec()
            except self._rbd.ImageNotFound:
                return None
            return f'{found["pool_name"]}/{found["image_name"]}'

    def metadata(self, pool: str, name: str) -> dict[str, str]:
        with self.open(pool, name, read_only=True) as image:
            return dict(image.metadata_list())

    def set_metadata(self, pool: str, name: str, values: Mapping[str, str]
                     ) -> None:
        with self.open(pool, name) as image:
            for key, value in values.items():
                image.metadata_set(key, value)

    def mark(self, pool: str, name: str) -> dict[str, Any] | None:
        """The lineage mark, whoever's it is."""
        text = self.metadata(pool, name).get('volume_rbd.lineage')
        return json.loads(text) if text else None

    def image_id(self, pool: str, name: str) -> str:
        with self.open(pool, name, read_only=True) as image:
            return str(image.id())

    def digest(self, pool: str, name: str, snapshot: str | None = None, *,
               skip_luks: bool = False) -> str:
        """The content's hash, see :mod:`tests.functional.content`.

        :param skip_luks: a LUKS header, if there is one, does not count.
        """
        with self.open(pool, name, snapshot, read_only=True) as image:
            head = image.read(0, 512) if skip_luks else b''
            start = (int.from_bytes(head[104:108], 'big') * 512
                     if head.startswith(b'LUKS') else 0)
            return content.digest((offset, data) for offset, data
                                  in _data(image) if offset >= start)

    def remove(self, pool: str, name: str) -> None:
        """With its snapshots, protected ones too."""
        with self.open(pool, name) as image:
            for found in list(image.list_snaps()):
                if image.is_protected_snap(found['name']):
                    image.unprotect_snap(found['name'])
                image.remove_snap(found['name'])
        self._rbd.RBD().remove(self.ioctx(pool), name)

    # -- trouble -----------------------------------------------------------
    @contextlib.contextmanager
    def slow(self, pool: str, bytes_per_s: int) -> Iterator[None]:
        """Whoever opens an rbd_image of *pool* within the block writes no
        faster, qemu-img too."""
        key = 'rbd_qos_write_bps_limit'
        self._rbd.RBD().pool_metadata_set(
            self.ioctx(pool), f'conf_{key}', str(bytes_per_s))
        try:
            yield
        finally:
            self._rbd.RBD().pool_metadata_remove(self.ioctx(pool),
                                                 f'conf_{key}')

    @contextlib.contextmanager
    def full(self, pool: str) -> Iterator[None]:
        """*pool* has reached its quota."""
        name = 'filler'
        self.make(pool, name, content.random_bytes(8 * content.MIB))
        try:
            self.set_quota(pool, 4 * content.MIB)
            yield
        finally:
            self.set_quota(pool, 0)
            self.remove(pool, name)

    def set_quota(self, pool: str, size_bytes: int) -> None:
        """Returns when the cluster has noticed that more is used, or, with
        0, that there is room again."""
        self.ceph('osd', 'pool', 'set-quota', pool, 'max_bytes',
                  str(size_bytes))
        deadline = time.monotonic() + 60
        while True:
            found = next(
                line for line in self.ceph('osd', 'pool', 'ls', 'detail'
                                           ).splitlines()
                if f"'{pool}'" in line)
            if ('full_quota' in found) == bool(size_bytes):
                return
            assert time.monotonic() < deadline, found
            time.sleep(0.5)

    def wait_until_closed(self, pool: str, name: str) -> None:
        """Nobody has it open any more, or it is gone."""
        deadline = time.monotonic() + 40
        while name in self.names(pool):
            with self.open(pool, name, read_only=True) as image:
                if not list(image.watchers_list()):
                    return
            assert time.monotonic() < deadline, f'{name} is still open'
            time.sleep(0.5)

    def spoil_object_map(self, pool: str, name: str) -> None:
        """All of it says that there is nothing, and it bears the flags of
        one that is not valid: librbd sets them where a write to it fails."""
        image_id = self.image_id(pool, name)
        ioctx = self.ioctx(pool)
        # set_flags(flags, mask): object map and fast-diff.
        ioctx.execute(f'rbd_header.{image_id}', 'rbd', 'set_flags',
                      struct.pack('<QQ', 3, 3))
        with self.open(pool, name, read_only=True) as image:
            count = image.stat()['num_objs']
            assert image.flags() == 3
        # object_map_update(start, end, new state, any old one): all absent.
        ioctx.execute(f'rbd_object_map.{image_id}', 'rbd',
                      'object_map_update', struct.pack('<QQBB', 0, count, 0,
                                                       0))

    # -- everything --------------------------------------------------------
    def describe(self) -> set[str]:
        """Everything in the three pools, a line each."""
        lines: set[str] = set()
        for pool in POOLS:
            for name in self.names(pool):
                with self.open(pool, name, read_only=True) as image:
                    lines |= _describe(pool, name, image)
            for entry in self.trash(pool):
                lines.add(f'{pool} trash: {entry["name"]}')
                with self.open(pool, image_id=entry['id'],
                               read_only=True) as image:
                    lines |= _describe(f'{pool} trash', entry['name'], image)
            lines |= {f'{pool} group: {name}' for name in
                      self._rbd.RBD().group_list(self.ioctx(pool))}
            lines |= {f'{pool} object: {name}'
                      for name in self._objects(pool)}
        return lines

    def _objects(self, pool: str) -> set[str]:
        """RADOS objects, data as one line for each rbd_image."""
        ioctx = self.ioctx(pool)
        found = set()
        for item in ioctx.list_objects():
            # Bookkeeping of the pool; stays once it was needed.
            if item.key in ('rbd_directory', 'rbd_info', 'rbd_trash',
                            'rbd_trash_purge_schedule', 'rbd_mirroring',
                            'rbd_task', 'rbd_mirror_snapshot_schedule',
                            'rbd_group_directory'):
                continue
            if (item.key == 'rbd_children'
                    and not self._omap_keys(ioctx, item.key)):
                continue
            kind, _, rest = item.key.partition('.')
            if kind == 'rbd_data':
                found.add(f'rbd_data.{rest.rpartition(".")[0]}')
            else:
                found.add(item.key)
        return found

    @staticmethod
    def _omap_keys(ioctx: Any, name: str) -> list[str]:
        rados = bindings.rados()
        with rados.ReadOpCtx() as operation:
            values, _ = ioctx.get_omap_vals(operation, '', '', 100)
            ioctx.operate_read_op(operation, name)
            return [key for key, _ in values]

    def scrub(self, keep: set[str], pools: Sequence[str] = POOLS) -> None:
        """Remove by force what *keep* (lines of :meth:`describe`) lacks."""
        for _ in range(8):
            for pool in pools:
                for name in self.names(pool):
                    if f'{pool}: {name}' not in keep:
                        self._destroy(pool, name=name)
                for entry in self.trash(pool):
                    if f'{pool} trash: {entry["name"]}' not in keep:
                        self._destroy(pool, image_id=entry['id'])

    def _destroy(self, pool: str, name: str | None = None,
                 image_id: str | None = None) -> None:
        rbd = self._rbd
        ioctx = self.ioctx(pool)
        with contextlib.suppress(rbd.Error), \
                self.open(pool, name, image_id=image_id) as image:
            for found in list(image.list_snaps()):
                with contextlib.suppress(rbd.Error):
                    if (found['namespace'] == 0
                            and image.is_protected_snap(found['name'])):
                        image.unprotect_snap(found['name'])
                with contextlib.suppress(rbd.Error):
                    image.remove_snap_by_id(found['id'])
        with contextlib.suppress(rbd.Error):
            if name:
                rbd.RBD().remove(ioctx, name)
            else:
                rbd.RBD().trash_remove(ioctx, image_id, True)


def _describe(where: str, name: str, image: Any) -> set[str]:
    lines = {f'{where}: {name}', f'{where}: {name} id={image.id()} '
             f'size={image.size()}'}
    for found in image.list_snaps():
        shown = (found['trash']['original_name'] + ' (trash namespace)'
                 if found['namespace'] == 2 else found['name'])
        lines.add(f'{where}: {name}@{shown}')
    for child in image.list_children2():
        lines.add(f'{where}: {name} child={child["pool"]}/{child["image"]}')
    return lines


def _data(image: Any) -> Iterator[tuple[int, bytes]]:
    """What has data, in whole blocks, ascending, the parent's included."""
    size = image.size()
    blocks: set[int] = set()

    def found(offset: int, length: int, exists: bool) -> None:
        if exists:
            blocks.update(range(offset // content.BLOCK,
                                -(-(offset + length) // content.BLOCK)))

    if size:
        # Fast-diff asks the object map instead of every object.
        image.diff_iterate(0, size, None, found,
                           whole_object=bool(image.features() & 16))
    run: list[int] = []
    for block in sorted(blocks):
        if run and (block != run[-1] + 1 or len(run) == 64):
            yield _read(image, run, size)
            run = []
        run.append(block)
    if run:
        yield _read(image, run, size)


def _read(image: Any, run: list[int], size: int) -> tuple[int, bytes]:
    start = run[0] * content.BLOCK
    end = min((run[-1] + 1) * content.BLOCK, size)
    return start, (image.read(start, end - start) if end > start else b'')


def render_keyring(entity: str, key: str) -> str:
    return f'[{entity}]\n\tkey = {key}\n'


def make_user(cluster: Cluster, name: str, osd: str) -> str:
    """A cephx user with these caps, its keyring where the sandbox looks.

    :returns: the entity, to be given to :func:`remove_user`.
    """
    entity = f'client.{name}'
    key = json.loads(cluster.ceph(
        'auth', 'get-or-create', entity, 'mon', 'profile rbd', 'osd', osd,
        '--format', 'json'))[0]['key']
    _keyring(cluster, entity).write_text(render_keyring(entity, key))
    return entity


def remove_user(cluster: Cluster, entity: str) -> None:
    cluster.ceph('auth', 'rm', entity)
    _keyring(cluster, entity).unlink(missing_ok=True)


def _keyring(cluster: Cluster, entity: str) -> Path:
    return Path(cluster.conf).parent / f'ceph.{entity}.keyring'
