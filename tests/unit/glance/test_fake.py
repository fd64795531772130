# SPDX-License-Identifier: Apache-2.0
"""The fake's knobs: what the contract tests cannot ask of a real Glance."""

from __future__ import annotations

import dataclasses
import io

import pytest

from tests.fakes.glance import FILE, RBD, FakeGlance, GlanceServer
from volume_rbd import exception

URL = f'rbd://{RBD.fsid}/images/i/snap'


def make(glance: FakeGlance, image_id: str = 'i') -> str:
    glance.create_image(image_id=image_id, name='n', disk_format='raw',
                        container_format='bare')
    return image_id


def test_a_failure_can_be_asked_for_and_passes() -> None:
    glance = FakeGlance()
    make(glance)
    glance.fail_next('get_image', exception.GlanceUnavailable('500'), 2)
    for _ in range(2):
        with pytest.raises(exception.GlanceUnavailable):
            glance.get_image('i')
    assert glance.get_image('i').id == 'i'


def test_a_quota_counts_all_images() -> None:
    glance = FakeGlance(GlanceServer(quota_bytes=5))
    glance.upload(make(glance), io.BytesIO(b'abc'), size_bytes=3)
    with pytest.raises(exception.QuotaExceeded):
        glance.upload(make(glance, 'j'), io.BytesIO(b'abc'), size_bytes=3)
    assert glance.get_image('j').status == 'queued'


def test_activation_waits_for_so_many_looks() -> None:
    glance = FakeGlance(GlanceServer(
        can_open=lambda url: 7, activation_polls=3))
    glance.register_location(make(glance), URL)
    statuses = [glance.get_image('i').status for _ in range(4)]
    assert statuses == ['queued', 'queued', 'queued', 'active']
    assert glance.get_image('i').size_bytes == 7


def test_an_activation_may_never_come() -> None:
    glance = FakeGlance(GlanceServer(
        can_open=lambda url: 7, activation_polls=None))
    glance.register_location(make(glance), URL)
    assert {glance.get_image('i').status for _ in range(50)} == {'queued'}
    assert glance.get_tasks('i')[-1]['status'] == 'processing'


def test_a_registered_location_is_downloaded_from_where_it_is() -> None:
    glance = FakeGlance(GlanceServer(
        can_open=lambda url: 3, read_url=lambda url: b'abc',
        activation_polls=0))
    glance.register_location(make(glance), URL)
    assert b''.join(glance.download('i', 2)) == b'abc'


def test_the_old_way_registers_at_once_where_locations_are_shown() -> None:
    glance = FakeGlance(GlanceServer(
        can_open=lambda url: 3, show_locations=True))
    glance.register_location_legacy(make(glance), URL)
    image = glance.get_image('i')
    assert (image.status, image.locations) == ('active', (URL,))


def test_an_old_glance_has_no_new_ways() -> None:
    glance = FakeGlance(GlanceServer(
        has_locations_api=False, has_stores=False))
    with pytest.raises(exception.ApiNotImplemented):
        glance.register_location(make(glance), URL)
    with pytest.raises(exception.ApiNotImplemented):
        glance.get_stores()
    assert glance.get_locations('i') == ()


def test_a_read_only_store_takes_nothing() -> None:
    read_only = dataclasses.replace(FILE, is_read_only=True)
    glance = FakeGlance(GlanceServer([RBD, read_only]))
    with pytest.raises(exception.GlanceConflict):
        glance.upload(make(glance), io.BytesIO(b'abc'), size_bytes=3,
                      store_id='file')
