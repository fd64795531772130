# SPDX-License-Identifier: Apache-2.0
"""Image records: who sees them, what they hold, how they come and go."""

from __future__ import annotations

import io
import uuid

import pytest

from tests.contract.glance_worlds import Maker, World
from volume_rbd import exception

pytest_plugins = ('tests.contract.glance_fixtures',)


def test_an_unknown_image_is_not_found(glance_world: World) -> None:
    with pytest.raises(exception.GlanceImageNotFound, match='1234'):
        glance_world.member.get_image('1234')


@pytest.mark.parametrize('image_id', ['', '..', '../../v2/info/stores', 'a b'])
def test_what_is_no_id_is_an_unknown_image(
        glance_world: World, image_id: str) -> None:
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.member.get_image(image_id)
    assert not glance_world.member.has_image(image_id)


def test_a_new_record_is_queued_and_has_what_was_asked_for(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(
        glance_world.member, name='Größe', min_disk_gib=3,
        visibility='private', properties={'hw_disk_bus': 'scsi'})
    image = glance_world.member.get_image(image_id)
    assert (image.id, image.name, image.status) == (
        image_id, 'Größe', 'queued')
    assert (image.disk_format, image.container_format) == ('raw', 'bare')
    assert image.min_disk_gib == 3
    assert image.size_bytes is None
    assert image.locations == ()
    assert image.stores == ()
    assert image.properties['hw_disk_bus'] == 'scsi'
    assert image.properties['visibility'] == 'private'


def test_all_properties_are_strings(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    properties = glance_world.member.get_image(image_id).properties
    assert properties['protected'] == 'false'
    assert properties['min_ram'] == '0'
    assert all(isinstance(value, str) for value in properties.values())


def test_an_id_is_taken_only_once(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.GlanceConflict):
        glance_world.member.create_image(
            image_id=image_id, name='contract', disk_format='raw',
            container_format='bare')


def test_a_private_image_of_another_project_looks_like_none(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member, visibility='private')
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.other.get_image(image_id)
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.other.delete_image(image_id)
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.other.upload(image_id, io.BytesIO(b'x'), size_bytes=1)


def test_the_service_knows_an_image_whoever_owns_it(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member, visibility='private')
    assert glance_world.other.has_image(image_id)
    assert glance_world.plain.has_image(image_id)
    assert not glance_world.other.has_image(str(uuid.uuid4()))


def test_a_plain_user_may_not_publish(
        glance_world: World, images: Maker) -> None:
    with pytest.raises(exception.GlanceForbidden):
        images.queued(glance_world.member, visibility='public')


def test_a_deleted_image_is_gone(glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    glance_world.member.delete_image(image_id)
    assert not glance_world.member.has_image(image_id)
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.member.delete_image(image_id)


def test_an_image_that_is_in_use_is_not_deleted(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, b'abc')
    let_go = glance_world.use(image_id)
    with pytest.raises(exception.GlanceConflict):
        glance_world.member.delete_image(image_id)
    assert glance_world.member.get_image(image_id).status == 'active'
    assert b''.join(glance_world.member.download(image_id)) == b'abc'
    let_go()
    glance_world.member.delete_image(image_id)
    assert not glance_world.member.has_image(image_id)


def test_the_stores_details_are_the_services_to_see(
        glance_world: World) -> None:
    stores = {store.id: store for store in glance_world.member.get_stores()}
    assert stores['rbd'].type == 'rbd'
    assert stores['rbd'].is_default
    assert stores['rbd'].pool == 'images'
    assert stores['rbd'].fsid
    assert stores['file'].type == 'file'
    assert not stores['file'].is_default
    assert stores['file'].fsid is None
    assert not any(store.is_read_only for store in stores.values())


def test_the_stores_details_are_refused_to_a_plain_user(
        glance_world: World) -> None:
    with pytest.raises(exception.GlanceForbidden):
        glance_world.plain.get_stores()
