# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots through the facade."""

from __future__ import annotations

import json

import pytest
from cinder import exception as cinder_exception

from tests.unit.cinder.conftest import (
    House,
    Row,
    make_snapshot,
    make_type,
    make_volume,
)
from volume_rbd import exception, model
from volume_rbd.cinder import encryption


def test_a_volume_has_the_size_in_gib(house: House) -> None:
    volume = house.make(size=2)
    assert house.plain.volumes.show(
        volume.name).size_bytes == 2 * model.GIB


def test_deleting_twice_is_no_error(house: House) -> None:
    """Cinder deletes again what a reschedule may have left."""
    volume = house.make()
    house.facade.delete_volume(volume)
    house.facade.delete_volume(volume)
    house.plain.reclaimer.wait()
    assert volume.name not in house.world.disks('volumes')


def test_a_volume_in_use_is_busy_and_its_user_named(house: House) -> None:
    volume = house.make()
    other = house.world.ceph.cluster('nova')
    house.world.ceph.caps['nova'] = {'volumes': 'rw', 'images': 'r'}
    with other.pool('volumes').open(volume.name), pytest.raises(
            cinder_exception.VolumeIsBusy) as raised:
        house.facade.delete_volume(volume)
    assert other.address.split('/')[0] in str(raised.value)


def test_a_volume_with_snapshots_is_busy(house: House) -> None:
    volume = house.make()
    snapshot = make_snapshot(volume)
    house.facade.create_snapshot(snapshot)
    with pytest.raises(cinder_exception.VolumeIsBusy, match=snapshot.name):
        house.facade.delete_volume(volume)


def test_a_snapshot_with_clones_can_go_and_the_clone_stays(house: House
                                                           ) -> None:
    volume = house.make()
    snapshot = make_snapshot(volume)
    house.facade.create_snapshot(snapshot)
    clone = make_volume()
    house.facade.create_volume_from_snapshot(clone, snapshot)
    house.facade.delete_snapshot(snapshot)
    house.facade.delete_snapshot(snapshot)
    assert house.plain.volumes.show(clone.name).size_bytes == model.GIB


def test_a_clone_leaves_nothing_on_its_source(house: House) -> None:
    """Defect 1 of the stock driver: it leaves CLONE.clone_snap behind."""
    source = house.make()
    clone = make_volume(size=2)
    house.facade.create_cloned_volume(clone, source)
    assert house.plain.volumes.show(clone.name).size_bytes == 2 * model.GIB
    house.facade.delete_volume(clone)
    house.facade.delete_volume(source)
    house.plain.reclaimer.wait()
    assert house.world.disks('volumes') == []


def test_extending_takes_cinders_gib(house: House) -> None:
    volume = house.make()
    house.facade.extend_volume(volume, '3')
    assert house.plain.volumes.show(volume.name).size_bytes == 3 * model.GIB


def test_what_has_grown_already_is_extended(house: House) -> None:
    """A service that was killed did not come to tell Cinder."""
    volume = house.make()
    for _ in range(2):
        house.facade.extend_volume(volume, 2)
    assert house.plain.volumes.show(volume.name).size_bytes == 2 * model.GIB


def test_shrinking_is_refused(house: House) -> None:
    volume = house.make(size=2)
    with pytest.raises(cinder_exception.InvalidInput, match='larger'):
        house.facade.extend_volume(volume, 1)


def test_a_type_that_replicates_is_refused_with_a_reason(house: House
                                                         ) -> None:
    volume = make_volume(volume_type=make_type(
        replication_enabled='<is> True'))
    with pytest.raises(cinder_exception.VolumeBackendAPIException,
                       match='replication'):
        house.facade.create_volume(volume)
    assert house.world.disks('volumes') == []


def test_multiattach_is_noted_as_the_stock_driver_reads_it(house: House
                                                           ) -> None:
    volume = make_volume(volume_type=make_type(multiattach='<is> True'))
    update = house.facade.create_volume(volume)
    assert json.loads(update['provider_location']) == {'saved_features': 61}


def test_retype_to_multiattach_and_back(house: House) -> None:
    volume = house.make()
    shared = make_type(multiattach='<is> True')
    done, update = house.facade.retype(None, volume, shared, {}, None)
    assert done
    assert 'saved_features' in update['provider_location']
    volume.volume_type = shared
    done, update = house.facade.retype(
        None, volume, make_type(), {}, None)
    assert done
    assert update == {'provider_location': None}


def test_retype_to_other_encryption_is_left_to_cinder(house: House) -> None:
    volume = house.make()
    assert house.facade.retype(
        None, volume, make_type(),
        {'encryption': {'cipher': ('a', 'b')}}, None) == (False, None)


def test_migration_to_another_cluster_is_left_to_cinder(house: House
                                                        ) -> None:
    volume = house.make()
    for info in ('', 'nonsense', f'ceph::{"0" * 36}:cinder:other',
                 f'ceph::{house.world.ceph.fsid}:cinder:volumes'):
        assert house.facade.migrate_volume(
            None, volume, {'capabilities': {'location_info': info}}
        ) == (False, None)


