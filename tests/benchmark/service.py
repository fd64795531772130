# SPDX-License-Identifier: Apache-2.0
"""What the cases through Cinder share: its API, and things to measure on."""

from __future__ import annotations

import concurrent.futures
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from cinderclient import exceptions

from tests.e2e.cinder import CinderAPI
from tests.functional.api import GlanceAPI
from volume_rbd import model, opts
from volume_rbd.ceph import connection
from volume_rbd.ceph.interface import Image
from volume_rbd.sandbox import Sandbox

_POLL_S = 0.05
_TIMEOUT_S = 900.0
POOLS = {'stock': 'volumes-stock', 'off': 'volumes-off', 'on': 'volumes'}
BACKENDS = ('stock', 'on')


#: One thing to measure; what it gives back is kept as JSON.
Case = Callable[[], dict[str, Any]]


def in_turns(run: Callable[[str], float], rounds: int,
             ways: Sequence[str] = BACKENDS) -> dict[str, float]:
    """Each round begins with another way.

    :returns: way -> median of what *run* says of it.
    """
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        first = number % len(ways)
        for way in (*ways[first:], *ways[:first]):
            times[way].append(run(way))
    return {way: round(statistics.median(found), 3)
            for way, found in times.items()}


class Service:
    """:param rounds: how often each thing is timed."""

    def __init__(self, sandbox: Sandbox, rounds: int) -> None:
        self.sandbox = sandbox
        self.rounds = rounds
        member = sandbox.env('member')
        self.cinder = CinderAPI(member)
        self.glance = GlanceAPI(member)
        self.cluster = connection.connect(opts.ClusterConfig(
            user='cinder', ceph_conf=member['CEPH_CONF']))

    def close(self) -> None:
        """Nothing that would outlive the sandbox."""

    in_turns = staticmethod(in_turns)

    def create(self, backend: str, size_gib: int = 1, **fields: Any) -> str:
        volume = self.cinder.client.volumes.create(
            size_gib, volume_type=backend, **fields)
        self.wait(lambda: self.cinder.status(volume.id), 'available')
        return str(volume.id)

    def timed_create(self, backend: str) -> float:
        started = time.monotonic()
        volume = self.create(backend)
        seconds = time.monotonic() - started
        self.cinder.delete(volume)
        return seconds

    def make_full(self, backend: str, size_gib: int,
                   filled_gib: int | None = None) -> str:
        volume = self.create(backend, size_gib)
        filled = size_gib if filled_gib is None else filled_gib
        pool = self.cluster.pool(POOLS[backend])
        with pool.open(f'volume-{volume}') as image:
            fill(image, size_gib * model.GIB, filled * model.GIB)
        return volume

    def make_image(self) -> str:
        return self.glance.make(os.urandom(256 * model.MIB), 'rbd')

    def upload(self, volume: str,
               then: Callable[[str], None] | None = None) -> float:
        """:param then: is handed the image before it is deleted."""
        started = time.monotonic()
        image = self.cinder.upload(volume)
        self.wait(lambda: self.glance.status(image), 'active')
        seconds = time.monotonic() - started
        self.wait(lambda: self.cinder.status(volume), 'available')
        if then:
            then(image)
        self.glance.delete(image)
        return seconds

    def snapshot(self, volume: str) -> float:
        started = time.monotonic()
        snapshot = self.cinder.create_snapshot(volume)
        seconds = time.monotonic() - started
        self.cinder.delete_snapshot(snapshot)
        return seconds

    def timed_delete(self, volume: str) -> float:
        started = time.monotonic()
        self.cinder.client.volumes.delete(volume)
        self.wait(lambda: self.status_or_gone(volume), None)
        return time.monotonic() - started

    def status_or_gone(self, volume: str) -> str | None:
        try:
            return str(self.cinder.client.volumes.get(volume).status)
        except exceptions.NotFound:
            return None

    def twenty(self, make: Callable[[], str]) -> float:
        volumes: list[str] = []
        seconds = self.timed_together(
            [lambda: volumes.append(make())] * 20)
        self.cinder.delete(*volumes)
        return seconds

    def timed_together(self, works: Sequence[Callable[[], object]]
                        ) -> float:
        with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
            started = time.monotonic()
            for future in [pool.submit(work) for work in works]:
                future.result()
            return time.monotonic() - started

    def wait(self, get: Callable[[], str | None], wanted: str | None
              ) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while (found := get()) != wanted:
            assert time.monotonic() < deadline, f'{found}, not {wanted}'
            assert not (found or '').startswith('error'), found
            time.sleep(_POLL_S)


def fill(image: Image, size_bytes: int, filled_bytes: int) -> None:
    """Random data, in runs of 64 MiB all over the image."""
    block = os.urandom(4 * model.MIB)
    run = 16 * len(block)
    count = filled_bytes // run
    for number in range(count):
        start = number * size_bytes // count // len(block) * len(block)
        for offset in range(start, start + run, len(block)):
            image.write(block, offset)
    image.flush()
