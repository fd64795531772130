# SPDX-License-Identifier: Apache-2.0
"""An image in a format becomes a volume."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.fakes import disk_formats
from tests.unit.flows import checks
from tests.unit.world import OnStep, World, content
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.flows import convert_image, staging
from volume_rbd.flows.base import Result

GIB = model.GIB
STAGE = 'volume_rbd.stage-volume-new'
INSIDE = content()


class Conversion(checks.CreateOperation):
    def check_done(self) -> None:
        super().check_done()
        assert self.result.strategy == 'convert'


def convert(disk_format: str = 'qcow2', store_id: str | None = None, *,
            file: bytes | None = None, size_bytes: int | None = GIB,
            world: World | None = None, may_write: bool = True,
            **changes: Any) -> Conversion:
    """:param may_write: to the pool of the images."""
    world = world or World()
    if not may_write:
        world.ceph.caps['cinder']['images'] = 'r'
    world.configure(**changes)
    if file is None:
        file = disk_formats.MAKERS[disk_format](INSIDE)
    image_id = world.make_image(file, store_id=store_id,
                                disk_format=disk_format)
    volume = model.VolumeSpec(checks.NEW, size_bytes)

    def run(report: Any) -> Result:
        with world.driver() as driver:
            return driver.images.create(volume, image_id, report=report)

    return Conversion(world, INSIDE, run, image_id)


def test_who_may_only_read_the_image_converts_a_clone_of_it() -> None:
    """qemu opens everything for writing."""
    operation = convert(may_write=False).go()
    operation.check_done()
    assert 'clone' in operation.calls['ceph']
    assert 'download' not in operation.calls['glance']
    assert operation.world.disks('volumes') == [checks.NEW]


def test_the_signature_of_a_file_that_is_only_read_is_verified() -> None:
    arguments = {'source': ['images', 'x', 'snap'], 'stages_clone': True}
    tools = cast(Any, SimpleNamespace(checker=object()))
    assert convert_image.find_stage(tools, arguments) is (
        convert_image.Stage.DOWNLOAD)


class CancelsAtCheck(progress.Cancellable):
    """:param number: of the question whether to go on that is denied."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.cancel()
        super().check()


both_ways = pytest.mark.parametrize('store_id', ['rbd', 'file'])
any_stage = pytest.mark.parametrize('stage', [
    {'store_id': 'rbd'}, {'store_id': 'rbd', 'may_write': False},
    {'store_id': 'file'}], ids=['none', 'clone', 'download'])


@both_ways
@pytest.mark.parametrize('disk_format', sorted(disk_formats.MAKERS))
def test_the_volume_has_the_disk_inside(disk_format: str, store_id: str
                                        ) -> None:
    operation = convert(disk_format, store_id).go()
    operation.check_done()
    assert operation.result.reason == 'not_raw'
    assert operation.result.size_bytes == GIB


@both_ways
def test_an_iso_becomes_the_volume_as_it_is(store_id: str) -> None:
    operation = convert('iso', store_id, file=disk_formats.iso())
    operation.data = disk_formats.iso()
    operation.go().check_done()


def test_what_lies_in_the_cluster_does_not_pass_through_glance() -> None:
    operation = convert().go()
    assert 'download' not in operation.calls['glance']
    assert operation.result.values['source'] == [
        'images', operation.image_id, 'snap']


def test_what_lies_elsewhere_is_staged_beside_the_volume_and_goes() -> None:
    seen: list[list[str]] = []
    operation = convert(store_id='file')
    operation.go(OnStep({
        'converting the image':
            lambda: seen.append(operation.world.disks('volumes'))}))
    operation.check_done()
    assert seen == [[checks.NEW, STAGE]]


def test_the_staged_bytes_are_marked_while_they_are_there() -> None:
    marks: list[lineage.Lineage | None] = []
    operation = convert(store_id='file')
    operation.go(OnStep({
        'inspecting the image': lambda: marks.append(
            operation.world.mark('volumes', STAGE))}))
    [mark] = marks
    assert mark is not None
    assert (mark.kind, mark.state) == (lineage.STAGE, lineage.PENDING)
    assert mark.origin == f'glance:{operation.image_id}'


def test_staged_bytes_that_a_killed_run_left_are_replaced() -> None:
    operation = convert(store_id='file')
    operation.world.volumes.create(STAGE, 4096)
    operation.go()
    assert operation.result.strategy == 'convert'
    assert operation.world.disks('volumes') == [checks.NEW]


