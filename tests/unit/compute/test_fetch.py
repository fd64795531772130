# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import disk_formats
from tests.signing import make_signer
from tests.unit.compute.fetching import USER, Desk
from tests.unit.flows import test_verify
from tests.unit.flows.test_verify import Box
from tests.unit.world import OnStep, content
from volume_rbd import exception, model
from volume_rbd.compute import cache
from volume_rbd.plan import SENTENCES, Reason

RSA = make_signer()
DATA = content()
READING = 'reading the image from RBD'
DOWNLOADING = 'downloading the image'
MIB = model.MIB
WAYS = {'rbd': 'export', 'file': 'download'}
both = pytest.mark.parametrize('store_id', WAYS)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@contextlib.contextmanager
def refused(desk: Desk, kind: type[exception.VolumeRBDError],
            match: str | None = None) -> Iterator[None]:
    """It fails so, and leaves nothing."""
    before = desk.files()
    with pytest.raises(kind, match=match) as caught:
        yield
    assert caught.value.remedy
    assert desk.files() == before


# -- which way ----------------------------------------------------------------

def test_an_image_comes_straight_from_rbd(desk: Desk) -> None:
    image_id = desk.world.make_image(DATA)

    found = desk.fetch(image_id)

    assert (found.strategy, found.reason) == ('export', 'snapshot_readable')
    assert found.path == desk.folder / hashlib.sha1(
        image_id.encode()).hexdigest()
    assert found.path.read_bytes() == DATA
    assert found.size_bytes == found.disk_bytes == len(DATA)
    assert found.disk_format == 'raw'
    assert found.hash == 'sha512:' + hashlib.sha512(DATA).hexdigest()
    assert 'download' not in desk.world.server.calls
    assert desk.files() == [found.path.name]
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o644


def test_libvirt_is_told_of_what_is_new_in_the_cache(desk: Desk) -> None:
    image_id = desk.world.make_image(DATA)

    desk.fetch(image_id)
    assert desk.noted == [True]
    desk.fetch(image_id)  # it is there
    desk.fetch(image_id, desk.folder.parent / 'elsewhere')
    assert desk.noted == [True]


def test_holes_stay_holes(desk: Desk) -> None:
    data = DATA + bytes(30 * MIB) + DATA
    image_id = desk.world.make_image(data)

    found = desk.fetch(image_id)

    assert found.path.read_bytes() == data
    assert found.bytes_moved <= 2 * MIB
    assert found.path.stat().st_blocks * 512 <= 4 * MIB


def test_what_is_in_no_pool_of_ours_is_downloaded(desk: Desk) -> None:
    found = desk.fetch(desk.world.make_image(DATA, store_id='file'))

    assert (found.strategy, found.reason) == ('download', 'not_rbd')
    assert found.path.read_bytes() == DATA


def test_without_the_scheme_nobody_asks_the_cluster(desk: Desk) -> None:
    desk.schemes = ()
    found = desk.fetch(desk.world.make_image(DATA))

    assert (found.strategy, found.reason) == ('download', 'direct_disabled')
    assert found.path.read_bytes() == DATA
    assert desk.connections == 0
    assert 'get_locations' not in desk.world.server.calls


@pytest.mark.parametrize(('url', 'reason'), [
    ('rbd://another/images/{id}/snap', Reason.OTHER_CLUSTER),
    ('rbd://{fsid}/volumes/{id}/snap', Reason.FOREIGN_LOCATION),
    ('rbd://{fsid}/images/another/snap', Reason.FOREIGN_LOCATION),
    ('rbd://{fsid}/images/{id}/another', Reason.MISSING_SNAPSHOT),
    ('rbd://{fsid}/images', Reason.MALFORMED_LOCATION)])
def test_a_location_that_is_not_to_be_read_is_left_alone(
        desk: Desk, url: str, reason: Reason) -> None:
    image_id = desk.world.make_image(DATA, store_id='file')
    record = desk.world.server.records[image_id]
    record.urls = (url.format(id=image_id, fsid=desk.world.ceph.fsid),)
    if reason is Reason.MISSING_SNAPSHOT:
        desk.world.ceph.cluster('admin').pool('images').create(image_id, MIB)

    found = desk.fetch(image_id)

    assert (found.strategy, found.reason) == ('download', reason.value)
    assert found.sentence == SENTENCES[reason]
    assert found.path.read_bytes() == DATA


def test_whoever_may_not_read_the_pool_downloads(desk: Desk) -> None:
    desk.world.ceph.caps[USER] = {}
    found = desk.fetch(desk.world.make_image(DATA))

    assert (found.strategy, found.reason) == ('download', 'snapshot_denied')


