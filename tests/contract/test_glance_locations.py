# SPDX-License-Identifier: Apache-2.0
"""Registering a location, and reading what is registered."""

from __future__ import annotations

import hashlib
import uuid

import pytest

from tests.contract.glance_worlds import MIB, Maker, World, wait_until
from volume_rbd import exception, model

pytest_plugins = ('tests.contract.glance_fixtures',)


def test_a_good_location_makes_the_image_active(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    url = glance_world.make_rbd_image(image_id, 24 * MIB)
    glance_world.member.register_location(image_id, url)
    wait_until(lambda: glance_world.member.get_image(
        image_id).status == 'active')
    image = glance_world.member.get_image(image_id)
    assert image.size_bytes == 24 * MIB
    assert image.stores == ('rbd',)
    assert glance_world.member.get_locations(image_id) == (url,)


@pytest.mark.parametrize('name', ['sha512', 'sha256'])
def test_a_hash_that_comes_with_the_location_becomes_the_images(
        glance_world: World, images: Maker, name: str) -> None:
    """Where do_secure_hash is off; the checksum is not taken."""
    image_id = images.queued(glance_world.member)
    url = glance_world.make_rbd_image(image_id, 8 * MIB)
    value = hashlib.new(name, bytes(8 * MIB)).hexdigest()
    glance_world.member.register_location(
        image_id, url, model.Hashes(name, value, 'not sent'))
    wait_until(lambda: glance_world.member.get_image(
        image_id).status == 'active')
    image = glance_world.member.get_image(image_id)
    assert (image.os_hash_algo, image.os_hash_value) == (name, value)
    assert image.checksum is None


def test_a_location_without_a_hash_has_none(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    glance_world.member.register_location(
        image_id, glance_world.make_rbd_image(image_id, 8 * MIB))
    wait_until(lambda: glance_world.member.get_image(
        image_id).status == 'active')
    assert glance_world.member.get_image(image_id).os_hash_value is None


def test_a_hash_that_is_none_of_its_kind_is_refused(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.InvalidInput):
        glance_world.member.register_location(
            image_id, glance_world.bad_url(image_id),
            model.Hashes('sha512', '00' * 32))
    assert glance_world.member.get_image(image_id).status == 'queued'


def test_a_location_that_cannot_be_opened_leaves_the_image_queued(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    url = glance_world.bad_url(image_id)
    glance_world.member.register_location(image_id, url)

    def has_failed() -> bool:
        status = glance_world.member.get_image(image_id).status
        assert status in ('queued', 'importing')
        tasks = glance_world.member.get_tasks(image_id)
        return bool(tasks) and tasks[-1]['status'] == 'failure'

    wait_until(has_failed)
    assert glance_world.member.get_image(image_id).status == 'queued'
    task = glance_world.member.get_tasks(image_id)[-1]
    assert task['type'] == 'location_import'
    assert task['url'] == url
    assert task['message']
    assert task['request_id'].startswith('req-')


def test_a_user_alone_may_not_register(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.plain)
    with pytest.raises(exception.GlanceForbidden):
        glance_world.plain.register_location(
            image_id, glance_world.bad_url(image_id))
    assert glance_world.plain.get_image(image_id).status == 'queued'


def test_an_active_image_takes_no_location(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, b'abc')
    before = glance_world.member.get_locations(image_id)
    with pytest.raises(exception.GlanceConflict):
        glance_world.member.register_location(
            image_id, glance_world.bad_url(str(uuid.uuid4())))
    assert glance_world.member.get_locations(image_id) == before


def test_a_url_that_is_none_is_accepted_and_fails_later(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    glance_world.member.register_location(image_id, 'nonsense')
    wait_until(lambda: [
        task['status'] for task in glance_world.member.get_tasks(image_id)
        if task['url'] == 'nonsense'] == ['failure'])
    assert glance_world.member.get_image(image_id).status == 'queued'


def test_a_location_on_the_web_is_refused(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.InvalidInput):
        glance_world.member.register_location(
            image_id, 'http://127.0.0.1:1/image')


def test_after_a_failure_another_location_can_be_registered(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    glance_world.member.register_location(image_id, 'nonsense')
    wait_until(lambda: [
        task['status'] for task in glance_world.member.get_tasks(image_id)
        ] == ['failure'])
    url = glance_world.make_rbd_image(image_id, 8 * MIB)
    glance_world.member.register_location(image_id, url)
    wait_until(lambda: glance_world.member.get_image(
        image_id).status == 'active')
    wait_until(lambda: {
        task['url']: task['status']
        for task in glance_world.member.get_tasks(image_id)
    } == {'nonsense': 'failure', url: 'success'})


def test_an_unknown_image_takes_no_location(glance_world: World) -> None:
    image_id = str(uuid.uuid4())
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.member.register_location(
            image_id, glance_world.bad_url(image_id))


def test_the_old_way_is_refused_where_locations_are_hidden(
        glance_world: World, images: Maker) -> None:
    image_id = images.queued(glance_world.member)
    with pytest.raises(exception.GlanceForbidden):
        glance_world.member.register_location_legacy(
            image_id, glance_world.bad_url(image_id))


def test_the_service_sees_locations_that_the_user_does_not(
        glance_world: World, images: Maker) -> None:
    image_id = images.active(glance_world.member, b'abc')
    [url] = glance_world.member.get_locations(image_id)
    assert url.startswith('rbd://')
    assert url.endswith(f'/images/{image_id}/snap')
    assert glance_world.member.get_image(image_id).locations == ()
    assert glance_world.plain.get_locations(image_id) == ()


def test_the_locations_of_an_unknown_image_are_not_found(
        glance_world: World) -> None:
    with pytest.raises(exception.GlanceImageNotFound):
        glance_world.member.get_locations(str(uuid.uuid4()))


def test_an_unknown_image_has_no_tasks(glance_world: World) -> None:
    assert glance_world.member.get_tasks(str(uuid.uuid4())) == []
