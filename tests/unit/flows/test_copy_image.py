# SPDX-License-Identifier: Apache-2.0
"""A volume is made of an image by a copy inside the cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.signing import make_signer
from tests.unit.flows import checks, killing, test_verify
from tests.unit.world import OnStep, World, content
from volume_rbd import exception, model, progress
from volume_rbd.ceph import checkpoint, lineage
from volume_rbd.copying import checkpoints
from volume_rbd.copying.copy import CHUNK_BYTES
from volume_rbd.flows import copies, verify
from volume_rbd.flows.base import Tools
from volume_rbd.flows.copy_image import CopyImage
from volume_rbd.flows.create_from_image import CreateBlank
from volume_rbd.model import MIB
from volume_rbd.plan import SENTENCES, Reason

COMPARING = 'comparing the copy with its source'


def _copy(world: World | None = None, **changes: Any
          ) -> checks.CreateOperation:
    """Nothing may be cloned, so it is copied."""
    changes.setdefault('max_clone_depth', 0)
    return checks.create(world, **changes)


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'max_clone_depth': 0}, Reason.DEPTH_REACHED),
    ({'flatten_volume_from_snapshot': True}, Reason.INDEPENDENCE_WANTED)])
def test_where_policy_forbids_a_clone_the_image_is_copied(
        changes: dict[str, object], reason: Reason) -> None:
    report = OnStep()
    operation = checks.create(**changes).go(report)
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('copy', reason)
    assert result.sentence == SENTENCES[reason]
    assert report.steps == ['choosing a strategy', 'copying the image']
    assert 'download' not in operation.calls['glance']
    assert 'clone' not in operation.calls['ceph']


def test_an_encrypted_image_is_copied_as_it_is() -> None:
    operation = checks.create()
    operation.world.server.records[operation.image_id or ''].change(
        properties={'cinder_encryption_key_id': 'k'})
    operation.go()
    operation.check_done()
    assert (operation.result.strategy, operation.result.reason) == (
        'copy', Reason.ENCRYPTED_IMAGE)


def test_an_image_over_a_long_chain_is_copied() -> None:
    world = World()
    world.make_volume()
    world.configure(max_clone_depth=2)
    image_id = world.clone_upload()  # its depth is 1
    with world.driver() as driver:
        one = driver.images.create(model.VolumeSpec('one', model.GIB),
                                   image_id)
        assert one.strategy == 'clone'  # 2
        world.configure(max_clone_depth=1)
    with world.driver() as driver:
        two = driver.images.create(model.VolumeSpec('two', model.GIB),
                                   image_id)
    assert (two.strategy, two.reason) == ('copy', Reason.DEPTH_REACHED)
    assert world.read('volumes', 'two', length=MIB) == content()


def test_the_volume_is_marked_with_where_it_comes_from() -> None:
    operation = _copy().go()
    world = operation.world
    mark = world.mark('volumes', checks.NEW)
    assert mark is not None
    assert mark.origin == f'rbd:images/{operation.image_id}@snap'
    assert operation.result.lineage == {
        'kind': 'volume', 'origin': mark.origin,
        'job': operation.result.job}
    with world.volumes.open(checks.NEW, read_only=True) as volume:
        assert set(volume.metadata()) == {lineage.KEY}


def test_holes_are_neither_read_nor_written() -> None:
    operation = _copy(data=content(64 * MIB)).go()
    operation.check_done()
    assert operation.calls['ceph'].count('read') == 3
    assert operation.result.bytes_moved == 3 * 64 * 1024


@pytest.mark.parametrize('size', [1, 511, 513, 4 * MIB + 1])
def test_an_image_of_odd_size_keeps_every_byte(size: int) -> None:
    operation = _copy(data=b'x' * size, verify_copies=True).go()
    operation.check_done()
    assert operation.result.strategy == 'copy'
    assert operation.result.bytes_moved == size


def test_an_image_without_bytes_makes_an_empty_volume() -> None:
    operation = checks.create(data=b'').go()
    result = operation.result
    assert (result.strategy, result.reason) == ('copy', Reason.EMPTY_IMAGE)
    assert result.bytes_moved == 0
    [disk] = [disk for disk in operation.world.ceph.disks.values()
              if disk.name == checks.NEW]
    assert (disk.size, disk.blocks, disk.link) == (model.GIB, {}, None)


def test_a_copy_is_compared_where_that_is_wanted() -> None:
    report = OnStep()
    operation = _copy(verify_copies=True).go(report)
    operation.check_done()
    assert report.steps[-1] == COMPARING


def test_a_copy_that_differs_is_undone_and_ends_the_create() -> None:
    operation = _copy(verify_copies=True)
    world = operation.world

    def spoil() -> None:
        with world.ceph.cluster('admin').pool('volumes').open(
                checks.NEW) as made:
            made.write(b'x', 70_000)

    operation.go(OnStep({COMPARING: spoil}))
    assert isinstance(operation.error, exception.DataCorrupted)
    operation.check_untouched()


# -- when it is not the way ---------------------------------------------------

@pytest.mark.parametrize('error', [
    exception.CephPermissionDenied, exception.NotSupported,
    exception.NotCloneable])
def test_a_clone_that_cannot_be_made_after_all_becomes_a_copy(
        error: type[exception.VolumeRBDError]) -> None:
    operation = checks.create()
    operation.world.ceph.fail_next('clone', error('It changed.'))
    operation.go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == ('copy', Reason.CLONE_FAILED)
    assert result.sentence == (
        f'{SENTENCES[Reason.CLONE_FAILED]} (It changed.)')
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'clone', 'copy']


def test_what_may_not_be_read_any_more_is_downloaded() -> None:
    operation = _copy()
    world = operation.world

    def deny() -> None:
        world.ceph.caps['cinder'] = {'volumes': 'rw'}

    operation.go(OnStep({CopyImage.title: deny}))
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == (
        'download', Reason.SNAPSHOT_DENIED)
    assert [attempt['strategy'] for attempt in result.attempts] == [
        'copy', 'download']


def test_what_is_gone_meanwhile_is_downloaded() -> None:
    operation = _copy()
    glance = operation.world.ceph.cluster('glance').pool('images')
    image_id = operation.image_id or ''
    operation.go(OnStep({
        CopyImage.title: lambda: glance.rename(image_id, 'hidden'),
        CreateBlank.title: lambda: glance.rename('hidden', image_id)}))
    operation.check_done()
    assert (operation.result.strategy, operation.result.reason) == (
        'download', Reason.MISSING_SNAPSHOT)


@pytest.mark.parametrize('method', ['read', 'write', 'extents',
                                    'set_metadata', 'create'])
def test_a_copy_that_fails_is_undone_and_the_image_downloaded(method: str
                                                              ) -> None:
    operation = _copy()
    operation.world.ceph.fail_next(method, exception.VolumeRBDError('EIO'))
    operation.go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == (
        'download', Reason.COPY_FAILED)
    assert 'EIO' in result.sentence


@pytest.mark.parametrize('error', [
    exception.NoSpace('Full.'), exception.ClusterUnavailable('Gone.')])
def test_what_a_download_would_meet_as_well_ends_it(
        error: exception.VolumeRBDError) -> None:
    operation = _copy()
    operation.world.ceph.fail_next('write', error)
    operation.go()
    assert operation.error is error
    operation.check_untouched()


def test_a_snapshot_that_grew_meanwhile_is_refused_and_nothing_left() -> None:
    operation = _copy()
    world = operation.world

    def grow() -> None:
        with world.images.open(operation.image_id or '') as image:
            image.unprotect_snapshot('snap')
            image.remove_snapshot('snap')
            image.resize(2 * model.GIB)
            image.create_snapshot('snap')

    operation.go(OnStep({CopyImage.title: grow}))
    assert isinstance(operation.error, exception.InvalidSize)
    assert world.disks('volumes') == []


# -- signatures ---------------------------------------------------------------

def _signed(**fields: Any) -> tuple[World, str]:
    world = World()
    world.configure(max_clone_depth=0)
    return world, test_verify.make(world, 'rbd', **fields)


def test_a_signed_image_is_verified_as_it_passes() -> None:
    world, image_id = _signed(data=content(24 * MIB))
    world.trace()
    report = OnStep()
    result = test_verify.create(world, image_id, report=report)
    assert result.strategy == 'copy'
    assert result.values['signature_verified'] is True
    assert verify.VerifySnapshot.title not in report.steps
    assert world.end_trace()['ceph'].count('read') == 3, 'it is read once'
    assert world.read('volumes', checks.NEW, length=24 * MIB) == content(
        24 * MIB)


def test_forged_data_makes_no_volume() -> None:
    world, image_id = _signed(signed=content() + b'x')
    with test_verify.leaving_nothing(world):
        test_verify.create(world, image_id)


def test_a_missing_certificate_makes_none_and_nothing_is_read() -> None:
    world, image_id = _signed()
    world.trace()
    with test_verify.leaving_nothing(world):
        test_verify.create(world, image_id, test_verify.Box(make_signer()))
    assert 'read' not in world.end_trace()['ceph']


# -- a volume gets another content --------------------------------------------

def _replace(world: World, image_id: str, report: Any = None) -> Any:
    with world.driver() as driver:
        return driver.images.replace(model.VolumeSpec(checks.NEW), image_id,
                                     report=report,
                                     certificates=test_verify.Box(
                                         test_verify.RSA))


def _old_volume(world: World) -> None:
    world.volumes.create(checks.NEW, 4 * MIB)
    with world.volumes.open(checks.NEW) as volume:
        volume.write(b'x' * (4 * MIB), 0)


def test_a_denied_read_leads_to_a_download_over_the_volume() -> None:
    world = World()
    image_id = world.make_image(content(MIB + 513))
    _old_volume(world)

    def deny() -> None:
        world.ceph.caps['cinder'] = {'volumes': 'rw'}

    result = _replace(world, image_id, OnStep({CopyImage.title: deny}))
    assert (result.strategy, result.reason) == (
        'download', Reason.SNAPSHOT_DENIED)
    assert world.read('volumes', checks.NEW) == content(
        MIB + 513).ljust(4 * MIB, b'\0')


@pytest.mark.parametrize('signed', [content(), b'other'])
def test_what_replaces_the_content_is_verified(signed: bytes) -> None:
    world = World()
    image_id = test_verify.make(world, 'rbd', signed=signed)
    _old_volume(world)
    if signed == content():
        result = _replace(world, image_id)
        assert result.strategy == 'copy'
        assert result.values['signature_verified'] is True
    else:
        with pytest.raises(exception.SignatureInvalid):
            _replace(world, image_id)
        # Neither what was there nor what was refused.
        assert world.read('volumes', checks.NEW) == bytes(4 * MIB)


def test_a_certificate_that_is_missing_replaces_nothing() -> None:
    world = World()
    image_id = test_verify.make(world, 'rbd', signer=make_signer())
    _old_volume(world)
    before = world.state()
    with pytest.raises(exception.SignatureInvalid):
        _replace(world, image_id)
    assert world.state() == before


# -- killed -------------------------------------------------------------------

PIECES = 6
SIZE = PIECES * CHUNK_BYTES
DATA = b'data' * (SIZE // 4)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each piece."""
    monkeypatch.setattr(checkpoints, 'EVERY_S', 0)