def test_the_cap_that_is_missing_is_named(desk: Desk) -> None:
    desk.world.ceph.caps[USER] = {}

    found = desk.fetch(desk.world.make_image(DATA))

    assert found.reason == 'snapshot_denied'
    assert 'profile rbd-read-only pool=images' in found.sentence


def test_a_cluster_that_is_away_is_not_in_the_way(desk: Desk) -> None:
    image_id = desk.world.make_image(DATA)
    desk.open_cluster = away  # type: ignore[method-assign, assignment]

    found = desk.fetch(image_id)

    assert (found.strategy, found.reason) == ('download',
                                              'cluster_unavailable')
    assert 'no monitor' in found.sentence


def away() -> None:
    raise exception.ClusterUnavailable('There is no monitor.')


@pytest.mark.parametrize(('error', 'reason'), [
    (exception.SnapshotNotFound('gone'), 'missing_snapshot'),
    (exception.CephPermissionDenied('no'), 'snapshot_denied'),
    (exception.ClusterUnavailable('lost'), 'cluster_unavailable'),
    (exception.OperationTimeout('slow'), 'cluster_unavailable'),
    (exception.VolumeRBDError('odd'), 'export_failed')])
def test_what_the_cluster_refuses_is_downloaded_and_said(
        desk: Desk, error: exception.VolumeRBDError, reason: str) -> None:
    image_id = desk.world.make_image(DATA)
    report = OnStep({READING: lambda: desk.world.ceph.fail_next(
        'open', error)})

    found = desk.fetch(image_id, report=report)

    assert (found.strategy, found.reason) == ('download', reason)
    assert error.message in found.sentence
    assert [each['strategy'] for each in found.attempts] == [
        'export', 'download']
    assert found.path.read_bytes() == DATA


def test_the_plan_touches_nothing(desk: Desk) -> None:
    decided = desk.fetcher().get_plan(desk.world.make_image(DATA))

    assert decided.strategy == 'export'
    assert desk.files() == []


def test_an_image_that_is_not_active_is_refused(desk: Desk) -> None:
    with refused(desk, exception.GlanceImageNotUsable):
        desk.fetch(desk.world.make_record())


# -- what the bytes are -------------------------------------------------------

@both
def test_other_bytes_than_glance_has_hashed_are_refused(
        desk: Desk, store_id: str) -> None:
    """And where they come from RBD nobody asks Glance."""
    image_id = desk.world.make_image(DATA, store_id=store_id)
    record = desk.world.server.records[image_id]
    record.image = dataclasses.replace(record.image, os_hash_value='0' * 128)

    with refused(desk, exception.DataCorrupted, 'arrived damaged'):
        desk.fetch(image_id)

    assert ('download' in desk.world.server.calls) == (store_id == 'file')


def test_a_snapshot_of_another_size_is_refused(desk: Desk) -> None:
    image_id = desk.world.make_image(DATA)
    record = desk.world.server.records[image_id]
    record.image = dataclasses.replace(record.image, size_bytes=5)

    with refused(desk, exception.DataCorrupted, 'has 5 bytes'):
        desk.fetch(image_id)


@both
def test_a_signed_image_is_verified(desk: Desk, store_id: str) -> None:
    desk.box = Box(RSA)
    found = desk.fetch(test_verify.make(desk.world, store_id, signer=RSA))

    assert found.strategy == WAYS[store_id]
    assert found.signature_verified is True


def test_a_fallback_has_a_verifier_of_its_own(desk: Desk) -> None:
    """Half of the bytes had passed through the first one."""
    desk.box = Box(RSA)
    image_id = test_verify.make(desk.world, 'rbd', signer=RSA,
                                data=DATA + bytes(40 * MIB) + DATA)

    class Breaks(OnStep):
        def advance(self, done_bytes: int, skipped_bytes: int = 0) -> None:
            super().advance(done_bytes, skipped_bytes)
            if self.current_step == READING and done_bytes:
                self.current_step = ''
                raise exception.ClusterUnavailable('lost')

    found = desk.fetch(image_id, report=Breaks())

    assert (found.strategy, found.reason) == ('download',
                                              'cluster_unavailable')
    assert found.signature_verified is True


@both
def test_what_is_not_what_was_signed_is_refused(desk: Desk, store_id: str
                                                ) -> None:
    desk.box = Box(RSA)
    image_id = test_verify.make(desk.world, store_id, signer=RSA,
                                signed=b'another')
    with refused(desk, exception.SignatureInvalid, 'does not fit'):
        desk.fetch(image_id)


