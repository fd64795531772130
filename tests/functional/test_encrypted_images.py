# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes by the command line, from images and into images, opened
by others than us; their passphrase is nowhere, and no byte is local."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from typing import Any

import pytest
from castellan.common.objects import symmetric_key

from tests.functional import content, formats
from tests.functional.content import GIB, MIB
from tests.functional.house import House
from tests.functional.steps import cancelling_at
from volume_rbd import exception, model, opts
from volume_rbd.copying import luks
from volume_rbd.sandbox.keys import SandboxKeyManager

PASSPHRASE = '5e' * 32
ENCRYPTION = luks.Encryption(PASSPHRASE)
HEADER_BYTES = 2068480
#: Format of the image, its store, and whether it has to be staged.
WAYS = [('raw', 'rbd'), ('qcow2', 'rbd'), ('raw', 'file'), ('qcow2', 'file')]
every_way = pytest.mark.parametrize(('disk_format', 'store'), WAYS)


@pytest.fixture
def disk() -> bytes:
    return content.sparse_bytes(24 * MIB)


@pytest.fixture
def key_file(tmp_path: pathlib.Path) -> pathlib.Path:
    return keep(tmp_path, PASSPHRASE)


def keep(folder: pathlib.Path, passphrase: str) -> pathlib.Path:
    path = folder / f'key-{uuid.uuid4()}'
    path.write_text(passphrase)
    path.chmod(0o600)
    return path


def make(house: House, folder: pathlib.Path, disk: bytes, disk_format: str,
         store: str) -> str:
    file = (disk if disk_format == 'raw'
            else formats.make(folder, disk, disk_format))
    return house.member.make(file, store, disk_format=disk_format)


def run(house: House, *words: object, code: int = 0, **options: Any) -> Any:
    """``volume-rbd WORDS``; :returns: its JSON, or what it complained of."""
    done = house.run(*map(str, words), *([] if code else ['-f', 'json']),
                     environ=_path(), **options)
    assert done.returncode == code, done.stderr
    assert PASSPHRASE not in done.stdout + done.stderr
    return done.stderr if code else json.loads(done.stdout)


def _path() -> dict[str, str]:
    return {'PYTHONPATH': os.environ.get('PYTHONPATH', '')}


def read(house: House, name: str, key_file: pathlib.Path,
         length: int = 64 * MIB) -> bytes:
    """The beginning of the disk inside, as qemu reads it with the key."""
    plain = key_file.parent / f'plain-{uuid.uuid4()}'
    node = {'driver': 'raw', 'size': length, 'file': {
        'driver': 'luks', 'key-secret': 'k', 'file': {
            'driver': 'rbd', 'pool': 'volumes', 'image': name,
            'conf': house.cluster.conf, 'user': 'cinder'}}}
    formats.run('convert', '--object',
                f'secret,id=k,format=raw,file={key_file}', '-O', 'raw',
                'json:' + json.dumps(node), plain)
    return plain.read_bytes()


def check_sealed(house: House, name: str, disk: bytes,
                 key_file: pathlib.Path) -> None:
    """The disk is inside of the volume, and nowhere to be seen."""
    assert house.cluster.size('volumes', name) == GIB + HEADER_BYTES
    assert read(house, name, key_file)[:len(disk)] == disk
    with house.cluster.open('volumes', name, read_only=True) as opened:
        assert disk[:4096] not in opened.read(0, 8 * MIB)
        everything = str(list(opened.metadata_list()))
    assert PASSPHRASE not in everything
    mark = house.cluster.mark('volumes', name)
    assert mark is not None
    assert mark['state'] == 'complete'
    assert house.cluster.parent('volumes', name) is None
    assert [found for found in house.cluster.names('volumes')
            if 'stage' in found or 'base' in found] == []


# -- by the command line ------------------------------------------------------

def test_an_empty_volume_opens_with_its_passphrase_and_no_other(
        house: House, tmp_path: pathlib.Path, key_file: pathlib.Path) -> None:
    fields = run(house, 'create', 'sealed', '--size', 1, '--passphrase-file',
                 key_file)

    assert (fields['size_gib'], fields['header_bytes']) == (1, HEADER_BYTES)
    with house.cluster.open('volumes', 'sealed') as opened:
        header = opened.read(0, 4 * MIB)
    (tmp_path / 'header').write_bytes(header)
    for passphrase, is_right in ((PASSPHRASE, True), ('another', False)):
        done = subprocess.run(
            ['/usr/sbin/cryptsetup', 'open', '--test-passphrase', '--type',
             'luks1', '--key-file', '-', tmp_path / 'header'],
            input=passphrase.encode(), check=False, capture_output=True)
        assert (done.returncode == 0) == is_right
    assert len(read(house, 'sealed', key_file)) == 64 * MIB


