# SPDX-License-Identifier: Apache-2.0
"""How long libvirt's storage pools take, by how many disks are in them."""

from __future__ import annotations

import contextlib
import pathlib
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from tests.functional import libvirtd
from volume_rbd import compute, model
from volume_rbd.ceph import connection
from volume_rbd.compute.pools.rbd_disks import RBDDisks
from volume_rbd.sandbox import Sandbox
from volume_rbd.sandbox.files import render_ini

#: How many disks there are: a look-up must take no longer with the last.
COUNTS = (10, 1000)
_LOOK_UPS = 20


def rbd_look_ups(sandbox: Sandbox, rounds: int) -> dict[str, Any]:
    """Pools of type rbd, on a libvirtd of its own.

    ``look_up``: one disk. ``look_up_while_refreshed``: while libvirt looks at
    them all. ``by_libvirt``: whether libvirt knows one, by name. ``create``: a
    blank disk, made and deleted. ``refresh``: what libvirt does when it is
    told, and what nobody waits for.

    :param rounds: of each; the median counts.
    """
    with tempfile.TemporaryDirectory(prefix='libvirtd-') as folder:
        place = pathlib.Path(folder)
        (place / 'l').mkdir()
        with libvirtd.running(place / 'l') as daemon, compute.ComputeAgent(
                [_write_config(sandbox, daemon.uri, place)],
                environ=sandbox.env('member')) as agent:
            agent.pools.ensure()
            return _measure(agent, rounds)


def _write_config(sandbox: Sandbox, uri: str, folder: pathlib.Path) -> str:
    path = folder / 'nova.conf'
    path.write_text(render_ini({
        'DEFAULT': {'instances_path': folder / 'instances'},
        'libvirt': {
            'images_type': 'rbd', 'images_rbd_pool': 'vms',
            'rbd_user': 'nova', 'connection_uri': uri,
            'images_rbd_ceph_conf': sandbox.env('member')['CEPH_CONF']}}))
    return str(path)


def _measure(agent: compute.ComputeAgent, rounds: int) -> dict[str, Any]:
    disks = agent.pools.disks
    assert isinstance(disks, RBDDisks)
    # Made by librbd alone: a thousand jobs are not what is measured.
    pool = connection.connect(agent.config.disks.cluster).pool('vms')
    guests: list[str] = []
    seconds: dict[str, dict[str, float]] = {
        what: {} for what in ('refresh', 'look_up', 'by_libvirt',
                              'look_up_while_refreshed', 'create')}
    try:
        for count in COUNTS:
            while len(guests) < count:
                guests.append(str(uuid.uuid4()))
                pool.create(f'{guests[-1]}_disk', model.GIB)
            key = str(count)
            seconds['refresh'][key] = _time(disks.pool.refresh, rounds)
            seconds['look_up'][key] = _time(
                lambda: _look_up(disks, guests), rounds) / _LOOK_UPS
            seconds['by_libvirt'][key] = _time(
                lambda: disks.pool.knows(f'{guests[-1]}_disk'), rounds)
            with _refreshed(disks):
                seconds['look_up_while_refreshed'][key] = _time(
                    lambda: _look_up(disks, guests), rounds) / _LOOK_UPS
            seconds['create'][key] = _time(
                lambda: _create_and_delete(disks), rounds)
            disks.settle()
    finally:
        for guest in guests:
            pool.remove(f'{guest}_disk')
    few, many = map(str, (COUNTS[0], COUNTS[-1]))
    return {'seconds': {what: {count: round(found, 4)
                               for count, found in times.items()}
                        for what, times in seconds.items()},
            'ratio': {what: round(times[many] / times[few], 2)
                      for what, times in seconds.items()},
            'target': 'all but refresh about 1: flat'}


def _look_up(disks: RBDDisks, guests: list[str]) -> None:
    for number in range(_LOOK_UPS):
        # All over the pool.
        guest = guests[number * len(guests) // _LOOK_UPS]
        assert disks.get(guest, 'disk')


@contextlib.contextmanager
def _refreshed(disks: RBDDisks) -> Iterator[None]:
    """libvirt looks at all of them, in the meantime."""
    thread = threading.Thread(target=disks.pool.refresh)
    thread.start()
    time.sleep(0.1)
    try:
        yield
    finally:
        thread.join()


def _create_and_delete(disks: RBDDisks) -> None:
    guest = str(uuid.uuid4())
    disks.create(guest, 'disk', model.GIB)
    disks.delete(guest, 'disk')


def _time(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.monotonic()
        work()
        times.append(time.monotonic() - started)
    return statistics.median(times)
