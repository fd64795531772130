# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes, and volumes from local files."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import disk_formats
from tests.fakes.qemu_img import LUKS_HEADER_BYTES, LUKS_MAGIC
from tests.unit.world import World, content
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.copying.luks import parse_cipher
from volume_rbd.driver import RBDDriver

GIB = model.GIB
NEW = model.VolumeSpec('volume-new', GIB)
PASSPHRASE = '00ff' * 16
LUKS: dict[str, Any] = {'passphrase': PASSPHRASE, 'cipher': 'aes-xts-plain64',
                        'key_size': 256}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / 'image'
    path.write_bytes(content())
    return str(path)


def blank(driver: RBDDriver, **changes: Any) -> None:
    driver.encryption.create_blank(NEW, **{**LUKS, **changes})


# -- blank --------------------------------------------------------------------

def test_a_blank_volume_has_its_size_beside_the_header(world: World) -> None:
    with world.driver() as driver:
        blank(driver)
        assert driver.volumes.show(NEW.name).size_bytes == (
            GIB + LUKS_HEADER_BYTES)
    head = world.read('volumes', NEW.name, length=40)
    assert head == LUKS_MAGIC + hashlib.sha256(PASSPHRASE.encode()).digest()
    assert world.converter.calls == [
        'luks cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64']
    mark = world.mark('volumes', NEW.name)
    assert mark is not None
    assert (mark.kind, mark.state) == (lineage.VOLUME, lineage.COMPLETE)
    assert world.disks('volumes') == [NEW.name]


def test_the_key_is_in_nothing_that_stays(world: World,
                                          caplog: pytest.LogCaptureFixture
                                          ) -> None:
    caplog.set_level(0)
    world.converter.fail_next(exception.ConversionFailed('no'))
    with world.driver() as driver:
        with pytest.raises(exception.ConversionFailed) as caught:
            blank(driver)
        blank(driver)
    assert PASSPHRASE not in caplog.text + str(caught.value)
    assert PASSPHRASE not in str(world.state())


def test_a_header_that_cannot_be_timed_is_made_again(world: World) -> None:
    world.converter.fail_next(exception.ConversionFailed(
        'Unable to get accurate CPU usage.'), times=3)
    with world.driver() as driver:
        blank(driver)
    assert len(world.converter.calls) == 4
    assert world.disks('volumes') == [NEW.name]


@pytest.mark.parametrize('change', [
    {'provider': 'luks2'}, {'provider': 'plain'}, {'cipher': 'aes'},
    {'cipher': 'aes-xts-plain64,file=/etc/x'}, {'key_size': 100},
    {'passphrase': ''}])
def test_what_cannot_be_made_is_refused_before_anything_is_touched(
        world: World, change: dict[str, Any]) -> None:
    with world.driver() as driver, pytest.raises(
            (exception.NotSupported, exception.InvalidInput)):
        blank(driver, **change)
    assert world.state() == {}
    assert not world.converter.calls


def test_a_blank_volume_that_fails_leaves_nothing(world: World) -> None:
    world.converter.leaves_watch = True
    world.converter.fail_next(exception.NoSpace('full'))
    with world.driver() as driver, pytest.raises(exception.NoSpace):
        blank(driver)
    assert world.state() == {}


def test_a_name_that_is_taken_keeps_what_has_it(world: World) -> None:
    world.make_volume(NEW.name)
    before = world.state()
    with world.driver() as driver, pytest.raises(exception.ImageExists):
        blank(driver)
    assert world.state() == before


@pytest.mark.parametrize(('text', 'size', 'options'), [
    ('aes-xts-plain64', 256,
     'cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64'),
    ('aes-cbc-essiv:sha256', 128, 'cipher-alg=aes-128,cipher-mode=cbc,'
     'ivgen-alg=essiv,ivgen-hash-alg=sha256'),
    ('serpent-xts-plain', 192,
     'cipher-alg=serpent-192,cipher-mode=xts,ivgen-alg=plain')])
def test_a_cipher_is_told_in_the_words_of_qemu(
        text: str, size: int, options: str) -> None:
    assert parse_cipher(text, size).options() == options


# -- another passphrase -------------------------------------------------------

def test_a_clone_gets_a_passphrase_of_its_own(world: World) -> None:
    with world.driver() as driver:
        blank(driver)
        driver.volumes.create_from_volume(
            model.VolumeSpec('volume-clone', is_encrypted=True), NEW.name)
        driver.encryption.change_passphrase(
            'volume-clone', passphrase=PASSPHRASE, new_passphrase='another')
    for name, passphrase in ((NEW.name, PASSPHRASE),
                             ('volume-clone', 'another')):
        assert world.read('volumes', name, length=40) == LUKS_MAGIC + (
            hashlib.sha256(passphrase.encode()).digest())


@pytest.mark.parametrize(('asked_gib', 'got_gib'), [
    (None, 1), (1, 1), (3, 3)])
def test_a_clone_has_room_for_the_header_of_its_source(
        world: World, asked_gib: int | None, got_gib: int) -> None:
    with world.driver() as driver:
        blank(driver)
        driver.volumes.create_from_volume(
            model.VolumeSpec('volume-clone', asked_gib and asked_gib * GIB,
                             is_encrypted=True), NEW.name)
        assert driver.volumes.show('volume-clone').size_bytes == (
            got_gib * GIB + LUKS_HEADER_BYTES)


