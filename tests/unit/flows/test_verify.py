# SPDX-License-Identifier: Apache-2.0
"""Signed images make volumes, forged ones do not; whichever way it goes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.signing import Signer, make_signer
from tests.unit.world import SIZE, OnStep, World, content
from volume_rbd import exception, model
from volume_rbd.flows import convert_image, create_from_image, verify
from volume_rbd.flows.base import Result, Task, Tools
from volume_rbd.plan import Reason

NEW = 'volume-new'
RSA = make_signer()
READING = verify.VerifySnapshot.title
both = pytest.mark.parametrize('store_id', ['rbd', 'file'])


class Box:
    """Certificates by id."""

    def __init__(self, *signers: Signer) -> None:
        self.certificates = {each.id: each.der for each in signers}

    def get(self, certificate_id: str) -> bytes:
        if certificate_id not in self.certificates:
            raise exception.SignatureInvalid(f'no {certificate_id}')
        return self.certificates[certificate_id]


def make(world: World, store_id: str, *, data: bytes | None = None,
         signed: bytes | None = None, signer: Signer = RSA, **change: str
         ) -> str:
    """An image with *data* whose signature is that of *signed*."""
    data = content() if data is None else data
    properties = signer.sign(data if signed is None else signed) | change
    return world.make_image(data, store_id=store_id, properties={
        key: value for key, value in properties.items() if value})


def create(world: World, image_id: str, box: Box | None = None,
           report: Any = None) -> Result:
    with world.driver() as driver:
        return driver.images.create(
            model.VolumeSpec(NEW), image_id, report=report,
            certificates=box or Box(RSA))


@contextlib.contextmanager
def leaving_nothing(world: World) -> Iterator[None]:
    before = world.state()
    with pytest.raises(exception.SignatureInvalid) as caught:
        yield
    assert caught.value.remedy
    assert world.state() == before


@both
def test_a_signed_image_makes_a_volume(store_id: str) -> None:
    world = World()
    result = create(world, make(world, store_id))
    assert result.strategy == {'rbd': 'clone', 'file': 'download'}[store_id]
    assert result.values['signature_verified'] is True
    assert world.read('volumes', NEW, length=SIZE) == content()


@both
def test_forged_data_makes_none(store_id: str) -> None:
    world = World()
    image_id = make(world, store_id, signed=content() + b'x')
    with leaving_nothing(world):
        create(world, image_id)


@both
def test_the_key_of_another_makes_none(store_id: str) -> None:
    world = World()
    image_id = make(world, store_id)
    other = dataclasses.replace(make_signer(), id=RSA.id)
    with leaving_nothing(world):
        create(world, image_id, Box(other))


@both
def test_a_missing_certificate_makes_none_and_nothing_is_read(store_id: str
                                                              ) -> None:
    world = World()
    image_id = make(world, store_id)
    world.trace()
    with leaving_nothing(world):
        create(world, image_id, Box())
    assert 'read' not in world.end_trace()['ceph']


@both
def test_a_signature_without_a_part_makes_none(store_id: str) -> None:
    world = World()
    image_id = make(world, store_id, img_signature_key_type='')
    with leaving_nothing(world), world.driver() as driver:
        driver.images.plan_create(model.VolumeSpec(NEW), image_id)
    with leaving_nothing(world):
        create(world, image_id)


@both
def test_an_unsigned_image_makes_none_where_a_signature_is_required(
        store_id: str) -> None:
    world = World()
    world.configure(verify_signatures='required')
    image_id = world.make_image(store_id=store_id)
    with leaving_nothing(world):
        create(world, image_id)


@both
def test_an_unsigned_image_is_said_to_be_unverified(store_id: str) -> None:
    world = World()
    report = OnStep()
    result = create(world, world.make_image(store_id=store_id), Box(),
                    report)
    assert result.values['signature_verified'] is False
    assert READING not in report.steps


@both
def test_nobody_looks_where_it_is_off(store_id: str) -> None:
    world = World()
    world.configure(verify_signatures='off')
    result = create(world, make(world, store_id, signed=b'forged'), Box())
    assert 'signature_verified' not in result.values


@both
def test_without_a_key_manager_a_signed_image_makes_none(store_id: str
                                                         ) -> None:
    world = World()
    image_id = make(world, store_id)
    with leaving_nothing(world), world.driver() as driver:
        driver.images.create(model.VolumeSpec(NEW), image_id)


def test_holes_are_zeros_and_are_not_read() -> None:
    world = World()
    data = content(40 * model.MIB)
    image_id = make(world, 'rbd', data=data)
    world.trace()
    report = OnStep()
    create(world, image_id, report=report)
    assert 0 < world.end_trace()['ceph'].count('read') < 20
    assert report.done_bytes + report.skipped_bytes == len(data)


def test_a_snapshot_is_read_once() -> None:
    world = World()
    image_id = make(world, 'rbd')
    with world.driver() as driver:
        for number in range(3):
            world.trace()
            result = driver.images.create(
                model.VolumeSpec(f'volume-{number}'), image_id,
                certificates=Box(RSA))
            assert result.values['signature_verified'] is True
            was_read = 'read' in world.end_trace()['ceph']
            assert was_read is (number == 0)


def test_a_known_verdict_needs_a_certificate_all_the_same() -> None:
    world = World()
    image_id = make(world, 'rbd')
    with world.driver() as driver:
        driver.images.create(model.VolumeSpec('volume-1'), image_id,
                             certificates=Box(RSA))
        with leaving_nothing(world):
            driver.images.create(model.VolumeSpec(NEW), image_id,
                                 certificates=Box())


def test_a_snapshot_that_is_exchanged_after_the_verdict_makes_no_volume(
        ) -> None:
    world = World()
    image_id = make(world, 'rbd')
    glance = world.ceph.cluster('glance').pool('images')

    def exchange() -> None:
        with glance.open(image_id) as image:
            image.unprotect_snapshot('snap')
            image.remove_snapshot('snap')
            image.write(b'forged', 0)
            image.create_snapshot('snap')
            image.protect_snapshot('snap')

    with pytest.raises(exception.SignatureInvalid, match='exchanged'):
        create(world, image_id, report=OnStep(
            {create_from_image.CloneImage.title: exchange}))
    assert world.disks('volumes') == []


def test_a_snapshot_that_is_gone_leads_to_a_download() -> None:
    world = World()
    image_id = make(world, 'rbd')
    glance = world.ceph.cluster('glance').pool('images')

    def hide() -> None:
        glance.rename(image_id, 'hidden')

    def show() -> None:
        glance.rename('hidden', image_id)

    result = create(world, image_id, report=OnStep({
        READING: hide, create_from_image.CreateBlank.title: show}))
    assert result.strategy == 'download'
    assert result.reason == Reason.MISSING_SNAPSHOT
    assert result.values['signature_verified'] is True


def test_reading_can_be_cancelled() -> None:
    world = World()
    image_id = make(world, 'rbd', data=content(8 * model.MIB))
    before = world.state()
    report = OnStep()

    class Cancelling(OnStep):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            super().advance(done_bytes, skipped_bytes)
            self.cancel()

    report = Cancelling()
    with pytest.raises(exception.Cancelled):
        create(world, image_id, report=report)
    assert report.steps[-1] == READING
    assert world.state() == before


def test_a_branch_that_verifies_nothing_makes_no_volume(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(tools: Any, steps: list[Task]) -> list[Task]:
        return steps

    monkeypatch.setattr(verify, 'before_clone', forgetful)
    world = World()
    image_id = make(world, 'rbd')
    with pytest.raises(exception.SignatureInvalid, match='on the way'):
        create(world, image_id)
    assert world.disks('volumes') == []


def test_who_goes_on_believes_no_record_that_it_was_verified() -> None:
    """Anybody may have written there that those steps are done."""
    world = World()
    image_id = world.make_image()
    before = world.state()
    given: dict[str, Any] = {
        'job': 'job-1', 'image_id': image_id, 'volume_name': NEW,
        'source': ['images', image_id, 'snap'], 'size_bytes': SIZE}
    tools = Tools(world.config, world.cluster, world.glance, OnStep(),
                  cast(Any, SimpleNamespace(is_verified=False)),
                  world.converter, is_resumed=True)
    with pytest.raises(exception.SignatureInvalid, match='killed'):
        create_from_image.CloneImage(tools).execute(**given)
    with pytest.raises(exception.SignatureInvalid, match='killed'):
        convert_image.ConvertFile(tools).execute(
            **given, disk_format='qcow2', is_size_fixed=True,
            disk_size_bytes=SIZE, file_id=['x', 1])
    assert world.state() == before
    assert not world.converter.calls
