# SPDX-License-Identifier: Apache-2.0
"""What the engine promises of every flow, and where flows are kept."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from taskflow.types import failure

from tests.unit.flows import checks
from tests.unit.world import VOLUME, OnStep, World
from volume_rbd import exception, progress
from volume_rbd.flows import base, registration, strategies, upload_to_image

# -- what is outside of the retry controller ----------------------------------

def _refused_then(error: exception.VolumeRBDError) -> checks.UploadOperation:
    """The clone is refused, and then the upload fails."""
    operation = checks.upload()
    operation.world.glance.fail_next('register_location',
                                     exception.GlanceForbidden('403'))
    operation.world.glance.fail_next('upload', error)
    return operation


def test_what_is_outside_of_the_controller_is_undone_when_all_ways_fail(
        ) -> None:
    """taskflow says REVERTED and leaves outer tasks as they are, unless
    reverts are deferred and the controller says REVERT_ALL."""
    operation = _refused_then(exception.GlanceUnavailable('500'))
    reverted: list[str] = []

    def note(self: base.Task, undo: Any) -> None:
        reverted.append(self.title)
        undo()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base.Task, 'try_to_undo', note)
        operation.go()
    assert isinstance(operation.error, exception.GlanceUnavailable)
    assert {'creating the image record', 'taking a snapshot of the volume',
            'cloning the volume'} <= set(reverted)
    operation.check_untouched()


@pytest.mark.parametrize('error', [
    exception.GlanceUnavailable('500'), exception.QuotaExceeded('413'),
    exception.GlanceConflict('409'),
    exception.NotCloneable('not this way either')])
def test_the_last_error_is_raised_when_all_ways_fail(
        error: exception.VolumeRBDError) -> None:
    operation = _refused_then(error).go()
    assert operation.error is error
    operation.check_untouched()


def test_only_not_this_way_leads_to_another_way() -> None:
    operation = checks.upload()
    operation.world.ceph.fail_next('clone', exception.NoSpace('Full.'))
    operation.go()
    assert isinstance(operation.error, exception.NoSpace)
    assert 'upload' not in operation.calls['glance']


def test_a_bug_in_a_task_undoes_everything_and_is_raised_as_it_is() -> None:
    operation = checks.upload()

    def bug() -> None:
        raise ZeroDivisionError('a bug')

    operation.go(OnStep({'taking the snapshot of the image': bug}))
    assert isinstance(operation.error, ZeroDivisionError)
    operation.check_untouched()


def test_the_first_way_leaves_nothing_to_the_second() -> None:
    """Glance's own add fails where anything of that name is in the pool."""
    seen = []
    operation = checks.upload()
    world = operation.world
    world.glance.fail_next('register_location',
                           exception.GlanceForbidden('403'))
    operation.go(OnStep({
        'uploading the volume': lambda: seen.append(world.disks('images'))}))
    assert seen == [[]]
    operation.check_done()


# -- the controller by itself -------------------------------------------------

CHOICES = [{'strategy': 'clone', 'reason': 'same_cluster', 'sentence': 'a'},
           {'strategy': 'upload', 'reason': 'clone_failed', 'sentence': 'b'}]


def _failed(*errors: BaseException) -> dict[str, failure.Failure]:
    return {f'task-{number}': failure.Failure.from_exception(error)
            for number, error in enumerate(errors)}


def _decide(*tries: dict[str, failure.Failure]) -> str:
    controller = strategies.StrategyController(CHOICES)
    return str(controller.on_failure(
        [(choice, failures)
         for choice, failures in zip(CHOICES, tries, strict=False)]))


REFUSED = exception.NotCloneable('no', reason='clone_denied')
BROKEN = exception.NoSpace('Full.')


def test_the_controller_goes_on_only_where_every_task_said_not_this_way(
        ) -> None:
    assert _decide(_failed(REFUSED)) == 'RETRY'
    assert _decide(_failed(REFUSED, REFUSED)) == 'RETRY'
    assert _decide(_failed(BROKEN)) == 'REVERT_ALL'
    assert _decide(_failed(REFUSED, BROKEN)) == 'REVERT_ALL'
    assert _decide(_failed(ValueError('x'))) == 'REVERT_ALL'
    assert _decide(_failed()) == 'REVERT_ALL'


def test_the_controller_ends_with_the_last_choice() -> None:
    assert _decide(_failed(REFUSED), _failed(REFUSED)) == 'REVERT_ALL'


WITH_COPY = [{'strategy': strategy, 'reason': 'r', 'sentence': 's'}
             for strategy in ('clone', 'copy', 'upload')]


@pytest.mark.parametrize(('reason', 'expected'), [
    ('clone_failed', 'copy'), ('location_task_failed', 'copy'),
    ('clone_denied', 'upload'), ('location_api_missing', 'upload'),
    ('location_forbidden', 'upload'), ('location_refused', 'upload'),
    ('made up', 'copy')])
