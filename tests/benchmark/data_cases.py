# SPDX-License-Identifier: Apache-2.0
"""The cases in which bytes move: ours, the stock driver and the best tool of
the trade in turns.

Beside the stock driver, times are those of a user of Cinder; beside a tool,
those of a call of the driver. A tool is not charged for what it does not do
(the snapshot, the record in Glance, the marks).
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from typing import Any

from tests.benchmark import tools
from tests.benchmark.cost import OPERATIONS
from tests.benchmark.service import Case, Service, fill
from volume_rbd import manager, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.copying import local_file
from volume_rbd.copying.copier import Copier
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.sandbox import Sandbox

GIB = model.GIB
# Disk inside and data of the seed's qcow2.
QCOW2_BYTES = 6 * GIB
QCOW2_DATA_BYTES = 14 * 100 * model.MIB
_FULL = ('full 4 GiB', 4, 4)
_QUARTER = ('25 % full 8 GiB', 8, 2)


class DataBench(Service):
    """Uploads by copy and through Glance, conversions, bare copies."""

    def __init__(self, sandbox: Sandbox, rounds: int) -> None:
        super().__init__(sandbox, rounds)
        self.env = sandbox.env('member')
        self.manager = manager.VolumeManager(
            [self.env['VOLUME_RBD_CONFIG']], environ=self.env)
        self.plain = self.manager.backend('ceph')
        self.fast = self.manager.backend('optimized')
        self.pool = self.cluster.pool('volumes')
        self.tools = tools.Tools(self.env)
        self._temporary = tempfile.TemporaryDirectory(
            prefix='volume-rbd-data-')
        self.folder = pathlib.Path(self._temporary.name)

    def cases(self) -> list[Case]:
        return [self.data_uploads, self.data_uploads_hashed_by_glance,
                self.data_qcow2, self.data_base_cache, self.data_copies,
                self.data_files,
                self.data_streams, self.data_cost]

    def close(self) -> None:
        self.manager.close()
        self._temporary.cleanup()

    # -- uploads through Cinder ----------------------------------------------
    def data_uploads(self) -> dict[str, Any]:
        """Raw uploads: by copy with hashes on the way (``copy``), through
        Glance (``glance``), and as the stock driver does."""
        self.sandbox.configure_cinder({'on': {
            'rbd_max_clone_depth': 0, 'glance_secure_hash': False}})
        ways = {'copy': 'on', 'glance': 'off', 'stock': 'stock'}
        rows = {name: self._uploads(size_gib, filled_gib, ways)
                for name, size_gib, filled_gib in (_FULL, _QUARTER)}
        self.sandbox.configure_cinder({})
        return {'seconds': rows, 'ratio': _ratios(rows, 'stock'),
                'target': 'copy at least 1.8 (full) and 3.5 (25 %), glance '
                          'at least 1.3 (full)'}

    def data_uploads_hashed_by_glance(self) -> dict[str, Any]:
        """The same by copy, with the hash left to Glance (do_secure_hash),
        which reads the image once it is active."""
        self.sandbox.configure_glance({'DEFAULT': {'do_secure_hash': 'true'}})
        self.sandbox.configure_cinder({'on': {'rbd_max_clone_depth': 0}})
        ways = {'copy': 'on', 'stock': 'stock'}
        rows = {name: self._uploads(size_gib, filled_gib, ways)
                for name, size_gib, filled_gib in (_FULL, _QUARTER)}
        self.sandbox.configure_cinder({})
        self.sandbox.configure_glance({})
        return {'seconds': rows, 'ratio': _ratios(rows, 'stock'),
                'target': 'at least 2.3 (full) and 7 (25 %)'}

    def _uploads(self, size_gib: int, filled_gib: int,
                 ways: Mapping[str, str]) -> dict[str, float]:
        volumes = {backend: self.make_full(backend, size_gib, filled_gib)
                   for backend in ways.values()}

        def upload(way: str) -> float:
            return self.upload(
                volumes[ways[way]], then=lambda image: self._settle(
                    image, is_copy=way == 'copy'))

        found = self.in_turns(upload, self.rounds, tuple(ways))
        self.cinder.delete(*volumes.values())
        return found

    def _settle(self, image: str, *, is_copy: bool) -> None:
        """Wait for Glance's hash, and see which way was taken."""
        if is_copy:
            with self.cluster.pool('images').open(
                    image, read_only=True) as made:
                assert lineage.get_lineage(made) is not None, 'no copy'
                assert made.parent is None, 'a clone'
        self.glance.wait_for(image, 'os_hash_value', 300)

    # -- qcow2 ---------------------------------------------------------------
    def data_qcow2(self) -> dict[str, Any]:
        """Create from qcow2: through Cinder beside the stock driver, and by
        the driver beside the bare qemu-img from pool to pool."""
        image = self._make_qcow2()
        made: list[str] = []

        def through_cinder(backend: str) -> float:
            started = time.monotonic()
            made.append(self.create(backend, 6, imageRef=image))
            return time.monotonic() - started

        cinder = self.in_turns(through_cinder, self.rounds)
        self.cinder.delete(*made)
        bare = self.in_turns(lambda way: (
            self._create(self.plain, image, 'convert') if way == 'driver'
            else self._convert_bare(image)), self.rounds * 2 + 1,
            ('driver', 'qemu-img'))
        self.glance.delete(image)
        return {'through_cinder_seconds': cinder,
                'bare_seconds': bare,
                'ratio_to_stock': round(cinder['stock'] / cinder['on'], 2),
                'ratio_to_qemu_img': round(
                    bare['qemu-img'] / bare['driver'], 2),
                'target': 'at least 5 and 0.9'}

    def data_base_cache(self) -> dict[str, Any]:
        """The second create from a qcow2 with the base cache, beside a
        create by clone from a raw image of the same disk."""
        qcow2 = self._make_qcow2()
        raw = self.glance.make(os.urandom(64 * model.MIB), 'rbd')
        cached = self.manager.open(dataclasses.replace(
            self.plain.config, image_base_cache=True))
        first = self._create(cached, qcow2, 'convert')
        seconds = self.in_turns(lambda way: (
            self._create(cached, qcow2, 'clone') if way == 'cached'
            else self._create(self.plain, raw, 'clone')),
            self.rounds * 5, ('cached', 'clone'))
        cached.close()
        for image in (qcow2, raw):
            self.glance.delete(image)
        cinder = self._base_cache_through_cinder()
        return {'first_seconds': round(first, 2), 'seconds': seconds,
                'ratio': round(seconds['clone'] / seconds['cached'], 2),
                'through_cinder_seconds': cinder,
                'target': 'at least 1.0'}

    def _base_cache_through_cinder(self) -> dict[str, float]:
        self.sandbox.configure_cinder({'on': {'image_base_cache': True}})
        images = {'cached': self._make_qcow2(),
                  'clone': self.glance.make(os.urandom(64 * model.MIB),
                                            'rbd')}
        made = [self.create('on', 6, imageRef=images['cached'])]

        def create(way: str) -> float:
            started = time.monotonic()
            made.append(self.create('on', 6, imageRef=images[way]))
            return time.monotonic() - started

        found = self.in_turns(create, self.rounds, tuple(images))
        self.cinder.delete(*made)
        for image in images.values():
            self.glance.delete(image)
        self.sandbox.configure_cinder({})
        return found

    def _make_qcow2(self) -> str:
        path = tools.make_qcow2(self.folder, QCOW2_BYTES, QCOW2_DATA_BYTES)
        image = self.glance.create(disk_format='qcow2')
        with path.open('rb') as file:
            self.glance.upload(image, file, 'rbd')
        path.unlink()
        return image

    def _convert_bare(self, image: str) -> float:
        target = f'volumes/bench-{uuid.uuid4()}'
        seconds = (self.tools.create(target, QCOW2_BYTES)
                   + self.tools.convert(f'images/{image}@snap', target))
        self.tools.remove(target)
        return seconds

    # -- from RBD to RBD and to a file ---------------------------------------
    def data_copies(self) -> dict[str, Any]:
        """The engine without hashes, beside ``rbd deep cp``."""
        rows = {}
        for name, size_gib, filled_gib in (_FULL, _QUARTER):
            source = f'bench-{uuid.uuid4()}'
            self._make_volume(source, size_gib, filled_gib)
            rows[name] = self.in_turns(
                lambda way, source=source: (
                    self._copy(source) if way == 'engine'
                    else self._deep_copy(source)),
                self.rounds, ('engine', 'rbd deep cp'))
            self._drop(source)
        return {'seconds': rows, 'ratio': _ratios(rows, 'rbd deep cp'),
                'target': 'at least 1.0'}

    def data_files(self) -> dict[str, Any]:
        """Into a local file that is on the disk in the end, beside ``rbd
        export``, which does not wait for that, and ``rbd export; sync``."""
        ways = ('engine', 'rbd export', 'rbd export, synced')
        rows = {}
        for name, size_gib, filled_gib in (_FULL, _QUARTER):
            source = f'bench-{uuid.uuid4()}'
            self._make_volume(source, size_gib, filled_gib)
            # Whoever is first pays for memory that a virtual machine has
            # never used (seen: 2 GiB into the page cache, 0.4 s or 5 s).
            self._to_file('rbd export', source)
            rows[name] = self.in_turns(
                lambda way, source=source: self._to_file(way, source),
                self.rounds, ways)
            self._drop(source)
        return {'seconds': rows, 'ratio': _ratios(rows, 'rbd export'),
                'ratio_to_synced': {
                    name: round(row['rbd export, synced'] / row['engine'], 2)
                    for name, row in rows.items()},
                'target': 'at least 0.95'}

    def _to_file(self, way: str, source: str) -> float:
        path = self.folder / 'exported'
        path.unlink(missing_ok=True)
        os.sync()
        started = time.monotonic()
        if way != 'engine':
            self.tools.export(f'volumes/{source}@bench', path)
            if 'synced' in way:
                tools.timed(f'sync {path}')
        else:
            with self.pool.open(
                    source, read_only=True, snapshot='bench') as snapshot, \
                    local_file.created(
                        str(path), snapshot.size_bytes) as file:
                Copier().fill(
                    snapshot, file, report=progress.Silent(),
                    reopen=lambda: local_file.opened(str(path)))
        return time.monotonic() - started

    def _copy(self, source: str) -> float:
        pool = self.pool
        name = f'bench-{uuid.uuid4()}'
        started = time.monotonic()
        with pool.open(source, read_only=True, snapshot='bench') as snapshot:
            pool.create(name, snapshot.size_bytes)
            with pool.open(name) as made:
                Copier().fill(
                    snapshot, made, report=progress.Silent(),
                    reopen=lambda: pool.open(name, read_only=True))
        seconds = time.monotonic() - started
        pool.remove(name)
        return seconds

    def _deep_copy(self, source: str) -> float:
        target = f'volumes/bench-{uuid.uuid4()}'
        seconds = self.tools.deep_copy(f'volumes/{source}', target)
        tools.timed(f'{self.tools.rbd} snap purge {target}')
        self.tools.remove(target)
        return seconds

    # -- through Glance ------------------------------------------------------
    def data_streams(self) -> dict[str, Any]:
        """4 GiB full through Glance's API and back, beside curl and rbd."""
        source = f'bench-{uuid.uuid4()}'
        self._make_volume(source, 4, 4)
        ways = ('driver', 'rbd and curl')
        put = self.in_turns(lambda way: (
            self._put(source) if way == 'driver'
            else self._put_bare(source)), self.rounds, ways)
        image = str(self.plain.images.upload(
            model.VolumeSpec(source), ImageRequest('bench', store_id='file')
            ).values['image_id'])
        get = self.in_turns(lambda way: (
            self._create(self.plain, image, 'download') if way == 'driver'
            else self._get_bare(image)), self.rounds, ways)
        self.glance.delete(image)
        self._drop(source)
        rows = {'upload': put, 'download': get}
        return {'seconds': rows, 'ratio': _ratios(rows, 'rbd and curl'),
                'target': 'at least 1.0 each'}

    def _put(self, source: str) -> float:
        started = time.monotonic()
        result = self.plain.images.upload(
            model.VolumeSpec(source), ImageRequest('bench'))
        seconds = time.monotonic() - started
        assert result.strategy == 'upload', result.sentence
        self.glance.delete(str(result.values['image_id']))
        return seconds

    def _put_bare(self, source: str) -> float:
        started = time.monotonic()
        image = self.glance.create()
        self.tools.put(f'volumes/{source}@bench', self._file_of(image),
                       self.glance.token)
        seconds = time.monotonic() - started
        self.glance.delete(image)
        return seconds

    def _get_bare(self, image: str) -> float:
        target = f'volumes/bench-{uuid.uuid4()}'
        seconds = self.tools.get(self._file_of(image), self.glance.token,
                                 target)
        self.tools.remove(target)
        return seconds

    def _file_of(self, image: str) -> str:
        return f'{self.env["GLANCE"]}/v2/images/{image}/file'

    # -- memory and processor ------------------------------------------------
    def data_cost(self) -> dict[str, Any]:
        """Peak of memory and processor seconds a GiB, by operation and size.

        Of 100 GiB, two are data: the disk of this machine has no room for
        more, and what goes through Glance would take a quarter of an hour.
        """
        found: list[dict[str, Any]] = []
        for size_gib, filled_gib in ((1, 1), (100, 2)):
            source = f'bench-{uuid.uuid4()}'
            self._make_volume(source, size_gib, filled_gib)
            found += [{'operation': operation, 'size_gib': size_gib,
                       'data_gib': filled_gib,
                       **self._cost(operation, source, filled_gib)}
                      for operation in OPERATIONS
                      if size_gib == 1 or 'copy' in operation]
            self._drop(source)
        return {'cost': found, 'target': 'at most 150 MiB grown'}

    def _cost(self, operation: str, source: str, data_gib: int
              ) -> dict[str, float]:
        if operation == 'download':
            image = self._upload_for_cost(source, store_id='file')
        elif operation == 'convert':
            image = self._upload_for_cost(source, disk_format='qcow2')
        else:
            image = None
        target = f'bench-{uuid.uuid4()}' if image else source
        measured = self._in_child(operation, target, *(
            [image] if image else []))
        self.glance.delete(measured.pop('image_id'))
        if image:
            self.plain.volumes.delete(target)
        return {**measured, 'processor_seconds_per_gib': round(
            measured['processor_seconds'] / data_gib, 2)}

    def _upload_for_cost(self, source: str, **fields: Any) -> str:
        return str(self.plain.images.upload(
            model.VolumeSpec(source), ImageRequest('bench', **fields)
            ).values['image_id'])

    def _in_child(self, *arguments: str) -> dict[str, Any]:
        child = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'tests.benchmark.cost',
             *arguments], env={**os.environ, **self.env},
            capture_output=True, text=True, check=False)
        assert child.returncode == 0, child.stderr
        found: dict[str, Any] = json.loads(child.stdout)
        return found

    # -- helpers -------------------------------------------------------------
    def _create(self, driver: RBDDriver, image: str, wanted: str) -> float:
        name = f'bench-{uuid.uuid4()}'
        started = time.monotonic()
        result = driver.images.create(model.VolumeSpec(name), image)
        seconds = time.monotonic() - started
        assert result.strategy == wanted, result.sentence
        driver.volumes.delete(name)
        return seconds

    def _make_volume(self, name: str, size_gib: int, filled_gib: int) -> None:
        """With a snapshot ``bench``; a quarter full is so all over."""
        self.plain.volumes.create(model.VolumeSpec(name, size_gib * GIB))
        with self.pool.open(name) as image:
            fill(image, size_gib * GIB, filled_gib * GIB)
            image.create_snapshot('bench')

    def _drop(self, name: str) -> None:
        with self.pool.open(name) as image:
            image.remove_snapshot('bench')
        self.plain.volumes.delete(name)


def _ratios(rows: Mapping[str, Mapping[str, float]], other: str
            ) -> dict[str, dict[str, float]]:
    """How many times as quick as *other* each is."""
    return {name: {way: round(times[other] / seconds, 2)
                   for way, seconds in times.items() if way != other}
            for name, times in rows.items()}