@both
def test_a_certificate_that_is_not_there_is_said_before_bytes_move(
        desk: Desk, store_id: str) -> None:
    image_id = test_verify.make(desk.world, store_id, signer=RSA)
    with refused(desk, exception.SignatureInvalid):
        desk.fetch(image_id)
    assert not desk.folder.exists()


@both
def test_an_unsigned_image_is_refused_where_a_signature_is_required(
        desk: Desk, store_id: str) -> None:
    image_id = desk.world.make_image(DATA, store_id=store_id)
    with refused(desk, exception.SignatureInvalid, 'not signed'):
        desk.fetcher(verify_signatures='required').fetch(image_id)


def test_nobody_looks_at_signatures_where_that_is_off(desk: Desk) -> None:
    image_id = test_verify.make(desk.world, 'rbd', signed=b'another')
    found = desk.fetcher(verify_signatures='off').fetch(image_id)
    assert found.signature_verified is None


@both
@pytest.mark.parametrize(('file', 'disk_format'), [
    (disk_formats.qcow2(DATA, backing_offset=1), 'qcow2'),
    (disk_formats.qcow2(DATA, incompatible=4), 'qcow2'),
    (disk_formats.qcow2(DATA), 'raw'),
    (DATA, 'qcow2')],
    ids=['backing file', 'data file', 'qcow2 said to be raw',
         'raw said to be qcow2'])
def test_what_is_not_safe_is_not_kept(
        desk: Desk, store_id: str, file: bytes, disk_format: str) -> None:
    image_id = desk.world.make_image(file, store_id=store_id,
                                     disk_format=disk_format)
    with refused(desk, exception.ImageUnsafe):
        desk.fetch(image_id)
    assert desk.world.server.calls.count('download') == (store_id == 'file')


def test_a_kernel_is_any_bytes(desk: Desk) -> None:
    image_id = desk.world.make_image(
        b'MZ' + DATA, disk_format='aki', container_format='aki')
    assert desk.fetch(image_id).disk_format == 'aki'


# -- another format -----------------------------------------------------------

@both
def test_a_qcow2_is_kept_as_it_is_or_converted(desk: Desk, store_id: str
                                               ) -> None:
    file = disk_formats.qcow2(DATA)
    image_id = desk.world.make_image(file, store_id=store_id,
                                     disk_format='qcow2')

    kept = desk.fetch(image_id, 'kept')
    raw = desk.fetch(image_id, 'raw', convert_to='raw')

    assert kept.path.read_bytes() == file
    assert (kept.disk_format, kept.disk_bytes) == ('qcow2', len(DATA))
    assert raw.path.read_bytes() == DATA
    assert (raw.disk_format, raw.size_bytes) == ('raw', len(DATA))
    assert desk.files() == ['kept', 'raw']


def test_a_conversion_that_fails_leaves_nothing(desk: Desk) -> None:
    image_id = desk.world.make_image(disk_formats.qcow2(DATA),
                                     disk_format='qcow2')
    desk.world.converter.fail_next(exception.ConversionFailed('odd'))
    with refused(desk, exception.ConversionFailed):
        desk.fetch(image_id, convert_to='raw')


@pytest.mark.parametrize(('convert_to', 'disk_format'), [
    ('qcow2', 'raw'), ('raw', 'docker')])
def test_what_cannot_be_converted_is_said_first(
        desk: Desk, convert_to: str, disk_format: str) -> None:
    image_id = desk.world.make_image(DATA, disk_format=disk_format)
    with refused(desk, exception.NotSupported):
        desk.fetch(image_id, convert_to=convert_to)


# -- a file that is there -----------------------------------------------------

def test_the_second_one_finds_the_file(desk: Desk) -> None:
    image_id = desk.world.make_image(DATA)
    first = desk.fetch(image_id)
    before = first.path.stat()
    desk.world.server.calls.clear()

    again = desk.fetch(image_id)

    assert (again.strategy, again.reason) == ('reuse', 'already_fetched')
    assert (again.path, again.hash) == (first.path, first.hash)
    assert again.bytes_moved == 0
    assert desk.world.server.calls == ['get_image']
    assert first.path.stat() == before


def test_a_file_of_somebody_else_is_read_once(desk: Desk) -> None:
    """Nova's own, for instance."""
    image_id = desk.world.make_image(DATA)
    path = desk.fetcher().get_path(image_id)
    path.parent.mkdir()
    path.write_bytes(DATA)
    read = 'verifying the file that is there'

    for is_read in (True, False):
        report = OnStep()
        assert desk.fetch(image_id, report=report).strategy == 'reuse'
        assert report.steps == [read] * is_read


