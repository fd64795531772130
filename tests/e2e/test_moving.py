# SPDX-License-Identifier: Apache-2.0
"""Volumes that go to another pool, and what is kept on the way."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from cinderclient import exceptions

from tests.e2e.estate import limited_type
from tests.e2e.traces import POOLS, Traces, opened
from tests.functional import content
from volume_rbd.sandbox import Sandbox

HOSTS = {'on': 'sandbox@on#on', 'off': 'sandbox@off#off'}
ANYWHERE = 'anywhere-ours'


@pytest.fixture
def traces(sandbox: Sandbox) -> Iterator[Traces]:
    with opened(sandbox) as made, limited_type(made.admin, ANYWHERE):
        yield made
        made.clean_up()


def _on(traces: Traces) -> str:
    """A volume that may lie anywhere, and lies on ``on``."""
    volume = traces.volume('on')
    traces.admin.retype(volume, ANYWHERE)
    return volume


def test_holes_and_limits_are_kept(traces: Traces) -> None:
    volume = _on(traces)
    name, pool = f'volume-{volume}', POOLS['off']
    digest = traces.write(volume)
    traces.cluster.set_metadata(POOLS['on'], name, {
        'conf_rbd_qos_iops_limit': '4000'})
    traces.admin.migrate(volume, HOSTS['off'])
    assert name not in traces.cluster.names(POOLS['on'])
    assert traces.digest(volume, pool) == digest
    assert _count_bytes(traces, pool, name) <= 16 * content.MIB
    assert traces.cluster.metadata(pool, name)[
        'conf_rbd_qos_iops_limit'] == '4000'


def test_a_volume_with_snapshots_is_the_apis_to_refuse(traces: Traces
                                                       ) -> None:
    """The driver could; Cinder does not ask it."""
    volume = _on(traces)
    traces.snapshot(volume)
    with pytest.raises(exceptions.BadRequest, match='have snapshots'):
        traces.admin.migrate(volume, HOSTS['off'])


def test_a_clone_is_its_own_when_it_moves_and_its_source_goes(
        traces: Traces) -> None:
    source = _on(traces)
    digest = traces.write(source)
    clone = traces.volume(ANYWHERE, source_volid=source)
    traces.admin.migrate(source, HOSTS['off'])
    assert traces.digest(clone) == digest
    traces.admin.migrate(clone, HOSTS['off'])
    assert traces.cluster.parent(POOLS['off'], f'volume-{clone}') is None
    assert traces.digest(clone, POOLS['off']) == digest


def test_what_lies_there_already_is_not_touched(traces: Traces) -> None:
    volume = _on(traces)
    digest, name = traces.write(volume), f'volume-{volume}'
    traces.cluster.make(POOLS['off'], name, b'\xee' * content.BLOCK)
    try:
        traces.admin.client.volumes.migrate_volume(
            volume, HOSTS['off'], False, False)
        assert traces.says(name, 'already')
        traces.admin.wait_for_status(volume, 'available')
        assert traces.admin.show(volume).to_dict()[
            'os-vol-host-attr:host'] == HOSTS['on']
        assert traces.digest(volume) == digest
        assert traces.cluster.digest(POOLS['off'], name) == (
            content.digest_of_bytes(b'\xee' * content.BLOCK))
    finally:
        traces.cluster.remove(POOLS['off'], name)


def test_a_volume_that_somebody_has_open_stays(traces: Traces) -> None:
    volume = _on(traces)
    name = f'volume-{volume}'
    with traces.cluster.open(POOLS['on'], name) as image:
        [watcher] = image.watchers_list()
        traces.admin.client.volumes.migrate_volume(
            volume, HOSTS['off'], False, False)
        assert traces.says(name, watcher['addr'])
        traces.admin.wait_for_status(volume, 'available')
    assert name in traces.cluster.names(POOLS['on'])
    assert name not in traces.cluster.names(POOLS['off'])


@pytest.mark.usefixtures('etc_ceph')
def test_a_copy_through_the_host_ends_under_the_volumes_name(
        traces: Traces) -> None:
    """A retype to another backend: Cinder copies through os-brick."""
    volume, digest = traces.written('on')
    traces.admin.client.volumes.retype(volume, 'off', 'on-demand')
    traces.admin.wait_for_status(volume, 'available')
    record = traces.admin.show(volume).to_dict()
    assert record['os-vol-host-attr:host'] == HOSTS['off']
    assert record['os-vol-mig-status-attr:name_id'] is None
    assert traces.digest(volume, POOLS['off']) == digest
    assert f'volume-{volume}' not in traces.cluster.names(POOLS['on'])


@pytest.mark.usefixtures('etc_ceph')
def test_os_brick_opens_what_is_attached(traces: Traces) -> None:
    """With the key of ``rbd_attach_user`` from /etc/ceph."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from os_brick.initiator import connector
    volume = traces.volume('on')
    data = content.random_bytes(content.BLOCK)
    with traces.cinder.attached(volume) as connection:
        brick = connector.InitiatorConnector.factory('rbd', None)
        device = brick.connect_volume(connection)
        device['path'].write(data)
        device['path'].flush()
        brick.disconnect_volume(connection, device)
    assert traces.digest(volume) == content.digest_of_bytes(data)


def _count_bytes(traces: Traces, pool: str, name: str) -> int:
    """What is allocated, snapshots included."""
    prefix = f'rbd_data.{traces.cluster.image_id(pool, name)}.'
    ioctx = traces.cluster.ioctx(pool)
    return sum(ioctx.stat(found.key)[0] for found in ioctx.list_objects()
               if found.key.startswith(prefix))
