# SPDX-License-Identifier: Apache-2.0
"""Other formats, by the real qemu-img on the real cluster."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fakes import disk_formats
from tests.functional import content, formats
from tests.functional.content import GIB, MIB
from tests.functional.house import House
from tests.functional.steps import Steps, cancelling_at
from volume_rbd import exception, progress

STORES = pytest.mark.parametrize('store', ['rbd', 'file'])
#: What Glance itself lets in; a vhdx it cannot read in large pieces.
READABLE = ['qcow2', 'vmdk', 'vhd', 'vdi', 'ploop']


@pytest.fixture
def disk() -> bytes:
    return content.sparse_bytes(24 * MIB)


@STORES
@pytest.mark.parametrize('disk_format', READABLE)
def test_the_volume_has_the_disk_inside(
        house: House, tmp_path: pathlib.Path, disk: bytes, disk_format: str,
        store: str) -> None:
    image = house.member.make(formats.make(tmp_path, disk, disk_format),
                              store, disk_format=disk_format)

    name, result = house.create(image)

    assert (result.strategy, result.reason) == ('convert', 'not_raw')
    assert (result.values['source'] is None) == (store == 'file')
    assert house.cluster.size('volumes', name) == GIB
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(disk)
    assert house.cluster.parent('volumes', name) is None
    mark = house.cluster.mark('volumes', name)
    assert mark is not None
    assert (mark['state'], mark['origin']) == ('complete', f'glance:{image}')
    assert [found for found in house.cluster.names('volumes')
            if 'stage' in found] == []


@STORES
def test_a_compressed_qcow2_and_a_streamed_vmdk_are_read(
        house: House, tmp_path: pathlib.Path, disk: bytes, store: str
        ) -> None:
    for disk_format, options in (
            ('qcow2', ['-c']), ('vmdk', ['-o', 'subformat=streamOptimized'])):
        image = house.member.make(
            formats.make(tmp_path, disk, disk_format, *options), store,
            disk_format=disk_format)
        name, _ = house.create(image)
        assert house.cluster.digest('volumes', name) == \
            content.digest_of_bytes(disk)


@STORES
def test_a_disc_of_odd_size_keeps_every_byte(house: House, store: str
                                             ) -> None:
    disc = disk_formats.iso() + content.random_bytes(777)
    image = house.member.make(disc, store, disk_format='iso')

    name, result = house.create(image)

    assert result.strategy == 'convert'
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(disc)


@STORES
def test_the_disk_inside_decides_the_size(
        house: House, tmp_path: pathlib.Path, store: str) -> None:
    file = tmp_path / 'large.qcow2'
    formats.run('create', '-f', 'qcow2', file, str(2 * GIB + 512))
    image = house.member.make(file.read_bytes(), store, disk_format='qcow2')

    name, result = house.create(image)
    assert house.cluster.size('volumes', name) == 3 * GIB
    assert result.size_bytes == 3 * GIB

    with house.nothing_changes(), pytest.raises(
            exception.InvalidSize, match='3 GiB'):
        house.create(image, size_bytes=2 * GIB)


# -- whom not to trust --------------------------------------------------------

def _inject(house: House, file: bytes, disk_format: str, store: str = 'rbd'
            ) -> str:
    """An image that Glance itself would not have let in, in its store."""
    image = house.member.make(content.sparse_bytes(MIB), store)
    if store == 'rbd':
        _exchange(house, image, file)
    else:
        [path] = (house.sandbox.folder / 'glance' / 'file').rglob(image)
        path.write_bytes(file)
    house._sql('glance', 'UPDATE images SET disk_format = %s, size = %s, '
               'checksum = NULL, os_hash_value = NULL, os_hash_algo = NULL '
               'WHERE id = %s', disk_format, str(len(file)), image)
    return image


def _exchange(house: House, image: str, file: bytes) -> None:
    with house.cluster.open('images', image) as opened:
        opened.unprotect_snap('snap')
        opened.remove_snap('snap')
        opened.resize(len(file))
        opened.write(file, 0)
        opened.create_snap('snap')
        opened.protect_snap('snap')


INSIDE = content.random_bytes(MIB)


def _unsafe() -> Iterator[tuple[str, bytes, str]]:
    yield ('qcow2', disk_formats.qcow2(INSIDE, backing_offset=112),
           'backing file')
    yield 'qcow2', disk_formats.qcow2(INSIDE, incompatible=4), 'data_file'
    yield 'qcow2', disk_formats.qcow2(INSIDE, crypt=2), 'encrypted'
    yield 'qcow2', disk_formats.qcow2(INSIDE, size=2 ** 63), 'bytes'
    yield 'qcow2', INSIDE, 'said to be qcow2'
    yield 'vdi', disk_formats.qcow2(INSIDE), 'said to be vdi'
    yield 'vmdk', disk_formats.vmdk(
        INSIDE, text=disk_formats.VMDK_TEXT.replace(
            'SPARSE "disk.vmdk"', 'FLAT "disk-flat.vmdk" 0')), 'outside'
    yield 'vmdk', disk_formats.vmdk(
        INSIDE, text=disk_formats.VMDK_TEXT.replace(
            'version=1\n', 'version=1\n# parentFileNameHint="/etc/hosts"\n')
        ), 'parent'


@STORES
@pytest.mark.parametrize(('disk_format', 'file', 'why'), list(_unsafe()))
def test_what_lies_or_reaches_out_is_refused_and_nothing_is_left(
        house: House, disk_format: str, file: bytes, why: str, store: str
        ) -> None:
    image = _inject(house, file, disk_format, store)

    # With the base cache it must leave no base either.
    for driver in (house.driver(), house.driver(
            optimized={'image_base_cache': 'true'})):
        with house.nothing_changes(), pytest.raises(
                exception.ImageUnsafe, match=why):
            house.create(image, driver=driver)


@STORES
def test_a_raw_image_that_begins_like_a_qcow2_stays_raw(
        house: House, store: str) -> None:
    file = disk_formats.qcow2(INSIDE, backing_offset=112)
    image = _inject(house, file, 'raw', store)

    name, result = house.create(image)

    assert result.strategy == ('clone' if store == 'rbd' else 'download')
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(file)


@STORES
def test_a_qcow2_cut_short_is_an_error_that_says_so(
        house: House, tmp_path: pathlib.Path, store: str) -> None:
    file = formats.make(tmp_path, content.random_bytes(8 * MIB), 'qcow2')
    image = _inject(house, file[:len(file) // 2], 'qcow2', store)

    with house.nothing_changes(), pytest.raises(
            exception.ConversionFailed, match='cut short'):
        house.create(image)


@STORES
def test_of_a_qcow2_with_snapshots_the_disk_as_it_is_now_is_read(
        house: House, tmp_path: pathlib.Path, disk: bytes, store: str
        ) -> None:
    file = tmp_path / 'with-snapshots.qcow2'
    file.write_bytes(formats.make(tmp_path, disk, 'qcow2'))
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 7 1M 2M', file],
                   check=True, capture_output=True)
    now = bytearray(disk)
    now[MIB:3 * MIB] = b'\7' * (2 * MIB)
    formats.run('snapshot', '-c', 'earlier', file)
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 9 2M 4M', file],
                   check=True, capture_output=True)
    now[2 * MIB:6 * MIB] = b'\11' * (4 * MIB)
    image = house.member.make(file.read_bytes(), store, disk_format='qcow2')

    name, result = house.create(image)

    assert result.strategy == 'convert'
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(bytes(now))


@STORES
def test_an_image_without_bytes_is_no_qcow2(house: House, store: str) -> None:
    image = _inject(house, b'', 'qcow2', store)

    with house.nothing_changes(), pytest.raises(exception.ImageUnsafe):
        house.create(image)


@STORES
def test_a_qcow2_of_the_smallest_disk_is_read(
        house: House, tmp_path: pathlib.Path, store: str) -> None:
    """One sector: less than that qcow2 cannot say."""
    disk = content.random_bytes(512)
    image = house.member.make(formats.make(tmp_path, disk, 'qcow2'), store,
                              disk_format='qcow2')

    name, _ = house.create(image)

    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(disk)


def test_what_is_exchanged_while_it_is_converted_is_refused(
        house: House, tmp_path: pathlib.Path, disk: bytes) -> None:
    """By who may write to the images' pool: it grows, and is another."""
    file = formats.make(tmp_path, disk, 'qcow2')
    image = house.member.make(file, disk_format='qcow2')
    report = Steps('converting the image', lambda: _exchange(
        house, image, file + bytes(MIB)))

    before = house.cluster.names('volumes')

    with pytest.raises(exception.ImageUnsafe, match='exchanged'):
        house.create(image, report=report)

    assert house.cluster.names('volumes') == before


