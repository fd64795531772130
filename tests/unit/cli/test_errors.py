# SPDX-License-Identifier: Apache-2.0
"""Bad input: an exit code for programs, one line with a remedy for people."""

from __future__ import annotations

import pathlib

import pytest
from oslo_utils import excutils

from tests.unit.cli.conftest import Run
from tests.unit.world import MIB, VOLUME, World
from volume_rbd import exception

IMAGE_ID = '8d0f0f5e-3c8a-4a42-9b1e-0d1f6a7c2b11'


@pytest.mark.parametrize(('arguments', 'code', 'says'), [
    (['create', 'v', '--size', '0'], 2, 'GiB'),
    (['create', 'v', '--size', '-1'], 2, 'GiB'),
    (['create', 'v', '--size', '1.5'], 2, 'whole number'),
    (['create', 'v', '--size', 'abc'], 2, 'whole number'),
    (['create', 'v', '--size', '99999999999999999999'], 2, 'whole number'),
    (['create', 'v', '--size', ''], 2, 'whole number'),
    (['create', 'v'], 2, '--size'),
    (['create', 'a@b', '--size', '1'], 2, 'Use letters'),
    (['create', 'a/b', '--size', '1'], 2, 'Use letters'),
    (['create', 'v', '--snapshot', 'nothing'], 2, 'VOLUME@SNAPSHOT'),
    (['create', 'v', '--snapshot', 'a@b@c'], 2, 'VOLUME@SNAPSHOT'),
    (['create', 'v', '--snapshot', '@s'], 2, 'VOLUME@SNAPSHOT'),
    (['extend', 'v', 'more'], 2, 'whole number'),
    (['upload', 'v', '--image-name', 'x', '--property', 'nonsense'], 2,
     'KEY=VALUE'),
    (['upload', 'v', '--image-name', 'x', '--property', '=x'], 2,
     'KEY=VALUE'),
    (['snapshot', 'create', 'v'], 2, 'VOLUME@SNAPSHOT'),
    (['snapshot', 'create', 'v@a', 'b'], 2, 'VOLUME@SNAPSHOT'),
    (['snapshot', 'create', 'v', 'volume_rbd.x'], 2, 'another name'),
    # not there
    (['show', 'nope'], 3, 'nope'),
    (['extend', 'nope', '1'], 3, 'nope'),
    (['delete', 'nope'], 3, 'nope'),
    (['create', 'v', '--source', 'nope'], 3, 'nope'),
    (['create', 'v', '--snapshot', 'nope@s'], 3, 'nope'),
    (['create', 'v', '--image', IMAGE_ID], 3, 'openstack image list'),
    (['plan', 'create', 'v', '--image', IMAGE_ID], 3, 'openstack image'),
    (['upload', 'nope', '--image-name', 'x'], 3, 'nope'),
    (['snapshot', 'list', 'nope'], 3, 'nope'),
    (['snapshot', 'delete', 'nope@s'], 3, 'nope'),
    (['--backend', 'nope', 'list'], 3, '--backend'),
    (['list', '--backend', 'nope'], 3, '--backend'),
    (['--backend', 'lvm', 'list'], 3, 'enabled are: ceph'),
])
def test_bad_input_has_a_code_and_one_line_that_says_what_to_do(
        cloud: Run, world: World, arguments: list[str], code: int, says: str
        ) -> None:
    ended = cloud(*arguments)
    assert ended.code == code
    assert says in ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith('volume-rbd: ')
    assert 'Traceback' not in ended.err
    assert world.ceph.disks == {}
    assert world.server.records == {}


@pytest.mark.parametrize('arguments', [
    ['create'], ['create', 'v', '--image', 'a', '--source', 'b'],
    ['upload', 'v'], ['plan', 'create', 'v'], ['delete'], ['extend', 'v'],
    ['show'], ['list', 'surplus'], ['list', '-f', 'nonsense']])
def test_wrong_usage_is_told_with_the_usage(cloud: Run,
                                            arguments: list[str]) -> None:
    ended = cloud(*arguments)
    assert ended.code == 2
    assert 'usage: volume-rbd' in ended.err
    assert ended.out == ''


# -- the configuration --------------------------------------------------------

def test_without_a_configuration_it_says_where_one_is_looked_for(run: Run
                                                                 ) -> None:
    ended = run('list')
    assert ended.code == 3
    assert 'enabled_backends' in ended.err
    assert '--config-file' in ended.err


def test_a_missing_file_is_a_configuration_error(run: Run) -> None:
    ended = run('--config-file', '/nowhere/x.conf', 'list')
    assert ended.code == 2
    assert '/nowhere/x.conf' in ended.err
    assert '--config-file' in ended.err


@pytest.mark.parametrize('text', [
    'no section', '[DEFAULT]\nenabled_backends=b\n[b]\ncopy_operations=x\n',
    '[DEFAULT]\nenabled_backends=b\n[b]\nallow_legacy_locations=true\n'])
