# SPDX-License-Identifier: Apache-2.0
"""The cases through Cinder's API: ours and the stock driver in turns.

Times are those of a user: from the request until what was asked for can be
used, as the API shows it.
"""

from __future__ import annotations

import concurrent.futures
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from tests.benchmark.heart import Heart, socket_of
from tests.benchmark.service import BACKENDS, Case, Service


class CinderBench(Service):
    """Uploads, everyday operations, deletes, many at once."""

    def cases(self) -> list[Case]:
        return [self.cinder_upload, self.cinder_rows, self.cinder_delete,
                self.cinder_at_once, self.cinder_heart]

    # -- the cases -----------------------------------------------------------
    def cinder_upload(self) -> dict[str, Any]:
        """The table of the seed: request until active, by size, full."""
        found: dict[str, dict[str, float]] = {}
        for size_gib in (2, 3, 5):
            volumes = {backend: self.make_full(backend, size_gib)
                       for backend in BACKENDS}
            times = self.in_turns(
                lambda backend, volumes=volumes: self.upload(
                    volumes[backend]), max(1, self.rounds // 2))
            self.cinder.delete(*volumes.values())
            found[f'{size_gib} GiB'] = {
                **times, 'ratio': round(times['stock'] / times['on'], 1)}
        flat = [row['on'] for row in found.values()]
        return {'seconds': found,
                'spread_of_sizes': round(max(flat) / min(flat), 2),
                'target': 'at least 4, 6 and 9 times, flat'}

    def cinder_rows(self) -> dict[str, Any]:
        """Not slower than the stock driver in any row."""
        image = self.make_image()
        sources = {backend: self.make_full(backend, 1)
                   for backend in BACKENDS}
        ways: dict[str, Callable[[str], str]] = {
            'create': lambda backend: self.create(backend),
            'create from image': lambda backend: self.create(
                backend, imageRef=image),
            'clone': lambda backend: self.create(
                backend, source_volid=sources[backend])}
        rows: dict[str, dict[str, float]] = {}
        made: dict[str, list[str]] = {backend: [] for backend in BACKENDS}
        for name, make in ways.items():
            def run(backend: str, make: Any = make) -> float:
                started = time.monotonic()
                made[backend].append(make(backend))
                return time.monotonic() - started
            rows[name] = self.in_turns(run, self.rounds)
        rows['snapshot'] = self.in_turns(
            lambda backend: self.snapshot(sources[backend]), self.rounds)
        rows['delete'] = self.in_turns(
            lambda backend: self.timed_delete(made[backend].pop()),
            self.rounds)
        for backend in BACKENDS:
            self.cinder.delete(*made[backend])
            # The stock driver finds it busy as long as there are clones.
            self.cinder.delete(sources[backend])
        self.glance.delete(image)
        return {'seconds': rows, 'ratio': {
            name: round(row['stock'] / row['on'], 2)
            for name, row in rows.items()}, 'target': 'at least 1.0 each'}

    def cinder_delete(self) -> dict[str, Any]:
        """A delete returns at once, whatever there is to remove."""
        found: dict[str, dict[str, float]] = {}
        for name, size_gib, filled_gib in (('10 GiB full', 10, 10),
                                           ('1 TiB sparse', 1024, 1)):
            found[name] = self.in_turns(
                lambda backend, size=size_gib, filled=filled_gib:
                    self.timed_delete(self.make_full(
                        backend, size, filled)), 1)
            time.sleep(5)
        return {'seconds': found, 'target': 'on: under 1'}

    def cinder_at_once(self) -> dict[str, Any]:
        """Twenty creates from one image, twenty uploads by clone."""
        image = self.make_image()
        creates = self.in_turns(
            lambda backend: self.twenty(lambda: self.create(
                backend, imageRef=image)), max(1, self.rounds // 2))
        self.glance.delete(image)
        volumes = [self.make_full('on', 1, 0) for _ in range(20)]
        one, many = [], []
        for _ in range(max(1, self.rounds // 2)):
            one.append(self.upload(volumes[0]))
            many.append(self.timed_together(
                [lambda volume=volume: self.upload(volume)
                 for volume in volumes]))
        self.cinder.delete(*volumes)
        return {'twenty_creates_seconds': creates,
                'creates_ratio': round(creates['stock'] / creates['on'], 2),
                'one_upload_seconds': round(statistics.median(one), 2),
                'twenty_uploads_seconds': round(statistics.median(many), 2),
                'uploads_ratio': round(statistics.median(many)
                                       / statistics.median(one), 2),
                'target': 'creates at least 1.0, uploads at most 2'}

    def cinder_heart(self) -> dict[str, Any]:
        """The service answers while four chunked uploads run."""
        folder = pathlib.Path(self.sandbox.folder)
        self.sandbox.configure_cinder({'DEFAULT': {
            'backdoor_socket': str(folder / 'backdoor-{pid}.sock')}})
        volumes = [self.make_full('off', 4) for _ in range(4)]
        idle = statistics.median(
            self.timed_create('on') for _ in range(5))
        with Heart(socket_of(folder, 'off')) as heart, \
                concurrent.futures.ThreadPoolExecutor(4) as pool:
            uploads = [pool.submit(self.upload, volume)
                       for volume in volumes]
            time.sleep(2)
            busy = []
            while not any(upload.done() for upload in uploads):
                busy.append(self.timed_create('on'))
            for upload in uploads:
                upload.result()
        self.cinder.delete(*volumes)
        self.sandbox.configure_cinder({})
        return {'longest_gap_seconds': round(heart.longest_gap_s, 3),
                'beats': heart.beats,
                'create_idle_seconds': round(idle, 2),
                'create_busy_seconds': round(statistics.median(busy), 2),
                'creates': len(busy),
                'ratio': round(statistics.median(busy) / idle, 2),
                'target': 'gap at most 0.5, ratio at most 1.5'}
