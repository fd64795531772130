# SPDX-License-Identifier: Apache-2.0
"""The defects of the stock driver that operators live with, beside ours.

Each test runs on both drivers in one sandbox. On the stock driver it is
expected to fail, and has to: a test that cannot fail proves nothing.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.e2e.estate import Estate, limited_type, soon
from tests.functional import content
from tests.signing import make_signer
from volume_rbd import manager
from volume_rbd.ceph import bindings
from volume_rbd.sandbox import Sandbox

with warnings.catch_warnings():
    # Importing Cinder, once, says much about eventlet that is not ours.
    warnings.simplefilter('ignore')
    from cinder.volume.drivers import rbd as stock_driver
    from cinderclient import exceptions

POOLS = {'stock': 'volumes-stock', 'off': 'volumes-off'}
BLOCK = b'\xff' * content.BLOCK
#: Of a volume of a GiB: where a writer counts.
ENDS = (0, content.GIB - content.BLOCK)


class Defect(AssertionError):
    """It shows. Any other failure is one of the test."""


def expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Defect(otherwise)


both = pytest.mark.parametrize('backend', [
    pytest.param('stock', marks=[pytest.mark.long, pytest.mark.xfail(
        raises=Defect, strict=True, reason='a defect of the stock driver')]),
    'off'])


@pytest.fixture(scope='module')
def whole_estate(sandbox: Sandbox) -> Iterator[Estate]:
    """The stock driver uploads with keyrings in /etc/ceph only."""
    sandbox.configure_cinder({})
    made = Estate(sandbox)
    sandbox.set_etc_ceph(True)
    yield made
    sandbox.set_etc_ceph(False)
    made.close()


@pytest.fixture
def estate(whole_estate: Estate, backend: str) -> Iterator[Estate]:
    """The backend's pool; the test's end empties it."""
    whole_estate.use(backend, POOLS[backend])
    yield whole_estate
    whole_estate.scrub()


# -- 1: what a clone leaves on its source ------------------------------------
@both
def test_nothing_is_left_of_a_clone_and_its_source(
        backend: str, estate: Estate) -> None:
    source = estate.volume()
    clone = estate.clone(source)
    estate.cinder.delete(clone)
    left = estate.snapshots(f'volume-{source}')
    estate.cinder.delete(source)
    expect(soon(lambda: not estate.names() + estate.trash(), 5),
           f'{estate.names()} is left, with {left}')
    expect(not left, f'{left} was left')


# -- 2 and 5: the trash ------------------------------------------------------
@pytest.fixture(scope='class')
def deferring(sandbox: Sandbox) -> Iterator[None]:
    sandbox.configure_cinder({backend: {
        'enable_deferred_deletion': True, 'deferred_deletion_delay': 3600,
        'deferred_deletion_purge_interval': 1} for backend in POOLS})
    yield
    sandbox.configure_cinder({})


@pytest.mark.usefixtures('deferring')
class TestDeferredDeletion:
    """For an hour; what is due is purged every second."""

    @both
    def test_a_deleted_volume_can_be_had_back(self, backend: str,
                                              estate: Estate) -> None:
        volume = estate.volume()
        digest = estate.digests[volume]
        estate.cinder.delete(volume)
        expect(estate.trash() == [f'volume-{volume}'], 'it is gone for good')
        entry = estate.cluster.trash(estate.pool)[0]
        estate.cluster.restore(estate.pool, entry['id'], 'restored')
        assert estate.cluster.digest(estate.pool, 'restored') == digest

    @both
    def test_the_trash_of_others_is_left_alone(self, backend: str,
                                               estate: Estate) -> None:
        estate.cluster.make(estate.pool, 'of-another', BLOCK)
        estate.cluster.move_to_trash(estate.pool, 'of-another')
        expect(not soon(lambda: estate.trash() == [], 4), 'it was purged')
        assert estate.trash() == ['of-another']


# -- 3: the limits of a volume -----------------------------------------------
@both
def test_a_burst_of_operations_is_none_of_bytes(
        backend: str, estate: Estate) -> None:
    limits = {'total_iops_sec': '500', 'total_iops_sec_max': '1000'}
    with limited_type(estate.admin, 'bursting', backend, limits):
        volume = estate.cinder.create('bursting')
        found = estate.limits(volume)
        estate.cinder.delete(volume)
    expect(found == {'iops_limit': 500, 'iops_burst': 1000}, str(found))


# -- 4: the depth of a chain -------------------------------------------------
@both
def test_chains_through_snapshots_and_images_are_no_longer_than_is_set(
        backend: str, estate: Estate) -> None:
    """rbd_max_clone_depth is 5, as by default."""
    volume = estate.from_image(estate.image())
    made = [volume]
    for _ in range(5):
        volume = estate.from_snapshot(estate.snapshot(volume))
        made.append(volume)
        estate.check(volume)
    # A flatten at the very limit goes in the background.
    expect(soon(lambda: max(map(estate.depth, made)) <= 5, 10),
           f'the depths are {[estate.depth(each) for each in made]}')


# -- 6: uploading ------------------------------------------------------------
@both
def test_an_upload_is_one_moment_of_a_volume_in_use(
        backend: str, estate: Estate) -> None:
    """A writer counts at both ends of the volume, at the begin first: at no
    moment does the end have a higher number."""
    volume = estate.cinder.create(estate.type)
    name = f'volume-{volume}'
    with estate.cinder.attached(volume), \
            _counting(estate, name) as counted:
        image = estate.cinder.upload(volume, force=True)
        estate.glance.wait_for_status(image, 'active', 120)
        estate.cinder.wait_for_status(volume, 'in-use')
    assert counted.number > 10
    with estate.cluster.open('images', image, 'snap', read_only=True
                             ) as opened:
        assert opened.size() == content.GIB
        begin, end = (int.from_bytes(opened.read(offset, 8), 'big')
                      for offset in ENDS)
    estate.glance.delete(image)
    # The stock driver leaves the closing to Python's garbage collector.
    with estate.cluster.open(estate.pool, name, read_only=True) as opened:
        assert soon(lambda: not list(opened.watchers_list()))
    expect(begin - 1 <= end <= begin, f'it begins at {begin}, ends at {end}')


@contextlib.contextmanager
def _counting(estate: Estate, name: str) -> Iterator[SimpleNamespace]:
    counted = SimpleNamespace(number=0)

    with estate.cluster.open(estate.pool, name) as image:
        def count() -> None:
            counted.number += 1
            mark = counted.number.to_bytes(8, 'big')
            for offset in ENDS:
                image.write(mark, offset)
                image.flush()

        with _meanwhile(count):
            assert soon(lambda: counted.number > 3)
            yield counted


# -- 7: local files ----------------------------------------------------------
@both
def test_conversion_needs_no_local_file(backend: str, estate: Estate
                                        ) -> None:
    with _no_local_bytes(estate.sandbox):
        volume = estate.from_qcow2()
        estate.check(volume)
        image = estate.upload(volume, disk_format='qcow2')
    estate.glance.delete(image)


@contextlib.contextmanager
def _no_local_bytes(sandbox: Sandbox) -> Iterator[None]:
    """In image_conversion_dir, beside what was left there before.

    That is what counts also where the block fails: without eventlet, Cinder's
    own conversion may stand still for good.
    """
    folder = sandbox.folder / 'cinder' / 'conversion'
    before = set(folder.rglob('*'))
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, _count_bytes(set(folder.rglob('*')) - before))

    try:
        with _meanwhile(look):
            yield
    finally:
        expect(most == 0, f'{most} local bytes at once')


@contextlib.contextmanager
def _meanwhile(do: Callable[[], None]) -> Iterator[None]:
    """Do something again and again while the block runs."""
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.wait(0.02):
            do()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _count_bytes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512 if path.is_file() else 0
    return total


# -- 8: migrating ------------------------------------------------------------
@both
def test_what_is_in_the_other_pool_is_not_removed(
        backend: str, estate: Estate) -> None:
    with limited_type(estate.admin, 'anywhere'):
        volume = estate.volume()
        name = f'volume-{volume}'
        estate.cluster.make('volumes', name, BLOCK)
        try:
            estate.cinder.retype(volume, 'anywhere')
            with contextlib.suppress(AssertionError):
                estate.admin.migrate(volume, 'sandbox@on#on')
            estate.check(volume)
            expect(name in estate.cluster.names('volumes'),
                   'what another had there is gone')
        finally:
            estate.scrub()
            estate.cluster.scrub(set(), ['volumes'])


@both
def test_a_volume_is_migrated_with_its_snapshots(
        backend: str, estate: Estate, sandbox: Sandbox) -> None:
    """The class itself, against the cluster: the API migrates no volume
    that has snapshots."""
    volume = estate.volume()
    snapshot = estate.snapshot(volume)
    estate.write(volume)
    try:
        _migrate(backend, sandbox, volume, 'volumes')
        estate.check(volume, pool='volumes')
        found = estate.cluster.snapshots('volumes', f'volume-{volume}')
        expect(found == [f'snapshot-{snapshot}'], f'it has {found} there')
        estate.check(volume, snapshot, pool='volumes')
    finally:
        estate.cluster.scrub(set(), ['volumes'])


def _migrate(backend: str, sandbox: Sandbox, volume: str, pool: str) -> None:
    if backend == 'stock':
        driver = _make_stock_driver(sandbox)
        place = ':'.join(('ceph', sandbox.env()['CEPH_CONF'],
                          driver._get_fsid(), 'cinder', pool))
        moved, _ = driver.migrate_volume(
            None, SimpleNamespace(id=volume, name=f'volume-{volume}',
                                  status='available'),
            {'capabilities': {'storage_protocol': driver.STORAGE_PROTOCOL,
                              'location_info': place}})
        assert moved
        return
    with _opened_manager(sandbox) as opened:
        opened.backend(backend).migration.migrate(f'volume-{volume}', pool)


# -- 9: programs and keys ----------------------------------------------------
@both
def test_attaching_runs_no_program(backend: str, estate: Estate) -> None:
    volume = estate.cinder.create(estate.type)
    conf = estate.cluster.conf.encode()
    seen: set[bytes] = set()

    def look() -> None:
        for path in Path('/proc').glob('[0-9]*/cmdline'):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b'\0')
                if conf in words and b'mon' in words and b'dump' in words:
                    seen.add(b' '.join(words))

    with _meanwhile(look), estate.cinder.attached(volume):
        pass
    expect(not seen, str(seen))


@both
def test_an_encrypted_volume_is_made_without_a_local_file(
        backend: str, estate: Estate) -> None:
    with _no_local_bytes(estate.sandbox):
        estate.cinder.create(f'{backend}-encrypted')


@both
def test_an_encrypted_volume_is_cloned_without_a_key_in_etc_ceph(
        backend: str, estate: Estate) -> None:
    """Cinder opens the clone with os-brick to change its passphrase, and
    then finds that it cannot do so with RBD."""
    source = estate.cinder.create(f'{backend}-encrypted')
    estate.sandbox.set_etc_ceph(False)
    try:
        clone = estate.cinder.create(
            f'{backend}-encrypted', source_volid=source, status=None)
        status = _final_status(estate, clone)
    finally:
        estate.sandbox.set_etc_ceph(True)
    expect(status == 'available', 'there is no clone')


@both
def test_the_key_of_an_encrypted_volume_opens_no_clone_of_it(
        backend: str, estate: Estate, tmp_path: Path) -> None:
    source = estate.cinder.create(f'{backend}-encrypted')
    clone = estate.cinder.create(f'{backend}-encrypted', source_volid=source)
    header = tmp_path / 'header'
    with estate.cluster.open(estate.pool, estate.name(clone),
                             read_only=True) as image:
        header.write_bytes(image.read(0, 4 * content.MIB))

    def opens(volume: str) -> bool:
        key_id = estate.cinder.encryption_key_id(volume)
        key = json.loads((estate.sandbox.folder / 'cinder' / 'keys'
                          / f'{key_id}.json').read_text())['key']
        return subprocess.run(
            ['/usr/sbin/cryptsetup', 'open', '--test-passphrase', '--type',
             'luks1', '--key-file', '-', header], input=key.encode(),
            check=False, capture_output=True).returncode == 0

    assert opens(clone)
    expect(not opens(source), 'it opens the clone')


# -- 10: half a step ---------------------------------------------------------
@both
def test_a_revert_that_fails_half_way_is_undone(
        backend: str, estate: Estate, sandbox: Sandbox,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """The class itself, against the cluster: only so it fails half-way."""
    volume = estate.volume()
    snapshot = estate.snapshot(volume)
    estate.write(volume)
    revert = _get_revert(backend, sandbox, volume, snapshot)
    rbd = bindings.rbd()

    class Broken(rbd.Image):  # type: ignore[misc, name-defined]
        def rollback_to_snap(self, name: str) -> None:
            if name != f'snapshot-{snapshot}':
                super().rollback_to_snap(name)
                return
            self.write(BLOCK, 8 * content.MIB)
            raise rbd.OSError('the connection is gone', errno=110)

    with monkeypatch.context() as patched:
        patched.setattr(rbd, 'Image', Broken)
        with pytest.raises(Exception, match='connection is gone'):
            revert()
    expect(estate.digest(volume) == estate.digests[volume],
           'it is neither what it was nor what it should be')
    assert estate.snapshots(f'volume-{volume}') == [f'snapshot-{snapshot}']


def _get_revert(backend: str, sandbox: Sandbox, volume: str, snapshot: str
                ) -> Callable[[], object]:
    if backend == 'stock':
        driver = _make_stock_driver(sandbox)
        return lambda: driver.revert_to_snapshot(
            None, SimpleNamespace(name=f'volume-{volume}'),
            SimpleNamespace(name=f'snapshot-{snapshot}'))

    def revert() -> None:
        with _opened_manager(sandbox) as opened:
            opened.backend(backend).snapshots.revert(
                f'volume-{volume}', f'snapshot-{snapshot}')

    return revert


@contextlib.contextmanager
def _opened_manager(sandbox: Sandbox) -> Iterator[manager.VolumeManager]:
    config = str(sandbox.folder / 'cinder' / 'cinder.conf')
    with contextlib.closing(manager.VolumeManager(
            [config], environ=sandbox.env())) as opened:
        yield opened


def _make_stock_driver(sandbox: Sandbox) -> Any:
    driver = stock_driver.RBDDriver(configuration=_StockConfiguration(
        sandbox.env()['CEPH_CONF']))
    driver.do_setup(None)
    return driver


class _StockConfiguration:
    """What a section says; the rest are the stock driver's defaults."""

    def __init__(self, conf: str) -> None:
        self._values: dict[str, Any] = {
            option.dest: option.default for option in stock_driver.RBD_OPTS}
        self._values |= {
            'rbd_pool': POOLS['stock'], 'rbd_user': 'cinder',
            'rbd_ceph_conf': conf, 'rbd_secret_uuid': str(uuid.uuid4()),
            'volume_backend_name': 'stock',
            # What has snapshots will have them when asked again.
            'rados_connection_retries': 1}

    def append_config_values(self, options: object) -> None:
        """All are there."""

    def safe_get(self, name: str) -> Any:
        return self._values.get(name)

    def __getattr__(self, name: str) -> Any:
        return self.__dict__['_values'].get(name)


