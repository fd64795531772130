# SPDX-License-Identifier: Apache-2.0
"""Volumes from images by a copy inside the cluster, on the real services."""

from __future__ import annotations

import hashlib
import json
import pathlib
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.functional import content
from tests.functional.cluster import make_user, remove_user
from tests.functional.content import GIB, MIB
from tests.functional.house import PROGRAM, House
from tests.functional.steps import Steps
from tests.functional.test_signatures import RSA
from volume_rbd import exception, model, progress
from volume_rbd.ceph import checkpoint
from volume_rbd.driver import RBDDriver
from volume_rbd.flows.copy_image import CopyImage

DEPTH = {'rbd_max_clone_depth': 0}


def copying(house: House, **options: object) -> RBDDriver:
    """A backend that may clone nothing, and so copies."""
    return house.driver(optimized={**DEPTH, **options})


def digest(house: House, name: str) -> str:
    return house.cluster.digest('volumes', name)


@pytest.mark.parametrize(('option', 'reason'), [
    (DEPTH, 'depth_reached'),
    ({'rbd_flatten_volume_from_snapshot': 'true'}, 'independence_wanted')])
def test_a_volume_that_must_not_share_data_is_copied(
        house: House, option: dict[str, object], reason: str) -> None:
    data = content.sparse_bytes(24 * MIB)
    image = house.member.make(data)

    name, result = house.create(image, driver=house.driver(optimized=option))

    assert (result.strategy, result.reason) == ('copy', reason)
    assert house.cluster.parent('volumes', name) is None
    assert house.cluster.size('volumes', name) == GIB
    assert digest(house, name) == content.digest_of_bytes(data)
    mark = house.cluster.mark('volumes', name)
    assert mark is not None
    assert mark['image_id'] == house.cluster.image_id('volumes', name)
    assert (mark['kind'], mark['state'], mark['job'], mark['origin']) == (
        'volume', 'complete', result.job, f'rbd:images/{image}@snap')
    assert checkpoint.KEY not in house.cluster.metadata('volumes', name)
    # Nothing of the volume keeps the image.
    house.service.delete(image)
    assert house.cluster.names('images') == []
    assert house.cluster.trash('images') == []
    assert digest(house, name) == content.digest_of_bytes(data)


@pytest.mark.parametrize('size', [
    1, 511, 512, 513, 4 * MIB - 1, 4 * MIB + 1, 9 * MIB + 777])
def test_an_image_of_odd_size_keeps_every_byte(house: House, size: int
                                               ) -> None:
    data = content.random_bytes(size)
    image = house.member.make(data)

    name, result = house.create(image, driver=copying(
        house, verify_copies='true'))

    assert (result.strategy, result.bytes_moved) == ('copy', size)
    assert house.cluster.size('volumes', name) == GIB
    assert digest(house, name) == content.digest_of_bytes(data)


def test_an_image_a_quarter_full_costs_a_quarter(house: House) -> None:
    data = content.random_bytes(16 * MIB) + bytes(48 * MIB)
    image = house.member.make(data)
    report = progress.Cancellable()

    name, result = house.create(image, driver=copying(house), report=report)

    assert result.bytes_moved == report.done_bytes == 16 * MIB
    assert report.skipped_bytes == 48 * MIB
    with house.cluster.open('volumes', name) as opened:
        used: list[int] = []
        opened.diff_iterate(0, GIB, None,
                            lambda offset, length, exists: used.append(
                                length if exists else 0))
    assert sum(used) == 16 * MIB


def test_an_image_that_is_a_clone_of_a_volume_is_copied_with_all_below_it(
        house: House) -> None:
    data = content.sparse_bytes(16 * MIB)
    volume = house.volume(data)
    image, uploaded = house.upload(volume)
    assert uploaded.strategy == 'clone'

    name, result = house.create(image, driver=house.driver(
        optimized={'rbd_max_clone_depth': 1}))

    assert (result.strategy, result.reason) == ('copy', 'depth_reached')
    assert digest(house, name) == content.digest_of_bytes(data)


def test_the_plan_says_so(house: House) -> None:
    image = house.member.make(content.sparse_bytes(MIB))
    fields = house.run_json('--backend', 'optimized', 'plan', 'create',
                            'volume-planned', '--image', image,
                            overrides={'optimized': DEPTH})
    assert (fields['strategy'], fields['reason']) == (
        'copy', 'depth_reached')


def test_a_copy_that_differs_is_undone(house: House) -> None:
    image = house.member.make(content.random_bytes(9 * MIB))
    name = f'volume-{uuid.uuid4()}'

    def spoil() -> None:
        house.cluster.write('volumes', name, b'spoilt')

    with house.nothing_changes(), pytest.raises(
            exception.DataCorrupted, match='bytes at 0'):
        house.create(image, name=name, driver=copying(
            house, verify_copies='true'), report=Steps(
                'comparing the copy with its source', spoil))


