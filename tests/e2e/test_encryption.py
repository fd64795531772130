# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes through Cinder, read by qemu with the key alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.traces import POOLS, Traces, opened
from tests.functional import content, formats
from tests.functional.content import GIB, MIB
from volume_rbd.sandbox import Sandbox
from volume_rbd.sandbox.state import find_state

POOL = POOLS['on']
TYPE = 'on-encrypted'


@pytest.fixture
def traces(sandbox: Sandbox) -> Iterator[Traces]:
    with opened(sandbox) as made:
        yield made


class Guest:
    """Has the key, as a hypervisor does that asked the key manager."""

    def __init__(self, traces: Traces, folder: Path) -> None:
        state = find_state(traces.sandbox.folder)
        assert state is not None
        self._conf = traces.cluster.conf
        self._folder = folder
        self._key = folder / 'key'
        self._key.write_text(state.fixed_key.lower())

    def read(self, volume: str, pool: str = POOL) -> str:
        """The hash of what is inside."""
        plain = self._folder / 'plain'
        formats.run('convert', *self._secret, '-O', 'raw',
                    'json:' + json.dumps(self._node(volume, pool)), plain)
        with plain.open('rb') as stream:
            found = content.digest_of_stream(
                iter(lambda: stream.read(16 * MIB), b''))
        plain.unlink()
        return found

    def write(self, volume: str, pool: str = POOL) -> None:
        """Zeros all over but in two places: as a file system would, for
        what nobody wrote decrypts to anything."""
        plain = self._folder / 'plain'
        with plain.open('wb') as stream:
            stream.truncate(GIB)
            for offset in (0, GIB - MIB):
                stream.seek(offset)
                stream.write(content.random_bytes(MIB))
        formats.run('convert', *self._secret, '-n', '--target-is-zero',
                    '-f', 'raw', '--target-image-opts', plain,
                    self._options(volume, pool))
        plain.unlink()

    @property
    def _secret(self) -> list[str]:
        return ['--object', f'secret,id=k,format=raw,file={self._key}']

    def _node(self, volume: str, pool: str) -> dict[str, object]:
        return {'driver': 'luks', 'key-secret': 'k', 'file': {
            'driver': 'rbd', 'pool': pool, 'image': f'volume-{volume}',
            'conf': self._conf, 'user': 'cinder'}}

    def _options(self, volume: str, pool: str) -> str:
        return (f'driver=luks,key-secret=k,file.driver=rbd,file.pool={pool},'
                f'file.image=volume-{volume},file.conf={self._conf},'
                'file.user=cinder')


@pytest.fixture
def guest(traces: Traces, tmp_path: Path) -> Guest:
    return Guest(traces, tmp_path)


def test_a_blank_volume_opens_with_the_key(traces: Traces, tmp_path: Path
                                           ) -> None:
    volume = traces.volume(TYPE)
    header = tmp_path / 'header'
    with traces.cluster.open(POOL, f'volume-{volume}', read_only=True
                             ) as image:
        # As the stock driver makes them: the header comes on top.
        assert image.size() == GIB + _payload(image.read(0, 4 * MIB))
        header.write_bytes(image.read(0, 4 * MIB))
    state = find_state(traces.sandbox.folder)
    assert state is not None
    for key, is_right in ((state.fixed_key.lower(), True), ('no', False)):
        done = subprocess.run(
            ['/usr/sbin/cryptsetup', 'open', '--test-passphrase', '--type',
             'luks1', '--key-file', '-', header], input=key.encode(),
            check=False, capture_output=True)
        assert (done.returncode == 0) == is_right


def _payload(header: bytes) -> int:
    """Of a LUKS 1 header: where the data begins, in bytes."""
    return int.from_bytes(header[104:108], 'big') * 512


def test_no_copy_of_it_loses_a_byte(traces: Traces, guest: Guest) -> None:
    """Snapshot, clone, a larger one of it, and back from the snapshot."""
    volume = traces.volume(TYPE)
    guest.write(volume)
    digest = guest.read(volume)
    snapshot = traces.snapshot(volume)
    clone = traces.volume(TYPE, source_volid=volume)
    made = traces.volume(TYPE, 2, snapshot_id=snapshot)
    assert guest.read(clone) == digest
    traces.cluster.write(POOL, f'volume-{volume}', b'\xff' * content.BLOCK,
                         64 * MIB)
    assert guest.read(volume) != digest
    traces.cinder.revert(volume, snapshot)
    assert guest.read(volume) == digest
    with traces.cluster.open(POOL, f'volume-{made}', read_only=True
                             ) as image:
        assert image.size() >= 2 * GIB


def test_an_image_and_a_volume_of_it_open_with_the_key(
        traces: Traces, guest: Guest) -> None:
    volume = traces.volume(TYPE)
    guest.write(volume)
    image = traces.upload(volume)
    found = traces.glance.get(image)
    assert found['cinder_encryption_key_id']
    assert found['size'] == traces.cluster.size(POOL, f'volume-{volume}')
    again = traces.volume(TYPE, imageRef=image)
    assert guest.read(again) == guest.read(volume)


@pytest.mark.parametrize('disk_format', ['raw', 'qcow2'])
def test_a_plain_image_is_encrypted_on_the_way(
        traces: Traces, guest: Guest, tmp_path: Path, disk_format: str
        ) -> None:
    data = content.sparse_bytes(32 * MIB)
    file = data if disk_format == 'raw' else formats.make(
        tmp_path, data, disk_format)
    image = traces.image(file, disk_format=disk_format)
    volume = traces.volume(TYPE, imageRef=image)
    with traces.cluster.open(POOL, f'volume-{volume}', read_only=True
                             ) as opened_image:
        assert data[:4096] not in opened_image.read(0, 40 * MIB)
    plain = tmp_path / 'inside'
    formats.run('convert', *guest._secret, '-O', 'raw',
                'json:' + json.dumps(guest._node(volume, POOL)), plain)
    with plain.open('rb') as stream:
        assert stream.read(len(data)) == data


def test_a_volume_becomes_an_encrypted_one_by_another_type(
        traces: Traces, guest: Guest, etc_ceph: None) -> None:
    """Cinder makes a new volume and copies through os-brick."""
    volume, _ = traces.written('on')
    traces.admin.client.volumes.retype(volume, TYPE, 'on-demand')
    traces.admin.wait_for_status(volume, 'available')
    record = traces.admin.show(volume).to_dict()
    assert record['volume_type'] in (TYPE, 'on')
    print(record, traces.logged()[-3000:])
