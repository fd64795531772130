# SPDX-License-Identifier: Apache-2.0
"""Cinder without eventlet: the same service on native threads.

The last of these tests in order: Cinder is brought up anew for it, and in
the mode of the run after it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.faults import POOLS, Fleet, wait_until
from tests.functional import content
from volume_rbd.sandbox import Options, Sandbox


@pytest.fixture(scope='module')
def fleet(sandbox: Sandbox) -> Iterator[Fleet]:
    options = sandbox.status().options
    sandbox.up(Options.from_json({**options, 'cinder_eventlet': False}))
    made = Fleet(sandbox)
    yield made
    made.close()
    sandbox.up(Options.from_json(options))


@pytest.fixture(params=['on', 'off'])
def backend(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[str]:
    before = fleet.describe()
    yield str(request.param)
    fleet.check_nothing_left(before)


def test_volumes_snapshots_and_clones(backend: str, fleet: Fleet) -> None:
    member = fleet.member
    volume = member.create(backend)
    snapshot = member.create_snapshot(volume)
    clones = [member.create(backend, snapshot_id=snapshot),
              member.create(backend, source_volid=volume)]
    member.extend(volume, 2)
    member.delete(*clones)
    member.delete_snapshot(snapshot)
    member.delete(volume)


def test_an_image_and_back(backend: str, fleet: Fleet) -> None:
    member, glance = fleet.member, fleet.glance
    data = content.sparse_bytes(32 * content.MIB)
    image = glance.make(data, 'rbd')
    volume = member.create(backend, imageRef=image)
    name = f'volume-{volume}'
    assert fleet.cluster.digest(POOLS[backend], name) == (
        content.digest_of_bytes(data))
    again = member.upload(volume)
    glance.wait_for_status(again, 'active')
    member.wait_for_status(volume, 'available')
    assert glance.digest(again) == content.digest_of_bytes(data)
    glance.delete(again)
    member.delete(volume)
    glance.delete(image)


def test_others_are_answered_while_a_volume_is_uploaded(
        backend: str, fleet: Fleet) -> None:
    member = fleet.member
    source = fleet.full('off')
    image = member.upload(source)
    wait_until(lambda: fleet.own_snapshots(POOLS['off'], f'volume-{source}'))
    volume = member.create(backend)
    assert member.status(source) == 'uploading'
    member.wait_for_status(source, 'available')
    fleet.glance.wait_for_status(image, 'active')
    fleet.glance.delete(image)
    member.delete(source, volume)


def test_attach(backend: str, fleet: Fleet) -> None:
    volume = fleet.member.create(backend)
    with fleet.member.attached(volume) as connection:
        assert connection['name'] == f'{POOLS[backend]}/volume-{volume}'
        assert not connection.get('keyring')
    fleet.member.delete(volume)