def _killed(pieces: int = 3, **changes: Any) -> checks.CreateOperation:
    """It is killed before the last of the pieces has its checkpoint."""
    operation = _copy(data=DATA, **changes)
    killing.kill(operation, pieces)
    return operation


def _note(world: World, **change: Any) -> None:
    with world.volumes.open(checks.NEW) as volume:
        fields = json.loads(volume.metadata()[checkpoint.KEY])
        volume.set_metadata(checkpoint.KEY, json.dumps(fields | change))


def _check_again(operation: checks.CreateOperation, moved_bytes: int,
                 report: progress.Progress | None = None) -> None:
    operation.go(report)
    [name] = operation.world.disks('volumes')
    [key] = [key for key in operation.before if 'volumes/' in key]
    operation.before = {each: value for each, value
                        in operation.before.items() if each != key}
    operation.check_done()
    assert name == checks.NEW
    assert operation.result.bytes_moved == moved_bytes
    with operation.world.volumes.open(checks.NEW, read_only=True) as volume:
        assert set(volume.metadata()) == {lineage.KEY}


@pytest.mark.usefixtures('often')
@pytest.mark.parametrize('pieces', range(2, PIECES + 1))
def test_a_second_create_goes_on_where_a_killed_one_stopped(pieces: int
                                                            ) -> None:
    operation = _killed(pieces)
    done = (pieces - 1) * CHUNK_BYTES
    report = OnStep()
    _check_again(operation, SIZE - done, report)
    assert operation.result.strategy == 'copy'
    assert operation.calls['ceph'].count('read') == PIECES - pieces + 1
    assert 'create' in operation.calls['ceph']
    assert 'remove' not in operation.calls['ceph']
    assert (report.done_bytes, report.skipped_bytes) == (SIZE - done, done)


