# SPDX-License-Identifier: Apache-2.0
"""What cannot be done is refused, and everything is as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from cinderclient import exceptions

from tests.e2e.cinder import CONNECTOR
from tests.e2e.estate import limited_type
from tests.e2e.traces import POOLS, Traces, opened, soon
from tests.functional import content
from volume_rbd.sandbox import Sandbox

POOL = POOLS['on']


@pytest.fixture
def traces(sandbox: Sandbox) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


def name_of(volume: str) -> str:
    return f'volume-{volume}'


def remove_snapshot(traces: Traces, volume: str, snapshot: str) -> None:
    """As an administrator would, behind Cinder's back."""
    with traces.cluster.open(POOL, name_of(volume)) as image:
        if image.is_protected_snap(snapshot):
            image.unprotect_snap(snapshot)
        image.remove_snap(snapshot)


# -- attaching ---------------------------------------------------------------
@pytest.mark.parametrize('connector', [
    {'ip': '127.0.0.1'}, {'host': ''}, {'host': None, 'ip': '::1'}],
    ids=['no host', 'empty host', 'null host'])
def test_a_connector_without_a_host_is_refused(
        traces: Traces, connector: dict[str, Any]) -> None:
    volume = traces.volume('on')
    with pytest.raises(exceptions.ClientException):
        traces.cinder.client.attachments.create(volume, connector)
    for found in traces.cinder.client.attachments.list(
            search_opts={'volume_id': volume}):
        traces.cinder.client.attachments.delete(found.id)
    traces.cinder.wait_for_status(volume, 'available')
    with traces.cinder.attached(volume):
        pass


def test_a_volume_whose_rbd_image_is_gone_is_not_attached(traces: Traces
                                                          ) -> None:
    volume = traces.volume('on')
    traces.cluster.remove(POOL, name_of(volume))
    with pytest.raises(exceptions.ClientException):
        traces.cinder.client.attachments.create(volume, dict(CONNECTOR))
    for found in traces.cinder.client.attachments.list(
            search_opts={'volume_id': volume}):
        traces.cinder.client.attachments.delete(found.id)
    traces.admin.client.volumes.reset_state(volume, 'error')


# -- deleting ----------------------------------------------------------------
def test_whoever_has_a_volume_open_is_named(traces: Traces) -> None:
    volume, digest = traces.written('on')
    with traces.cluster.open(POOL, name_of(volume)) as image:
        [watcher] = image.watchers_list()
        traces.cinder.client.volumes.delete(volume)
        traces.cinder.wait_for_status(volume, 'available')
        assert traces.says(name_of(volume), watcher['addr'])
    assert traces.digest(volume) == digest


def test_a_volume_with_snapshots_is_not_deleted(traces: Traces) -> None:
    volume = traces.volume('on')
    traces.snapshot(volume)
    with pytest.raises(exceptions.BadRequest, match=r'must not .* snapshots'):
        traces.cinder.client.volumes.delete(volume)
    assert traces.cinder.status(volume) == 'available'


def test_a_volume_with_a_snapshot_that_cinder_does_not_know_is_given_back(
        traces: Traces) -> None:
    volume, digest = traces.written('on')
    traces.cluster.take_snapshot(POOL, name_of(volume), 'by-hand')
    traces.cinder.client.volumes.delete(volume)
    traces.cinder.wait_for_status(volume, 'available')
    assert traces.says(name_of(volume), 'by-hand')
    assert traces.digest(volume) == digest
    remove_snapshot(traces, volume, 'by-hand')


def test_a_volume_with_its_snapshots_is_deleted_at_once_where_asked(
        traces: Traces) -> None:
    volume = traces.volume('on')
    traces.snapshot(volume)
    traces.snapshot(volume)
    clone = traces.volume('on', source_volid=volume)
    traces.cinder.client.volumes.delete(volume, cascade=True)
    traces.cinder.wait_for_status(volume, None)
    assert traces.cluster.parent(POOL, name_of(clone))
    traces._snapshots.clear()


def test_what_is_gone_on_the_cluster_is_deleted(traces: Traces) -> None:
    volume, other = traces.volume('on'), traces.volume('on')
    snapshot = traces.snapshot(other)
    traces.cluster.remove(POOL, name_of(volume))
    remove_snapshot(traces, other, f'snapshot-{snapshot}')
    traces.cinder.delete(volume)
    traces.cinder.delete_snapshot(snapshot)