@every_way
def test_an_image_is_encrypted_on_its_way(
        house: House, tmp_path: pathlib.Path, disk: bytes,
        key_file: pathlib.Path, disk_format: str, store: str) -> None:
    image = make(house, tmp_path, disk, disk_format, store)
    words = ('--image', image, '--size', 1, '--passphrase-file', key_file,
             '--backend', 'optimized')

    planned = run(house, 'plan', 'create', 'sealed', *words)
    made = run(house, 'create', 'sealed', *words)

    assert planned['ruled_out'] == ['clone (encryption_wanted)']
    assert planned['is_staged'] == (store == 'file')
    for field in ('strategy', 'reason', 'sentence', 'size_bytes'):
        assert planned[field] == made[field]
    assert (made['strategy'], made['reason']) == (
        'convert', 'encryption_wanted')
    check_sealed(house, 'sealed', disk, key_file)


def test_a_key_of_the_key_manager_opens_what_it_made(
        house: House, tmp_path: pathlib.Path, disk: bytes) -> None:
    config = house.config({'key_manager': {
        'backend': 'volume_rbd.sandbox.keys.SandboxKeyManager',
        'folder': tmp_path}})
    key = bytes.fromhex(PASSPHRASE)
    key_id = SandboxKeyManager(opts.load_config([config])).store(
        None, symmetric_key.SymmetricKey('AES', 256, key))
    image = make(house, tmp_path, disk, 'raw', 'rbd')

    made = run(house, 'create', 'sealed', '--image', image,
               '--encrypted-with', key_id, config=config)
    uploaded = run(house, 'upload', 'sealed', '--image-name', 'functional',
                   '--encrypted-with', key_id, config=config)

    assert made['key_id'] == key_id
    check_sealed(house, 'sealed', disk, keep(tmp_path, PASSPHRASE))
    found = house.member.get(uploaded['image_id'])
    assert found['cinder_encryption_key_id'] == key_id
    assert found['os_encrypt_format'] == 'LUKS'
    assert found['min_disk'] == 1


@pytest.mark.parametrize(('backend', 'strategy'), [
    ('optimized', 'copy'), ('ceph', 'upload')])
def test_an_encrypted_volume_makes_a_round_trip_as_it_is(
        house: House, tmp_path: pathlib.Path, disk: bytes,
        key_file: pathlib.Path, backend: str, strategy: str) -> None:
    image = make(house, tmp_path, disk, 'raw', 'rbd')
    run(house, 'create', 'sealed', '--image', image, '--passphrase-file',
        key_file)

    uploaded = run(house, '--backend', backend, 'upload', 'sealed',
                   '--image-name', 'functional')

    sealed = uploaded['image_id']
    assert uploaded['strategy'] == strategy
    found = house.member.get(sealed)
    assert (found['disk_format'], found['container_format']) == (
        'raw', 'bare')
    assert (found['size'], found['os_encrypt_format']) == (
        GIB + HEADER_BYTES, 'LUKS')
    assert house.member.digest(sealed) == house.cluster.digest(
        'volumes', 'sealed')
    again = run(house, 'create', 'again', '--image', sealed,
                '--passphrase-file', key_file)
    assert (again['size_gib'], again['reason']) == (1, 'encrypted_image')
    check_sealed(house, 'again', disk, key_file)
    with house.nothing_changes():
        said = run(house, 'create', 'third', '--image', sealed,
                   '--passphrase-file', keep(tmp_path, 'wrong'), code=5)
    assert "does not open volume 'third'" in said


def test_the_disk_inside_is_uploaded_in_the_clear(
        house: House, tmp_path: pathlib.Path, disk: bytes,
        key_file: pathlib.Path) -> None:
    image = make(house, tmp_path, disk, 'raw', 'rbd')
    run(house, 'create', 'sealed', '--image', image, '--passphrase-file',
        key_file)
    words = ('upload', 'sealed', '--image-name', 'functional', '--decrypt')

    with house.nothing_changes():
        said = run(house, *words, '--passphrase-file',
                   keep(tmp_path, 'wrong'), code=5)
    assert "does not open volume 'sealed'" in said
    plain = run(house, *words, '--passphrase-file', key_file)

    assert (plain['strategy'], plain['reason']) == (
        'convert', 'decryption_wanted')
    found = house.member.get(plain['image_id'])
    assert (found['size'], found['min_disk']) == (GIB, 1)
    assert 'os_encrypt_format' not in found
    with house.cluster.open('images', plain['image_id'], read_only=True
                            ) as opened:
        assert opened.read(0, len(disk)) == disk
    assert house.cluster.snapshots('volumes', 'sealed') == []


# -- what goes wrong ----------------------------------------------------------

