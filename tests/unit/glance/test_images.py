# SPDX-License-Identifier: Apache-2.0
"""Glance's JSON becomes our values."""

from __future__ import annotations

from volume_rbd.glance import images

RECORD = {
    'id': 'i', 'name': None, 'status': 'active', 'disk_format': 'raw',
    'container_format': 'bare', 'size': 5, 'virtual_size': None,
    'min_disk': 0, 'min_ram': 64, 'owner': 'p', 'checksum': 'c',
    'os_hash_algo': 'sha512', 'os_hash_value': 'h', 'os_hidden': False,
    'visibility': 'private', 'protected': True, 'tags': ['a'],
    'created_at': '2026-01-01T00:00:00Z', 'updated_at': None,
    'stores': 'rbd,file', 'self': '/v2/images/i', 'file': '/v2/x',
    'schema': '/v2/schemas/image', 'hw_disk_bus': 'scsi',
}


def test_fields_and_properties_are_told_apart() -> None:
    image = images.image_from_json(RECORD)
    assert image.id == 'i'
    assert image.name is None
    assert image.size_bytes == 5
    assert image.virtual_size_bytes is None
    assert image.stores == ('rbd', 'file')
    assert image.locations == ()
    assert image.properties == {
        'min_ram': '64', 'os_hidden': 'false', 'visibility': 'private',
        'protected': 'true', 'tags': '["a"]', 'hw_disk_bus': 'scsi',
        'created_at': '2026-01-01T00:00:00Z'}


def test_a_queued_record_has_almost_nothing() -> None:
    image = images.image_from_json({'id': 'i', 'status': 'queued'})
    assert image.size_bytes is None
    assert image.stores == ()
    assert image.min_disk_gib == 0


def test_locations_come_first_and_the_direct_url_once() -> None:
    raw = {'locations': [{'url': 'rbd://1', 'metadata': {}}],
           'direct_url': 'rbd://1'}
    assert images.shown_locations(raw) == ('rbd://1',)
    raw['direct_url'] = 'rbd://2'
    assert images.shown_locations(raw) == ('rbd://1', 'rbd://2')
    assert images.shown_locations({'direct_url': None}) == ()


def test_flags_of_a_store_are_the_string_true() -> None:
    store = images.store_from_json({
        'id': 's', 'type': 'rbd', 'default': 'true', 'read-only': 'true',
        'properties': {'pool': 'p', 'fsid': 'f', 'chunk_size': 8}})
    assert store.is_default
    assert store.is_read_only
    assert (store.pool, store.fsid, store.chunk_size_bytes) == ('p', 'f', 8)


def test_a_store_may_say_little() -> None:
    store = images.store_from_json({'id': 's', 'properties': {'fsid': None}})
    assert not store.is_default
    assert not store.is_read_only
    assert (store.type, store.pool, store.fsid) == ('', None, None)


def test_a_task_has_all_its_keys() -> None:
    assert images.task_from_json({
        'id': 't', 'status': 'failure', 'message': None, 'request_id': 'r',
        'input': {'loc_url': 'rbd://1'}}) == {
        'id': 't', 'type': '', 'status': 'failure', 'message': '',
        'request_id': 'r', 'url': 'rbd://1'}
