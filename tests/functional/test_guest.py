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
from volume_rbd import compute, model
from volume_rbd.driver.images import ImageRequest
from volume_rbd.sandbox import caps


@pytest.fixture(scope='session')
def linux() -> Linux:
    return Linux()


@pytest.fixture
def agent(house: House) -> Iterator[compute.ComputeAgent]:
    """A compute node's, whose user makes images of disks directly: then it
    may write where images are."""
    house.cluster.ceph('auth', 'caps', 'client.nova', *caps.to_arguments({
        **caps.get_nova_caps(['volumes']),
        'osd': 'profile rbd pool=vms, profile rbd pool=images'}))
    before = house.cluster.names('vms')
    try:
        with compute.ComputeAgent(
                [house.config()], environ=house.sandbox.env('member')) as made:
            yield made
            for name in house.cluster.names('vms'):
                if name not in before:
                    made.driver.volumes.delete(name)
    finally:
        house.sandbox.set_caps()


@pytest.fixture
def raw(linux: Linux, tmp_path: Path) -> Path:
    """The file of a disk that boots, with one word in it."""
    path = tmp_path / 'raw'
    guest.make_disk(path, linux, 'image')
    return path


def test_a_guest_from_an_image_and_back(
        house: House, agent: compute.ComputeAgent, linux: Linux, raw: Path
        ) -> None:
    image = house.member.make(raw.read_bytes())
    before = house.cluster.digest('images', image, 'snap')

    # A disk that is a clone of the image, and a guest that writes to it.
    first = f'{uuid.uuid4()}_disk'
    result = agent.driver.images.create(
        model.VolumeSpec(first, GIB), image)
    assert result.strategy == 'clone'
    assert house.cluster.parent('vms', first) == f'images/{image}'

    assert guest.boot(linux, guest.by_ceph_conf(
        house.cluster.conf, 'nova', 'vms', first), 'first') == ['image']

    assert read_words(house, raw, 'vms', first) == ['image', 'first']
    assert read_words(house, raw, 'images', image, 'snap') == ['image']
    assert house.cluster.digest('images', image, 'snap') == before

    # An image of that disk, which does not need the disk any more.
    result = agent.driver.images.upload(
        model.VolumeSpec(first), ImageRequest(name='from a guest'))
    snapshot = result.values['image_id']
    assert result.strategy == 'clone'
    assert house.cluster.parent('images', snapshot) is None
    agent.driver.volumes.delete(first)
    house.member.delete(image)

    # A second guest, which goes on where the first one was.
    second = f'{uuid.uuid4()}_disk'
    result = agent.driver.images.create(
        model.VolumeSpec(second, GIB), snapshot)
    assert result.strategy == 'clone'
    assert house.cluster.parent('vms', second) == f'images/{snapshot}'

    assert guest.boot(linux, guest.by_ceph_conf(
        house.cluster.conf, 'nova', 'vms', second), 'second'
        ) == ['image', 'first']

    assert read_words(house, raw, 'vms', second) == [
        'image', 'first', 'second']


def read_words(house: House, path: Path, pool: str, name: str,
               snapshot: str | None = None) -> list[str]:
    """Those in an rbd_image; its file system is copied to *path*."""
    with house.cluster.open(pool, name, snapshot, read_only=True) as opened:
        path.write_bytes(opened.read(0, guest.DISK_BYTES))
    return guest.read_words(path)
