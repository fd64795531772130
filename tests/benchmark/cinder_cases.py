# SPDX-License-Identifier: Apache-2.0
"""The cases through Cinder's API: ours and the stock driver in turns.

Times are those of a user: from the request until what was asked for can be
used, as the API shows it.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from cinderclient import exceptions

from tests.benchmark.heart import Heart, socket_of
from tests.e2e.cinder import CinderAPI
from tests.functional.api import GlanceAPI
from volume_rbd import model, opts
from volume_rbd.ceph import connection
from volume_rbd.sandbox import Sandbox

_POLL_S = 0.05
_TIMEOUT_S = 900.0
POOLS = {'stock': 'volumes-stock', 'off': 'volumes-off', 'on': 'volumes'}
BACKENDS = ('stock', 'on')


class CinderBench:
    """:param rounds: how often each thing is timed."""

    def __init__(self, sandbox: Sandbox, rounds: int) -> None:
        self.sandbox = sandbox
        self.rounds = rounds
        member = sandbox.env('member')
        self.cinder = CinderAPI(member)
        self.glance = GlanceAPI(member)
        self.cluster = connection.connect(opts.ClusterConfig(
            user='cinder', ceph_conf=member['CEPH_CONF']))

    def run(self, only: str | None = None) -> dict[str, Any]:
        """:param only: the name of a single case."""
        report: dict[str, Any] = {}
        for case in (self.cinder_upload, self.cinder_rows,
                     self.cinder_delete, self.cinder_at_once,
                     self.cinder_heart):
            if only not in (None, case.__name__):
                continue
            sys.stderr.write(f'{case.__name__}\n')
            report[case.__name__] = case()
            sys.stderr.write(json.dumps(report[case.__name__]) + '\n')
        return report

    # -- the cases -----------------------------------------------------------
    def cinder_upload(self) -> dict[str, Any]:
        """The table of the seed: request until active, by size, full."""
        found: dict[str, dict[str, float]] = {}
        for size_gib in (2, 3, 5):
            volumes = {backend: self._make_full(backend, size_gib)
                       for backend in BACKENDS}
            times = self._in_turns(
                lambda backend, volumes=volumes: self._upload(
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
        image = self._make_image()
        sources = {backend: self._make_full(backend, 1)
                   for backend in BACKENDS}
        ways: dict[str, Callable[[str], str]] = {
            'create': lambda backend: self._create(backend),
            'create from image': lambda backend: self._create(
                backend, imageRef=image),
            'clone': lambda backend: self._create(
                backend, source_volid=sources[backend])}
        rows: dict[str, dict[str, float]] = {}
        made: dict[str, list[str]] = {backend: [] for backend in BACKENDS}
        for name, make in ways.items():
            def run(backend: str, make: Any = make) -> float:
                started = time.monotonic()
                made[backend].append(make(backend))
                return time.monotonic() - started
            rows[name] = self._in_turns(run, self.rounds)
        rows['snapshot'] = self._in_turns(
            lambda backend: self._snapshot(sources[backend]), self.rounds)
        rows['delete'] = self._in_turns(
            lambda backend: self._timed_delete(made[backend].pop()),
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
            found[name] = self._in_turns(
                lambda backend, size=size_gib, filled=filled_gib:
                    self._timed_delete(self._make_full(
                        backend, size, filled)), 1)
            time.sleep(5)
        return {'seconds': found, 'target': 'on: under 1'}

    def cinder_at_once(self) -> dict[str, Any]:
        """Twenty creates from one image, twenty uploads by clone."""
        image = self._make_image()
        creates = self._in_turns(
            lambda backend: self._twenty(lambda: self._create(
                backend, imageRef=image)), max(1, self.rounds // 2))
        self.glance.delete(image)
        volumes = [self._make_full('on', 1, 0) for _ in range(20)]
        one, many = [], []
        for _ in range(max(1, self.rounds // 2)):
            one.append(self._upload(volumes[0]))
            many.append(self._timed_together(
                [lambda volume=volume: self._upload(volume)
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
        volumes = [self._make_full('off', 4) for _ in range(4)]
        idle = statistics.median(
            self._timed_create('on') for _ in range(5))
        with Heart(socket_of(folder, 'off')) as heart, \
                concurrent.futures.ThreadPoolExecutor(4) as pool:
            uploads = [pool.submit(self._upload, volume)
                       for volume in volumes]
            time.sleep(2)
            busy = []
            while not any(upload.done() for upload in uploads):
                busy.append(self._timed_create('on'))
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

    # -- helpers -------------------------------------------------------------
    def _in_turns(self, run: Callable[[str], float], rounds: int
                  ) -> dict[str, float]:
        times: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
        for _ in range(rounds):
            for backend in BACKENDS:
                times[backend].append(run(backend))
        return {backend: round(statistics.median(found), 2)
                for backend, found in times.items()}

    def _create(self, backend: str, size_gib: int = 1, **fields: Any) -> str:
        volume = self.cinder.client.volumes.create(
            size_gib, volume_type=backend, **fields)
        self._wait(lambda: self.cinder.status(volume.id), 'available')
        return str(volume.id)

    def _timed_create(self, backend: str) -> float:
        started = time.monotonic()
        volume = self._create(backend)
        seconds = time.monotonic() - started
        self.cinder.delete(volume)
        return seconds

    def _make_full(self, backend: str, size_gib: int,
                   filled_gib: int | None = None) -> str:
        volume = self._create(backend, size_gib)
        filled = size_gib if filled_gib is None else filled_gib
        block = os.urandom(4 * model.MIB)
        pool = self.cluster.pool(POOLS[backend])
        with pool.open(f'volume-{volume}') as image:
            for offset in range(0, filled * model.GIB, len(block)):
                image.write(block, offset)
            image.flush()
        return volume

    def _make_image(self) -> str:
        return self.glance.make(os.urandom(256 * model.MIB), 'rbd')

    def _upload(self, volume: str) -> float:
        started = time.monotonic()
        image = self.cinder.upload(volume)
        self._wait(lambda: self.glance.status(image), 'active')
        seconds = time.monotonic() - started
        self._wait(lambda: self.cinder.status(volume), 'available')
        self.glance.delete(image)
        return seconds

    def _snapshot(self, volume: str) -> float:
        started = time.monotonic()
        snapshot = self.cinder.create_snapshot(volume)
        seconds = time.monotonic() - started
        self.cinder.delete_snapshot(snapshot)
        return seconds

    def _timed_delete(self, volume: str) -> float:
        started = time.monotonic()
        self.cinder.client.volumes.delete(volume)
        self._wait(lambda: self._status_or_gone(volume), None)
        return time.monotonic() - started

    def _status_or_gone(self, volume: str) -> str | None:
        try:
            return str(self.cinder.client.volumes.get(volume).status)
        except exceptions.NotFound:
            return None

    def _twenty(self, make: Callable[[], str]) -> float:
        volumes: list[str] = []
        seconds = self._timed_together(
            [lambda: volumes.append(make())] * 20)
        self.cinder.delete(*volumes)
        return seconds

    def _timed_together(self, works: Sequence[Callable[[], object]]
                        ) -> float:
        with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
            started = time.monotonic()
            for future in [pool.submit(work) for work in works]:
                future.result()
            return time.monotonic() - started

    def _wait(self, get: Callable[[], str | None], wanted: str | None
              ) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while (found := get()) != wanted:
            assert time.monotonic() < deadline, f'{found}, not {wanted}'
            assert not (found or '').startswith('error'), found
            time.sleep(_POLL_S)