def test_a_broken_file_is_a_configuration_error(
        run: Run, tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / 'broken.conf'
    path.write_text(text)
    ended = run('list', '--config-file', str(path))
    assert ended.code == 2
    assert ended.err.startswith('volume-rbd: ')
    assert 'Traceback' not in ended.err


def test_a_named_file_goes_before_the_environment(
        cloud: Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'other.conf'
    path.write_text('[DEFAULT]\nenabled_backends = other\n')
    ended = cloud('--config-file', str(path), '--backend', 'ceph', 'list')
    assert ended.code == 3
    assert 'enabled are: other' in ended.err


# -- what the services say ----------------------------------------------------

ERRORS = [
    (exception.CephPermissionDenied, 5), (exception.ClusterUnavailable, 6),
    (exception.OperationTimeout, 6), (exception.NoSpace, 7),
    (exception.NotSupported, 8), (exception.ImageBusy, 4),
    (exception.VolumeRBDError, 1)]


@pytest.mark.parametrize(('error', 'code'), ERRORS)
def test_an_error_of_the_cluster_has_its_exit_code(
        cloud: Run, world: World, error: type[exception.VolumeRBDError],
        code: int) -> None:
    world.ceph.fail_next('create', error('It broke.', remedy='Mend it.'))
    ended = cloud('create', 'v', '--size', '1')
    assert ended.code == code
    assert ended.err.endswith('volume-rbd: It broke. Mend it.\n')


def test_a_conflict_has_its_exit_code(cloud: Run, world: World) -> None:
    world.make_volume()
    with world.volumes.open(VOLUME) as volume:
        volume.create_snapshot('s')
    for arguments in (['create', VOLUME, '--size', '1'],
                      ['delete', VOLUME], ['snapshot', 'create', VOLUME, 's']):
        ended = cloud(*arguments)
        assert ended.code == 4, ended.err


def test_a_format_that_nothing_reads_has_its_exit_code(
        cloud: Run, world: World) -> None:
    image_id = world.make_image(disk_format='ami')
    ended = cloud('create', 'v', '--image', image_id)
    assert ended.code == 8
    assert 'qemu-img convert' in ended.err


def test_an_image_that_lies_has_its_exit_code(cloud: Run, world: World
                                              ) -> None:
    image_id = world.make_image(disk_format='qcow2')
    ended = cloud('create', 'v', '--image', image_id)
    assert ended.code == 4
    assert 'said to be qcow2' in ended.err
    assert world.disks('volumes') == []


def test_a_volume_too_small_for_the_image_has_its_exit_code(
        cloud: Run, world: World) -> None:
    image_id = world.make_image(min_disk_gib=5)
    ended = cloud('create', 'v', '--image', image_id, '--size', '4')
    assert ended.code == 2
    assert '5 GiB' in ended.err


def test_damaged_data_has_its_exit_code(cloud: Run, world: World) -> None:
    image_id = world.make_image(store_id='file')
    world.server.tamper(image_id, bytes(MIB))
    ended = cloud('create', 'v', '--image', image_id)
    assert ended.code == 9
    assert world.ceph.disks == {}


def test_a_pending_registration_has_its_exit_code(cloud: Run, world: World
                                                  ) -> None:
    world.make_volume()
    world.server.activation_polls = None
    ended = cloud('upload', VOLUME, '--image-name', 'x')
    assert ended.code == 10
    assert 'marked pending' in ended.err


def test_a_store_that_is_not_there_has_its_exit_code(cloud: Run, world: World
                                                     ) -> None:
    world.make_volume()
    ended = cloud('upload', VOLUME, '--image-name', 'x', '--store', 'nope')
    assert ended.code == 3
    assert 'It has: ' in ended.err


def test_of_several_deletions_those_that_can_be_are_done(
        cloud: Run, world: World) -> None:
    for name in ('a', 'c'):
        world.make_volume(name)
    ended = cloud('delete', 'a', 'b', 'c', '-f', 'json')
    assert ended.code == 3
    assert "'b'" in ended.err or '/b' in ended.err
    assert [row['name'] for row in ended.json] == ['a', 'c']
    assert world.ceph.disks == {}


def test_a_bug_is_no_traceback_for_a_person(cloud: Run, world: World
                                            ) -> None:
    world.ceph.fail_next('create', ZeroDivisionError('a bug'))
    ended = cloud('create', 'v', '--size', '1')
    assert ended.code == 1
    assert 'a bug' in ended.err
    assert 'Traceback' not in ended.err


def test_an_error_in_the_place_of_another_is_no_traceback_for_a_person(
        cloud: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def show(*_: object) -> None:
        with excutils.save_and_reraise_exception():
            raise exception.Unavailable('It hangs.')

    monkeypatch.setattr('volume_rbd.jobs.jobs.Jobs.show', show)
    ended = cloud('jobs', 'show', IMAGE_ID)
    assert ended.code == 6
    assert ended.err.startswith('volume-rbd: It hangs.')
    assert 'Traceback' not in ended.err