def test_a_stage_that_cannot_go_is_told_and_does_no_harm() -> None:
    operation = convert(store_id='file')
    world = operation.world
    operation.go(OnStep({
        'removing the staged image': lambda: world.ceph.fail_next(
            'remove', exception.ImageBusy('open'))}))
    assert operation.result.values['leftover'] == STAGE
    assert world.read('volumes', checks.NEW, length=len(INSIDE)) == INSIDE


# -- its size -----------------------------------------------------------------

@both_ways
def test_the_disk_inside_decides_the_size_where_none_was_asked(
        store_id: str) -> None:
    file = disk_formats.qcow2(INSIDE, size=3 * GIB - 1)
    operation = convert('qcow2', store_id, file=file, size_bytes=None).go()
    assert operation.result.size_bytes == 3 * GIB
    [disk] = [disk for disk in operation.world.ceph.disks.values()
              if disk.name == checks.NEW]
    assert disk.size == 3 * GIB


@both_ways
def test_a_volume_that_is_too_small_is_refused_before_a_byte(
        store_id: str) -> None:
    file = disk_formats.qcow2(INSIDE, size=GIB + 512)
    operation = convert('qcow2', store_id, file=file).go()
    assert isinstance(operation.error, exception.InvalidSize)
    assert 'Ask for 2 GiB' in str(operation.error)
    operation.check_untouched()
    assert not operation.world.converter.calls
    assert 'aio_write' not in operation.calls['ceph']


@both_ways
def test_a_disk_over_the_quota_is_refused(store_id: str) -> None:
    file = disk_formats.qcow2(INSIDE, size=3 * GIB)
    operation = convert('qcow2', store_id, file=file, size_bytes=None,
                        max_volume_bytes=2 * GIB).go()
    assert isinstance(operation.error, exception.QuotaExceeded)
    operation.check_untouched()


# -- whom not to trust --------------------------------------------------------

@both_ways
@pytest.mark.parametrize(('disk_format', 'file'), [
    ('qcow2', disk_formats.qcow2(INSIDE, backing_offset=112)),
    ('qcow2', disk_formats.qcow2(INSIDE, incompatible=4)),
    ('qcow2', disk_formats.qcow2(INSIDE, crypt=2)),
    ('qcow2', INSIDE),
    ('vmdk', disk_formats.qcow2(INSIDE)),
    ('vmdk', disk_formats.vmdk(INSIDE, text=disk_formats.VMDK_TEXT.replace(
        'SPARSE "disk', 'FLAT "disk'))),
    ('iso', disk_formats.qcow2(INSIDE)),
    ('qcow2', disk_formats.qcow2(INSIDE, size=2 ** 63)),
])
def test_what_lies_or_reaches_out_is_never_opened(
        disk_format: str, file: bytes, store_id: str) -> None:
    operation = convert(disk_format, store_id, file=file).go()
    assert isinstance(operation.error, exception.ImageUnsafe)
    operation.check_untouched()
    assert not operation.world.converter.calls


def test_a_raw_image_is_never_read_as_a_format() -> None:
    """Whoever writes a volume decides what its first bytes look like."""
    data = disk_formats.qcow2(INSIDE, backing_offset=112)
    operation = checks.create(data=data).go()
    operation.check_done()
    assert operation.result.strategy == 'clone'
    assert not operation.world.converter.calls


def test_an_image_that_is_exchanged_while_it_is_read_is_refused() -> None:
    operation = convert()
    world = operation.world

    def exchange() -> None:
        with world.ceph.cluster('glance').pool('images').open(
                operation.image_id or '') as image:
            image.unprotect_snapshot('snap')
            image.remove_snapshot('snap')
            image.create_snapshot('snap')

    operation.go(OnStep({'converting the image': exchange}))
    assert isinstance(operation.error, exception.ImageUnsafe)
    assert world.disks('volumes') == []


# -- what goes wrong ----------------------------------------------------------

@both_ways
@pytest.mark.parametrize('error', [
    exception.ConversionFailed('corrupt'), exception.NoSpace('full'),
    exception.Cancelled('stop')])
def test_a_conversion_that_fails_leaves_nothing(
        error: exception.VolumeRBDError, store_id: str) -> None:
    operation = convert(store_id=store_id)
    operation.world.converter.leaves_watch = True
    operation.world.converter.fail_next(error)
    operation.go()
    assert type(operation.error) is type(error)
    operation.check_untouched()


