# SPDX-License-Identifier: Apache-2.0
"""What users and administrators ask of Cinder, on both of our backends.

``on`` has the clone optimisation, ``off`` has not; they have pools of their
own. After each test its pool is as it was before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from cinderclient import exceptions

from tests.e2e.cinder import CinderAPI
from tests.e2e.estate import Estate, limited_type, soon
from tests.functional import content
from volume_rbd import opts
from volume_rbd.ceph import connection
from volume_rbd.sandbox import Sandbox

POOLS = {'on': 'volumes', 'off': 'volumes-off'}
GIB = 1024 ** 3
EXCLUSIVE_LOCK = 4


@pytest.fixture(params=['on', 'off'])
def estate(request: pytest.FixtureRequest, sandbox: Sandbox
           ) -> Iterator[Estate]:
    yield from _estate(sandbox, request.param)


@pytest.fixture
def on(sandbox: Sandbox) -> Iterator[Estate]:
    yield from _estate(sandbox, 'on')


def _estate(sandbox: Sandbox, backend: str) -> Iterator[Estate]:
    made = Estate(sandbox, backend, POOLS[backend])
    before = set(made.names())
    yield made
    try:
        assert soon(lambda: set(made.names()) == before), made.names()
        assert soon(lambda: made.trash() == []), made.trash()
    finally:
        made.scrub()
        made.close()


# -- volumes and snapshots ---------------------------------------------------
def test_a_volume_has_its_size_and_can_be_extended(estate: Estate) -> None:
    volume = estate.volume()
    assert estate.cluster.size(estate.pool, estate.name(volume)) == GIB
    estate.cinder.extend(volume, 3)
    assert estate.cluster.size(estate.pool, estate.name(volume)) == 3 * GIB
    estate.cinder.delete(volume)


def test_copies_share_data_and_outlive_what_they_come_from(estate: Estate
                                                           ) -> None:
    """Deleted from the root on, which the stock driver cannot do."""
    source = estate.volume()
    snapshot = estate.snapshot(source)
    made = estate.from_snapshot(snapshot)
    clone = estate.clone(source, size_gib=2)
    assert estate.cluster.size(estate.pool, estate.name(clone)) == 2 * GIB
    assert estate.parent(made)
    estate.cinder.delete_snapshot(snapshot)
    estate.cinder.delete(source)
    estate.check(made)
    assert estate.cluster.parent(estate.pool, estate.name(clone))
    estate.cinder.delete(made, clone)


def test_a_chain_of_clones_never_grows_past_the_limit(on: Estate) -> None:
    chain = [on.volume()]
    for _ in range(7):
        chain.append(on.clone(chain[-1]))
        depth, name = 0, on.name(chain[-1])
        while parent := on.cluster.parent(on.pool, name):
            depth, name = depth + 1, parent.partition('/')[2].partition(
                '@')[0]
        assert depth <= 5
        on.check(chain[-1])
    on.cinder.delete(*chain)


def test_a_revert_brings_the_content_back(estate: Estate) -> None:
    volume = estate.volume()
    snapshot = estate.snapshot(volume)
    estate.write(volume)
    estate.cinder.revert(volume, snapshot)
    assert estate.digest(volume) == estate.digests[snapshot]
    estate.cinder.extend(volume, 2)
    with pytest.raises(exceptions.BadRequest):
        estate.cinder.revert(volume, snapshot)
    estate.cinder.delete_snapshot(snapshot)
    estate.cinder.delete(volume)


def test_a_revert_past_a_newer_snapshot_is_refused(on: Estate) -> None:
    volume = on.volume()
    older = on.snapshot(volume)
    time.sleep(1)  # Cinder tells them apart by their seconds.
    newer = on.snapshot(volume)
    with pytest.raises(exceptions.BadRequest):
        on.cinder.revert(volume, older)
    on.cinder.delete_snapshot(older, newer)
    on.cinder.delete(volume)


def test_extending_in_use_reaches_the_open_image(on: Estate) -> None:
    volume = on.volume()
    with on.cinder.attached(volume), on.cluster.open(
            on.pool, on.name(volume)) as image:
        on.cinder.client.volumes.extend(volume, 2)
        assert soon(lambda: image.size() == 2 * GIB)
    on.cinder.wait_for_status(volume, 'available')
    on.cinder.delete(volume)


def test_a_full_volume_is_gone_at_once(on: Estate) -> None:
    volume = on.cinder.create('on')
    block = content.random_bytes(4 * content.MIB)
    with on.cluster.open(on.pool, on.name(volume)) as image:
        for offset in range(0, GIB, len(block)):
            image.write(block, offset)
    started = time.monotonic()
    on.cinder.delete(volume)
    assert time.monotonic() - started < 2


def test_a_volume_in_use_by_somebody_is_given_back(on: Estate) -> None:
    volume = on.volume()
    with on.cluster.open(on.pool, on.name(volume)):
        on.cinder.client.volumes.delete(volume)
        on.cinder.wait_for_status(volume, 'available')
    on.check(volume)
    on.cinder.delete(volume)


def test_a_transfer_changes_the_owner(on: Estate, other: CinderAPI) -> None:
    volume = on.volume()
    transfer = on.cinder.client.transfers.create(volume)
    other.client.transfers.accept(transfer.id, transfer.auth_key)
    other.wait_for_status(volume, 'available')
    other.delete(volume)


# -- types -------------------------------------------------------------------
def test_retype_sets_limits_and_takes_them_away(on: Estate) -> None:
    with limited_type(on.admin, 'limited', 'on', {
            'total_iops_sec': '100', 'total_iops_sec_max': '500'}):
        volume = on.volume()
        on.admin.retype(volume, 'limited')
        assert on.limits(volume) == {'iops_limit': 100, 'iops_burst': 500}
        clone = on.clone(volume)
        assert on.limits(clone) == {}
        on.admin.retype(volume, 'on')
        assert on.limits(volume) == {}
        on.cinder.delete(volume, clone)


def test_a_multiattach_volume_is_opened_by_two(on: Estate) -> None:
    volume = on.cinder.create('on-multiattach')
    assert not on.features(volume) & EXCLUSIVE_LOCK
    with on.cinder.attached(volume):
        second, _ = on.cinder.attach(volume)
        with on.cluster.open(on.pool, on.name(volume)) as one, \
                on.cluster.open(on.pool, on.name(volume)) as two:
            one.write(b'one', 0)
            two.write(b'two', 4096)
        on.cinder.detach(volume, second, 'in-use')
    on.admin.retype(volume, 'on')
    assert on.features(volume) & EXCLUSIVE_LOCK
    on.cinder.delete(volume)


def test_an_encrypted_volume_begins_with_a_header_and_can_be_cloned(
        on: Estate) -> None:
    volume = on.cinder.create('on-encrypted')
    with on.cluster.open(on.pool, on.name(volume), read_only=True) as image:
        assert image.read(0, 6) == b'LUKS\xba\xbe'
        # As the stock driver makes them: the header comes on top.
        assert image.size() > GIB
    snapshot = on.cinder.create_snapshot(volume)
    made = on.cinder.create('on-encrypted', snapshot_id=snapshot)
    on.cinder.delete(made)
    on.cinder.delete_snapshot(snapshot)
    on.cinder.delete(volume)


# -- attaching ---------------------------------------------------------------
def test_a_connection_has_no_key_and_its_user_can_write(
        on: Estate, sandbox: Sandbox) -> None:
    volume = on.volume()
    with on.cinder.attached(volume) as data:
        assert data['driver_volume_type'] == 'rbd'
        assert data['auth_username'] == 'hypervisor'
        assert 'keyring' not in json.dumps(data)
        cluster = connection.RadosCluster(opts.ClusterConfig(
            user=data['auth_username'],
            ceph_conf=sandbox.env()['CEPH_CONF']))
        pool, _, name = data['name'].partition('/')
        with cluster.pool(pool).open(name) as image:
            image.write(b'written by the hypervisor', 0)
        cluster.close()
    with on.cluster.open(on.pool, on.name(volume), read_only=True) as image:
        assert image.read(0, 7) == b'written'
    on.cinder.delete(volume)


# -- managing ----------------------------------------------------------------
def test_what_is_in_the_pool_is_managed_and_let_go(on: Estate) -> None:
    on.cluster.make(on.pool, 'found', content.sparse_bytes(content.MIB))
    client = on.admin.client
    rows = {row.reference['source-name']: row
            for row in client.volumes.list_manageable('sandbox@on#on')}
    assert rows['found'].safe_to_manage
    volume = client.volumes.manage(
        'sandbox@on#on', {'source-name': 'found'}, volume_type='on').id
    on.admin.wait_for_status(volume, 'available')
    assert 'found' not in on.names()
    on.cluster.take_snapshot(on.pool, on.name(volume), 'old')
    [row] = [row for row in client.volume_snapshots.list_manageable(
        'sandbox@on#on') if row.reference['source-name'] == 'old']
    assert row.safe_to_manage
    snapshot = client.volume_snapshots.manage(
        volume, {'source-name': 'old'}).id
    on.admin.wait_for_snapshot(snapshot, 'available')
    client.volume_snapshots.unmanage(snapshot)
    on.admin.wait_for_snapshot(snapshot, None)
    with on.cluster.open(on.pool, on.name(volume)) as image:
        for found in list(image.list_snaps()):
            image.remove_snap(found['name'])
    name = on.name(volume)
    client.volumes.unmanage(volume)
    on.admin.wait_for_status(volume, None)
    assert name in on.names()
    on.cluster.remove(on.pool, name)


# -- migrating ---------------------------------------------------------------
def test_a_volume_migrates_within_the_cluster(on: Estate) -> None:
    with limited_type(on.admin, 'wandering'):
        volume = on.cinder.create('wandering')
        here, there = 'sandbox@on#on', 'sandbox@off#off'
        if on.admin.show(volume).to_dict()['os-vol-host-attr:host'] != here:
            on.admin.migrate(volume, here)
        on.write(volume)
        on.admin.migrate(volume, there)
        on.check(volume, pool=POOLS['off'])
        assert on.name(volume) not in on.names()
        on.admin.migrate(volume, here)
        on.check(volume)
        on.cinder.delete(volume)


# -- groups ------------------------------------------------------------------
def test_a_group_is_snapshotted_at_one_moment(on: Estate) -> None:
    group = on.cinder.create_group(('on',))
    volumes = [on.volume(group_id=group) for _ in range(2)]
    taken = on.cinder.create_group_snapshot(group)
    before = [on.digests[volume] for volume in volumes]
    for volume in volumes:
        on.write(volume)
    made = on.cinder.client.groups.create_from_src(taken, None, name='copy')
    copy = made['id']
    on.cinder._wait_for_group(copy, 'available')
    copies = [found.id for found in on.cinder.client.volumes.list(
        search_opts={'group_id': copy})]
    assert sorted(on.digest(found) for found in copies) == sorted(before)
    on.cinder.delete_group(copy)
    on.cinder.delete_group_snapshot(taken)
    on.cinder.delete_group(group)


# -- the backend -------------------------------------------------------------
def test_the_scheduler_knows_the_room(on: Estate) -> None:
    pools = {pool.name: pool for pool in
             on.admin.client.pools.list(detailed=True)}
    pool = pools['sandbox@on#on']
    assert pool.backend_state == 'up'
    assert 0 < float(pool.free_capacity_gb) <= float(pool.total_capacity_gb)
    assert pool.storage_protocol == 'ceph'
    assert pool.location_info.count(':') == 4


def test_a_frozen_backend_thaws(on: Estate) -> None:
    services = on.admin.client.services
    services.freeze_host('sandbox@on')
    services.thaw_host('sandbox@on')
    on.cinder.delete(on.volume())


def test_failing_over_is_refused(on: Estate) -> None:
    with pytest.raises(exceptions.BadRequest, match='replication_status'):
        on.admin.client.services.failover_host('sandbox@on', 'elsewhere')
    on.cinder.delete(on.volume())


def test_deleting_twice_is_the_apis_to_refuse(on: Estate) -> None:
    volume = on.volume()
    on.cinder.delete(volume)
    with pytest.raises(exceptions.NotFound):
        on.cinder.client.volumes.delete(volume)
