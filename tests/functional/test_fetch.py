# SPDX-License-Identifier: Apache-2.0
"""Images into local files: from the real cluster, and through a real Glance.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import disk_formats
from tests.functional import content, formats
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.program import Program, started
from tests.functional.proxy import Proxy
from tests.functional.steps import AtBytes, Steps, cancelling_at
from tests.functional.test_convert import _inject
from tests.signing import Signer, make_signer
from volume_rbd import compute, exception
from volume_rbd.compute import cache
from volume_rbd.sandbox import Sandbox

DATA = content.sparse_bytes(24 * MIB + 512)
RSA = make_signer()
READING = 'reading the image from RBD'
WAYS = {'rbd': 'export', 'file': 'download'}
# A connection that is reset may look like an orderly end.
CUT_OFF = (exception.DataCorrupted, exception.GlanceUnavailable)
both = pytest.mark.parametrize('store', WAYS)


@dataclasses.dataclass
class Node:
    """A compute node: its configuration, its cache, its agents.

    :ivar more: sections that win over the usual ones.
    """

    house: House
    folder: Path
    more: dict[str, dict[str, object]] = dataclasses.field(
        default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.folder / '_base'

    def config(self, **more: dict[str, object]) -> str:
        conf = self.house.sandbox.env()['CEPH_CONF']
        sections: dict[str, dict[str, object]] = {
            'DEFAULT': {'instances_path': self.folder,
                        'signature_certificates_dir': self.folder / 'keys'},
            'glance': {'allowed_direct_url_schemes': 'rbd',
                       'rbd_user': 'nova', 'rbd_connect_timeout': 20},
            'libvirt': {'images_rbd_ceph_conf': conf, 'rbd_user': 'nova'}}
        for layer in (self.more, more):
            for name, values in layer.items():
                sections[name] = {**sections.get(name, {}), **values}
        return self.house.config(sections)

    @contextlib.contextmanager
    def agent(self, **more: dict[str, object]
              ) -> Iterator[compute.ComputeAgent]:
        with compute.ComputeAgent(
                [self.config(**more)],
                environ=self.house.sandbox.env('member')) as agent:
            yield agent

    def fetch(self, image_id: str, target: str | Path | None = None, *,
              more: dict[str, dict[str, object]] | None = None,
              **options: Any) -> compute.Fetched:
        with self.agent(**(more or {})) as agent:
            return agent.fetcher.fetch(image_id, target, **options)

    def start(self, *words: str, **options: Any
              ) -> contextlib.AbstractContextManager[Program]:
        return started(self.house, 'fetch', *words, **options)

    @property
    def slow(self) -> str:
        return self.config(libvirt={'copy_bandwidth': 4})

    def files(self) -> list[str]:
        return sorted(os.listdir(self.cache)) if self.cache.exists() else []

    @contextlib.contextmanager
    def refuses(self, kind: type[exception.VolumeRBDError] | tuple[
            type[exception.VolumeRBDError], ...], match: str
            ) -> Iterator[None]:
        """It fails so, and leaves nothing anywhere."""
        before = self.files()
        with self.house.nothing_changes(), \
                pytest.raises(kind, match=match) as caught:
            yield
        assert caught.value.remedy
        assert self.files() == before


@pytest.fixture
def node(house: House, tmp_path: Path) -> Node:
    (tmp_path / 'keys').mkdir()
    RSA.keep(tmp_path / 'keys')
    return Node(house, tmp_path)


def tamper(house: House, image_id: str, store: str) -> None:
    """Change bytes of the image where they lie."""
    if store == 'file':
        [path] = (house.sandbox.folder / 'glance' / 'file').rglob(image_id)
        with path.open('r+b') as file:
            file.write(b'forged')
        return
    ioctx = house.cluster.ioctx('images')
    prefix = f'rbd_data.{house.cluster.image_id("images", image_id)}.'
    changed = next(each.key for each in ioctx.list_objects()
                   if each.key.startswith(prefix))
    ioctx.write(changed, b'forged', 0)


# -- straight from RBD --------------------------------------------------------

@pytest.mark.parametrize('size', [0, 1, 513, 9 * MIB + 777])
def test_every_byte_comes_into_the_file(node: Node, size: int) -> None:
    data = content.random_bytes(size)
    image_id = node.house.member.make(data, 'rbd')

    with node.house.nothing_changes():
        found = node.fetch(image_id)

    assert found.path.read_bytes() == data
    assert found.strategy == 'export'
    assert found.hash == 'sha512:' + hashlib.sha512(data).hexdigest()
    assert node.files() == [cache.name_for(image_id)]


def test_holes_are_neither_read_nor_written(node: Node) -> None:
    data = DATA + bytes(64 * MIB) + DATA
    image_id = node.house.member.make(data, 'rbd')
    report = Steps()

    found = node.fetch(image_id, report=report)

    assert found.path.read_bytes() == data
    assert found.path.stat().st_blocks * 512 < 4 * MIB
    assert found.bytes_moved < 4 * MIB
    assert report.done_bytes + report.skipped_bytes == len(data)


def test_whoever_attaches_disks_need_not_be_who_reads_images(node: Node
                                                             ) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    found = node.fetch(image_id, more={
        'libvirt': {'rbd_user': 'nobody'}, 'glance': {'rbd_user': 'cinder'}})
    assert found.strategy == 'export'


def test_novas_newer_option_does_it_too(node: Node) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    found = node.fetch(image_id, more={'glance': {
        'allowed_direct_url_schemes': '', 'enable_rbd_download': True}})
    assert found.strategy == 'export'


def test_a_qcow2_is_kept_or_converted(node: Node, tmp_path: Path) -> None:
    file = formats.make(tmp_path, DATA, 'qcow2')
    for store, strategy in WAYS.items():
        image_id = node.house.member.make(file, store, disk_format='qcow2')
        kept = node.fetch(image_id, f'kept-{store}')
        raw = node.fetch(image_id, f'raw-{store}', convert_to='raw')
        assert (kept.strategy, raw.strategy) == (strategy, strategy)
        assert kept.path.read_bytes() == file
        assert kept.disk_bytes == raw.disk_bytes == len(DATA)
        assert raw.path.read_bytes() == DATA
        assert raw.path.stat().st_blocks * 512 < 4 * MIB
    assert len(node.files()) == 4


@pytest.mark.parametrize('disk_format', ['vmdk', 'vhd', 'vdi', 'ploop'])
def test_other_formats_are_converted_too(node: Node, tmp_path: Path,
                                         disk_format: str) -> None:
    image_id = node.house.member.make(
        formats.make(tmp_path, DATA, disk_format), 'rbd',
        disk_format=disk_format)
    found = node.fetch(image_id, convert_to='raw')
    assert content.digest_of_bytes(found.path.read_bytes()) == \
        content.digest_of_bytes(DATA)


# -- through Glance, and why --------------------------------------------------

def check_downloaded(node: Node, found: compute.Fetched, reason: str) -> None:
    assert (found.strategy, found.reason) == ('download', reason)
    assert found.path.read_bytes() == DATA
    assert node.files() == [found.path.name]


def test_what_is_not_in_rbd(node: Node) -> None:
    image_id = node.house.member.make(DATA, 'file')
    check_downloaded(node, node.fetch(image_id), 'not_rbd')


def test_where_no_scheme_is_allowed(node: Node) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    found = node.fetch(image_id, more={
        'glance': {'allowed_direct_url_schemes': ''},
        'libvirt': {'images_rbd_ceph_conf': '/nowhere'}})
    check_downloaded(node, found, 'direct_disabled')


def test_another_cluster(node: Node, other_cluster: Sandbox) -> None:
    """Nova would read whatever bears that name there."""
    image_id = node.house.member.make(DATA, 'rbd')
    found = node.fetch(image_id, more={'glance': {
        'rbd_ceph_conf': other_cluster.env()['CEPH_CONF']}})
    check_downloaded(node, found, 'other_cluster')


def test_where_nobody_is_shown_a_location(node: Node) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    nobody: dict[str, dict[str, object]] = {'service_user': {
        'auth_type': ''}}
    found = node.fetch(image_id, more={
        **nobody, 'glance': {'auth_type': ''}})
    check_downloaded(node, found, 'no_location')


def test_a_snapshot_that_is_missing(node: Node) -> None:
    """Here another location serves what is downloaded."""
    image_id = node.house.member.make(DATA, 'file')
    fsid = node.house.cluster.fsid
    node.house.cluster.make('images', image_id)
    node.house._sql(
        'glance', 'INSERT INTO image_locations (image_id, value, created_at, '
        'deleted, meta_data, status) SELECT image_id, %s, created_at, 0, '
        'meta_data, status FROM image_locations WHERE image_id = %s',
        f'rbd://{fsid}/images/{image_id}/snap', image_id)
    try:
        check_downloaded(node, node.fetch(image_id), 'missing_snapshot')
    finally:
        node.house._sql('glance', 'DELETE FROM image_locations WHERE '
                        'image_id = %s AND value LIKE "rbd:%%"', image_id)
        node.house.cluster.remove('images', image_id)


def test_a_location_that_an_owner_wrote(node: Node) -> None:
    """A volume of somebody else, for instance."""
    image_id = node.house.member.make(DATA, 'file')
    volume = node.house.volume(content.random_bytes(MIB))
    node.house.cluster.take_snapshot('volumes', volume, 'snap')
    [before] = node.house.service.locations(image_id)
    fsid = node.house.cluster.fsid
    with node.house.nothing_changes():
        node.house.replace_location(
            image_id, f'rbd://{fsid}/volumes/{volume}/snap')
        with node.agent() as agent:
            decided = agent.fetcher.get_plan(image_id)
        node.house.replace_location(image_id, before)
    assert decided.reason == 'foreign_location'
    assert decided.source is None


def test_a_user_who_may_not_read_the_pool(node: Node) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    with blind_user(node.house) as user:
        found = node.fetch(image_id, more={'glance': {'rbd_user': user}})
    check_downloaded(node, found, 'snapshot_denied')
    assert 'cephx' in found.sentence


@contextlib.contextmanager
def blind_user(house: House) -> Iterator[str]:
    """Who sees the monitors and no pool."""
    conf = house.cluster.conf
    keyring = Path(conf).parent / 'ceph.client.blind.keyring'
    run = ['ceph', '-c', conf, '-n', 'client.admin', 'auth']
    made = subprocess.run(
        [*run, 'get-or-create', 'client.blind', 'mon', 'profile rbd'],
        check=True, capture_output=True, text=True)
    keyring.write_text(made.stdout)
    try:
        yield 'blind'
    finally:
        keyring.unlink()
        subprocess.run([*run, 'del', 'client.blind'], check=True,
                       capture_output=True)


def test_a_cluster_that_does_not_answer(node: Node, tmp_path: Path) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    conf = tmp_path / 'away.conf'
    conf.write_text('[global]\nmon host = 127.0.0.1:1\n'
                    'auth client required = none\n')
    found = node.fetch(image_id, more={'glance': {
        'rbd_ceph_conf': conf, 'rbd_connect_timeout': 1}})
    check_downloaded(node, found, 'cluster_unavailable')


def test_what_goes_between_the_plan_and_the_reading_is_said(node: Node
                                                            ) -> None:
    """The snapshot is there again when Glance looks for it."""
    image_id = node.house.member.make(DATA, 'rbd')
    opened = node.house.cluster.open

    def hide() -> None:
        with opened('images', image_id) as image:
            image.unprotect_snap('snap')
            image.rename_snap('snap', 'hidden')

    def show(_: object) -> None:
        with opened('images', image_id) as image:
            image.rename_snap('hidden', 'snap')
            image.protect_snap('snap')

    class Report(Steps):
        def step(self, name: str) -> None:
            super().step(name)
            if name == READING:
                hide()
            elif 'download' in name:
                show(name)

    found = node.fetch(image_id, report=Report())

    check_downloaded(node, found, 'missing_snapshot')
    assert [each['strategy'] for each in found.attempts] == [
        'export', 'download']
    assert image_id in found.sentence


# -- what the bytes are -------------------------------------------------------

@both
def test_tampered_data_is_found_out_by_the_hash(node: Node, store: str
                                                ) -> None:
    image_id = node.house.member.make(DATA, store)
    tamper(node.house, image_id, store)
    with node.refuses(exception.DataCorrupted, 'sha512'):
        node.fetch(image_id)


def forget_hash(house: House, image_id: str) -> None:
    """As of an image that was registered by its location."""
    house._sql('glance', 'UPDATE images SET checksum = NULL, '
               'os_hash_value = NULL, os_hash_algo = NULL WHERE id = %s',
               image_id)


@both
def test_tampered_data_is_found_out_by_the_signature_alone(
        node: Node, store: str) -> None:
    image_id = sign(node, store)
    tamper(node.house, image_id, store)
    forget_hash(node.house, image_id)
    with node.refuses(exception.SignatureInvalid, 'does not fit'):
        node.fetch(image_id)


def test_data_that_is_damaged_on_its_way_through_glance(
        node: Node, proxy: Proxy) -> None:
    image_id = node.house.member.make(DATA, 'file')
    proxy.on('GET', f'/images/{image_id}/file', cut_at=8 * MIB)
    node.more['DEFAULT'] = {'glance_api_servers': proxy.url,
                            'glance_num_retries': 0}
    with node.refuses(CUT_OFF, image_id):
        node.fetch(image_id)


def test_forged_data_from_a_glance_that_was_broken_into(
        node: Node, proxy: Proxy) -> None:
    image_id = sign(node, 'file')
    forget_hash(node.house, image_id)
    proxy.on('GET', f'/images/{image_id}/file', status=200,
             body=b'forged' + DATA[6:])
    node.more['DEFAULT'] = {'glance_api_servers': proxy.url}
    with node.refuses(exception.SignatureInvalid, 'does not fit'):
        node.fetch(image_id)


@both
@pytest.mark.parametrize('disk_format', ['raw', 'qcow2'])
def test_a_file_that_refers_to_another_is_not_kept(
        node: Node, store: str, disk_format: str, tmp_path: Path) -> None:
    """Neither as what it is nor as raw bytes that a guest would probe."""
    formats.run('create', '-f', 'qcow2', '-F', 'raw', '-b', '/etc/passwd',
                '-u', tmp_path / 'evil', '1M')
    image_id = _inject(node.house, (tmp_path / 'evil').read_bytes(),
                       disk_format, store)
    with node.refuses(exception.ImageUnsafe, 'not used'):
        node.fetch(image_id, convert_to='raw')


def test_a_file_with_data_elsewhere_is_not_kept(node: Node) -> None:
    image_id = _inject(node.house, disk_formats.qcow2(
        b'', size=MIB, incompatible=4), 'qcow2')
    with node.refuses(exception.ImageUnsafe, 'not used'):
        node.fetch(image_id)


# -- signatures ---------------------------------------------------------------

def sign(node: Node, store: str, signer: Signer = RSA, signed: bytes = DATA,
         **change: str) -> str:
    image_id = node.house.member.make(DATA, store)
    node.house.member.set_properties(image_id, signer.sign(signed) | change)
    return image_id


@both
def test_a_signed_image_is_verified(node: Node, store: str) -> None:
    found = node.fetch(sign(node, store), more={
        'glance': {'verify_glance_signatures': True}})
    assert found.strategy == WAYS[store]
    assert found.signature_verified is True


@both
def test_another_ones_bytes_are_refused(node: Node, store: str) -> None:
    image_id = sign(node, store, signed=DATA[:-1] + b'x')
    with node.refuses(exception.SignatureInvalid, 'does not fit'):
        node.fetch(image_id)


@both
def test_an_unsigned_image_is_refused_where_that_is_asked(
        node: Node, store: str) -> None:
    image_id = node.house.member.make(DATA, store)
    with node.refuses(exception.SignatureInvalid, 'not signed'):
        node.fetch(image_id, more={
            'glance': {'verify_glance_signatures': True}})


@both
@pytest.mark.parametrize(('signer', 'change', 'more', 'why'), [
    (make_signer(days=(-3, -1)), {}, {}, 'not valid now'),
    (make_signer(), {'img_signature_certificate_uuid': 'unknown'}, {},
     'unknown is not in the key manager'),
    (RSA, {}, {'signature_trusted_certificates': 'other'}, 'was not issued'),
    (RSA, {'img_signature_hash_method': 'MD5'}, {}, 'MD5'),
    (RSA, {'img_signature_key_type': 'ECC_SECP384R1'}, {}, 'ECC_SECP384R1')],
    ids=['expired', 'unknown', 'untrusted', 'hash method', 'key type'])
def test_a_signature_that_nobody_vouches_for_is_refused_before_bytes_move(
        node: Node, store: str, signer: Signer, change: dict[str, str],
        more: dict[str, object], why: str) -> None:
    signer.keep(node.folder / 'keys')
    dataclasses.replace(make_signer('ECC_SECP384R1'), id='other').keep(
        node.folder / 'keys')
    image_id = sign(node, store, signer, **change)
    report = Steps()
    with node.refuses(exception.SignatureInvalid, why):
        node.fetch(image_id, more={'DEFAULT': more}, report=report)
    assert report.names == []


# -- the folder ---------------------------------------------------------------

@both
def test_a_folder_without_room_is_said_before_bytes_move(
        node: Node, small_disk: Path, store: str) -> None:
    image_id = node.house.member.make(content.random_bytes(24 * MIB), store)
    report = Steps()
    with node.refuses(exception.NoSpace, 'has room for'):
        node.fetch(image_id, small_disk / 'file', report=report)
    assert report.done_bytes == 0
    assert os.listdir(small_disk) == []


def test_what_is_sparse_needs_room_for_its_data_only(
        node: Node, small_disk: Path) -> None:
    volume = node.house.volume(b'', 64 * MIB)
    node.house.cluster.write('volumes', volume, b'data', 40 * MIB)
    image_id, _ = node.house.upload(volume)

    found = node.fetch(image_id, small_disk / 'file')

    assert found.strategy == 'export'
    assert found.path.read_bytes() == (
        bytes(40 * MIB) + b'data'.ljust(24 * MIB, b'\0'))
    # Nobody has hashed what was registered by its location.
    assert found.hash is None


@both
def test_a_folder_that_fills_up_meanwhile_is_said(
        node: Node, small_disk: Path, store: str) -> None:
    image_id = node.house.member.make(content.random_bytes(6 * MIB), store)
    report = AtBytes(1, lambda: (small_disk / 'other').write_bytes(
        bytes(7 * MIB - os.statvfs(small_disk).f_frsize)))
    with contextlib.suppress(OSError), \
            node.refuses(exception.NoSpace, 'No space left'):
        node.fetch(image_id, small_disk / 'file', report=report)
    assert os.listdir(small_disk) == ['other']


def test_a_conversion_that_has_no_room_is_said(
        node: Node, small_disk: Path, tmp_path: Path) -> None:
    data = b'0123456789abcdef' * (16 * MIB // 16)
    image_id = node.house.member.make(
        formats.make(tmp_path, data, 'qcow2', '-c'), 'rbd',
        disk_format='qcow2')
    with node.refuses(exception.NoSpace, 'No space left'):
        node.fetch(image_id, small_disk / 'file', convert_to='raw')
    assert os.listdir(small_disk) == []


def test_a_folder_that_is_read_only_is_said(node: Node, small_disk: Path
                                            ) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    subprocess.run(['mount', '-o', 'remount,ro', small_disk], check=True)
    with node.refuses(exception.AccessDenied, 'Read-only'):
        node.fetch(image_id, small_disk / 'file')


def test_a_folder_that_is_a_file_is_said(node: Node) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    (node.folder / 'keys' / 'file').touch()
    with node.refuses(exception.NotFound, 'Not a directory'):
        node.fetch(image_id, node.folder / 'keys' / 'file' / 'mine')


# -- several processes --------------------------------------------------------

def test_two_processes_fetch_an_image_once(node: Node) -> None:
    image_id = node.house.member.make(
        content.random_bytes(16 * MIB), 'rbd')
    with node.start(image_id, '-f', 'json', config=node.slow) as first:
        first.wait_for(READING)
        with node.start(image_id, '-f', 'json', config=node.slow) as second:
            second.wait_for('waiting for another fetch')
            assert first.end() == 0
            assert second.end() == 0
    found = [json.loads(each.stdout) for each in (first, second)]
    assert [each['strategy'] for each in found] == ['export', 'reuse']
    assert found[0]['path'] == found[1]['path']
    assert READING not in second.stderr
    assert node.files() == [cache.name_for(image_id)]


def test_two_threads_of_one_agent_fetch_an_image_once(node: Node) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    found: list[compute.Fetched] = []
    with node.agent() as agent:
        threads = [threading.Thread(target=lambda: found.append(
            agent.fetcher.fetch(image_id))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(each.strategy for each in found) == [
        'export', 'reuse', 'reuse', 'reuse']


def test_where_the_first_one_fails_the_second_one_fetches(node: Node) -> None:
    image_id = node.house.member.make(content.random_bytes(32 * MIB), 'rbd')
    with node.start(image_id, config=node.slow) as first:
        first.wait_for(READING)
        with node.start(image_id, '-f', 'json', config=node.config()
                        ) as second:
            second.wait_for('waiting for another fetch')
            first.kill()
            assert second.end() == 0
    assert json.loads(second.stdout)['strategy'] == 'export'
    assert node.files() == [cache.name_for(image_id)]


@both
def test_a_fetch_that_is_killed_leaves_no_half_file(node: Node, store: str
                                                    ) -> None:
    data = content.random_bytes(48 * MIB)
    image_id = node.house.member.make(data, store)
    other = node.house.member.make(DATA, store)
    with node.start(image_id, config=node.slow) as program:
        program.wait_for(r' [1-8]0 %')
        program.kill()
    [left] = node.files()
    assert left.startswith('.')

    node.fetch(other)
    assert node.files() == [cache.name_for(other)]
    assert node.fetch(image_id).path.read_bytes() == data


def test_a_conversion_that_is_killed_leaves_no_child(
        node: Node, tmp_path: Path) -> None:
    image_id = node.house.member.make(
        formats.make(tmp_path, content.random_bytes(64 * MIB), 'qcow2'),
        'rbd', disk_format='qcow2')
    with node.start(image_id, '--disk-format', 'raw', config=node.config()
                    ) as program:
        program.wait_for('converting')
        program.kill()
    assert not (node.cache / cache.name_for(image_id)).exists()
    deadline = time.monotonic() + 10
    while any(str(node.folder) in line for line in commands()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = node.fetch(image_id, convert_to='raw')
    assert node.files() == [found.path.name]


def commands() -> list[str]:
    return subprocess.run(['ps', '-eo', 'args'], capture_output=True,
                          text=True, check=True).stdout.splitlines()[1:]


# -- cancelled ----------------------------------------------------------------

@both
def test_it_is_cancelled_within_a_second(node: Node, store: str) -> None:
    image_id = node.house.member.make(content.random_bytes(64 * MIB), store)
    report = AtBytes(8 * MIB)
    with node.house.nothing_changes(), pytest.raises(exception.Cancelled):
        node.fetch(image_id, report=report)
    assert report.stopped_at - report.acted_at < 1
    assert node.files() == []


@pytest.mark.parametrize('step', ['inspecting the image',
                                  'converting the image'])
def test_later_steps_are_cancelled_too(node: Node, tmp_path: Path, step: str
                                       ) -> None:
    image_id = node.house.member.make(
        formats.make(tmp_path, DATA, 'qcow2'), 'rbd', disk_format='qcow2')
    with pytest.raises(exception.Cancelled):
        node.fetch(image_id, convert_to='raw', report=cancelling_at(step))
    assert node.files() == []


def test_a_command_that_is_told_to_stop_does(node: Node) -> None:
    image_id = node.house.member.make(content.random_bytes(48 * MIB), 'rbd')
    with node.start(image_id, config=node.slow) as program:
        program.wait_for(READING)
        program.signal(signal.SIGTERM)
        assert program.end() == exception.Cancelled.exit_code
    assert node.files() == []


# -- the command --------------------------------------------------------------

def test_the_command_says_what_it_did(node: Node, tmp_path: Path) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    target = tmp_path / 'mine.raw'
    said = [node.house.run_json('fetch', image_id, '--output', str(target),
                                config=node.config()) for _ in range(2)]
    assert [each['strategy'] for each in said] == ['export', 'reuse']
    assert said[0]['path'] == str(target)
    assert said[0]['signature_verified'] is False
    assert said[0]['sentence'].endswith('.')
    assert target.read_bytes() == DATA
    assert not node.cache.exists()


def test_the_command_fails_with_a_remedy(node: Node, tmp_path: Path) -> None:
    image_id = node.house.member.make(DATA, 'rbd')
    (tmp_path / 'mine').write_bytes(b'something else')
    done = node.house.run('fetch', image_id, '--output',
                          str(tmp_path / 'mine'), config=node.config())
    assert done.returncode == exception.Conflict.exit_code
    assert 'another name' in done.stderr
    assert (tmp_path / 'mine').read_bytes() == b'something else'
