# SPDX-License-Identifier: Apache-2.0
"""An image becomes an encrypted volume, and such a volume an image."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import disk_formats
from tests.fakes.qemu_img import LUKS_HEADER_BYTES, LUKS_MAGIC
from tests.unit.flows import checks, test_verify
from tests.unit.flows.test_convert_image import CancelsAtCheck
from tests.unit.world import OnStep, World, content
from volume_rbd import exception, model
from volume_rbd.copying import luks
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows import base, create_from_image, upload_to_image
from volume_rbd.flows.base import Result

GIB = model.GIB
INSIDE = content()
PASSPHRASE = 'correct-horse-battery-staple-0815'
ENCRYPTION = luks.Encryption(PASSPHRASE)
NEW_SPEC = model.VolumeSpec(checks.NEW, GIB)
SEALED_BYTES = 4 * model.MIB
SEALED = model.VolumeSpec('volume-sealed', SEALED_BYTES)
FILES = {'raw': INSIDE, 'qcow2': disk_formats.qcow2(INSIDE)}

every_way = pytest.mark.parametrize(('disk_format', 'store_id'), [
    (disk_format, store_id) for disk_format in FILES
    for store_id in ('rbd', 'file')])
both_formats = pytest.mark.parametrize('disk_format', FILES)


class Creation(checks.Operation):
    def check_done(self) -> None:
        world = self.world
        assert (self.result.strategy, self.result.reason) == (
            'convert', 'encryption_wanted')
        assert self.result.size_bytes == GIB
        assert world.disks('volumes') == [checks.NEW]
        found = world.read('volumes', checks.NEW,
                           length=LUKS_HEADER_BYTES + len(INSIDE))
        assert found[:40] == LUKS_MAGIC + hashlib.sha256(
            PASSPHRASE.encode()).digest()
        assert found[LUKS_HEADER_BYTES:] == INSIDE
        [disk] = [disk for disk in world.ceph.disks.values()
                  if disk.name == checks.NEW]
        assert disk.size == GIB + LUKS_HEADER_BYTES
        assert disk.link is None
        assert not disk.watchers
        mark = world.mark('volumes', checks.NEW)
        assert mark is not None
        assert (mark.state, mark.origin) == (
            'complete', f'glance:{self.image_id}')
        assert PASSPHRASE not in str(world.state())


def seal(disk_format: str = 'qcow2', store_id: str = 'rbd', *,
         file: bytes | None = None, volume: model.VolumeSpec = NEW_SPEC,
         properties: dict[str, str] | None = None,
         encryption: luks.Encryption | None = ENCRYPTION, **changes: Any
         ) -> Creation:
    world = World()
    world.configure(**changes)
    image_id = world.make_image(
        FILES[disk_format] if file is None else file, store_id=store_id,
        disk_format=disk_format, properties=properties or {})

    def run(report: Any) -> Result:
        with world.driver() as driver:
            return driver.images.create(volume, image_id, report=report,
                                        encryption=encryption)

    return Creation(world, INSIDE, run, image_id)


@every_way
def test_the_volume_has_a_header_and_the_disk_inside(
        disk_format: str, store_id: str) -> None:
    operation = seal(disk_format, store_id).go()
    operation.check_done()
    is_direct = operation.result.values['source'] is not None
    assert is_direct == (store_id == 'rbd')
    assert is_direct == ('download' not in operation.calls['glance'])


@every_way
def test_the_passphrase_is_in_no_record_and_no_log(
        disk_format: str, store_id: str, tmp_path: Path,
        caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    records: list[str] = []
    operation = seal(disk_format, store_id,
                     flow_connection=f'dir://{tmp_path}')
    operation.go(OnStep({'converting the image': lambda: records.extend(
        path.read_text() for path in tmp_path.rglob('*')
        if path.is_file())}))
    operation.check_done()
    assert any('encryption_wanted' in record for record in records)
    assert PASSPHRASE not in ''.join(records) + caplog.text
    assert PASSPHRASE not in str(operation.result) + repr(ENCRYPTION)


def test_a_flow_that_is_taken_up_without_the_passphrase_does_nothing(
        ) -> None:
    """Its arguments do not have it, and say that it was wanted."""
    arguments = {'source': None, 'settings': None, 'volume_name': 'v',
                 'record_exists': True, 'gives_up_record': False,
                 'choices': [
                     {'strategy': 'convert', 'reason': 'encryption_wanted'}]}
    world = World()
    tools = base.Tools(world.config, world.cluster, world.glance,
                       OnStep(), converter=world.converter)
    for flow in (create_from_image, upload_to_image):
        with pytest.raises(exception.InvalidInput, match='passphrase'):
            flow.get_flow(tools, arguments)
        flow.get_flow(dataclasses.replace(tools, encryption=ENCRYPTION),
                      arguments)


def test_zeros_of_the_disk_are_written_too() -> None:
    """What is not written decrypts to anything."""
    operation = seal('raw').go()
    [disk] = [disk for disk in operation.world.ceph.disks.values()
              if disk.name == checks.NEW]
    plain = checks.create(flatten_volume_from_snapshot=True).go()
    [other] = [disk for disk in plain.world.ceph.disks.values()
               if disk.name == checks.NEW]
    assert len(disk.blocks) > len(other.blocks)


@both_formats
def test_no_base_is_made_or_used(disk_format: str) -> None:
    operation = seal(disk_format, image_base_cache=True)
    if disk_format == 'qcow2':
        with operation.world.driver() as driver:
            driver.images.create(model.VolumeSpec('volume-plain'),
                                 operation.image_id or '')
        before = operation.world.disks('volumes')
        assert f'volume_rbd.base-{operation.image_id}' in before
        operation.go()
        [disk] = [disk for disk in operation.world.ceph.disks.values()
                  if disk.name == checks.NEW]
        assert disk.link is None
        assert operation.world.disks('volumes') == [checks.NEW, *before]
    else:
        operation.go().check_done()


def test_the_disk_inside_decides_the_size_beside_the_header() -> None:
    operation = seal(file=disk_formats.qcow2(INSIDE, size=3 * GIB - 1),
                     volume=model.VolumeSpec(checks.NEW)).go()
    assert operation.result.size_bytes == 3 * GIB
    [disk] = [disk for disk in operation.world.ceph.disks.values()
              if disk.name == checks.NEW]
    assert disk.size == 3 * GIB + LUKS_HEADER_BYTES


@pytest.mark.parametrize(('file', 'disk_format'), [
    (disk_formats.qcow2(INSIDE, backing_offset=112), 'qcow2'),
    (disk_formats.qcow2(INSIDE), 'raw'), (INSIDE, 'qcow2'),
    (LUKS_MAGIC + INSIDE, 'raw')])
@pytest.mark.parametrize('store_id', ['rbd', 'file'])
def test_what_lies_or_is_encrypted_already_is_never_opened(
        file: bytes, disk_format: str, store_id: str) -> None:
    operation = seal(disk_format, store_id, file=file).go()
    assert isinstance(operation.error, exception.ImageUnsafe)
    operation.check_untouched()
    assert not operation.world.converter.calls


@pytest.mark.parametrize('encryption', [
    luks.Encryption(''), luks.Encryption('x', 'aes'),
    luks.Encryption('x', key_size=100), None])
def test_what_cannot_be_encrypted_is_refused_before_anything_is_touched(
        encryption: luks.Encryption | None) -> None:
    operation = seal(encryption=encryption, volume=model.VolumeSpec(
        checks.NEW, GIB, is_encrypted=True)).go()
    assert isinstance(operation.error, exception.InvalidInput)
    operation.check_untouched()


@every_way
def test_cancelling_at_any_moment_leaves_nothing(
        disk_format: str, store_id: str) -> None:
    for number in range(200):
        operation = seal(disk_format, store_id).go(CancelsAtCheck(number))
        if not isinstance(operation.outcome, BaseException):
            assert number > 5
            operation.check_done()
            return
        assert isinstance(operation.error, exception.Cancelled)
        operation.check_untouched()
    raise AssertionError('it never came to its end')


@pytest.mark.parametrize('store_id', ['rbd', 'file'])
@pytest.mark.parametrize('side', ['ceph', 'glance'])
def test_whatever_call_fails_nothing_is_left_or_it_is_done(
        side: str, store_id: str) -> None:
    calls = seal('raw', store_id).go().calls[side]
    for number in range(len(calls)):
        operation = seal('raw', store_id)
        operation.world.break_call(
            side, number, exception.OperationTimeout('no answer'))
        operation.go()
        if 'could be undone' in str(operation.outcome):
            continue
        if not isinstance(operation.outcome, BaseException):
            if operation.result.values.get('leftover') is None:
                operation.check_done()
        else:
            operation.check_untouched()


@every_way
@pytest.mark.parametrize('failures', [1, 2, 3])
def test_a_conversion_that_fails_leaves_nothing(
        disk_format: str, store_id: str, failures: int) -> None:
    """While the header is made, too; what is worth another try gets it."""
    operation = seal(disk_format, store_id)
    operation.world.converter.leaves_watch = True
    operation.world.converter.fail_next(exception.ConversionFailed(
        'Unable to get accurate CPU usage'), failures - 1)
    operation.world.converter.fail_next(exception.NoSpace('full'))
    operation.go()
    assert isinstance(operation.error, exception.NoSpace)
    operation.check_untouched()


# -- from what is encrypted already -------------------------------------------

def _sealed_volume(world: World) -> None:
    with world.driver() as driver:
        driver.encryption.create_blank(SEALED, passphrase=PASSPHRASE)
    with world.volumes.open(SEALED.name) as volume:
        volume.write(INSIDE, LUKS_HEADER_BYTES)


def _upload(world: World, **request: Any) -> Result:
    passphrase = request.pop('passphrase', None)
    with world.driver() as driver:
        return driver.images.upload(
            model.VolumeSpec(SEALED.name), ImageRequest('x', **request),
            passphrase=passphrase)


@pytest.mark.parametrize(('is_on', 'strategy'), [
    (True, 'copy'), (False, 'upload')])
def test_an_encrypted_volume_makes_an_image_that_says_so_and_a_volume_again(
        is_on: bool, strategy: str) -> None:
    world = World()
    world.configure(enable_clone_optimization=is_on)
    _sealed_volume(world)

    result = _upload(world)

    assert result.strategy == strategy
    image = world.glance.get_image(result.values['image_id'])
    assert image.is_encrypted
    assert image.disk_format == 'raw'
    assert world.download(image.id) == world.read('volumes', SEALED.name)
    with world.driver() as driver:
        for size_bytes, got in ((None, GIB), (3 * GIB, 3 * GIB)):
            made = driver.images.create(
                model.VolumeSpec(checks.NEW, size_bytes), image.id,
                encryption=ENCRYPTION)
            assert made.reason == 'encrypted_image'
            assert made.strategy in ('copy', 'download')
            assert driver.volumes.show(checks.NEW).size_bytes == (
                got + SEALED_BYTES + LUKS_HEADER_BYTES)
            assert world.read(
                'volumes', checks.NEW, length=LUKS_HEADER_BYTES + len(INSIDE)
                )[LUKS_HEADER_BYTES:] == INSIDE
            assert driver.encryption.get_header_bytes(
                checks.NEW) == LUKS_HEADER_BYTES
            driver.volumes.delete(checks.NEW)


@pytest.mark.parametrize(('file', 'error'), [
    (None, exception.WrongPassphrase), (INSIDE, exception.NotSupported)])
@pytest.mark.parametrize('store_id', ['rbd', 'file'])
def test_a_volume_that_its_passphrase_does_not_open_is_not_kept(
        file: bytes | None, error: type[Exception], store_id: str) -> None:
    if file is None:
        world = World()
        _sealed_volume(world)
        file = world.read('volumes', SEALED.name,
                          length=LUKS_HEADER_BYTES + len(INSIDE))
    operation = seal('raw', store_id, file=file,
                     properties={'cinder_encryption_key_id': 'k'},
                     encryption=luks.Encryption('another'))
    operation.world.converter.leaves_watch = True
    operation.go()
    assert isinstance(operation.error, error)
    assert checks.NEW in str(operation.error)
    operation.check_untouched()


def test_without_a_passphrase_an_encrypted_image_is_copied_as_before() -> None:
    operation = seal('raw', properties={'cinder_encryption_key_id': 'k'},
                     encryption=None).go()
    assert operation.result.reason == 'encrypted_image'
    assert operation.world.read('volumes', checks.NEW,
                                length=len(INSIDE)) == INSIDE


def test_whoever_knows_says_whether_a_volume_is_encrypted() -> None:
    """A guest may have encrypted the disk of its plain volume."""
    world = World()
    _sealed_volume(world)
    with world.driver() as driver:
        known, unknown = (
            driver.images.plan_upload(
                model.VolumeSpec(SEALED.name, is_encrypted=is_encrypted),
                ImageRequest('x')) for is_encrypted in (False, None))
    assert (known.strategy, unknown.strategy) == ('clone', 'copy')


def test_a_clone_of_an_encrypted_volume_has_room_for_the_header() -> None:
    world = World()
    _sealed_volume(world)
    with world.driver() as driver:
        driver.volumes.create_from_volume(
            model.VolumeSpec(checks.NEW, 2 * GIB), SEALED.name)
        assert driver.volumes.show(checks.NEW).size_bytes == (
            2 * GIB + SEALED_BYTES + LUKS_HEADER_BYTES)


# -- decrypted ----------------------------------------------------------------

@both_formats
def test_the_disk_inside_is_uploaded_in_the_clear(disk_format: str) -> None:
    world = World()
    _sealed_volume(world)

    result = _upload(world, is_decrypted=True, disk_format=disk_format,
                     passphrase=PASSPHRASE)

    assert (result.strategy, result.reason) == (
        'convert', 'decryption_wanted')
    image = world.glance.get_image(result.values['image_id'])
    assert not image.is_encrypted
    assert image.min_disk_gib == 1
    found = world.download(image.id)
    start = disk_formats.PAYLOAD if disk_format == 'qcow2' else 0
    assert found[start:][:len(INSIDE)] == INSIDE
    assert len(found) - start == SEALED_BYTES
    assert world.disks('volumes') == [SEALED.name]
    assert world.snapshots('volumes', SEALED.name) == []
    assert PASSPHRASE not in str(world.state())


@pytest.mark.parametrize(('passphrase', 'error'), [
    ('another', exception.WrongPassphrase), (None, exception.InvalidInput)])
def test_what_does_not_open_leaves_nothing(
        passphrase: str | None, error: type[Exception]) -> None:
    world = World()
    _sealed_volume(world)
    before = world.state()
    with pytest.raises(error):
        _upload(world, is_decrypted=True, passphrase=passphrase)
    assert world.state() == before


def test_what_is_not_encrypted_cannot_be_decrypted() -> None:
    world = World()
    world.make_volume(SEALED.name)
    with pytest.raises(exception.NotSupported, match='no LUKS1 header'):
        _upload(world, is_decrypted=True, passphrase=PASSPHRASE)


# -- signed -------------------------------------------------------------------

@pytest.mark.parametrize('store_id', ['rbd', 'file'])
def test_what_is_encrypted_is_what_was_signed(store_id: str) -> None:
    for signed in (INSIDE, INSIDE + b'x'):
        world = World()
        image_id = test_verify.make(world, store_id, data=INSIDE,
                                    signed=signed)
        before = world.state()
        with world.driver() as driver:
            try:
                result = driver.images.create(
                    NEW_SPEC, image_id, encryption=ENCRYPTION,
                    certificates=test_verify.Box(test_verify.RSA))
            except exception.SignatureInvalid:
                assert signed != INSIDE
                assert world.state() == before
                assert not world.converter.calls
            else:
                assert signed == INSIDE
                assert result.values['signature_verified'] is True