def test_a_snapshot_with_foreign_clones_of_format_1_stays(traces: Traces
                                                          ) -> None:
    volume = traces.volume('on')
    snapshot = traces.snapshot(volume)
    name = f'snapshot-{snapshot}'
    traces.cluster.clone((POOL, name_of(volume), name), 'vms', 'by-hand',
                         clone_format=1)
    try:
        traces.cinder.client.volume_snapshots.delete(snapshot)
        traces.cinder.wait_for_snapshot(snapshot, 'available')
        assert traces.says(name, 'vms/by-hand')
    finally:
        traces.cluster.remove('vms', 'by-hand')


# -- changing ----------------------------------------------------------------
def test_a_volume_does_not_shrink(traces: Traces) -> None:
    volume = traces.volume('on', 2)
    with pytest.raises(exceptions.BadRequest):
        traces.cinder.client.volumes.extend(volume, 1)
    with pytest.raises(exceptions.BadRequest):
        traces.cinder.client.volumes.extend(volume, 2)
    assert traces.cinder.status(volume) == 'available'
    assert traces.cluster.size(POOL, name_of(volume)) == 2 * content.GIB


def test_a_volume_that_was_made_larger_by_hand_is_not_cut(traces: Traces
                                                          ) -> None:
    volume = traces.volume('on')
    with traces.cluster.open(POOL, name_of(volume)) as image:
        image.resize(3 * content.GIB)
    traces.cinder.client.volumes.extend(volume, 2)
    assert soon(lambda: traces.cinder.status(volume) == 'error_extending')
    assert traces.cluster.size(POOL, name_of(volume)) == 3 * content.GIB
    assert traces.message(volume)


def test_a_revert_never_skips_a_newer_snapshot(traces: Traces) -> None:
    volume = traces.volume('on')
    first = traces.snapshot(volume)
    time.sleep(1.1)  # Cinder knows their age in seconds
    traces.snapshot(volume)
    with pytest.raises(exceptions.ClientException):
        traces.cinder.client.volumes.revert_to_snapshot(volume, first)
    assert traces.cinder.status(volume) == 'available'


def test_a_revert_keeps_a_newer_snapshot_that_cinder_does_not_know(
        traces: Traces) -> None:
    volume, digest = traces.written('on')
    snapshot = traces.snapshot(volume)
    later = traces.write(volume)
    traces.cluster.take_snapshot(POOL, name_of(volume), 'by-hand')
    traces.cinder.client.volumes.revert_to_snapshot(volume, snapshot)
    assert soon(lambda: traces.cinder.status(volume) != 'reverting')
    assert traces.cluster.digest(POOL, name_of(volume), 'by-hand') == later
    assert traces.digest(volume) in (later, digest)
    remove_snapshot(traces, volume, 'by-hand')
    traces.admin.client.volumes.reset_state(volume, 'available')


def test_a_volume_is_not_retyped_to_what_asks_for_replication(
        traces: Traces) -> None:
    volume, digest = traces.written('on')
    with limited_type(traces.admin, 'replicated', 'on'):
        [found] = [row for row in traces.admin.client.volume_types.list()
                   if row.name == 'replicated']
        found.set_keys({'replication_enabled': '<is> True'})
        traces.admin.client.volumes.retype(volume, 'replicated', 'never')
        traces.cinder.wait_for_status(volume, 'available')
        assert traces.cinder.show(volume).volume_type == 'on'
    assert traces.digest(volume) == digest


def test_a_volume_is_not_retyped_to_another_backend_without_moving(
        traces: Traces) -> None:
    volume, digest = traces.written('on')
    traces.admin.client.volumes.retype(volume, 'off', 'never')
    traces.cinder.wait_for_status(volume, 'available')
    assert traces.cinder.show(volume).volume_type == 'on'
    assert traces.digest(volume) == digest


