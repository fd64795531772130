# SPDX-License-Identifier: Apache-2.0
"""The sandbox itself."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from tests.functional import content
from tests.functional.cluster import Cluster
from tests.functional.content import MIB
from tests.functional.house import House
from volume_rbd.sandbox import Sandbox


def test_two_stand_side_by_side_with_different_fsids(
        house: House, other_cluster: Sandbox) -> None:
    mine, theirs = house.sandbox.status(), other_cluster.status()
    assert mine.is_up
    assert theirs.is_up
    assert mine.fsid != theirs.fsid
    assert mine.folder != theirs.folder
    pids = [process.pid for status in (mine, theirs)
            for process in status.processes]
    assert len(set(pids)) == len(pids)


def test_a_killed_osd_comes_back_with_all_its_data(
        other_cluster: Sandbox) -> None:
    conf = other_cluster.env()['CEPH_CONF']
    data = content.sparse_bytes(4 * MIB)
    with contextlib.closing(Cluster(conf)) as cluster:
        cluster.make('volumes', 'kept', data)
        other_cluster.signal_process('osd', signal.SIGKILL)
        assert other_cluster.status().state == 'partly up'

        assert other_cluster.up().is_up

        assert cluster.digest('volumes', 'kept') == \
            content.digest_of_bytes(data)
        cluster.remove('volumes', 'kept')


def test_down_leaves_no_process_and_up_finds_the_data(
        other_cluster: Sandbox) -> None:
    conf = other_cluster.env()['CEPH_CONF']
    data = content.sparse_bytes(4 * MIB)
    with contextlib.closing(Cluster(conf)) as cluster:
        cluster.make('volumes', 'kept', data)
    before = other_cluster.status()

    other_cluster.down()

    status = other_cluster.status()
    assert status.state == 'down'
    assert processes_of(other_cluster.folder) == []
    other_cluster.down()  # twice is no error
    after = other_cluster.up()
    assert after.fsid == before.fsid
    with contextlib.closing(Cluster(conf)) as cluster:
        assert cluster.digest('volumes', 'kept') == \
            content.digest_of_bytes(data)
        cluster.remove('volumes', 'kept')


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):
            text = path.read_bytes().replace(b'\0', b' ').decode()
            if str(folder) in text:
                found.append(text)
    return found
