# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes, opened by others than us."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

from tests.functional import content, formats
from tests.functional.content import GIB, MIB
from tests.functional.house import House
from volume_rbd import exception, model
from volume_rbd.driver.images import ImageRequest

PASSPHRASE = '0f' * 32
LUKS = {'passphrase': PASSPHRASE, 'cipher': 'aes-xts-plain64',
        'key_size': 256}


def _export(house: House, name: str, path: pathlib.Path, length: int
            ) -> None:
    with house.cluster.open('volumes', name) as opened:
        path.write_bytes(opened.read(0, length))


def _decrypt(house: House, name: str, folder: pathlib.Path,
             passphrase: str = PASSPHRASE) -> bytes:
    """What qemu reads with the key."""
    key, plain = folder / 'key', folder / 'plain'
    key.write_text(passphrase)
    node = {'driver': 'luks', 'key-secret': 'k', 'file': {
        'driver': 'rbd', 'pool': 'volumes', 'image': name,
        'conf': house.cluster.conf, 'user': 'cinder'}}
    formats.run('convert', '--object', f'secret,id=k,format=raw,file={key}',
                '-O', 'raw', 'json:' + json.dumps(node), plain)
    return plain.read_bytes()


def test_cryptsetup_knows_a_blank_volume(house: House,
                                         tmp_path: pathlib.Path) -> None:
    name = 'volume-blank-luks'
    house.driver().encryption.create_blank(
        model.VolumeSpec(name, GIB), **LUKS)

    _export(house, name, tmp_path / 'header', 4 * MIB)
    dump = subprocess.run(
        ['/usr/sbin/cryptsetup', 'luksDump', tmp_path / 'header'],
        check=True, capture_output=True, text=True).stdout.split()
    assert dump[dump.index('Version:') + 1] == '1'
    assert dump[dump.index('bits:') + 1] == '512'
    payload = int(dump[dump.index('offset:') + 1]) * 512
    assert house.cluster.size('volumes', name) == GIB + payload
    subprocess.run(
        ['/usr/sbin/cryptsetup', 'open', '--test-passphrase', '--type',
         'luks1', '--key-file', '-', tmp_path / 'header'],
        input=PASSPHRASE.encode(), check=True)
    assert len(_decrypt(house, name, tmp_path)) == GIB
    with pytest.raises(subprocess.CalledProcessError):
        _decrypt(house, name, tmp_path, 'another')


def test_a_clone_opens_with_its_own_passphrase_and_no_other(
        house: House, tmp_path: pathlib.Path) -> None:
    data = content.sparse_bytes(8 * MIB)
    source = model.VolumeSpec('volume-source-luks', GIB, is_encrypted=True)
    clone = model.VolumeSpec('volume-clone-luks', is_encrypted=True)
    file = tmp_path / 'image'
    file.write_bytes(data)
    driver = house.driver()
    driver.encryption.create_from_file(source, str(file), 'raw', **LUKS)
    driver.volumes.create_from_volume(clone, source.name)

    driver.encryption.change_passphrase(
        clone.name, passphrase=PASSPHRASE, new_passphrase='another')

    for name, right, wrong in ((source.name, PASSPHRASE, 'another'),
                               (clone.name, 'another', PASSPHRASE)):
        assert _decrypt(house, name, tmp_path, right)[:len(data)] == data
        with pytest.raises(subprocess.CalledProcessError):
            _decrypt(house, name, tmp_path, wrong)
    with pytest.raises(exception.WrongPassphrase):
        driver.encryption.change_passphrase(
            clone.name, passphrase=PASSPHRASE, new_passphrase='third')


def test_a_file_is_encrypted_into_the_volume_that_is_there(
        house: House, tmp_path: pathlib.Path) -> None:
    data = content.sparse_bytes(24 * MIB)
    name = 'volume-from-file-luks'
    file = tmp_path / 'image.qcow2'
    file.write_bytes(formats.make(tmp_path, data, 'qcow2'))
    encryption = house.driver().encryption
    encryption.create_blank(model.VolumeSpec(name, GIB), **LUKS)
    before = set(os.listdir(tmp_path))

    encryption.create_from_file(model.VolumeSpec(name, GIB), str(file),
                                'qcow2', **LUKS)

    assert set(os.listdir(tmp_path)) == before
    assert _decrypt(house, name, tmp_path)[:len(data)] == data
    raw = tmp_path / 'sealed'
    _export(house, name, raw, 32 * MIB)
    assert data[:4096] not in raw.read_bytes()


def test_an_encrypted_volume_is_uploaded_as_it_is(
        house: House, tmp_path: pathlib.Path) -> None:
    name = 'volume-upload-luks'
    volume = model.VolumeSpec(name, GIB, is_encrypted=True)
    house.driver().encryption.create_blank(volume, **LUKS)

    result = house.driver().images.upload(volume, ImageRequest('functional'))

    assert (result.strategy, result.reason) == ('copy', 'encrypted_volume')
    image = result.values['image_id']
    assert house.member.get(image)['size'] == house.cluster.size(
        'volumes', name)
    assert house.member.digest(image) == house.cluster.digest(
        'volumes', name)


def test_a_file_takes_the_place_of_all_that_was_there(
        house: House, tmp_path: pathlib.Path) -> None:
    data = content.sparse_bytes(8 * MIB)
    name = house.volume(content.random_bytes(40 * MIB))
    house.cluster.take_snapshot('volumes', name, 'theirs')
    before = house.cluster.digest('volumes', name)
    file = tmp_path / 'raw-image'
    file.write_bytes(data)

    house.driver().images.create_from_file(
        model.VolumeSpec(name), str(file), 'raw', replace=True)

    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)
    house.driver().snapshots.revert(name, 'theirs')
    assert house.cluster.digest('volumes', name) == before


@pytest.mark.parametrize('store', ['rbd', 'file'])
@pytest.mark.parametrize('disk_format', ['raw', 'qcow2'])
def test_another_image_takes_the_place_of_all_that_was_there(
        house: House, tmp_path: pathlib.Path, store: str, disk_format: str
        ) -> None:
    data = content.sparse_bytes(8 * MIB)
    file = (data if disk_format == 'raw'
            else formats.make(tmp_path, data, disk_format))
    image = house.member.make(file, store, disk_format=disk_format)
    name = house.volume(content.random_bytes(40 * MIB))

    house.driver().images.replace(model.VolumeSpec(name), image)

    assert house.cluster.size('volumes', name) == 40 * MIB
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(data)


def test_a_key_of_another_provider_is_refused(house: House) -> None:
    with house.nothing_changes(), pytest.raises(exception.NotSupported):
        house.driver().encryption.create_blank(
            model.VolumeSpec('volume-x', GIB), provider='luks2', **LUKS)