def test_after_a_migration_the_copy_gets_the_name(house: House) -> None:
    old, new = make_volume(), house.make()
    old.name = 'elsewhere'
    update = house.facade.update_migrated_volume(
        None, old, new, 'available')
    assert update['_name_id'] is None
    assert house.world.disks('volumes') == [f'volume-{old.id}']


def test_a_name_that_is_taken_is_left_and_cinder_notes_the_id(
        house: House) -> None:
    old, new = house.make(), house.make()
    update = house.facade.update_migrated_volume(
        None, old, new, 'available')
    assert update['_name_id'] == new.id


def test_stats_are_what_the_scheduler_reads(house: House) -> None:
    stats = house.facade.get_volume_stats(refresh=True)
    assert stats['backend_state'] == 'up'
    assert stats['thin_provisioning_support'] is True
    assert stats['location_info'].split(':')[2:] == [
        house.world.ceph.fsid, str(house.world.config.cluster.user),
        'volumes']
    assert stats['free_capacity_gb'] <= stats['total_capacity_gb']


def test_stats_of_a_cluster_that_is_gone_say_down(house: House) -> None:
    house.facade.process = None
    stats = house.facade.get_volume_stats(refresh=True)
    assert stats['backend_state'] == 'down'
    assert stats['free_capacity_gb'] == 'unknown'


def test_failing_over_says_that_it_is_a_later_release(house: House) -> None:
    with pytest.raises(cinder_exception.UnableToFailOver,
                       match='does not replicate'):
        house.facade.failover_host(None, [])


def test_groups_without_consistency_are_left_to_cinder(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from cinder.volume import volume_utils
    monkeypatch.setattr(volume_utils, 'is_group_a_cg_snapshot_type',
                        lambda _: False)
    with pytest.raises(NotImplementedError):
        house.facade.create_group_snapshot(None, Row(id='g'), [])


@pytest.fixture
def keys(house: House, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A key manager and a type with encryption: key id -> key."""
    kept = {'source': 'aa', 'copied': 'aa'}

    class Keys:
        def get(self, context: object, key_id: str) -> Row:
            return Row(get_encoded=lambda: kept[key_id].encode())

    def create(*_: object) -> str:
        kept['new'] = 'bb'
        return 'new'

    monkeypatch.setattr(encryption.key_manager, 'API', lambda conf: Keys())
    monkeypatch.setattr(encryption.volume_utils, 'check_encryption_provider',
                        lambda volume, context: {
                            'encryption_key_id': volume.encryption_key_id,
                            'cipher': 'aes-xts-plain64', 'key_size': 256,
                            'provider': 'luks'})
    monkeypatch.setattr(encryption.volume_utils, 'create_encryption_key',
                        create)
    monkeypatch.setattr(encryption.volume_utils, 'delete_encryption_key',
                        lambda context, manager, key_id: kept.pop(key_id))
    return kept


@pytest.mark.parametrize('from_snapshot', [True, False])
def test_an_encrypted_clone_has_a_key_of_its_own(
        house: House, keys: dict[str, str], from_snapshot: bool) -> None:
    """Defect 9 of the stock driver: the source's key opens it."""
    source = house.make(encryption_key_id='source', volume_type_id='t')
    clone = make_volume(encryption_key_id='copied', volume_type_id='t')
    if from_snapshot:
        snapshot = make_snapshot(source)
        house.facade.create_snapshot(snapshot)
        update = house.facade.create_volume_from_snapshot(clone, snapshot)
    else:
        update = house.facade.create_cloned_volume(clone, source)
    assert update['encryption_key_id'] == 'new'
    assert keys == {'source': 'aa', 'new': 'bb'}
    assert house.world.converter.calls[-1] == 'change_luks_key'
    house.plain.encryption.change_passphrase(
        clone.name, passphrase=b'bb'.hex(), new_passphrase='x')
    house.plain.encryption.change_passphrase(
        source.name, passphrase=b'aa'.hex(), new_passphrase='x')


def test_a_key_that_cannot_be_changed_leaves_no_clone(
        house: House, keys: dict[str, str]) -> None:
    source = house.make(encryption_key_id='source', volume_type_id='t')
    clone = make_volume(encryption_key_id='copied', volume_type_id='t')
    house.world.converter.fail_next(exception.NoSpace('full'))
    with pytest.raises(cinder_exception.VolumeBackendAPIException):
        house.facade.create_cloned_volume(clone, source)
    house.plain.reclaimer.wait()
    assert house.world.disks('volumes') == [source.name]
    assert keys == {'source': 'aa', 'copied': 'aa'}


def test_a_clone_without_our_header_keeps_its_key(
        house: House, keys: dict[str, str]) -> None:
    """Another service may have put LUKS 2 into it."""
    source = house.make()
    clone = make_volume(encryption_key_id='copied', volume_type_id='t')
    assert 'encryption_key_id' not in house.facade.create_cloned_volume(
        clone, source)
    assert keys == {'source': 'aa', 'copied': 'aa'}