# -- cancelled, killed --------------------------------------------------------

@STORES
@pytest.mark.parametrize('step', [
    'staging the image', 'inspecting the image', 'converting the image'])
def test_a_cancel_leaves_nothing(
        house: House, tmp_path: pathlib.Path, disk: bytes, store: str,
        step: str) -> None:
    if (store, step) == ('rbd', 'staging the image'):
        return
    image = house.member.make(formats.make(tmp_path, disk, 'qcow2'), store,
                              disk_format='qcow2')
    report = cancelling_at(step)

    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.create(image, report=report)
    assert report.names[-1] == step


def test_a_cancel_in_the_middle_is_over_soon_and_leaves_nothing(
        house: House, tmp_path: pathlib.Path) -> None:
    """The child is killed while it writes; its watch does not last 30 s."""
    image = house.member.make(
        formats.make(tmp_path, content.random_bytes(300 * MIB), 'qcow2'),
        disk_format='qcow2')

    class Report(progress.Cancellable):
        cancelled_at = 0.0

        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            super().advance(done_bytes, skipped_bytes)
            # It has begun to write, and holds the lock.
            if self.done_bytes > self.total_bytes // 4:
                self.cancelled_at = self.cancelled_at or time.monotonic()
                self.cancel()

    report = Report()
    with house.nothing_changes():
        with pytest.raises(exception.Cancelled):
            house.create(image, report=report)
        assert time.monotonic() - report.cancelled_at < 5
    # qemu watches what it only reads as well, and nobody ends that: Glance
    # deletes the image as soon as it is over.
    house.cluster.wait_until_closed('images', image)