def test_the_bandwidth_is_kept_to(house: House) -> None:
    image = house.member.make(content.random_bytes(32 * MIB))

    _, result = house.create(image, driver=copying(house, copy_bandwidth=16))

    assert 1.5 < result.seconds < 8


def test_it_is_cancelled_within_a_second_and_undone(house: House) -> None:
    """Held back to 8 MiB a second, it would take 8 s."""
    image = house.member.make(content.random_bytes(64 * MIB))
    cancelled = []

    class Report(progress.Cancellable):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            super().advance(done_bytes, skipped_bytes)
            if self.done_bytes >= 16 * MIB and not cancelled:
                cancelled.append(time.monotonic())
                self.cancel()

    with house.nothing_changes():
        with pytest.raises(exception.Cancelled):
            house.create(image, driver=copying(house, copy_bandwidth=8),
                         report=Report())
        # With the undoing.
        assert time.monotonic() - cancelled[0] < 3


# -- another content ----------------------------------------------------------

@pytest.mark.parametrize('size', [0, 513, 20 * MIB])
def test_the_content_of_a_volume_is_replaced_by_a_copy(
        house: House, size: int) -> None:
    data = content.sparse_bytes(size) if size else b''
    image = house.member.make(data)
    name = house.volume(content.random_bytes(24 * MIB))
    house.cluster.take_snapshot('volumes', name, 'theirs')

    result = house.driver().images.replace(model.VolumeSpec(name), image)

    assert result.strategy == 'copy'
    assert house.cluster.size('volumes', name) == 24 * MIB
    assert digest(house, name) == content.digest_of_bytes(data)
    assert house.cluster.snapshots('volumes', name) == ['theirs']


# -- when it is not the way ---------------------------------------------------

@pytest.fixture
def format_1(house: House) -> Iterator[None]:
    """The volumes' pool has clones of format 1, which want a protected
    snapshot."""
    key = 'conf_rbd_default_clone_format'
    pool = house.driver().cluster.pool('volumes')
    pool.set_metadata(key, '1')
    yield
    pool.remove_metadata(key)


@pytest.mark.usefixtures('format_1')
def test_what_can_be_read_and_not_cloned_is_copied(house: House) -> None:
    """Nobody protected the snapshot, and who may only read cannot."""
    data = content.sparse_bytes(6 * MIB)
    image = house.member.make(data)
    with house.cluster.open('images', image, read_only=False) as opened:
        opened.unprotect_snap('snap')
    entity = make_user(house.cluster, 'reading-only',
                       'profile rbd pool=volumes, '
                       'profile rbd-read-only pool=images')
    try:
        name, result = house.create(image, driver=house.driver(
            optimized={'rbd_user': 'reading-only'}))
    finally:
        remove_user(house.cluster, entity)
        with house.cluster.open('images', image, read_only=False) as opened:
            opened.protect_snap('snap')
    assert (result.strategy, result.reason) == ('copy', 'clone_failed')
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'clone', 'copy']
    assert digest(house, name) == content.digest_of_bytes(data)


def test_a_read_that_is_denied_becomes_a_download(house: House) -> None:
    """Between the plan and the copy the user loses the pool."""
    data = content.sparse_bytes(6 * MIB)
    image = house.member.make(data)
    entity = make_user(house.cluster, 'soon-blind',
                       'profile rbd pool=volumes, '
                       'profile rbd-read-only pool=images')

    def deny() -> None:
        house.cluster.ceph('auth', 'caps', entity, 'mon', 'profile rbd',
                           'osd', 'profile rbd pool=volumes')
        # A connection keeps the caps that it began with.
        driver.cluster.close()

    # A job's connection does not come back.
    driver = copying(house, rbd_user='soon-blind', flow_connection='memory')
    try:
        name, result = house.create(image, driver=driver,
                                    report=Steps(CopyImage.title, deny))
    finally:
        remove_user(house.cluster, entity)
    assert (result.strategy, result.reason) == (
        'download', 'snapshot_denied')
    assert digest(house, name) == content.digest_of_bytes(data)


def _signing(house: House, folder: pathlib.Path) -> RBDDriver:
    RSA.keep(folder)
    return house.driver(DEFAULT={'signature_certificates_dir': folder},
                        optimized=DEPTH)


