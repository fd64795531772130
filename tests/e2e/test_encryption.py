# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes through Cinder, read by qemu with the key alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.traces import POOLS, Traces, opened
from tests.functional import formats
from tests.functional.content import GIB, MIB
from volume_rbd.sandbox import Sandbox

POOL = POOLS['on']
TYPE = 'on-encrypted'
#: Where a guest writes, from its own point of view.
PLACES = (0, 500 * MIB, GIB - MIB)


@pytest.fixture(scope='module')
def owner(sandbox: Sandbox) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


@pytest.fixture
def traces(sandbox: Sandbox) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


class Guest:
    """Writes and reads 64 KiB of one byte in each of the places, with the
    volume's key, as a hypervisor does that asked the key manager. To open the
    volume costs seconds: that is what LUKS is made for."""

    def __init__(self, owner: Traces, keys: Path, folder: Path) -> None:
        self._owner, self._keys, self._folder = owner, keys, folder

    def key(self, volume: str) -> str:
        """What the key manager gives to whoever may attach."""
        key_id = self._owner.cinder.encryption_key_id(volume)
        found = json.loads((self._keys / f'{key_id}.json').read_text())
        return str(found['key'])

    def write(self, volume: str, byte: int) -> None:
        self._do(volume, 'write', byte, self.key(volume))

    def reads(self, volume: str, byte: int, key: str | None = None) -> bool:
        """Whether that is in all of them; qemu-io fails where it is not.

        :param key: another than the volume's own.
        """
        return bool(self._do(volume, 'read', byte, key or self.key(volume)))

    def _do(self, volume: str, what: str, byte: int, key: str) -> str:
        file = self._folder / 'key'
        file.write_text(key)
        words = [word for place in PLACES
                 for word in ('-c', f'{what} -P {byte} {place} 64k')]
        options = (f'driver=luks,key-secret=k,file.driver=rbd,'
                   f'file.pool={POOL},file.image=volume-{volume},'
                   f'file.conf={self._owner.cluster.conf},file.user=cinder')
        return subprocess.run(
            ['qemu-io', *(['-r'] if what == 'read' else []),
             '--object', f'secret,id=k,format=raw,file={file}',
             '--image-opts', options, *words],
            check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope='module')
def guest(sandbox: Sandbox, owner: Traces,
          tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return Guest(owner, sandbox.folder / 'cinder' / 'keys',
                 tmp_path_factory.mktemp('key'))


@pytest.fixture(scope='module')
def volume(owner: Traces, guest: Guest) -> str:
    """With 0x11 in its places."""
    made = owner.volume(TYPE)
    guest.write(made, 0x11)
    return made


def test_the_header_opens_with_the_key_and_no_other(
        traces: Traces, volume: str, guest: Guest, tmp_path: Path) -> None:
    header = tmp_path / 'header'
    with traces.cluster.open(POOL, f'volume-{volume}', read_only=True
                             ) as image:
        found = image.read(0, 4 * MIB)
        # As the stock driver makes them: the header comes on top.
        assert image.size() == GIB + _payload_offset(found)
    header.write_bytes(found)
    for given, is_right in ((guest.key(volume), True), ('another', False)):
        done = subprocess.run(
            ['/usr/sbin/cryptsetup', 'open', '--test-passphrase', '--type',
             'luks1', '--key-file', '-', header], input=given.encode(),
            check=False, capture_output=True)
        assert (done.returncode == 0) == is_right


def _payload_offset(header: bytes) -> int:
    """Of LUKS 1, in bytes."""
    return int.from_bytes(header[104:108], 'big') * 512


def test_what_is_made_of_it_has_its_bytes(
        traces: Traces, volume: str, guest: Guest) -> None:
    digest = traces.digest(volume)
    snapshot = traces.snapshot(volume)
    clone = traces.volume(TYPE, source_volid=volume)
    made = traces.volume(TYPE, 2, snapshot_id=snapshot)
    assert guest.reads(made, 0x11)
    assert guest.reads(clone, 0x11)
    assert traces.cluster.size(POOL, f'volume-{made}') >= 2 * GIB
    guest.write(clone, 0x22)
    assert traces.digest(volume) == digest


def test_the_key_of_a_volume_opens_none_of_its_clones(
        traces: Traces, volume: str, guest: Guest) -> None:
    """Defect 9 of the stock driver."""
    snapshot = traces.snapshot(volume)
    for source in ({'source_volid': volume}, {'snapshot_id': snapshot}):
        clone = traces.volume(TYPE, **source)
        with pytest.raises(subprocess.CalledProcessError):
            guest.reads(clone, 0x11, guest.key(volume))


def test_a_revert_brings_its_bytes_back(traces: Traces, volume: str) -> None:
    clone = traces.volume(TYPE, source_volid=volume)
    snapshot = traces.snapshot(clone)
    digest = traces.digest(clone)
    traces.cluster.write(POOL, f'volume-{clone}', b'x' * 4096, 8 * MIB)
    assert traces.digest(clone) != digest
    traces.cinder.revert(clone, snapshot)
    assert traces.digest(clone) == digest


def test_a_plain_image_is_encrypted_on_the_way(
        traces: Traces, guest: Guest, tmp_path: Path) -> None:
    disk = tmp_path / 'disk.qcow2'
    formats.run('create', '-f', 'qcow2', disk, f'{GIB - MIB + 65536}')
    words = [word for place in PLACES
             for word in ('-c', f'write -P 68 {place} 64k')]
    subprocess.run(['qemu-io', *words, disk], check=True,
                   capture_output=True)
    image = traces.image(disk.read_bytes(), disk_format='qcow2')
    made = traces.volume(TYPE, 2, imageRef=image)
    assert guest.reads(made, 68)
    with traces.cluster.open(POOL, f'volume-{made}', read_only=True
                             ) as opened_image:
        assert b'\x44' * 4096 not in opened_image.read(0, 8 * MIB)