def test_a_limit_that_nobody_knows_is_refused(traces: Traces) -> None:
    volume = traces.volume('on')
    with limited_type(traces.admin, 'odd', 'on', {'total_iops': '5'}):
        traces.admin.client.volumes.retype(volume, 'odd', 'never')
        traces.cinder.wait_for_status(volume, 'available')
        assert traces.cinder.show(volume).volume_type == 'on'
        assert traces.says('total_iops')
    assert not [key for key in traces.cluster.metadata(POOL, name_of(volume))
                if key.startswith('conf_')]


# -- managing ----------------------------------------------------------------
@pytest.mark.parametrize('reference', [
    {'source-name': 'nobody-has-this'}, {'source-name': 'a@b'},
    {'source-name': ''}, {'source-id': 'x'}], ids=str)
def test_what_is_not_there_is_not_managed(
        traces: Traces, reference: dict[str, str]) -> None:
    _check_not_managed(traces, reference)


def test_what_cinder_has_is_not_managed_again(traces: Traces) -> None:
    volume, digest = traces.written('on')
    _check_not_managed(traces, {'source-name': name_of(volume)})
    assert traces.digest(volume) == digest


def _check_not_managed(traces: Traces, reference: dict[str, str]) -> None:
    try:
        made = traces.admin.client.volumes.manage(
            'sandbox@on#on', reference, volume_type='on')
    except exceptions.BadRequest:
        return
    traces.owns(made.id)
    assert soon(lambda: str(traces.admin.status(made.id)).startswith('error'))


# -- uploading ---------------------------------------------------------------
def test_a_volume_that_is_not_available_is_not_uploaded(traces: Traces
                                                        ) -> None:
    volume = traces.volume('on')
    for status in ('creating', 'error', 'extending', 'uploading',
                   'error_deleting', 'maintenance', 'retyping'):
        traces.admin.client.volumes.reset_state(volume, status)
        for force in (False, True):
            with pytest.raises(exceptions.BadRequest,
                               match='status must be'):
                traces.cinder.upload(volume, force=force)
        assert traces.cinder.status(volume) == status
    traces.admin.client.volumes.reset_state(volume, 'available')
    with traces.cinder.attached(volume):
        with pytest.raises(exceptions.BadRequest, match='status must be'):
            traces.cinder.upload(volume)
        assert traces.cinder.status(volume) == 'in-use'


def test_a_volume_whose_rbd_image_is_gone_makes_no_image(traces: Traces
                                                         ) -> None:
    volume = traces.volume('on')
    traces.cluster.remove(POOL, name_of(volume))
    image = traces.upload(volume, status=None)
    traces.cinder.wait_for_status(volume, 'available')
    traces.glance.wait_for_status(image, None)
    assert traces.message(volume)


@pytest.mark.parametrize('name', [' ', 'Ünïcødé ☃' + 'x' * 246],
                         ids=['blank', 'long'])
def test_an_image_may_have_any_name(traces: Traces, name: str) -> None:
    volume, digest = traces.written('on')
    image = traces.upload(volume, name=name)
    assert traces.glance.get(image)['name'] == name
    assert traces.glance.digest(image) == digest
    # Or the volume stays in the trash until it is looked at again.
    traces.glance.delete(image)


def test_an_image_that_glance_does_not_take_is_gone(traces: Traces) -> None:
    """A vhdx without data it takes for one that is cut off."""
    volume = traces.volume('on')
    image = traces.upload(volume, disk_format='vhdx', status=None)
    traces.cinder.wait_for_status(volume, 'available')
    if traces.glance.status(image) != 'active':
        assert traces.glance.status(image) is None
        assert traces.message(volume)
        assert traces.says(image, '415')


# -- making ------------------------------------------------------------------
def test_nothing_is_made_of_what_is_gone_on_the_cluster(traces: Traces
                                                        ) -> None:
    volume = traces.volume('on')
    snapshot = traces.snapshot(volume)
    remove_snapshot(traces, volume, f'snapshot-{snapshot}')
    assert traces.volume('on', status='error', snapshot_id=snapshot)
    traces.cluster.remove(POOL, name_of(volume))
    assert traces.volume('on', status='error', source_volid=volume)
    taken = traces.cinder.create_snapshot(volume, status=None)
    traces._snapshots.append(taken)
    assert soon(lambda: traces.cinder.client.volume_snapshots.get(
        taken).status == 'error')
