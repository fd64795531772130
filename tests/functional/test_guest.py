# SPDX-License-Identifier: Apache-2.0
"""A guest really boots: from an image, and from what it has made of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional import guest
from tests.functional.content import GIB
from tests.functional.house import House
from tests.functional.linux import Linux
from volume_rbd import compute
from volume_rbd.compute import disks, xml


@pytest.fixture(scope='session')
def linux() -> Linux:
    return Linux()


@pytest.fixture
def agent(house: House) -> Iterator[compute.ComputeAgent]:
    """A compute node's, whose user makes images of disks directly: then it
    may write where images are."""
    house.sandbox.set_caps(nova_writes_images=True)
    try:
        with compute.ComputeAgent(
                [house.config()], environ=house.sandbox.env('member')) as made:
            made.driver.cluster.close()  # caps are those of a new connection
            before = made.disks.names()
            yield made
            made.disks.clean_up(lambda name: name not in before)
            made.driver.cluster.close()
    finally:
        house.sandbox.set_caps(nova_writes_images=False)


@pytest.fixture
def raw(linux: Linux, tmp_path: Path) -> Path:
    """The file of a disk that boots, with one word in it."""
    path = tmp_path / 'raw'
    guest.make_disk(path, linux, 'image')
    return path


def test_a_guest_from_an_image_and_back(
        house: House, agent: compute.ComputeAgent, linux: Linux, raw: Path
        ) -> None:
    conf = house.cluster.conf
    image = house.member.make(raw.read_bytes())
    before = house.cluster.digest('images', image, 'snap')

    # A disk that is a clone of the image, and a guest that writes to it.
    first = disks.get_name(str(uuid.uuid4()), 'disk')
    assert agent.disks.create(first, image, GIB).strategy == 'clone'
    assert house.cluster.parent('vms', first) == f'images/{image}'

    assert guest.boot(linux, guest.by_ceph_conf(conf, 'nova', 'vms', first),
                      'first') == ['image']

    assert read_words(house, raw, 'vms', first) == ['image', 'first']
    assert read_words(house, raw, 'images', image, 'snap') == ['image']
    assert house.cluster.digest('images', image, 'snap') == before

    # An image of that disk, which needs neither the disk nor its image.
    made = agent.disks.snapshot_to_image(first, 'from a guest')
    snapshot = made.values['image_id']
    assert made.strategy == 'clone'
    assert house.member.get(snapshot)['disk_format'] == 'raw'
    assert house.cluster.parent('images', snapshot) is None
    agent.disks.delete(first)
    house.member.delete(image)

    # A second guest, which goes on where the first one was.
    second = disks.get_name(str(uuid.uuid4()), 'disk')
    assert agent.disks.create(second, snapshot, GIB).strategy == 'clone'
    assert house.cluster.parent('vms', second) == f'images/{snapshot}'

    assert guest.boot(linux, guest.by_ceph_conf(conf, 'nova', 'vms', second),
                      'second') == ['image', 'first']

    assert read_words(house, raw, 'vms', second) == [
        'image', 'first', 'second']


def test_a_guest_finds_its_disk_by_what_libvirt_is_told(
        house: House, agent: compute.ComputeAgent, linux: Linux, raw: Path
        ) -> None:
    image = house.member.make(raw.read_bytes())
    disk = disks.get_name(str(uuid.uuid4()), 'disk')
    agent.disks.create(disk, image, GIB)
    found = agent.driver.connections.get(disk)
    domain_xml = xml.build_network_disk(
        found.name, zip(found.hosts, found.ports, strict=True), 'vda',
        user=found.auth_username, secret_uuid=found.secret_uuid)

    assert guest.boot(
        linux, guest.by_domain_xml(domain_xml), 'first',
        keyring=Path(house.cluster.conf).with_name('ceph.client.nova.keyring')
        ) == ['image']

    assert read_words(house, raw, 'vms', disk) == ['image', 'first']


def read_words(house: House, path: Path, pool: str, name: str,
               snapshot: str | None = None) -> list[str]:
    """Those in an rbd_image; its file system is copied to *path*."""
    with house.cluster.open(pool, name, snapshot, read_only=True) as opened:
        path.write_bytes(opened.read(0, guest.DISK_BYTES))
    return guest.read_words(path)
