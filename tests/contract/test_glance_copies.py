# SPDX-License-Identifier: Apache-2.0
"""Images that Glance copies from one of its stores into another."""

from __future__ import annotations

import pytest

from tests.contract.glance_worlds import MIB, Maker, World, wait_until
from volume_rbd import exception

pytest_plugins = ('tests.contract.glance_fixtures',)

DATA = b'copied' * MIB


def test_an_image_is_copied_into_a_second_store(glance_world: World,
                                                images: Maker) -> None:
    image_id = images.active(glance_world.member, DATA, 'file')

    glance_world.admin.copy_image(image_id, ['rbd'])

    wait_until(lambda: 'rbd' in glance_world.member.get_image(
        image_id).stores)
    image = wait_until(lambda: _settled(glance_world, image_id))
    assert (image.status, image.stores) == ('active', ('file', 'rbd'))
    places = glance_world.member.get_locations(image_id)
    assert [place.partition(':')[0] for place in places] == ['file', 'rbd']
    assert b''.join(glance_world.member.download(image_id)) == DATA


def _settled(world: World, image_id: str) -> object:
    image = world.member.get_image(image_id)
    return not image.properties.get(
        'os_glance_importing_to_stores') and image


def test_where_it_goes_is_told_and_nobody_may_come_between(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, DATA * 4, 'file')
    glance_world.admin.copy_image(image_id, ['rbd'])

    with pytest.raises(exception.GlanceConflict):
        glance_world.admin.copy_image(image_id, ['rbd'])
    told = wait_until(lambda: glance_world.admin.get_image(
        image_id).properties.get('os_glance_importing_to_stores'))
    assert told == 'rbd'

    wait_until(lambda: _settled(glance_world, image_id))
    assert not glance_world.admin.get_image(image_id).properties.get(
        'os_glance_failed_import')


def test_who_is_no_admin_may_not(glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, b'data', 'file')
    with pytest.raises(exception.GlanceForbidden) as caught:
        glance_world.member.copy_image(image_id, ['rbd'])
    if 'real' in type(glance_world).__name__.lower():
        assert 'copy_image' in caught.value.remedy
    assert glance_world.member.get_image(image_id).stores == ('file',)


def test_where_it_is_already_it_is_not_copied(glance_world: World,
                                              images: Maker) -> None:
    image_id = images.active(glance_world.member, b'data')
    with pytest.raises(exception.InvalidInput, match='present'):
        glance_world.admin.copy_image(image_id, ['rbd'])


def test_a_store_that_is_not_there(glance_world: World, images: Maker
                                   ) -> None:
    image_id = images.active(glance_world.member, b'data')
    with pytest.raises(exception.GlanceConflict):
        glance_world.admin.copy_image(image_id, ['nowhere'])


def test_an_image_without_data_is_not_copied(glance_world: World,
                                             images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.GlanceConflict, match='active'):
        glance_world.admin.copy_image(image_id, ['rbd'])


def test_an_image_that_is_not_there(glance_world: World, images: Maker
                                    ) -> None:
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.admin.copy_image(images.new_id(glance_world.admin),
                                      ['rbd'])