@pytest.mark.usefixtures('often')
def test_it_may_be_killed_again_and_again() -> None:
    operation = _killed(2)
    for _ in range(PIECES - 2):
        # The part that is skipped is told as one piece.
        killing.kill(operation, 3)
    _check_again(operation, CHUNK_BYTES)


@pytest.mark.usefixtures('often')
def test_it_is_compared_as_a_whole() -> None:
    operation = _killed()
    with operation.world.volumes.open(checks.NEW) as volume:
        volume.write(b'spoilt', 5)
    operation.world.configure(verify_copies=True)
    operation.go()
    assert isinstance(operation.error, exception.DataCorrupted)
    assert operation.world.disks('volumes') == []


def test_without_a_checkpoint_yet_it_begins_anew() -> None:
    operation = _killed()
    _check_again(operation, SIZE)


@pytest.mark.usefixtures('often')
@pytest.mark.parametrize('change', [
    {'snapshot_id': 0}, {'source_id': 'x'}, {'pool': 'volumes'},
    {'size_bytes': 2 * SIZE}])
def test_one_of_another_source_begins_anew(change: dict[str, Any]) -> None:
    operation = _killed()
    _note(operation.world, **change)
    with operation.world.volumes.open(checks.NEW) as volume:
        volume.write(b'of another', 0)
    _check_again(operation, SIZE)


