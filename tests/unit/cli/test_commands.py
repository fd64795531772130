# SPDX-License-Identifier: Apache-2.0
"""Each command does its work and prints it; JSON stays clean on stdout."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.cli import display, running
from volume_rbd.driver.reclaim import Finder, Reclaimable
from volume_rbd.jobs.jobs import Jobs


def test_an_empty_volume_is_created(cloud: Run, world: World) -> None:
    ended = cloud('create', 'v', '--size', '2', '-f', 'json')
    assert ended.code == 0
    fields = ended.json
    assert fields.pop('seconds') >= 0
    assert fields == {
        'name': 'v', 'pool': 'volumes', 'size_gib': 2,
        'size_bytes': 2 * 1024 ** 3, 'parent': None, 'origin': 'blank'}
    assert world.disks('volumes') == ['v']


def test_options_may_stand_before_and_behind_the_command(cloud: Run) -> None:
    assert cloud('--backend', 'ceph', 'list').code == 0
    assert cloud('list', '--backend', 'ceph').code == 0


def test_a_volume_is_created_from_an_image(cloud: Run, world: World) -> None:
    image_id = world.make_image()
    ended = cloud('create', 'v', '--image', image_id, '-f', 'json')
    assert ended.code == 0
    fields = ended.json
    assert fields['strategy'] == 'clone'
    assert fields['reason'] == 'same_cluster'
    assert fields['sentence'].endswith('.')
    assert fields['image_id'] == image_id
    assert fields['size_gib'] == 1
    assert fields['bytes_moved'] == 0
    assert fields['origin'] == f'rbd:images/{image_id}@snap'
    assert 'attempts' not in fields
    assert 'cloning the image\n' in ended.err


def test_a_fallback_tells_every_attempt(cloud: Run, world: World) -> None:
    image_id = world.make_image()
    world.ceph.fail_next('clone', exception.NotSupported('Too old.'))
    fields = cloud('create', 'v', '--image', image_id, '-f', 'json').json
    assert fields['strategy'] == 'copy'
    assert fields['attempts'] == (
        'clone (same_cluster), copy (clone_failed)')
    assert 'Too old.' in fields['sentence']


@pytest.mark.parametrize('source', [['--snapshot', f'{VOLUME}@s'],
                                    ['--source', VOLUME]])
def test_a_volume_is_created_from_another(cloud: Run, world: World,
                                          source: list[str]) -> None:
    data = world.make_volume()
    assert cloud('snapshot', 'create', f'{VOLUME}@s').code == 0
    ended = cloud('create', 'v', *source, '-f', 'json')
    assert ended.code == 0
    assert ended.json['parent'].startswith(f'volumes/{VOLUME}@')
    assert world.read('volumes', 'v') == data


def test_a_volume_is_uploaded(cloud: Run, world: World) -> None:
    data = world.make_volume()
    ended = cloud('upload', VOLUME, '--image-name', 'a title',
                  '--property', 'os_distro=debian', '--property', 'x=a=b',
                  '-f', 'json')
    assert ended.code == 0
    fields = ended.json
    assert fields['strategy'] == 'clone'
    assert fields['store'] == 'rbd'
    assert 'leftover' not in fields
    image = world.glance.get_image(fields['image_id'])
    assert image.name == fields['image_name'] == 'a title'
    assert image.properties['os_distro'] == 'debian'
    assert image.properties['x'] == 'a=b'
    assert world.download(fields['image_id']) == data


def test_a_snapshot_that_stays_is_told(cloud: Run, world: World) -> None:
    world.make_volume()
    world.ceph.fail_next('remove_snapshot', exception.OperationTimeout('-'))
    fields = cloud('upload', VOLUME, '--image-name', 'x', '-f', 'json').json
    assert fields['leftover'] == (
        f'{VOLUME}@volume_rbd.upload-{fields["image_id"]}')


def test_plans_touch_nothing(cloud: Run, world: World) -> None:
    world.make_volume()
    image_id = world.make_image(store_id='file')
    before = world.state()
    created = cloud('plan', 'create', 'v', '--image', image_id,
                    '-f', 'json')
    uploaded = cloud('plan', 'upload', VOLUME, '-f', 'json')
    assert created.code == uploaded.code == 0
    assert world.state() == before
    assert created.json['strategy'] == 'download'
    assert created.json['reason'] == 'not_rbd'
    assert created.json['ruled_out'] == ['clone (not_rbd)']
    assert created.json['source'] is None
    assert uploaded.json['strategy'] == 'clone'
    assert uploaded.json['fallbacks'] == ['copy', 'upload']
    assert uploaded.json['store'] == 'rbd'


def test_a_plan_is_what_is_done(cloud: Run, world: World) -> None:
    image_id = world.make_image()
    planned = cloud('plan', 'create', 'v', '--image', image_id,
                    '-f', 'json').json
    done = cloud('create', 'v', '--image', image_id, '-f', 'json').json
    for key in ('strategy', 'reason', 'sentence', 'size_bytes'):
        assert planned[key] == done[key]
    assert planned['source'] == f'images/{image_id}@snap'


def test_volumes_are_listed_and_shown(cloud: Run, world: World) -> None:
    for name in ('b', 'a'):
        world.make_volume(name)
    world.volumes.create('unmarked', MIB)
    rows = cloud('list', '-f', 'json').json
    assert [row['name'] for row in rows] == ['a', 'b', 'unmarked']
    shown = cloud('show', 'a', '-f', 'json').json
    assert shown['size_bytes'] == MIB
    assert shown['state'] == 'complete'
    assert shown['snapshots'] == shown['watchers'] == []
    assert cloud('show', 'unmarked', '-f', 'json').json['origin'] is None
    assert cloud('list', '-f', 'value', '-c', 'name').out.split() == [
        'a', 'b', 'unmarked']


def test_a_volume_is_extended(cloud: Run, world: World) -> None:
    world.make_volume()
    assert cloud('extend', VOLUME, '2', '-f', 'json').json['size_gib'] == 2
    assert cloud('extend', VOLUME, '1').code == 2


def test_snapshots_come_and_go(cloud: Run, world: World) -> None:
    data = world.make_volume()
    assert cloud('snapshot', 'create', VOLUME, 's').code == 0
    with world.volumes.open(VOLUME) as volume:
        volume.write(b'later', 0)
    [row] = cloud('snapshot', 'list', VOLUME, '-f', 'json').json
    assert row['name'] == 's'
    assert cloud('snapshot', 'revert', f'{VOLUME}@s').code == 0
    assert world.read('volumes', VOLUME) == data
    assert cloud('snapshot', 'delete', f'{VOLUME}@s').code == 0
    assert cloud('snapshot', 'list', VOLUME, '-f', 'json').json == []


def test_a_deletion_says_whether_it_is_gone(cloud: Run, world: World
                                            ) -> None:
    world.make_volume()
    world.make_volume('plain')
    cloud('create', 'child', '--source', VOLUME)
    rows = cloud('delete', VOLUME, 'plain', '-f', 'json').json
    assert [(row['name'], row['state']) for row in rows] == [
        (VOLUME, 'in trash'), ('plain', 'deleted')]


def test_reclaim_is_a_dry_run_unless_told(cloud: Run, world: World) -> None:
    world.make_volume()
    image_id = world.clone_upload()
    cloud('delete', VOLUME)
    world.glance.delete_image(image_id)
    before = world.state()
    [found] = cloud('reclaim', '-f', 'json').json
    assert (found['what'], found['name'], found['state']) == (
        'trashed_volume', VOLUME, 'found')
    assert (found['size_bytes'], found['owner']) == (1024 ** 2, 'job j')
    assert isinstance(found['age_s'], int)
    assert ' s  ' in cloud('reclaim').out
    assert world.state() == before
    [gone] = cloud('reclaim', '--yes', '-f', 'json').json
    assert gone['state'] == 'removed'
    assert world.ceph.disks == {}
    assert cloud('reclaim', '--yes', '-f', 'json').json == []


def _trashed(world: World, *names: str) -> None:
    """Volumes that were deleted, and then the process was killed."""
    for name in names:
        world.make_volume(name)
        with world.volumes.open(name) as image:
            lineage.set_state(image, lineage.TRASHED)
        world.volumes.trash_move(name)


def test_reclaim_ends_with_the_exit_code_of_what_stays(cloud: Run,
                                                       world: World) -> None:
    _trashed(world, 'one', 'two')
    world.ceph.fail_next('trash_remove', exception.OperationTimeout('no'))
    done = cloud('reclaim', '--yes', '-f', 'json')
    assert (done.code, len(done.json)) == (0, 2), 'gone at the second look'
    _trashed(world, 'one', 'two')
    [one] = [disk for disk in world.ceph.disks.values()
             if disk.name == 'one']
    with world.ceph.cluster('admin').pool('volumes').open_by_id(one.id):
        done = cloud('reclaim', '--yes', '-f', 'json')
    assert done.code == exception.ImageBusy.exit_code
    assert [row['name'] for row in done.json] == ['two']


def test_reclaim_tells_what_is_gone_also_where_it_cannot_go_on(
        cloud: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _trashed(world, 'one')
    find, looks = Finder.find, itertools.count()

    def find_once(self: Finder) -> Iterator[Reclaimable]:
        if next(looks):
            raise exception.ClusterUnavailable('The cluster is gone.')
        return find(self)

    monkeypatch.setattr(Finder, 'find', find_once)
    done = cloud('reclaim', '--yes', '-f', 'json')
    assert done.code == exception.ClusterUnavailable.exit_code
    assert [row['name'] for row in done.json] == ['one']
    assert 'The cluster is gone.' in done.err


def test_progress_goes_to_stderr_only(cloud: Run, world: World) -> None:
    world.make_volume()
    ended = cloud('upload', VOLUME, '--image-name', 'x')
    for step in ('creating the image record', 'cloning the volume',
                 'registering the image'):
        assert f'{step}\n' in ended.err
        assert step not in ended.out


# -- signals ------------------------------------------------------------------

def test_a_signal_cancels_what_runs_and_waits_until_it_is_undone(
        capsys: pytest.CaptureFixture[str]) -> None:
    shown = display.LineDisplay()
    began, undone = threading.Event(), threading.Event()

    def operation() -> None:
        shown.step('working')
        began.set()
        try:
            for _ in range(500):
                threading.Event().wait(0.01)
                shown.check()
        finally:
            undone.set()

    def interrupt() -> None:
        began.wait(5)
        running._on_signal(2, None)
        running._on_signal(2, None)  # impatience does no harm

    threading.Thread(target=interrupt).start()
    with pytest.raises(exception.Cancelled):
        running.run(operation, shown)
    assert undone.is_set()
    assert capsys.readouterr().err.count('being undone') == 1


def test_a_signal_before_the_first_step_ends_at_once() -> None:
    """Nothing is done yet, and the cluster may never answer."""
    shown = display.LineDisplay()
    never = threading.Event()
    threading.Timer(0.05, lambda: running._on_signal(2, None)).start()
    with pytest.raises(exception.Cancelled, match='before anything'):
        running.run(lambda: never.wait(30), shown)
    never.set()


def test_a_signal_where_nothing_runs_ends_the_program(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, '_is_done', False)
    with pytest.raises(KeyboardInterrupt):
        running._on_signal(2, None)


def test_a_signal_after_the_work_does_not_look_like_a_cancel(
        capsys: pytest.CaptureFixture[str]) -> None:
    assert running.run(lambda: 5, display.LineDisplay()) == 5
    running._on_signal(2, None)
    assert 'it is done' in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        running._on_signal(2, None)


def test_what_an_operation_returns_or_raises_comes_through() -> None:
    assert running.run(lambda: 5, display.LineDisplay()) == 5
    with pytest.raises(ZeroDivisionError):
        running.run(lambda: 1 // 0, display.LineDisplay())


def test_what_was_left_is_taken_up_once_a_command_has_begun(
        cloud: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that it may be the very thing that is asked for."""
    begun: list[list[str]] = []
    monkeypatch.setattr(Jobs, 'recover_soon', lambda jobs: begun.append(
        [info.target for info in jobs.list()]))
    image_id = world.make_image()

    assert cloud('create', 'v', '--image', image_id).code == 0

    assert begun == [['volume v']]