def test_a_watch_that_stays_is_waited_for(monkeypatch: pytest.MonkeyPatch
                                          ) -> None:
    monkeypatch.setattr(staging, '_LET_GO_TIMEOUT_S', 0.01)
    operation = convert()
    operation.world.converter.leaves_watch = True
    operation.world.converter.fail_next(exception.ConversionFailed('no'))
    operation.world.ceph.fail_next(
        'fence_writer', exception.CephPermissionDenied('no'))
    operation.go()
    assert 'could be undone' in str(operation.error)


@any_stage
def test_cancelling_at_any_moment_leaves_nothing(stage: dict[str, Any]
                                                 ) -> None:
    for number in range(200):
        operation = convert(**stage)
        operation.go(CancelsAtCheck(number))
        if not isinstance(operation.outcome, BaseException):
            assert number > 5
            operation.check_done()
            return
        assert isinstance(operation.error, exception.Cancelled)
        operation.check_untouched()
    raise AssertionError('it never came to its end')


@any_stage
@pytest.mark.parametrize('side', ['ceph', 'glance'])
def test_whatever_call_fails_nothing_is_left_or_it_is_done(
        side: str, stage: dict[str, Any]) -> None:
    calls = convert(**stage).go().calls[side]
    for number in range(len(calls)):
        operation = convert(**stage)
        operation.world.break_call(
            side, number, exception.OperationTimeout('no answer'))
        operation.go()
        if 'could be undone' in str(operation.outcome):
            continue
        if isinstance(operation.outcome, BaseException):
            operation.check_untouched()
        elif operation.result.values.get('leftover') is None:
            operation.check_done()


def test_a_conversion_is_refused_where_the_operator_forbids_it() -> None:
    operation = convert(may_convert=False).go()
    assert isinstance(operation.error, exception.NotSupported)
    operation.check_untouched()


# -- a volume gets another content --------------------------------------------

def _replace(world: World, image_id: str, report: Any = None) -> Result:
    with world.driver() as driver:
        return driver.images.replace(model.VolumeSpec(checks.NEW), image_id,
                                     report=report)


@both_ways
@pytest.mark.parametrize('disk_format', ['raw', 'qcow2', 'iso'])
def test_a_volume_gets_the_content_of_another_image(
        disk_format: str, store_id: str) -> None:
    file = {'raw': INSIDE, 'qcow2': disk_formats.qcow2(INSIDE),
            'iso': disk_formats.iso()}[disk_format]
    inside = INSIDE if disk_format == 'qcow2' else file
    world = World()
    image_id = world.make_image(file, store_id=store_id,
                                disk_format=disk_format)
    world.volumes.create(checks.NEW, 4 * model.MIB)
    with world.volumes.open(checks.NEW) as volume:
        volume.write(b'x' * (4 * model.MIB), 0)
        volume.create_snapshot('theirs')
    result = _replace(world, image_id)
    as_it_is = 'copy' if store_id == 'rbd' else 'download'
    assert result.strategy == (as_it_is if disk_format == 'raw'
                               else 'convert')
    assert world.read('volumes', checks.NEW) == inside.ljust(
        4 * model.MIB, b'\0')
    assert world.read('volumes', checks.NEW, 'theirs', 1) == b'x'
    assert world.disks('volumes') == [checks.NEW]
    assert world.snapshots('volumes', checks.NEW) == ['theirs']


@pytest.mark.parametrize(('file', 'error'), [
    (disk_formats.qcow2(INSIDE, backing_offset=8), exception.ImageUnsafe),
    (disk_formats.qcow2(INSIDE, size=GIB), exception.InvalidSize)])
@both_ways
def test_an_image_that_does_not_do_changes_nothing(
        file: bytes, error: type[Exception], store_id: str) -> None:
    world = World()
    image_id = world.make_image(file, store_id=store_id, disk_format='qcow2')
    world.make_volume(checks.NEW)
    before = world.state()
    with pytest.raises(error):
        _replace(world, image_id)
    assert world.state() == before


def test_the_content_of_an_open_volume_is_not_replaced() -> None:
    world = World()
    image_id = world.make_image(disk_formats.qcow2(INSIDE),
                                disk_format='qcow2')
    data = world.make_volume(checks.NEW)
    with world.ceph.cluster('admin').pool('volumes').open(checks.NEW), \
            pytest.raises(exception.ImageBusy):
        _replace(world, image_id)
    assert world.read('volumes', checks.NEW) == data