# -- no local byte, no secret -------------------------------------------------

_IN_A_CHILD = '''
    import json, resource, sys, tempfile
    # The kernel ends whoever writes a local byte.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    from volume_rbd import manager, model
    from volume_rbd.driver.images import ImageRequest
    given = json.loads(sys.argv[1])
    made = {name: manager.VolumeManager([path]).backend(backend)
            for name, (path, backend) in given['drivers'].items()}
    luks = {'passphrase': 'ab' * 32, 'cipher': 'aes-xts-plain64',
            'key_size': 256}
    done = {}

    def create(name, image, driver='clones'):
        result = made[driver].images.create(model.VolumeSpec(name), image)
        done[name] = result.strategy

    def upload(name, driver, disk_format, **fields):
        result = made[driver].images.upload(
            model.VolumeSpec(name, **fields),
            ImageRequest('functional', disk_format=disk_format))
        done[f'{driver} {disk_format}'] = (
            result.strategy, result.values['image_id'])

    for name, image in given['images'].items():
        create(name, image)
    create('based', given['images']['direct'], 'bases')
    for driver, disk_format in (
            ('clones', 'qcow2'), ('clones', 'vmdk'), ('copies', 'raw'),
            ('plain', 'raw')):
        upload('downloaded', driver, disk_format)
    encryption = made['clones'].encryption
    encryption.create_blank(model.VolumeSpec('blank', model.GIB), **luks)
    encryption.create_from_file(
        model.VolumeSpec('encrypted', model.GIB), given['file'], 'qcow2',
        **luks)
    upload('encrypted', 'encrypted', 'raw', is_encrypted=True)
    made['clones'].images.create_from_file(
        model.VolumeSpec('from-file', model.GIB), given['file'], 'qcow2')
    for driver in made.values():
        driver.close()
    print(json.dumps(done))
'''


def test_no_path_writes_a_local_byte_or_shows_a_key(
        house: House, tmp_path: pathlib.Path, disk: bytes) -> None:
    file = formats.make(tmp_path, disk, 'qcow2')
    (tmp_path / 'downloaded-by-cinder').write_bytes(file)
    plain = [house.config(), 'optimized']
    given = {
        'images': {
            'direct': house.member.make(file, disk_format='qcow2'),
            'staged': house.member.make(file, 'file', disk_format='qcow2'),
            'downloaded': house.member.make(disk, 'file')},
        'drivers': {
            'clones': plain, 'encrypted': plain,
            'plain': [house.config(), 'ceph'],
            'bases': [house.config({
                'optimized': {'image_base_cache': 'true'}}), 'optimized'],
            'copies': [house.config({'optimized': {
                'rbd_max_clone_depth': 0, 'glance_secure_hash': 'false'}}),
                'optimized']},
        'file': str(tmp_path / 'downloaded-by-cinder')}
    seen: set[str] = set()
    child = subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(_IN_A_CHILD),
         json.dumps(given)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**house.environ(), 'TMPDIR': '/nowhere',
             'PYTHONDONTWRITEBYTECODE': '1'})
    watcher = threading.Thread(target=_watch, args=(child, seen))
    watcher.start()
    out, err = child.communicate(timeout=120)
    watcher.join()

    assert child.returncode == 0, err
    done = json.loads(out)
    assert [done[name] for name in ('direct', 'staged', 'downloaded',
                                    'based')] == [
        'convert', 'convert', 'download', 'convert']
    for name in ('direct', 'staged', 'downloaded', 'based', 'from-file'):
        assert house.cluster.digest('volumes', name) == \
            content.digest_of_bytes(disk)
    assert {key: value[0] for key, value in done.items()
            if ' ' in key} == {
        'clones qcow2': 'convert', 'clones vmdk': 'convert',
        'copies raw': 'copy', 'plain raw': 'upload',
        'encrypted raw': 'copy'}
    for disk_format in ('qcow2', 'vmdk'):
        inside = formats.read(tmp_path, _download(
            house, done[f'clones {disk_format}'][1]), disk_format)
        assert inside[:len(disk)] == disk
    for driver in ('copies', 'plain'):
        assert house.member.digest(done[f'{driver} raw'][1]) == \
            content.digest_of_bytes(disk)
    assert any('qemu-img convert' in line for line in seen)
    assert any('cipher-alg' in line for line in seen)
    everything = '\n'.join(seen)
    for secret in ('ab' * 32, *house.secrets()):
        assert secret not in everything