@pytest.mark.parametrize('data', [b'other', content()[:-1] + b'!'])
def test_a_file_that_is_not_the_image_is_left_alone(desk: Desk, data: bytes
                                                    ) -> None:
    image_id = desk.world.make_image(DATA)
    path = desk.fetcher().get_path(image_id)
    path.parent.mkdir()
    path.write_bytes(data)

    with refused(desk, exception.Conflict, 'is not image'):
        desk.fetch(image_id)

    assert path.read_bytes() == data


def test_a_file_of_another_image_or_format_is_left_alone(desk: Desk) -> None:
    qcow2 = desk.world.make_image(disk_formats.qcow2(DATA),
                                  disk_format='qcow2')
    desk.fetch(qcow2, 'name')
    for image_id, convert_to in ((qcow2, 'raw'),
                                 (desk.world.make_image(DATA), None)):
        with refused(desk, exception.Conflict, 'name holds'):
            desk.fetch(image_id, 'name', convert_to=convert_to)


def test_a_verdict_stays_with_the_file_and_the_certificate(desk: Desk
                                                           ) -> None:
    desk.box = Box(RSA)
    image_id = test_verify.make(desk.world, 'rbd', signer=RSA)
    desk.fetch(image_id)

    report = OnStep()
    again = desk.fetch(image_id, report=report)
    assert again.signature_verified is True
    assert report.steps == []

    desk.box = Box()
    with refused(desk, exception.SignatureInvalid):
        desk.fetch(image_id)


def test_a_file_that_nobody_verified_is_verified_when_that_is_asked(
        desk: Desk) -> None:
    desk.box = Box(RSA)
    image_id = test_verify.make(desk.world, 'rbd', signer=RSA)
    forged = test_verify.make(desk.world, 'rbd', signer=RSA,
                              signed=b'another')
    for each in (image_id, forged):
        desk.fetcher(verify_signatures='off').fetch(each)

    assert desk.fetch(image_id).signature_verified is True
    with refused(desk, exception.SignatureInvalid, 'is not used'):
        desk.fetch(forged)


def test_what_was_converted_unverified_cannot_be_verified_later(
        desk: Desk) -> None:
    desk.box = Box(RSA)
    file = disk_formats.qcow2(DATA)
    image_id = desk.world.make_image(file, disk_format='qcow2',
                                     properties=RSA.sign(file))
    desk.fetcher(verify_signatures='off').fetch(image_id, convert_to='raw')
    with refused(desk, exception.SignatureInvalid, 'converted'):
        desk.fetch(image_id, convert_to='raw')


# -- the folder ---------------------------------------------------------------

def test_a_path_may_be_given(desk: Desk, tmp_path: Path) -> None:
    found = desk.fetch(desk.world.make_image(DATA), tmp_path / 'mine')
    assert found.path == tmp_path / 'mine'
    assert os.listdir(tmp_path) == ['mine']


def test_a_folder_that_is_none_is_said(desk: Desk, tmp_path: Path) -> None:
    image_id = desk.world.make_image(DATA)
    (tmp_path / 'file').touch()
    with refused(desk, exception.NotFound):
        desk.fetch(image_id, tmp_path / 'file' / 'mine')
    with refused(desk, exception.NotFound):
        desk.fetch(image_id, tmp_path / 'nothing' / 'mine')
    desk.folder.touch()
    with pytest.raises(exception.Conflict):
        desk.fetch(image_id)


@both
def test_room_is_looked_for_before_bytes_move(
        desk: Desk, store_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the data, and not for holes."""
    image_id = desk.world.make_image(DATA + bytes(60 * MIB),
                                     store_id=store_id)

    class Full:
        f_bavail, f_frsize = 8, MIB // 2

    monkeypatch.setattr(cache.os, 'statvfs', lambda path: Full)
    if store_id == 'rbd':
        assert desk.fetch(image_id).strategy == 'export'
        Full.f_bavail = 0
        image_id = desk.world.make_image(DATA)
    with refused(desk, exception.NoSpace, 'has room for'):
        desk.fetch(image_id)
    assert 'download' not in desk.world.server.calls


@both
def test_it_can_be_cancelled_at_every_step(desk: Desk, store_id: str
                                           ) -> None:
    image_id = desk.world.make_image(disk_formats.qcow2(DATA),
                                     store_id=store_id, disk_format='qcow2')
    for step in ((READING if store_id == 'rbd' else DOWNLOADING),
                 'inspecting the image', 'converting the image'):
        report = OnStep()
        report._actions = {step: report.cancel}
        with pytest.raises(exception.Cancelled):
            desk.fetch(image_id, convert_to='raw', report=report)
        assert step in report.steps
        assert desk.files() == []