@pytest.mark.parametrize('size_bytes', [
    513, 17 * MIB + 1, *(pytest.param(size, marks=pytest.mark.faults)
                         for size in (1, 3 * 512))])
def test_a_disk_of_odd_size_keeps_every_byte(
        house: House, key_file: pathlib.Path, size_bytes: int) -> None:
    data = content.random_bytes(size_bytes)
    image = house.member.make(data)

    name = f'volume-{uuid.uuid4()}'
    house.driver().images.create(model.VolumeSpec(name), image,
                                 encryption=ENCRYPTION)

    assert read(house, name, key_file)[:size_bytes] == data


@pytest.mark.parametrize('step', [
    'staging the image', 'making the LUKS header', 'converting the image'])
@pytest.mark.parametrize('store', ['rbd', 'file'])
def test_a_cancel_leaves_nothing(house: House, disk: bytes, store: str,
                                 step: str) -> None:
    if (store, step) == ('rbd', 'staging the image'):
        return
    image = house.member.make(disk, store)
    report = cancelling_at(step)
    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.driver().images.create(
            model.VolumeSpec('volume-cancelled'), image, report=report,
            encryption=ENCRYPTION)
    assert report.names[-1] == step


def test_an_image_that_hides_that_it_is_encrypted_is_refused(
        house: House, key_file: pathlib.Path) -> None:
    house.driver().encryption.create_blank(
        model.VolumeSpec('volume-sealed', GIB), passphrase=PASSPHRASE)
    with house.cluster.open('volumes', 'volume-sealed') as opened:
        image = house.member.make(opened.read(0, 4 * MIB))
    with house.nothing_changes(), pytest.raises(
            exception.ImageUnsafe, match='encrypted') as caught:
        house.driver().images.create(model.VolumeSpec('volume-twice'), image,
                                     encryption=ENCRYPTION)
    assert 'os_encrypt_format' in caught.value.remedy


# -- no local byte, no secret -------------------------------------------------

_IN_A_CHILD = '''
    import resource, sys
    # The kernel ends whoever writes a local byte.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    from volume_rbd.cli import main
    sys.exit(main.main(sys.argv[1:]))
'''


def test_no_command_writes_a_local_byte_or_shows_the_passphrase(
        house: House, tmp_path: pathlib.Path, disk: bytes,
        key_file: pathlib.Path) -> None:
    """On no command line, in no log of the most that can be logged, on no
    rbd_image and in no record of Glance's."""
    images = [make(house, tmp_path, disk, disk_format, store)
              for disk_format, store in WAYS]
    key = ['--passphrase-file', '-']
    commands = [['create', 'blank', '--size', '1', *key]]
    commands += [['create', f'from-{number}', '--image', image, *key]
                 for number, image in enumerate(images)]
    commands += [
        ['upload', 'from-0', '--image-name', 'sealed', *key],
        ['upload', 'from-0', '--image-name', 'plain', '--decrypt', *key]]
    seen: set[str] = set()
    for words in commands:
        _run_watched(house, ['-vv', '--debug', *words], seen)

    assert any('qemu-img create' in line for line in seen)
    assert sum('qemu-img convert' in line for line in seen) >= 5
    assert PASSPHRASE not in '\n'.join(seen)
    for pool in ('volumes', 'images'):
        for name in house.cluster.names(pool):
            with house.cluster.open(pool, name, read_only=True) as opened:
                assert PASSPHRASE not in str(list(opened.metadata_list()))
    assert PASSPHRASE not in house.member.request('GET', '/images').text
    for number, _ in enumerate(images):
        check_sealed(house, f'from-{number}', disk, key_file)


def _run_watched(house: House, words: list[str], seen: set[str]) -> None:
    child = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(_IN_A_CHILD),
         *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        env={**house.environ(environ=_path()), 'TMPDIR': '/nowhere',
             'PYTHONDONTWRITEBYTECODE': '1'})
    watcher = threading.Thread(target=_watch, args=(child, seen))
    watcher.start()
    out, err = child.communicate(PASSPHRASE, timeout=120)
    watcher.join()
    assert child.returncode == 0, err
    assert PASSPHRASE not in out + err
    assert 'DEBUG' in err


def _watch(child: subprocess.Popen[str], seen: set[str]) -> None:
    """Collect the command lines and environments of all processes while
    *child* runs."""
    while child.poll() is None:
        for entry in os.scandir('/proc'):
            if not entry.name.isdigit():
                continue
            for what in ('cmdline', 'environ'):
                try:
                    with open(f'/proc/{entry.name}/{what}', 'rb') as stream:
                        line = stream.read().replace(b'\0', b' ')
                except OSError:
                    continue
                if b'qemu-img' in line or PASSPHRASE.encode() in line:
                    seen.add(line.decode('utf-8', 'replace'))
        time.sleep(0.01)
