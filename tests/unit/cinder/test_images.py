# SPDX-License-Identifier: Apache-2.0
"""Images through the facade: no local file unless Cinder made it."""

from __future__ import annotations

from typing import Any

import pytest
from cinder import exception as cinder_exception

from tests.unit.cinder.conftest import (
    Context,
    House,
    make_type,
    make_volume,
)
from volume_rbd import model


def _clone(house: House, image_id: str, **values: Any) -> tuple[Any, Any]:
    volume = make_volume(**values)
    return volume, house.facade.clone_image(
        Context(), volume, (None, None), {'id': image_id}, None)


def test_an_image_in_rbd_is_cloned(house: House) -> None:
    image_id = house.world.make_image()
    volume, (_, is_done) = _clone(house, image_id)
    assert is_done is True
    shown = house.plain.volumes.show(volume.name)
    assert shown.parent == f'images/{image_id}@snap'
    assert shown.size_bytes == model.GIB


def test_an_image_elsewhere_is_streamed_and_that_is_done_too(house: House
                                                             ) -> None:
    """Or else Cinder would download it to a file before asking again."""
    image_id = house.world.make_image(store_id='file')
    volume, (_, is_done) = _clone(house, image_id)
    assert is_done is True
    assert house.plain.volumes.show(volume.name).parent is None


def test_glance_sees_who_asked(house: House) -> None:
    image_id = house.world.make_image()
    _clone(house, image_id)
    caller = house.process.callers[-1]
    assert caller is not None
    assert caller.auth_token == 'token'


def test_an_image_that_is_not_active_is_unacceptable(house: House) -> None:
    image_id = house.world.make_record()
    with pytest.raises(cinder_exception.ImageUnacceptable):
        _clone(house, image_id)


def test_an_image_that_is_gone_is_said_to_be(house: House) -> None:
    with pytest.raises(cinder_exception.ImageNotFound):
        _clone(house, '11111111-2222-3333-4444-555555555555')


def test_an_image_too_large_is_told_to_the_user(house: House) -> None:
    image_id = house.world.make_image(min_disk_gib=2)
    with pytest.raises(cinder_exception.ImageUnacceptable, match='2 GiB'):
        _clone(house, image_id)
    [(_, _, detail)] = house.facade.message_api.made
    assert 'space' in str(detail[1])
    assert house.world.disks('volumes') == []


def test_an_upload_goes_to_the_record_that_cinder_made(house: House) -> None:
    volume = house.make()
    image_id = house.world.make_record()
    house.facade.copy_volume_to_image(
        Context(), volume, None, {
            'id': image_id, 'name': 'x', 'disk_format': 'raw',
            'container_format': 'bare'})
    assert house.world.glance.get_image(image_id).status == 'active'
    assert house.plain.volumes.show(volume.name).snapshots == ()


def test_an_upload_is_written_down_as_long_as_it_lasts(house: House) -> None:
    """By what is written down Cinder gives back what a killed service had."""
    volume = house.make()
    volume.status = 'uploading'
    seen = []
    register = house.world.glance.register_location

    def look(*args: Any, **kwargs: Any) -> Any:
        seen.append(list(volume.workers))
        return register(*args, **kwargs)

    house.world.glance.register_location = look  # type: ignore[method-assign]
    meta = {'id': house.world.make_record(), 'disk_format': 'raw',
            'container_format': 'bare'}
    house.facade.copy_volume_to_image(Context(), volume, None, meta)
    assert seen == [['uploading']]
    assert volume.workers == []
    house.facade.delete_volume(volume)
    with pytest.raises(cinder_exception.CinderException):
        house.facade.copy_volume_to_image(Context(), volume, None, meta)
    assert volume.workers == []


def test_an_upload_that_stays_written_down_is_done_all_the_same(
        house: House, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    volume, image_id = house.make(), house.world.make_record()

    def fail() -> None:
        raise cinder_exception.CinderException('no database')

    monkeypatch.setattr(volume, 'unset_worker', fail)
    house.facade.copy_volume_to_image(
        Context(), volume, None, {
            'id': image_id, 'disk_format': 'raw',
            'container_format': 'bare'})
    assert house.world.glance.get_image(image_id).status == 'active'
    assert 'no database' in caplog.text


def test_the_types_store_wins(house: House) -> None:
    volume = house.make(volume_type=make_type(
        **{'image_service:store_id': 'file'}))
    image_id = house.world.make_record()
    house.facade.copy_volume_to_image(
        Context(), volume, None, {
            'id': image_id, 'disk_format': 'raw',
            'container_format': 'bare'})
    assert house.world.glance.get_image(image_id).stores == ('file',)


def test_a_signature_that_was_verified_is_noted(house: House) -> None:
    house.facade._note_signature(
        None, make_volume(), {'signature_verified': True})
    house.facade._note_signature(None, make_volume(), {})
    assert house.facade.db.made == [{'signature_verified': True}]