@pytest.mark.parametrize(('name', 'passphrase', 'new', 'error'), [
    (NEW.name, 'wrong', 'another', exception.WrongPassphrase),
    (NEW.name, PASSPHRASE, '', exception.InvalidInput),
    ('volume-plain', PASSPHRASE, 'another', exception.NotSupported),
    ('volume-none', PASSPHRASE, 'another', exception.ImageNotFound)])
def test_a_passphrase_that_cannot_change_stays(
        world: World, name: str, passphrase: str, new: str,
        error: type[Exception]) -> None:
    world.make_volume('volume-plain')
    with world.driver() as driver:
        blank(driver)
        before = world.state()
        with pytest.raises(error):
            driver.encryption.change_passphrase(
                name, passphrase=passphrase, new_passphrase=new)
    assert world.state() == before


# -- from a file --------------------------------------------------------------

@pytest.mark.parametrize('is_there', [True, False])
def test_a_file_is_encrypted_straight_into_the_volume(
        world: World, file: str, is_there: bool) -> None:
    with world.driver() as driver:
        if is_there:
            blank(driver)
        driver.encryption.create_from_file(NEW, file, 'raw', **LUKS)
        assert driver.volumes.show(NEW.name).size_bytes == (
            GIB + LUKS_HEADER_BYTES)
    data = world.read('volumes', NEW.name, length=LUKS_HEADER_BYTES
                      + len(content()))
    assert data[LUKS_HEADER_BYTES:] == content()
    assert world.disks('volumes') == [NEW.name]


def test_a_file_that_fits_only_without_the_header_is_refused(
        world: World, file: str) -> None:
    world.volumes.create(NEW.name, len(content()))
    before = world.state()
    with world.driver() as driver, pytest.raises(exception.InvalidSize):
        driver.encryption.create_from_file(NEW, file, 'raw', **LUKS)
    assert world.state() == before


def test_a_file_becomes_a_new_volume(world: World, tmp_path: Path) -> None:
    path = tmp_path / 'image'
    path.write_bytes(disk_formats.qcow2(content()))
    with world.driver() as driver:
        driver.images.create_from_file(NEW, str(path), 'qcow2')
    assert world.read('volumes', NEW.name, length=len(content())
                      ) == content()
    mark = world.mark('volumes', NEW.name)
    assert mark is not None
    assert (mark.state, mark.origin) == (lineage.COMPLETE, 'file')


def test_a_file_replaces_all_that_a_volume_holds_but_its_snapshots(
        world: World, file: str) -> None:
    world.volumes.create(NEW.name, 3 * model.MIB)
    with world.volumes.open(NEW.name) as image:
        image.write(b'x' * (3 * model.MIB), 0)
        image.create_snapshot('s')
    with world.driver() as driver:
        driver.images.create_from_file(NEW, file, 'raw', replace=True)
    assert world.read('volumes', NEW.name) == content().ljust(
        3 * model.MIB, b'\0')
    assert world.read('volumes', NEW.name, 's') == b'x' * (3 * model.MIB)


def test_a_volume_is_replaced_only_if_asked_for(world: World, file: str
                                                ) -> None:
    data = world.make_volume(NEW.name)
    with world.driver() as driver, pytest.raises(exception.ImageExists):
        driver.images.create_from_file(NEW, file, 'raw')
    assert world.read('volumes', NEW.name) == data


@pytest.mark.parametrize(('data', 'disk_format', 'error'), [
    (disk_formats.qcow2(content()), 'raw', exception.ImageUnsafe),
    (disk_formats.qcow2(content(), backing_offset=8), 'qcow2',
     exception.ImageUnsafe),
    (content(), 'qcow2', exception.ImageUnsafe),
    (content(), 'luks', exception.NotSupported),
    (content(9 * model.MIB), 'raw', exception.InvalidSize),
    (None, 'raw', exception.InvalidInput)])
@pytest.mark.parametrize('is_encrypted', [True, False])
def test_a_file_that_does_not_do_is_refused_before_anything_is_touched(
        world: World, tmp_path: Path, data: bytes | None, disk_format: str,
        error: type[Exception], is_encrypted: bool) -> None:
    path = tmp_path / 'image'
    if data is not None:
        path.write_bytes(data)
    world.make_volume(NEW.name, 8 * model.MIB)
    before = world.state()
    with world.driver() as driver:
        make = (functools.partial(driver.encryption.create_from_file, **LUKS)
                if is_encrypted else functools.partial(
                    driver.images.create_from_file, replace=True))
        with pytest.raises(error):
            make(NEW, str(path), disk_format)
    assert world.state() == before


def test_cancelling_a_new_volume_leaves_nothing(world: World, file: str
                                                ) -> None:
    report = progress.Cancellable()
    report.cancel()
    with world.driver() as driver, pytest.raises(exception.Cancelled):
        driver.images.create_from_file(NEW, file, 'raw', report=report)
    assert world.state() == {}