def test_a_signed_image_is_verified_as_it_is_copied(
        house: House, tmp_path: pathlib.Path) -> None:
    data = content.sparse_bytes(12 * MIB + 513)
    image = house.member.make(data)
    house.member.set_properties(image, RSA.sign(data))
    driver = _signing(house, tmp_path)

    name, result = house.create(image, driver=driver)

    assert result.strategy == 'copy'
    assert result.values['signature_verified'] is True
    assert digest(house, name) == content.digest_of_bytes(data)


def test_forged_data_makes_no_volume(house: House, tmp_path: pathlib.Path
                                     ) -> None:
    data = content.sparse_bytes(12 * MIB)
    image = house.member.make(data)
    house.member.set_properties(image, RSA.sign(data + b'x'))
    driver = _signing(house, tmp_path)

    with house.nothing_changes(), pytest.raises(
            exception.SignatureInvalid, match='fit the data'):
        house.create(image, driver=driver)


# -- killed -------------------------------------------------------------------

# At 8 MiB a second, with a checkpoint every 5 s, it is killed after about
# 6 s of 10.
SIZE = 80 * MIB
SLOW = {**DEPTH, 'copy_bandwidth': 8}


def _kill_after_a_checkpoint(house: House, words: list[str],
                             find: Callable[[], tuple[str, str]]
                             ) -> tuple[str, str, int]:
    """:param find: the pool and name of what is filled.
    :returns: them, and how far the checkpoint says it came."""
    child = subprocess.Popen(
        [PROGRAM, '--backend', 'optimized', *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=house.environ(overrides={'optimized': SLOW}))
    deadline = time.monotonic() + 60
    try:
        while True:
            assert child.poll() is None, 'it ended before it was killed'
            assert time.monotonic() < deadline
            pool, name = find()
            if name in house.cluster.names(pool):
                text = house.cluster.metadata(pool, name).get(checkpoint.KEY)
                if text and json.loads(text)['offset']:
                    break
            time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    offset = json.loads(house.cluster.metadata(
        pool, name)[checkpoint.KEY])['offset']
    assert 0 < offset < SIZE
    return pool, name, offset


@pytest.mark.timeout(240)
def test_a_create_that_was_killed_goes_on(house: House) -> None:
    data = content.random_bytes(SIZE)
    image = house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    _, _, offset = _kill_after_a_checkpoint(
        house, ['create', name, '--image', image],
        lambda: ('volumes', name))
    report = progress.Cancellable()

    # Its watch lasts up to half a minute; that is waited for.
    _, result = house.create(image, name=name, driver=copying(
        house, verify_copies='true'), report=report)

    assert result.strategy == 'copy'
    assert result.bytes_moved == SIZE - offset
    assert digest(house, name) == content.digest_of_bytes(data)
    assert checkpoint.KEY not in house.cluster.metadata('volumes', name)
    mark = house.cluster.mark('volumes', name)
    assert mark is not None
    assert (mark['state'], mark['job']) == ('complete', result.job)


@pytest.mark.timeout(240)
@pytest.mark.faults
def test_a_killed_create_that_was_forged_begins_anew(house: House) -> None:
    """The volume of a clone inherits the checkpoint of its parent; here
    somebody wrote one that is of another snapshot."""
    data = content.random_bytes(SIZE)
    image = house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    _kill_after_a_checkpoint(house, ['create', name, '--image', image],
                             lambda: ('volumes', name))
    note = json.loads(house.cluster.metadata('volumes', name)[
        checkpoint.KEY])
    house.cluster.write('volumes', name, b'forged')
    house.cluster.set_metadata('volumes', name, {checkpoint.KEY: json.dumps(
        note | {'snapshot_id': note['snapshot_id'] + 1, 'offset': SIZE})})

    _, result = house.create(image, name=name, driver=copying(house))

    assert result.bytes_moved == SIZE
    assert digest(house, name) == content.digest_of_bytes(data)


@pytest.mark.timeout(240)
@pytest.mark.faults
def test_an_upload_that_was_killed_goes_on(house: House) -> None:
    """Somebody who knows the id of its image does it again."""
    data = content.random_bytes(SIZE)
    volume = house.volume(data)
    _, image, offset = _kill_after_a_checkpoint(
        house, ['upload', volume, '--image-name', 'x'],
        lambda: ('images', next(iter(house.cluster.names('images')), '')))

    _, result = house.upload(volume, image_id=image, driver=copying(
        house, glance_secure_hash='false'))

    assert result.strategy == 'copy'
    assert result.bytes_moved == SIZE - offset
    found = house.member.get(image)
    assert found['status'] == 'active'
    assert found['os_hash_value'] == hashlib.sha512(data).hexdigest()
    assert house.member.digest(image) == content.digest_of_bytes(data)
    assert house.cluster.snapshots('volumes', volume) == []