@pytest.mark.usefixtures('often')
def test_a_volume_of_another_size_begins_anew() -> None:
    operation = _killed()
    with operation.world.volumes.open(checks.NEW) as volume:
        volume.resize(2 * model.GIB)
    _check_again(operation, SIZE)


@pytest.mark.usefixtures('often')
@pytest.mark.parametrize('spoil', [
    lambda volume: checkpoint.remove(volume),
    lambda volume: volume.set_metadata(checkpoint.KEY, '{"offset": 1}'),
    lambda volume: lineage.set_state(volume, lineage.COMPLETE),
    lambda volume: volume.remove_metadata(lineage.KEY)])
def test_what_is_not_known_to_be_left_by_a_copy_keeps_its_name(
        spoil: Callable[[Any], None]) -> None:
    operation = _killed()
    with operation.world.volumes.open(checks.NEW) as volume:
        spoil(volume)
    operation.go()
    assert isinstance(operation.error, exception.ImageExists)
    operation.check_untouched()


@pytest.mark.usefixtures('often')
def test_where_a_signature_is_verified_it_begins_anew() -> None:
    """Whoever may write to the pool may have written the checkpoint."""
    world, image_id = _signed(data=DATA)
    killed = killing.Killed(world, 3)
    with pytest.raises(exception.Cancelled):
        test_verify.create(world, image_id, report=killed)
    for disk in killed.disks.values():
        disk.watchers = []
    world.ceph.disks = killed.disks
    assert world.disks('volumes') == [checks.NEW]
    result = test_verify.create(world, image_id)
    assert result.bytes_moved == SIZE
    assert result.values['signature_verified'] is True


@pytest.mark.usefixtures('often')
@pytest.mark.parametrize(('changes', 'strategy'), [
    ({'max_clone_depth': 5}, 'clone'), ({}, 'download')])
def test_another_way_makes_it_anew(changes: dict[str, Any], strategy: str
                                   ) -> None:
    operation = _killed()
    world = operation.world
    world.configure(**changes)
    if strategy == 'download':
        # Glance has it elsewhere by now.
        world.server.records[operation.image_id or ''].urls = ()
        world.server.records[operation.image_id or ''].data = DATA
    _check_again(operation, 0 if strategy == 'clone' else SIZE)
    assert operation.result.strategy == strategy


@pytest.mark.usefixtures('often')
def test_a_killed_process_that_ceph_has_not_noticed_is_waited_for() -> None:
    operation = _copy(data=DATA)
    killing.kill(operation, 3, is_seen=True)
    [disk] = [disk for disk in operation.world.ceph.disks.values()
              if disk.name == checks.NEW]

    class Noticing(progress.Cancellable):
        looks = 0

        def check(self) -> None:
            self.looks += 1
            if self.looks == 5:
                disk.watchers.clear()

    _check_again(operation, SIZE - 2 * CHUNK_BYTES, Noticing())


@pytest.mark.usefixtures('often')
def test_waiting_can_be_cancelled_and_leaves_all_as_it_was() -> None:
    operation = _copy(data=DATA)
    killing.kill(operation, 3, is_seen=True)

    class Impatient(OnStep):
        def check(self) -> None:
            super().check()
            if CopyImage.title in self.steps:
                self.cancel()

    operation.go(Impatient())
    assert isinstance(operation.error, exception.Cancelled)
    operation.check_untouched()


@pytest.mark.usefixtures('often')
def test_one_that_is_at_work_is_left_alone(monkeypatch: pytest.MonkeyPatch
                                           ) -> None:
    monkeypatch.setattr(copies, '_LET_GO_TIMEOUT_S', 0)
    operation = _copy(data=DATA)
    killing.kill(operation, 3, is_seen=True)
    operation.go()
    assert isinstance(operation.error, exception.ImageBusy)
    assert '192.0.2.9' in operation.error.message
    operation.check_untouched()


