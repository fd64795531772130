# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes by the command line: keys in, nothing out."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from castellan.common.objects import symmetric_key

from tests.fakes.qemu_img import LUKS_HEADER_BYTES
from tests.unit.cli.conftest import Ended, Run
from tests.unit.world import World, content
from volume_rbd import exception, model, opts
from volume_rbd.cli import secret
from volume_rbd.copying import qemu_img
from volume_rbd.sandbox.keys import SandboxKeyManager

KEY = bytes.fromhex('0fa5') * 16
PASSPHRASE = 'correct horse'


@pytest.fixture
def cloud(cloud: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    """With qemu-img in memory, and no secret in what is said."""
    monkeypatch.setattr(qemu_img, 'QemuImg', lambda **_: world.converter)

    def run(*words: str) -> Ended:
        ended = cloud(*words)
        for hidden in (PASSPHRASE, KEY.hex()):
            assert hidden not in ended.out + ended.err + str(world.state())
        return ended

    return run


def keep(folder: Path, data: bytes = PASSPHRASE.encode() + b'\n',
         mode: int = 0o600) -> str:
    path = folder / 'passphrase'
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return keep(tmp_path)


@pytest.fixture
def key_id(tmp_path: Path) -> str:
    """Of a key in the key manager of the configuration."""
    path = os.environ['VOLUME_RBD_CONFIG']
    with open(path, 'a') as stream:
        stream.write(
            '[key_manager]\n'
            'backend = volume_rbd.sandbox.keys.SandboxKeyManager\n'
            f'folder = {tmp_path}\n')
    return SandboxKeyManager(opts.load_config([path])).store(
        None, symmetric_key.SymmetricKey('AES', 256, KEY))


def opens(world: World, name: str, passphrase: str) -> bool:
    with world.driver() as driver:
        try:
            driver.encryption.try_passphrase(name, passphrase=passphrase)
        except exception.WrongPassphrase:
            return False
    return True


# -- create -------------------------------------------------------------------

def test_an_empty_volume_is_encrypted(cloud: Run, world: World, file: str
                                      ) -> None:
    fields = cloud('create', 'v', '--size', '2', '--passphrase-file', file,
                   '-f', 'json').json
    assert fields.pop('seconds') >= 0
    assert fields == {
        'name': 'v', 'pool': 'volumes', 'size_gib': 2,
        'size_bytes': 2 * model.GIB, 'parent': None, 'origin': 'blank',
        'encryption': 'luks', 'header_bytes': LUKS_HEADER_BYTES,
        'key_id': None}
    assert opens(world, 'v', PASSPHRASE)
    assert not opens(world, 'v', PASSPHRASE + '\n')


def test_a_key_of_the_key_manager_encrypts_as_cinder_would(
        cloud: Run, world: World, key_id: str) -> None:
    ended = cloud('create', 'v', '--size', '1', '--encrypted-with', key_id,
                  '--cipher', 'serpent-cbc-plain', '--key-size', '128',
                  '-f', 'json')
    assert ended.json['key_id'] == key_id
    assert opens(world, 'v', KEY.hex())
    assert 'cipher-alg=serpent-128,cipher-mode=cbc' in world.converter.calls[0]


def test_a_key_that_is_not_there_is_an_error(cloud: Run, world: World,
                                             key_id: str) -> None:
    ended = cloud('create', 'v', '--size', '1', '--encrypted-with', 'x')
    assert ended.code == 3
    assert 'The key x is not in the key manager' in ended.err
    assert world.state() == {}


def test_an_image_is_encrypted_as_the_plan_says(cloud: Run, world: World,
                                                file: str) -> None:
    image_id = world.make_image()
    planned = cloud('plan', 'create', 'v', '--image', image_id,
                    '--passphrase-file', '/not/read/here', '-f', 'json').json
    made = cloud('create', 'v', '--image', image_id, '--passphrase-file',
                 file, '-f', 'json').json
    assert (planned['strategy'], planned['reason']) == (
        'convert', 'encryption_wanted')
    for field in ('strategy', 'reason', 'sentence', 'size_bytes'):
        assert planned[field] == made[field]
    assert made['header_bytes'] == LUKS_HEADER_BYTES
    assert world.read('volumes', 'v', length=LUKS_HEADER_BYTES + len(content())
                      )[LUKS_HEADER_BYTES:] == content()


def test_the_passphrase_comes_through_standard_input(
        cloud: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(
        io.BytesIO(PASSPHRASE.encode())))
    assert cloud('create', 'v', '--size', '1', '--passphrase-file', '-'
                 ).code == 0
    assert opens(world, 'v', PASSPHRASE)


def test_a_terminal_would_show_it(cloud: Run, world: World,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, 'isatty', lambda: True, raising=False)
    ended = cloud('create', 'v', '--size', '1', '--passphrase-file', '-')
    assert ended.code == 2
    assert 'terminal' in ended.err
    assert world.state() == {}


@pytest.mark.parametrize(('data', 'mode', 'why'), [
    (PASSPHRASE.encode(), 0o604, 'chmod o='),
    (PASSPHRASE.encode(), 0o602, 'chmod o='),
    (b'', 0o600, 'no passphrase'), (b'\n', 0o600, 'no passphrase'),
    (PASSPHRASE.encode() * 60, 0o600, 'no passphrase'),
    (PASSPHRASE.encode() + b'\xff', 0o600, 'UTF-8')])
def test_a_file_that_does_not_do_is_named(
        cloud: Run, world: World, tmp_path: Path, data: bytes, mode: int,
        why: str) -> None:
    path = keep(tmp_path, data, mode)
    ended = cloud('create', 'v', '--size', '1', '--passphrase-file', path)
    assert ended.code == 2
    assert path in ended.err
    assert why in ended.err
    assert world.state() == {}


def test_a_group_may_share_a_file(tmp_path: Path) -> None:
    """As the configuration of a service is kept."""
    assert secret.read_passphrase(keep(tmp_path, mode=0o640)) == PASSPHRASE


def test_a_file_that_is_not_there_is_named(cloud: Run) -> None:
    ended = cloud('create', 'v', '--size', '1', '--passphrase-file', '/no')
    assert ended.code == 2
    assert '/no cannot be read: No such file' in ended.err


@pytest.mark.parametrize(('words', 'why'), [
    (['--snapshot', 'a@b', '--passphrase-file', 'x'], 'snapshot or a volume'),
    (['--source', 'a', '--encrypted-with', 'x'], 'snapshot or a volume'),
    (['--size', '1', '--cipher', 'aes-xts-plain64'], 'encrypted volumes'),
    (['--size', '1', '--key-size', '128'], 'encrypted volumes'),
    (['--size', '1', '--passphrase-file', 'x', '--encrypted-with', 'y'],
     'not allowed with')])
def test_what_makes_no_sense_is_refused(
        cloud: Run, world: World, words: list[str], why: str) -> None:
    ended = cloud('create', 'v', *words)
    assert ended.code == 2
    assert why in ended.err
    assert world.state() == {}


def test_an_encrypted_volume_needs_a_size(cloud: Run, file: str) -> None:
    ended = cloud('create', 'v', '--passphrase-file', file)
    assert ended.code == 2
    assert 'needs a size' in ended.err


@pytest.mark.parametrize(('passphrase', 'is_slow'), [
    (PASSPHRASE, True), (KEY.hex(), False)])
def test_what_can_be_remembered_is_hashed_slowly(
        cloud: Run, world: World, tmp_path: Path, passphrase: str,
        is_slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    make = world.converter.make_luks_header

    def watched(target, encryption, *, report):  # type: ignore[no-untyped-def]
        seen.append(encryption.hashing_ms)
        make(target, encryption, report=report)

    monkeypatch.setattr(world.converter, 'make_luks_header', watched)
    assert cloud('create', 'v', '--size', '1', '--passphrase-file',
                 keep(tmp_path, passphrase.encode())).code == 0
    assert seen == [2000 if is_slow else 100]


# -- upload -------------------------------------------------------------------

@pytest.fixture
def sealed(cloud: Run, world: World, key_id: str) -> str:
    """An encrypted volume, small enough to be uploaded quickly."""
    with world.driver() as driver:
        driver.encryption.create_blank(model.VolumeSpec('v', model.MIB),
                                       passphrase=KEY.hex())
    return 'v'


def test_an_upload_of_an_encrypted_volume_says_so(
        cloud: Run, world: World, sealed: str) -> None:
    fields = cloud('upload', sealed, '--image-name', 'x', '-f', 'json').json
    assert fields['encryption'] == 'luks'
    image = world.glance.get_image(fields['image_id'])
    assert image.properties['os_encrypt_format'] == 'LUKS'
    assert 'cinder_encryption_key_id' not in image.properties
    assert image.is_encrypted


def test_a_volume_that_is_encrypted_is_shown_as_one(
        cloud: Run, world: World, sealed: str) -> None:
    world.make_volume('plain')
    for name, encryption in ((sealed, 'luks'), ('plain', None)):
        assert cloud('show', name, '-f', 'json').json[
            'encryption'] == encryption


def test_an_upload_names_the_key_where_it_is_given(
        cloud: Run, world: World, sealed: str, key_id: str) -> None:
    fields = cloud('upload', sealed, '--image-name', 'x', '--encrypted-with',
                   key_id, '-f', 'json').json
    image = world.glance.get_image(fields['image_id'])
    assert image.properties['cinder_encryption_key_id'] == key_id


def test_a_plain_volume_makes_an_image_without_such_a_property(
        cloud: Run, world: World) -> None:
    world.make_volume('plain')
    fields = cloud('upload', 'plain', '--image-name', 'x', '-f', 'json').json
    assert 'encryption' not in fields
    assert not world.glance.get_image(fields['image_id']).is_encrypted


@pytest.mark.parametrize('words', [[], ['--decrypt']])
def test_what_does_not_open_the_volume_makes_no_image(
        cloud: Run, world: World, sealed: str, file: str, words: list[str]
        ) -> None:
    before = world.state()
    ended = cloud('upload', sealed, '--image-name', 'x', '--passphrase-file',
                  file, *words)
    assert ended.code == 5
    assert "does not open volume 'v'" in ended.err
    assert world.state() == before


def test_the_disk_inside_is_uploaded(cloud: Run, world: World, sealed: str,
                                     key_id: str) -> None:
    words = ('--decrypt', '--encrypted-with', key_id, '-f', 'json')
    planned = cloud('plan', 'upload', sealed, *words).json
    fields = cloud('upload', sealed, '--image-name', 'x', *words).json
    assert (fields['strategy'], fields['reason']) == (
        planned['strategy'], planned['reason']) == (
        'convert', 'decryption_wanted')
    assert 'encryption' not in fields
    assert not world.glance.get_image(fields['image_id']).is_encrypted
    assert len(world.download(fields['image_id'])) == model.MIB


@pytest.mark.parametrize('command', [
    ['upload', 'v', '--image-name', 'x'], ['plan', 'upload', 'v']])
def test_nothing_is_decrypted_without_a_key(cloud: Run, command: list[str]
                                            ) -> None:
    ended = cloud(*command, '--decrypt')
    assert ended.code == 2
    assert '--passphrase-file' in ended.err