def test_a_copy_is_not_tried_where_it_would_meet_the_same_refusal(
        reason: str, expected: str) -> None:
    controller = strategies.StrategyController(WITH_COPY)
    history = [(WITH_COPY[0], _failed(
        exception.NotCloneable('no', reason=reason)))]
    assert controller.on_failure(history) == 'RETRY'
    assert controller.execute(history)['strategy'] == expected


def test_what_was_left_out_is_not_gone_back_to() -> None:
    controller = strategies.StrategyController(WITH_COPY)
    history = [(WITH_COPY[0], _failed(REFUSED)),
               (WITH_COPY[2], _failed(exception.NotCopyable('no')))]
    assert controller.on_failure(history) == 'REVERT_ALL'


def test_where_only_a_copy_is_left_that_does_not_help_it_ends() -> None:
    controller = strategies.StrategyController(WITH_COPY[:2])
    assert controller.on_failure(
        [(WITH_COPY[0], _failed(REFUSED))]) == 'REVERT_ALL'


def test_the_next_try_carries_the_reason_of_the_last_refusal() -> None:
    controller = strategies.StrategyController(CHOICES)
    assert controller.execute([]) == CHOICES[0]
    second = controller.execute([(CHOICES[0], _failed(REFUSED))])
    assert second['strategy'] == 'upload'
    assert second['reason'] == 'clone_denied'
    assert second['sentence'].endswith('(no)')
    assert CHOICES[1]['reason'] == 'clone_failed'  # the plan is not changed


def test_an_unknown_reason_becomes_clone_failed() -> None:
    controller = strategies.StrategyController(CHOICES)
    odd = exception.NotCloneable('no', reason='made up')
    second = controller.execute([(CHOICES[0], _failed(odd))])
    assert second['reason'] == 'clone_failed'


def _from_record(error: BaseException) -> failure.Failure:
    """As it comes back in another process: names and args, no exception."""
    kept = json.loads(json.dumps(
        failure.Failure.from_exception(error).to_dict()))
    again = failure.Failure.from_dict(kept)
    assert again.exception is None
    return again


def test_a_refusal_from_a_record_leads_to_the_next_way_too() -> None:
    controller = strategies.StrategyController(CHOICES)
    history = [(CHOICES[0], {'CloneVolume': _from_record(REFUSED)})]
    assert controller.on_failure(history) == 'RETRY'
    assert controller.execute(history)['reason'] == 'clone_denied'


@pytest.mark.parametrize('name', ['subprocess.getoutput', 'os.system',
                                  'builtins.exec', 'evil.NotCloneable'])
def test_a_forged_failure_in_a_record_is_no_error_of_ours(name: str) -> None:
    kept = failure.Failure.from_exception(REFUSED).to_dict()
    kept['exc_type_names'] = [name]
    kept['exc_args'] = ['touch /tmp/owned']
    forged = failure.Failure.from_dict(kept)
    assert strategies.error_of(forged) is None
    assert _decide({'task': forged}) == 'REVERT_ALL'


# -- the tasks ----------------------------------------------------------------

def _tasks() -> list[base.Task]:
    world = World()
    world.configure(clone_upload_flatten='before_register')
    tools = base.Tools(world.config, world.cluster, world.glance,
                       progress.Silent())
    return [upload_to_image.CreateRecord(tools),
            upload_to_image.SnapshotVolume(tools),
            upload_to_image.Upload(tools),
            upload_to_image.DropSnapshot(tools),
            *registration.get_tasks(tools)]


@pytest.mark.parametrize('task', _tasks(), ids=lambda task: task.name)
def test_every_task_tells_a_person_what_it_does(task: base.Task) -> None:
    assert task.title
    assert task.title[0].islower()
    assert not task.title.endswith('.')


def test_what_a_revert_needs_is_what_execute_was_given() -> None:
    """taskflow reads the names of the arguments; a wrapper must not hide
    them."""
    for task in _tasks():
        assert set(task.revert_rebind) <= {*task.rebind, 'result',
                                           'flow_failures'}


def test_a_revert_that_runs_twice_finds_nothing_to_do() -> None:
    operation = checks.upload()
    world = operation.world
    with world.driver() as driver:
        decided = driver.images.plan_upload(
            checks.SOURCE, checks.ImageRequest('x'))
    assert decided.store is not None
    tools = base.Tools(world.config, world.cluster, world.glance,
                       progress.Silent())
    image_id = world.make_record()
    before = world.state()
    names: dict[str, Any] = {
        'job': 'j', 'image_id': image_id, 'volume_name': VOLUME,
        'store_pool': 'images'}
    snapshot = upload_to_image.SnapshotVolume(tools)
    clone = registration.CloneVolume(tools)
    publish = registration.PublishSnapshot(tools)
    for _ in range(2):  # and each of them finds what the first run made
        snapshot.execute(image_id, VOLUME)
        publish_names = {'image_id': image_id, 'store_pool': 'images'}
        clone.execute(**names)
        publish.execute(**publish_names)
        publish.execute(**publish_names)
    for _ in range(2):
        publish.revert(result=None, **publish_names)
        clone.revert(result=True, **names)
        snapshot.revert(result=None, **names)
    assert not clone.what_stayed
    assert not snapshot.what_stayed
    assert world.state() == before


