# SPDX-License-Identifier: Apache-2.0
"""What a compute agent does, each thing in turns with what it is compared to.

A case is a method whose name begins with ``compute_``; who adds one adds it to
:meth:`ComputeBench.cases`.
"""

from __future__ import annotations

import configparser
import dataclasses
import os
import pathlib
import shlex
import tempfile
import time
import uuid
from collections.abc import Mapping
from typing import Any

from tests.benchmark import pool_cases, tools
from tests.benchmark.floors import Floors
from tests.benchmark.service import Case, fill, in_turns
from tests.functional.api import GlanceAPI
from volume_rbd import compute, manager, model
from volume_rbd.driver.images import ImageRequest
from volume_rbd.sandbox import Sandbox

MIB = model.MIB
# Name -> size and data in MiB.
SIZES = {'full 4 GiB': (4096, 4096), '25 % full 8 GiB': (8192, 2048)}
_DISK_BYTES = 4 * model.GIB
_WAYS = ('fetch', 'fetch through Glance', 'curl', 'rbd export',
         'rbd export, synced')


class ComputeBench:
    """:param rounds: how often each thing is timed.
    :ivar agent: reads straight from RBD.
    """

    def __init__(self, sandbox: Sandbox, rounds: int) -> None:
        self.rounds = rounds
        self._sandbox = sandbox
        self.env = sandbox.env('member')
        self.glance = GlanceAPI(self.env)
        self.tools = tools.Tools(self.env)
        self._temporary = tempfile.TemporaryDirectory(
            prefix='volume-rbd-compute-')
        self.folder = pathlib.Path(self._temporary.name)
        self.agent = self.open_agent()
        self._through_glance = self.open_agent(
            glance={'allowed_direct_url_schemes': ''})
        self.floors = Floors(self.env, sandbox.env('service'))
        self.manager = manager.VolumeManager(
            [self.env['VOLUME_RBD_CONFIG']], environ=self.env)

    def cases(self) -> list[Case]:
        return [self.compute_fetch, self.compute_fetch_without_hash,
                self.compute_disk_by_clone, self.compute_pool]

    def compute_pool(self) -> dict[str, Any]:
        """Looking a disk up, by how many there are."""
        return pool_cases.rbd_look_ups(self._sandbox, self.rounds)

    def close(self) -> None:
        self.floors.close()
        for opened in (self.agent, self._through_glance, self.manager):
            opened.close()
        self._temporary.cleanup()

    def open_agent(self, **more: Mapping[str, object]
                   ) -> compute.ComputeAgent:
        """:param more: sections that win over the usual ones."""
        sections: dict[str, dict[str, object]] = {
            'DEFAULT': {'instances_path': self.folder},
            'glance': {'allowed_direct_url_schemes': 'rbd'},
            'libvirt': {'images_type': 'rbd', 'images_rbd_pool': 'vms',
                        'images_rbd_ceph_conf': self.env['CEPH_CONF'],
                        'rbd_user': 'nova'}}
        for section, values in more.items():
            sections.setdefault(section, {}).update(values)
        parser = configparser.RawConfigParser(default_section='-')
        parser.read(self.env['VOLUME_RBD_CONFIG'])
        for section, options in sections.items():
            if not parser.has_section(section):
                parser.add_section(section)
            for key, value in options.items():
                parser.set(section, key, str(value))
        path = self.folder / f'{uuid.uuid4()}.conf'
        with path.open('w') as stream:
            parser.write(stream)
        return compute.ComputeAgent([str(path)], environ=self.env)

    # -- the cases -----------------------------------------------------------
    def compute_fetch(self) -> dict[str, Any]:
        """An image into a local file that is on the disk in the end: from
        RBD and through Glance, hashed on the way; beside curl and ``rbd
        export``, which do neither."""
        return {**self._fetches(hashed=True),
                'target': 'to fetch through Glance: at least 1.3 (full) and '
                          '3 (25 %)'}

    def compute_fetch_without_hash(self) -> dict[str, Any]:
        """The same for images that Glance has no hash of: those that were
        registered by their location."""
        return {**self._fetches(hashed=False),
                'target': 'to rbd export: at least 0.95'}

    def _fetches(self, *, hashed: bool) -> dict[str, Any]:
        rows = {}
        for name, (size_mib, filled_mib) in SIZES.items():
            image = self._make_image(size_mib * MIB, filled_mib * MIB,
                                     hashed=hashed)
            # Whoever is first pays for memory that a virtual machine has
            # never used.
            self._fetch('rbd export', image)
            rows[name] = in_turns(
                lambda way, image=image: self._fetch(way, image),
                self.rounds, _WAYS)
            self.glance.delete(image)
        return {'seconds': rows, 'ratio': {
            name: {way: round(row[way] / row['fetch'], 2)
                   for way in _WAYS[1:]} for name, row in rows.items()}}

    def _fetch(self, way: str, image: str) -> float:
        path = self.folder / 'fetched'
        path.unlink(missing_ok=True)
        os.sync()
        started = time.monotonic()
        if way == 'curl':
            tools.timed(f'{tools.curl(self.glance.token)} -o {path} '
                        + shlex.quote(f'{self.env["GLANCE"]}/v2/images/'
                                      f'{image}/file'))
        elif way.startswith('rbd export'):
            self.tools.export(f'images/{image}@snap', path)
            if 'synced' in way:
                tools.timed(f'sync {path}')
        else:
            agent = self.agent if way == 'fetch' else self._through_glance
            found = agent.fetcher.fetch(image, path)
            assert found.strategy == ('export' if way == 'fetch'
                                      else 'download'), found.sentence
        return time.monotonic() - started

    def compute_disk_by_clone(self) -> dict[str, Any]:
        """A disk by clone beside the bare clone and resize."""
        image = self._make_image(64 * MIB, 64 * MIB, hashed=False)
        flows: list[float] = []

        def make(way: str) -> float:
            if way == 'bare clone':
                return self.floors.clone_create(image, _DISK_BYTES)
            name = f'bench-{uuid.uuid4()}'
            started = time.monotonic()
            result = self.agent.driver.images.create(
                model.VolumeSpec(name, _DISK_BYTES), image)
            seconds = time.monotonic() - started
            assert result.strategy == 'clone', result.sentence
            flows.append(result.seconds)
            self.agent.driver.volumes.delete(name)
            return seconds

        times = in_turns(make, self.rounds * 3, ('disk', 'bare clone'))
        self.glance.delete(image)
        flow = sorted(flows)[len(flows) // 2]
        return {'seconds': times, 'flow_seconds': round(flow, 4),
                'ratio': round(flow / times['bare clone'], 3),
                'ratio_with_facts': round(
                    times['disk'] / times['bare clone'], 3),
                'target': 'at most 1.15'}

    # -- helpers -------------------------------------------------------------
    def _make_image(self, size_bytes: int, filled_bytes: int, *,
                    hashed: bool) -> str:
        """In RBD, with holes where nobody wrote."""
        plain = self.manager.backend('optimized')
        with self.manager.open(dataclasses.replace(
                plain.config, max_clone_depth=0,
                glance_secure_hash=not hashed)) as driver:
            name = f'bench-{uuid.uuid4()}'
            driver.volumes.create(model.VolumeSpec(name, size_bytes))
            with driver.cluster.pool('volumes').open(name) as volume:
                fill(volume, size_bytes, filled_bytes)
            result = driver.images.upload(model.VolumeSpec(name),
                                          ImageRequest('bench'))
            assert result.strategy == 'copy', result.sentence
            driver.volumes.delete(name)
        image = str(result.values['image_id'])
        assert bool(self.glance.get(image).get('os_hash_value')) == hashed
        return image
