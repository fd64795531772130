# SPDX-License-Identifier: Apache-2.0
"""What every functional test stands on."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # Libraries about each other, while they are imported.
    warnings.simplefilter('ignore')
    from tests.functional.house import House
from tests import watchdog
from tests.functional import libvirtd as libvirt_daemon
from tests.functional.desk import Desk
from tests.functional.hypervisor import Hypervisor
from tests.functional.libvirtd import Libvirtd
from tests.functional.proxy import Proxy
from volume_rbd import exception
from volume_rbd.sandbox import Options, Sandbox


@pytest.fixture(scope='session')
def whole_house(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
                ) -> Iterator[House]:
    made = House(sandbox, tmp_path_factory.mktemp('config'))
    with contextlib.closing(made):
        yield made


@pytest.fixture
def house(whole_house: House) -> Iterator[House]:
    """The sandbox; the test must leave nothing that its owner cannot delete,
    and after that nothing at all."""
    before = whole_house.describe()
    yield whole_house
    try:
        whole_house.clean_up(before)
        whole_house.check_same(before)
    except (AssertionError, exception.VolumeRBDError):
        whole_house.scrub(before)
        raise


@pytest.fixture
def desk(house: House) -> Iterator[Desk]:
    """Commands, and no job that is left by them."""
    made = Desk(house)
    yield made
    made.ledger.check_no_job()


@pytest.fixture
def proxy(house: House) -> Iterator[Proxy]:
    """A Glance that can be slow, broken or away."""
    with Proxy(house.sandbox.env()['GLANCE']) as made:
        yield made


@pytest.fixture
def libvirtd() -> Iterator[Libvirtd]:
    """One without pools; its folder is not the test's, whose path is too
    long for a socket."""
    with tempfile.TemporaryDirectory(prefix='libvirtd-') as folder, \
            libvirt_daemon.running(Path(folder)) as made:
        yield made


@pytest.fixture
def hypervisor(whole_house: House, libvirtd: Libvirtd, tmp_path: Path
               ) -> Iterator[Hypervisor]:
    """A compute node: its libvirtd, its folders and its agents. Whoever has
    disks in RBD asks for *house* first."""
    with contextlib.closing(Hypervisor(whole_house, libvirtd, tmp_path)
                            ) as made:
        yield made


@pytest.fixture(scope='session')
def other_cluster(tmp_path_factory: pytest.TempPathFactory
                  ) -> Iterator[Sandbox]:
    """A second cluster, with another fsid."""
    with Sandbox('second', tmp_path_factory.mktemp('second'),
                 options=Options(ceph_only=True)) as made, \
            watchdog.guard(made):
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 8 MiB."""
    folder = tmp_path / 'small'
    folder.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs',
                    folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(['umount', folder], check=True)