@pytest.mark.usefixtures('often')
def test_of_two_that_would_go_on_at_once_neither_harms_the_other() -> None:
    operation = _killed()
    world = operation.world
    [disk] = [disk for disk in world.ceph.disks.values()
              if disk.name == checks.NEW]
    target = copies.Target(world.volumes, checks.NEW, lineage.VOLUME,
                           model.GIB, lambda: None)
    undone = []
    task = CopyImage(Tools(world.config, world.cluster, world.glance,
                           progress.Silent()))
    disk.watchers.append('192.0.2.9:0/1')
    with pytest.raises(exception.ImageBusy), copies.filling(
            target, CHUNK_BYTES, task.or_undo(lambda: undone.append(1))):
        raise AssertionError('it was opened')
    assert not undone
    disk.watchers.clear()
    with world.volumes.open(checks.NEW) as volume:
        lineage.set_state(volume, lineage.COMPLETE)
    with pytest.raises(exception.ImageBusy), copies.filling(
            target, CHUNK_BYTES, task.or_undo(lambda: undone.append(1))):
        raise AssertionError('the other one has finished it')
    assert not undone
    with world.volumes.open(checks.NEW) as volume:
        lineage.set_state(volume, lineage.PENDING)
    with pytest.raises(ValueError, match='x'), copies.filling(
            target, CHUNK_BYTES, task.or_undo(lambda: undone.append(2))):
        raise ValueError('x')
    assert undone == [2]


@pytest.mark.usefixtures('often')
def test_one_that_goes_on_and_is_cancelled_is_undone() -> None:
    operation = _killed()
    report = progress.Cancellable()
    real = report.advance

    def advance(done_bytes: int, skipped_bytes: int = 0) -> None:
        real(done_bytes, skipped_bytes)
        if report.done_bytes:
            report.cancel()

    report.advance = advance  # type: ignore[method-assign]
    operation.go(report)
    assert isinstance(operation.error, exception.Cancelled)
    assert operation.world.disks('volumes') == []


def test_a_plan_says_how_it_would_go_on() -> None:
    operation = _killed()
    with operation.world.driver() as driver:
        decided = driver.images.plan_create(checks.NEW_SPEC,
                                            operation.image_id or '')
    assert decided.strategy == 'copy'


# -- an upload that was killed ------------------------------------------------

def _upload(**changes: Any) -> checks.UploadOperation:
    operation = checks.upload(
        keeps_record=True, size_bytes=SIZE, max_clone_depth=0,
        glance_secure_hash=False, **changes)
    with operation.world.volumes.open('volume-1') as volume:
        volume.write(DATA, 0)
    operation.data = DATA
    return operation


@pytest.mark.usefixtures('often')
@pytest.mark.parametrize('glance_hashes', [True, False])
def test_an_upload_goes_on_where_a_killed_one_stopped(glance_hashes: bool
                                                      ) -> None:
    operation = _upload()
    operation.world.configure(glance_secure_hash=glance_hashes)
    killing.kill(operation, 4)
    operation.go()
    result, world = operation.result, operation.world
    assert result.strategy == 'copy'
    assert result.bytes_moved == 3 * CHUNK_BYTES
    assert operation.calls['ceph'].count('read') == (
        3 if glance_hashes else PIECES)
    image_id = operation.image_id or ''
    assert world.download(image_id) == DATA
    if not glance_hashes:
        assert world.glance.get_image(image_id).os_hash_value == \
            hashlib.sha512(DATA).hexdigest()
    assert world.snapshots('volumes', 'volume-1') == []
    with world.images.open(image_id, read_only=True) as made:
        assert set(made.metadata()) == {lineage.KEY}
    mark = world.mark('images', image_id)
    assert mark is not None
    assert (mark.state, mark.job) == (lineage.COMPLETE, result.job)


@pytest.mark.usefixtures('often')
def test_an_upload_of_another_moment_begins_anew() -> None:
    operation = _upload()
    killing.kill(operation, 4)
    world = operation.world
    with world.volumes.open('volume-1') as volume:
        [snapshot] = volume.snapshots()
        volume.remove_snapshot(snapshot.name)
        volume.write(b'later', 0)
    operation.go()
    assert operation.result.bytes_moved == SIZE
    assert world.download(operation.image_id or '') == b'later' + DATA[5:]
