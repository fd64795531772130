# SPDX-License-Identifier: Apache-2.0
"""A volume becomes an image in a format."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import disk_formats
from tests.unit.flows import checks
from tests.unit.flows.test_convert_image import CancelsAtCheck
from tests.unit.world import SOURCE, VOLUME, OnStep, World
from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.base import Result


class Conversion(checks.UploadOperation):
    disk_format = 'qcow2'

    def check_done(self) -> None:
        result, world = self.result, self.world
        assert (result.strategy, result.reason) == ('convert', 'not_raw')
        image_id = result.values['image_id']
        image = world.glance.get_image(image_id)
        assert (image.status, image.disk_format) == (
            'active', self.disk_format)
        assert world.download(image_id) == disk_formats.MAKERS[
            self.disk_format](self.data)
        assert world.disks('volumes') == [VOLUME]
        assert world.snapshots('volumes', VOLUME) == []
        assert world.read('volumes', VOLUME) == self.data
        assert not any(disk.watchers for disk in world.ceph.disks.values())


def convert(disk_format: str = 'qcow2', **request: Any) -> Conversion:
    world = World()
    data = world.make_volume()

    def run(report: Any) -> Result:
        with world.driver() as driver:
            return driver.images.upload(
                SOURCE, ImageRequest('title', disk_format=disk_format,
                                     **request), report=report)

    operation = Conversion(world, data, run, request.get('image_id'))
    operation.disk_format = disk_format
    return operation


@pytest.mark.parametrize('disk_format', sorted(
    set(disk_formats.MAKERS) - {'vmdk'}))
def test_the_image_is_a_file_of_the_format(disk_format: str) -> None:
    convert(disk_format).go().check_done()


def test_a_vmdk_does_not_tell_where_it_was_written() -> None:
    operation = convert('vmdk').go()
    image_id = operation.result.values['image_id']
    file = operation.world.download(image_id)
    assert f'SPARSE "{image_id}.vmdk"\n'.encode() in file
    assert b'disk.vmdk' not in file
    assert file[disk_formats.PAYLOAD:] == operation.data


def test_the_file_is_staged_beside_the_volume_and_marked() -> None:
    seen: list[Any] = []
    operation = convert()

    def look() -> None:
        world = operation.world
        [name] = [name for name in world.disks('volumes') if name != VOLUME]
        seen.append((name, world.mark('volumes', name)))

    operation.go(OnStep({'uploading the file': look})).check_done()
    [(name, mark)] = seen
    image_id = operation.result.values['image_id']
    assert name == f'volume_rbd.stage-{image_id}'
    assert mark.kind == lineage.STAGE
    assert mark.origin == (
        f'rbd:volumes/{VOLUME}@volume_rbd.upload-{image_id}')


def test_it_is_compressed_only_if_asked_for() -> None:
    plain, packed = convert().go(), convert(is_compressed=True).go()
    assert plain.world.converter.calls == ['to_format qcow2']
    assert packed.world.converter.calls == ['to_format qcow2 -c']


def test_what_cannot_be_compressed_is_not() -> None:
    operation = convert('vdi', is_compressed=True).go()
    assert operation.world.converter.calls == ['to_format vdi']


def test_an_encrypted_volume_is_not_converted() -> None:
    world = World()
    world.make_volume()
    before = world.state()
    with world.driver() as driver, pytest.raises(exception.NotSupported):
        driver.images.upload(
            model.VolumeSpec(VOLUME, is_encrypted=True),
            ImageRequest('x', disk_format='qcow2'))
    assert world.state() == before


@pytest.mark.parametrize('error', [
    exception.ConversionFailed('no'), exception.NoSpace('full')])
def test_a_conversion_that_fails_leaves_nothing(
        error: exception.VolumeRBDError) -> None:
    operation = convert()
    operation.world.converter.leaves_watch = True
    operation.world.converter.fail_next(error)
    operation.go()
    assert type(operation.error) is type(error)
    operation.check_untouched()


def test_cancelling_at_any_moment_leaves_nothing() -> None:
    for number in range(300):
        operation = convert().go(CancelsAtCheck(number))
        if not isinstance(operation.outcome, BaseException):
            assert number > 5
            operation.check_done()
            return
        assert isinstance(operation.error, exception.Cancelled)
        operation.check_untouched()
    raise AssertionError('it never came to its end')


@pytest.mark.parametrize('side', ['ceph', 'glance'])
def test_whatever_call_fails_nothing_is_left_or_it_is_done(side: str
                                                           ) -> None:
    calls = convert().go().calls[side]
    for number in range(len(calls)):
        operation = convert()
        operation.world.break_call(
            side, number, exception.OperationTimeout('no answer'))
        operation.go()
        if isinstance(operation.outcome, BaseException):
            if 'could be undone' not in str(operation.outcome):
                operation.check_untouched()
        elif not (operation.result.values.get('stage_leftover')
                  or operation.result.values.get('leftover')):
            operation.check_done()
