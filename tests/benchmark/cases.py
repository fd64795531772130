# SPDX-License-Identifier: Apache-2.0
"""The cases: ours and the floor, interleaved in one run; ratios count."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import uuid
from typing import Any

from tests.benchmark.floors import Floors
from tests.benchmark.service import Case
from volume_rbd import manager, model
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.images import ImageRequest
from volume_rbd.sandbox import Sandbox

SIZES = {'1 GiB full': (1, True), '100 GiB sparse': (100, False),
         '1 TiB sparse': (1024, False)}


class Bench:
    def __init__(self, sandbox: Sandbox, rounds: int) -> None:
        self.sandbox = sandbox
        self.rounds = rounds
        member = sandbox.env('member')
        self.floors = Floors(member, sandbox.env('service'))
        self.manager = manager.VolumeManager(
            [member['VOLUME_RBD_CONFIG']], environ=member)
        self.fast = self.manager.backend('optimized')
        self.plain = self.manager.backend('ceph')
        self.glance = self.manager.glance()

    def cases(self) -> list[Case]:
        for name, (size_gib, is_full) in SIZES.items():
            self._make_volume(name, size_gib, is_full)
        return [self.clone_upload, self.at_once, self.clone_create,
                self.chunked_upload, self.memory, self.secure_hash]

    def close(self) -> None:
        for name in SIZES:
            self.fast.volumes.delete(_name(name))
        self.fast.reclaimer.purge()
        self.floors.close()
        self.manager.close()

    # -- the cases -----------------------------------------------------------
    def clone_upload(self) -> dict[str, Any]:
        """Clone-upload by size, each beside its floor."""
        ours: dict[str, list[float]] = {name: [] for name in SIZES}
        floor: dict[str, list[float]] = {name: [] for name in SIZES}
        for _ in range(self.rounds):
            for name in SIZES:
                seconds, image_id = self.floors.clone_upload(_name(name))
                floor[name].append(seconds)
                self.floors.delete_image(image_id)
                ours[name].append(self._upload(self.fast, name))
        medians = {name: statistics.median(times)
                   for name, times in ours.items()}
        everything = [seconds for times in floor.values()
                      for seconds in times]
        ours_all = [seconds for times in ours.values() for seconds in times]
        return {
            'seconds': _rounded(medians),
            'floor_seconds': _rounded({name: statistics.median(times)
                                       for name, times in floor.items()}),
            'spread_of_sizes': round(
                max(medians.values()) / min(medians.values()), 3),
            'ratio_to_floor': round(statistics.median(ours_all)
                                    / statistics.median(everything), 3),
            'target': 'sizes within 1.10 of each other, floor times 1.15',
            'all_seconds': {name: [round(s, 3) for s in times]
                            for name, times in ours.items()},
            'all_floor_seconds': {name: [round(s, 3) for s in times]
                                  for name, times in floor.items()}}

    def at_once(self) -> dict[str, Any]:
        """Twenty clone-uploads at once in this process, and one alone."""
        names = [f'bench-many-{number}' for number in range(20)]
        for name in names:
            self.fast.volumes.create(model.VolumeSpec(name, model.GIB))
        one, many, floor = [], [], []
        for _ in range(max(3, self.rounds // 2)):
            one.append(self._timed_uploads(names[:1]))
            many.append(self._timed_uploads(names))
            floor.append(self._timed_floors(names))
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(self.fast.volumes.delete, names))
        return {'one_seconds': round(statistics.median(one), 3),
                'twenty_seconds': round(statistics.median(many), 3),
                'ratio': round(statistics.median(many)
                               / statistics.median(one), 3),
                'floor_of_twenty_seconds': round(statistics.median(floor), 3),
                'target': 'at most 1.5'}

    def clone_create(self) -> dict[str, Any]:
        """Create by clone beside the bare clone and resize."""
        image_id = self._keep_upload()
        ours, floor, whole = [], [], []
        for _ in range(self.rounds * 3):
            floor.append(self.floors.clone_create(image_id, 4 * model.GIB))
            name = f'bench-{uuid.uuid4()}'
            started = time.monotonic()
            result = self.fast.images.create(
                model.VolumeSpec(name, 4 * model.GIB), image_id)
            whole.append(time.monotonic() - started)
            ours.append(result.seconds)
            self.fast.volumes.delete(name)
        self.glance.delete_image(image_id)
        return {'flow_seconds': round(statistics.median(ours), 4),
                'floor_seconds': round(statistics.median(floor), 4),
                'with_facts_seconds': round(statistics.median(whole), 4),
                'ratio': round(statistics.median(ours)
                               / statistics.median(floor), 3),
                'ratio_with_facts': round(statistics.median(whole)
                                          / statistics.median(floor), 3),
                'target': 'at most 1.15'}

    def chunked_upload(self) -> dict[str, Any]:
        """Upload through Glance beside what Glance takes from memory."""
        name = '4 GiB full'
        size_bytes = 4 * model.GIB
        self.fast.volumes.create(model.VolumeSpec(_name(name), size_bytes))
        self._fill(_name(name), size_bytes)
        ours, memory = [], []
        for _ in range(max(2, self.rounds // 3)):
            memory.append(self.floors.upload_from_memory(size_bytes))
            ours.append(self._upload(self.plain, name))
        self.fast.volumes.delete(_name(name))
        return {'volume': name,
                'seconds': round(statistics.median(ours), 2),
                'from_memory_seconds': round(statistics.median(memory), 2),
                'mib_per_second': round(4096 / statistics.median(ours)),
                'from_memory_mib_per_second': round(
                    4096 / statistics.median(memory)),
                'ratio': round(statistics.median(memory)
                               / statistics.median(ours), 3),
                'target': 'at least 0.85'}

    def memory(self) -> dict[str, Any]:
        """How much the process grows during a transfer, by size."""
        found = {}
        for name, size_gib in (('1 GiB', 1), ('4 GiB', 4)):
            volume = f'bench-memory-{size_gib}'
            self.fast.volumes.create(
                model.VolumeSpec(volume, size_gib * model.GIB))
            self._fill(volume, size_gib * model.GIB // 2)
            image_id, upload = self._in_child('upload', volume)
            _, download = self._in_child('download', f'{volume}-2', image_id)
            found[name] = {'upload': upload, 'download': download}
            self.glance.delete_image(image_id)
            self.fast.volumes.delete(f'{volume}-2')
            self.fast.volumes.delete(volume)
        return {'grown_mib': found, 'target': 'at most 128'}

    def secure_hash(self) -> dict[str, Any]:
        """What Glance's background hash costs when it is on."""
        self.sandbox.configure_glance({'DEFAULT': {'do_secure_hash': 'true'}})
        volume = model.VolumeSpec(_name('1 GiB full'))
        started = time.monotonic()
        result = self.fast.images.upload(volume, ImageRequest('hashed'))
        active = time.monotonic() - started
        image_id = str(result.values['image_id'])
        while not self.glance.get_image(image_id).os_hash_value:
            time.sleep(0.1)
        hashed = time.monotonic() - started
        self.glance.delete_image(image_id)
        self.sandbox.configure_glance({})
        return {'image': '1 GiB full', 'active_seconds': round(active, 2),
                'hashed_seconds': round(hashed, 2),
                'mib_per_second': round(1024 / (hashed - active))}

    def _in_child(self, *arguments: str) -> tuple[str, float]:
        child = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'tests.benchmark.cost',
             *arguments],
            env={**os.environ, **self.sandbox.env('member')},
            capture_output=True, text=True, check=True)
        found = json.loads(child.stdout)
        return found['image_id'], found['grown_mib']

    # -- helpers -------------------------------------------------------------
    def _upload(self, driver: RBDDriver, name: str) -> float:
        volume = model.VolumeSpec(_name(name))
        started = time.monotonic()
        result = driver.images.upload(volume, ImageRequest('bench'))
        seconds = time.monotonic() - started
        wanted = 'clone' if driver is self.fast else 'upload'
        assert result.strategy == wanted, result.sentence
        self.glance.delete_image(str(result.values['image_id']))
        return seconds

    def _keep_upload(self) -> str:
        result = self.fast.images.upload(
            model.VolumeSpec(_name('1 GiB full')), ImageRequest('bench'))
        return str(result.values['image_id'])

    def _timed_uploads(self, names: list[str]) -> float:
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            started = time.monotonic()
            results = list(pool.map(
                lambda name: self.fast.images.upload(
                    model.VolumeSpec(name), ImageRequest('bench')), names))
            seconds = time.monotonic() - started
            for result in results:
                assert result.strategy == 'clone', result.sentence
            list(pool.map(self.glance.delete_image, [
                str(result.values['image_id']) for result in results]))
        return seconds

    def _timed_floors(self, names: list[str]) -> float:
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            started = time.monotonic()
            made = list(pool.map(self.floors.clone_upload, names))
            seconds = time.monotonic() - started
            list(pool.map(self.floors.delete_image,
                          [image_id for _, image_id in made]))
        return seconds

    def _make_volume(self, name: str, size_gib: int, is_full: bool) -> None:
        self.fast.volumes.create(
            model.VolumeSpec(_name(name), size_gib * model.GIB))
        self._fill(_name(name), model.GIB if is_full else 64 * model.MIB)

    def _fill(self, volume: str, size_bytes: int) -> None:
        block = os.urandom(4 * model.MIB)
        pool = self.fast.cluster.pool('volumes')
        with pool.open(volume) as image:
            for offset in range(0, size_bytes, len(block)):
                image.write(block, offset)
            image.flush()


def _name(size: str) -> str:
    return 'bench-' + size.replace(' ', '-')


def _rounded(times: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in times.items()}


def describe_machine() -> dict[str, Any]:
    cpuinfo = pathlib.Path('/proc/cpuinfo').read_text()
    model_name = next((line.partition(':')[2].strip()
                       for line in cpuinfo.splitlines()
                       if line.startswith('model name')), 'unknown')
    return {'cores': os.cpu_count(), 'processor': model_name}
