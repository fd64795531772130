# SPDX-License-Identifier: Apache-2.0
"""What a connection says, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from cinder import exception as cinder_exception

from tests.unit.cinder.conftest import House, make_volume


@pytest.mark.parametrize('connector', [
    None, {}, [], 'host', {'ip': '1.2.3.4'}, {'host': ''}])
def test_a_malformed_connector_is_refused(house: House, connector: Any
                                          ) -> None:
    with pytest.raises(cinder_exception.InvalidConnectorException):
        house.facade.validate_connector(connector)


def test_a_connection_is_what_os_brick_and_libvirt_read(house: House
                                                        ) -> None:
    volume = house.make()
    house.facade.validate_connector({'host': 'compute-1'})
    found = house.facade.initialize_connection(
        volume, {'host': 'compute-1'})
    assert found['driver_volume_type'] == 'rbd'
    data = found['data']
    assert data['name'] == f'volumes/{volume.name}'
    assert data['volume_id'] == volume.id
    assert data['secret_uuid'] == house.world.ceph.fsid
    assert len(data['hosts']) == len(data['ports']) > 0
    assert all(isinstance(port, str) for port in data['ports'])
    assert data['auth_enabled'] is True


def test_no_key_is_in_a_connection(house: House) -> None:
    """OSSN-0085."""
    volume = house.make()
    found = house.facade.initialize_connection(volume, {'host': 'c'})
    assert 'keyring' not in found['data']


def test_a_volume_that_is_not_there_cannot_be_attached(house: House) -> None:
    with pytest.raises(cinder_exception.VolumeNotFound):
        house.facade.initialize_connection(make_volume(), {'host': 'c'})


def test_cinder_need_not_open_the_clone_of_an_encrypted_volume(
        house: House) -> None:
    """Its own way of changing a passphrase does not know RBD."""
    with pytest.raises(cinder_exception.RekeyNotSupported):
        house.facade._attach_volume(None, house.make(), {})