# -- kept on disk -------------------------------------------------------------

def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.rglob('*') if path.is_file()]


@pytest.fixture
def kept(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / 'flows'
    folder.mkdir()
    return folder


def _connection(folder: pathlib.Path) -> str:
    return f'dir://{folder}'


def test_an_upload_is_kept_on_disk_while_it_runs_and_not_after(
        kept: pathlib.Path) -> None:
    texts: list[str] = []
    operation = checks.upload(flow_connection=_connection(kept))
    operation.go(OnStep({'registering the image': lambda: texts.extend(
        path.read_text() for path in _files(kept)
        if path.name != 'lock')}))
    operation.check_done()
    assert texts
    for text in texts:
        json.loads(text)  # JSON only
    assert 'upload_to_image' in ''.join(texts)
    assert operation.result.job in ''.join(texts)
    assert _files(kept) == []


def test_a_fallback_works_with_records_on_disk(kept: pathlib.Path) -> None:
    operation = checks.upload(flow_connection=_connection(kept))
    operation.world.glance.fail_next('register_location',
                                     exception.GlanceForbidden('403'))
    operation.go()
    operation.check_done()
    result = operation.result
    assert (result.strategy, result.reason) == (
        'upload', 'location_forbidden')
    assert len(result.attempts) == 2
    assert result.bytes_moved == checks.SIZE
    assert _files(kept) == []


def test_a_failing_flow_undoes_everything_with_records_on_disk(
        kept: pathlib.Path) -> None:
    operation = _refused_then(exception.QuotaExceeded('413', remedy='Pay.'))
    operation.world.configure(flow_connection=_connection(kept))
    operation.go()
    assert isinstance(operation.error, exception.QuotaExceeded)
    assert str(operation.error) == '413 Pay.'
    operation.check_untouched()
    assert _files(kept) == []


def test_a_creation_works_with_records_on_disk(kept: pathlib.Path) -> None:
    operation = checks.create(flow_connection=_connection(kept))
    operation.world.ceph.fail_next('clone', exception.NotSupported('old'))
    operation.world.ceph.fail_next('read', exception.VolumeRBDError('EIO'))
    operation.go()
    operation.check_done()
    assert [attempt['strategy'] for attempt in operation.result.attempts] == [
        'clone', 'copy', 'download']
    assert operation.result.bytes_moved == 3 * 64 * 1024
    assert _files(kept) == []


def test_what_stayed_is_told_and_stays_written_down(kept: pathlib.Path
                                                    ) -> None:
    operation = checks.upload(flow_connection=_connection(kept))
    operation.world.glance.fail_next('register_location',
                                     exception.QuotaExceeded('413'))
    operation.world.ceph.fail_next('remove',
                                   exception.ClusterUnavailable('Gone.'))
    operation.go()
    assert isinstance(operation.error, exception.QuotaExceeded)
    operation.check_told()
    assert _files(kept) != []


def test_a_pending_registration_stays_written_down(kept: pathlib.Path
                                                   ) -> None:
    operation = checks.upload(World(activation_polls=None),
                              flow_connection=_connection(kept)).go()
    operation.check_pending()
    assert _files(kept) != []


def test_no_secret_is_kept(kept: pathlib.Path) -> None:
    """Nothing of the tools (sessions, tokens, keyrings) gets into a record."""
    texts: list[str] = []
    operation = checks.upload(flow_connection=_connection(kept))
    operation.go(OnStep({'registering the image': lambda: texts.extend(
        path.read_text() for path in _files(kept))}))
    whole = ''.join(texts).lower()
    for word in ('token', 'password', 'keyring', 'fakeglance', 'pickle'):
        assert word not in whole


@pytest.mark.parametrize('connection', ['nonsense', 'dir',
                                        'nosuch:///somewhere'])
def test_a_connection_that_does_not_work_ends_before_anything_is_touched(
        connection: str) -> None:
    operation = checks.upload(flow_connection=connection)
    operation.go()
    assert isinstance(operation.error, exception.ConfigurationError)
    assert 'flow_connection' in str(operation.error)
    operation.check_untouched()


def test_records_that_cannot_be_written_end_before_anything_is_touched(
        kept: pathlib.Path) -> None:
    (kept / 'file').touch()
    operation = checks.upload(flow_connection=_connection(kept / 'file'))
    operation.go()
    assert type(operation.error) is exception.Unavailable
    assert 'flow_connection' in operation.error.remedy
    operation.check_untouched()


def test_the_password_of_a_connection_is_not_told() -> None:
    operation = checks.upload(
        flow_connection='nosuch+driver://user:hunter2@host/db').go()
    assert isinstance(operation.error, exception.ConfigurationError)
    assert 'hunter2' not in str(operation.error)