def test_a_failover_is_refused_and_changes_nothing(
        whole_estate: Estate) -> None:
    """The stock driver chooses a target twice, in failover() and again in
    failover_completed(); here there is none, and Cinder knows it."""
    client = whole_estate.admin.client
    with pytest.raises(exceptions.BadRequest, match='replication_status'):
        client.services.failover_host('sandbox@off', None)
    state = next(found for found in client.services.list(
        binary='cinder-volume') if found.host == 'sandbox@off')
    assert (state.status, state.state) == ('enabled', 'up')


# -- 11: what an image is ----------------------------------------------------
@both
def test_a_forged_image_is_not_cloned(backend: str, estate: Estate) -> None:
    data = content.sparse_bytes(32 * content.MIB)
    image = estate.glance.make(data, 'rbd')
    # Once it is there: Glance itself would check it before.
    estate.glance.set_properties(image, make_signer().sign(b'other data'))
    volume = estate.cinder.create(estate.type, imageRef=image, status=None)
    expect(_final_status(estate, volume) == 'error', 'a volume was made')
    assert 'signature' in ' '.join(estate.cinder.messages(volume)).lower()
    estate.glance.delete(image)


def _final_status(estate: Estate, volume: str) -> str:
    assert soon(lambda: estate.cinder.show(volume).status in (
        'available', 'error'), 60)
    return str(estate.cinder.show(volume).status)


@both
def test_the_log_says_why_an_image_was_not_cloned(
        backend: str, estate: Estate) -> None:
    log = estate.sandbox.folder / 'log' / 'cinder-volume.log'
    begin = log.stat().st_size
    try:
        estate.from_qcow2()
    finally:
        # Also where it stands still; see _no_local_bytes().
        with log.open('rb') as stream:
            stream.seek(begin)
            lines = [line for line in stream.read().decode().splitlines()
                     if ' by convert' in line and ' DEBUG ' not in line]
        expect(any('disk_format qcow2' in line for line in lines),
               'nothing but DEBUG lines')