def _watch(child: subprocess.Popen[str], seen: set[str]) -> None:
    """Collect the command lines of all processes while *child* runs."""
    while child.poll() is None:
        for entry in os.scandir('/proc'):
            if entry.name.isdigit():
                try:
                    with open(f'/proc/{entry.name}/cmdline', 'rb') as stream:
                        line = stream.read().replace(b'\0', b' ')
                except OSError:
                    continue
                if b'qemu-img' in line:
                    seen.add(line.decode('utf-8', 'replace'))
        time.sleep(0.01)


def _download(house: House, image: str) -> bytes:
    return house.member.request(
        'GET', f'/images/{image}/file').content


# -- upload -------------------------------------------------------------------

@pytest.mark.parametrize('disk_format', READABLE)
def test_a_volume_makes_a_round_trip_through_a_format(
        house: House, tmp_path: pathlib.Path, disk: bytes, disk_format: str
        ) -> None:
    volume = house.volume(disk, 64 * MIB)

    image, result = house.upload(volume, disk_format=disk_format)

    assert (result.strategy, result.reason) == ('convert', 'not_raw')
    found = house.member.get(image)
    assert (found['status'], found['disk_format']) == ('active', disk_format)
    file = _download(house, image)
    assert len(file) < 32 * MIB
    assert b'ceph.conf' not in file
    if disk_format == 'qcow2':
        (tmp_path / 'check').write_bytes(file)
        formats.run('check', '-f', 'qcow2', tmp_path / 'check')
    assert formats.read(tmp_path, file, disk_format)[:len(disk)] == disk
    name, again = house.create(image)
    assert again.strategy == 'convert'
    assert house.cluster.digest('volumes', name) == \
        content.digest_of_bytes(disk)
    assert house.cluster.snapshots('volumes', volume) == []


@pytest.mark.parametrize('size', [1, 513])
def test_a_volume_that_qemu_cannot_read_is_refused(house: House, size: int
                                                   ) -> None:
    house.cluster.make('volumes', 'volume-odd', content.random_bytes(size))

    with house.nothing_changes(), pytest.raises(
            exception.NotSupported, match='raw'):
        house.upload('volume-odd', disk_format='qcow2')


def test_a_compressed_upload_is_smaller(house: House, tmp_path: pathlib.Path
                                        ) -> None:
    data = b'compressible ' * (MIB // 2)
    volume = house.volume(data)

    plain, _ = house.upload(volume, disk_format='qcow2')
    packed, _ = house.upload(volume, disk_format='qcow2', is_compressed=True)

    assert (house.member.get(packed)['size']
            < house.member.get(plain)['size'] // 4)
    assert formats.read(tmp_path, _download(house, packed), 'qcow2'
                        )[:len(data)] == data


@pytest.mark.parametrize('step', ['converting the volume',
                                  'uploading the file'])
def test_a_cancelled_upload_leaves_nothing(house: House, disk: bytes,
                                           step: str) -> None:
    volume = house.volume(disk)

    with house.nothing_changes(), pytest.raises(exception.Cancelled):
        house.upload(volume, disk_format='qcow2',
                     report=cancelling_at(step))


def test_what_is_written_during_an_upload_is_not_in_it(
        house: House, tmp_path: pathlib.Path, disk: bytes) -> None:
    volume = house.volume(disk)
    report = Steps('converting the volume', lambda: house.cluster.write(
        'volumes', volume, b'later' * 1000))

    image, _ = house.upload(volume, disk_format='qcow2', report=report)

    assert formats.read(tmp_path, _download(house, image), 'qcow2'
                        )[:len(disk)] == disk
