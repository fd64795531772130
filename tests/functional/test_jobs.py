# SPDX-License-Identifier: Apache-2.0
"""Jobs through the command line, each command in a process of its own: what
one leaves when it is killed, another one sees, finishes or undoes."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
import time
import uuid

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.desk import (
    DISK_BYTES,
    LEASE_S,
    MOVED,
    WITH_CHECKPOINT,
    Desk,
)
from tests.functional.program import Program, started
from tests.sampling import more


@pytest.fixture(scope='module')
def data() -> bytes:
    return content.random_bytes(DISK_BYTES)


# -- killed in the middle -----------------------------------------------------
def test_an_upload_that_was_killed_is_shown_and_gone_on_with(
        desk: Desk, data: bytes) -> None:
    volume = desk.house.volume(data)
    job = desk.leave_half('upload', volume, '--image-name', 'x',
                          at=WITH_CHECKPOINT)

    [row] = desk.jobs()
    image = row['target'].removeprefix('image ')
    assert (row['job'], row['operation'], row['state']) == (
        job, 'upload_to_image', 'abandoned')
    assert (row['strategy'], row['step']) == ('copy', 'copying the volume')
    table = desk.run('jobs', 'list')
    assert job in table
    assert 'None' not in table
    shown = desk.ask('jobs', 'show', job)
    assert shown['volume'] == volume
    assert shown['image'] == image
    assert shown['reason'] == 'depth_reached'
    assert shown['sentence'].endswith('.')
    assert shown['lease_s'] is None
    assert len(shown['clients']) == 1
    assert shown['project_id']
    assert shown['user_id']
    assert 0 < shown['done_percent'] < 100
    assert [(step['title'], step['state']) for step in shown['steps']] == [
        ('creating the image record', 'success'),
        ('taking a snapshot of the volume', 'success'),
        ('choosing a strategy', 'success'),
        ('copying the volume', 'running')]
    assert all(step['seconds'] >= 0 for step in shown['steps'][:-1])
    text = desk.run('jobs', 'show', job)
    assert 'copying the volume' in text
    assert 'None' not in text

    [settled] = desk.ask('jobs', 'resume')

    assert (settled['job'], settled['state'], settled['strategy']) == (
        job, 'done', 'copy')
    desk.check_image(image, data)
    over = desk.ask('jobs', 'show', job)
    assert (over['state'], over['attempts'], over['step']) == (
        'done', 1, None)
    assert over['ended_at'] >= over['created_at']
    assert over['skipped_bytes'] > 0, 'it began anew'
    assert desk.jobs() == []
    assert job in {row['job'] for row in desk.ask('jobs', 'list', '--all')}
    for command in ('resume', 'cancel'):
        assert job in desk.run('jobs', command, job, code=3)


def test_a_create_that_was_killed_is_resumed_by_its_id(
        desk: Desk, data: bytes) -> None:
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    job = desk.leave_half('create', name, '--image', image)

    [settled] = desk.ask('jobs', 'resume', job)

    assert (settled['state'], settled['target']) == ('done',
                                                     f'volume {name}')
    desk.check_volume(name, data)
    assert desk.house.driver().volumes.show(name) is not None


@pytest.mark.parametrize('operation', ['upload', 'create'])
def test_what_was_killed_is_cancelled_and_all_is_as_before(
        desk: Desk, data: bytes, operation: str) -> None:
    words = _words(desk, operation, data)
    with desk.house.nothing_changes():
        job = desk.leave_half(*words)

        cancelled = desk.ask('jobs', 'cancel', job)

        assert cancelled['state'] == 'undone'
        assert desk.jobs() == []
    assert desk.ask('jobs', 'show', job)['state'] == 'undone'


def _words(desk: Desk, operation: str, data: bytes) -> tuple[str, ...]:
    if operation == 'upload':
        return 'upload', desk.house.volume(data), '--image-name', 'x'
    return ('create', f'volume-{uuid.uuid4()}', '--image',
            desk.house.member.make(data))


def test_the_same_create_again_goes_on_with_what_was_left(
        desk: Desk, data: bytes) -> None:
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    job = desk.leave_half('create', name, '--image', image)

    made = desk.ask('create', name, '--image', image)

    assert made['job'] == job
    desk.check_volume(name, data)


def test_another_create_of_that_name_undoes_what_was_left(
        desk: Desk, data: bytes) -> None:
    left = desk.house.member.make(data)
    other = content.random_bytes(4 * MIB)
    image = desk.house.member.make(other)
    name = f'volume-{uuid.uuid4()}'
    job = desk.leave_half('create', name, '--image', left)

    made = desk.ask('create', name, '--image', image)

    assert made['job'] != job
    desk.check_volume(name, other)
    assert desk.ask('jobs', 'show', job)['state'] == 'undone'


# -- while it runs ------------------------------------------------------------
def test_who_looks_sees_progress_and_may_cancel(desk: Desk, data: bytes
                                                ) -> None:
    volume = desk.house.volume(data)
    with desk.house.nothing_changes(), desk.start(
            'upload', volume, '--image-name', 'x',
            config=desk.crawling) as program:
        program.wait_for(' 10 %')
        [row] = desk.jobs()
        assert row['state'] == 'running'
        first = desk.ask('jobs', 'show', row['job'])
        assert 0 < first['lease_s'] <= LEASE_S
        assert first['total_bytes'] == DISK_BYTES
        assert 0 < first['done_percent'] < 100
        assert first['eta_s'] > 0
        assert desk.run('jobs', 'resume', row['job'], code=4)
        deadline = time.monotonic() + 10 * LEASE_S
        while (desk.ask('jobs', 'show', row['job'])['done_bytes']
               <= first['done_bytes']):
            assert time.monotonic() < deadline

        assert desk.ask('jobs', 'cancel', row['job'])['state'] == (
            'cancelling')

        assert program.end() == 130
        assert 'undone' in program.stderr
    assert desk.ask('jobs', 'show', row['job'])['state'] == 'undone'


def test_of_two_for_one_volume_one_wins_and_the_other_says_so(
        desk: Desk, data: bytes) -> None:
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    words = 'create', name, '--image', image
    with desk.start(*words) as one, desk.start(*words) as other:
        _check_race(one, other, f'volume {name}')
    desk.check_volume(name, data)


def test_of_two_for_one_image_one_wins_and_the_other_says_so(
        desk: Desk, data: bytes) -> None:
    volume = desk.house.volume(data)
    image = desk.house.member.create(
        name='x', disk_format='raw', container_format='bare')
    words = '-W', 'ignore', '-c', _UPLOAD_INTO, volume, image
    with started(desk.house, *words, program=sys.executable,
                 config=desk.slow) as one, \
            started(desk.house, *words, program=sys.executable,
                    config=desk.slow) as other:
        _check_race(one, other, f'image {image}')
    desk.check_image(image, data)


# There is no command that uploads into a record; a service does.
_UPLOAD_INTO = """
import sys
from volume_rbd import exception, manager, model
from volume_rbd.driver.images import ImageRequest
_, volume, image = sys.argv
with manager.VolumeManager() as volumes:
    try:
        volumes.backend('optimized').images.upload(
            model.VolumeSpec(volume), ImageRequest('x', image_id=image))
    except exception.VolumeRBDError as error:
        sys.exit(f'{error}') if error.exit_code == 4 else sys.exit(99)
"""


def _check_race(one: Program, other: Program, what: str) -> None:
    codes = sorted([one.end(), other.end()])
    said = one.stderr + other.stderr
    # What Python exits with on its own, or the command line's code.
    assert codes in ([0, 1], [0, 4]), said
    assert f'is at work with {what}' in said


def test_who_stood_still_longer_than_its_lease_touches_nothing_more(
        desk: Desk, data: bytes) -> None:
    volume = desk.house.volume(data)
    with desk.start('upload', volume, '--image-name', 'x') as program:
        program.wait_for(MOVED)
        program.signal(signal.SIGSTOP)
        time.sleep(LEASE_S + 0.5)

        [settled] = desk.ask('jobs', 'resume')
        assert settled['state'] == 'done'
        image = settled['target'].removeprefix('image ')
        after = desk.house.describe()
        program.signal(signal.SIGCONT)

        assert program.end() == 4
        assert settled['job'] in program.stderr
    desk.house.check_same(after)
    desk.check_image(image, data)


# -- clocks -------------------------------------------------------------------
_CLOCK = """
import os, time
_moved_s, _time = float(os.environ['MOVED_S']), time.time
time.time = lambda: _time() + _moved_s
"""


@pytest.mark.parametrize('moved_s', [3600, more(-3600)])
def test_who_has_another_hour_takes_what_is_dead_and_nothing_that_lives(
        desk: Desk, data: bytes, tmp_path: pathlib.Path, moved_s: int
        ) -> None:
    """Leases end by the OSD's clock, and by time that has passed here."""
    (tmp_path / 'sitecustomize.py').write_text(_CLOCK)
    environ = {'MOVED_S': str(moved_s),
               'PYTHONPATH': f'{tmp_path}:{os.environ.get("PYTHONPATH", "")}'}
    volume = desk.house.volume(data)
    with desk.start('upload', volume, '--image-name', 'x',
                    config=desk.crawling) as program:
        program.wait_for(' 10 %')
        assert desk.ask('jobs', 'resume', '--timeout', str(2 * LEASE_S),
                        environ=environ) == []
        [row] = desk.ask('jobs', 'list', environ=environ)
        assert row['state'] == 'running'
        shown = desk.ask('jobs', 'show', row['job'], environ=environ)
        assert 0 <= shown['lease_s'] <= LEASE_S
        program.signal(signal.SIGSTOP)
        began = time.monotonic()

        [settled] = desk.ask('jobs', 'resume', environ=environ)

        assert settled['state'] == 'done'
        assert time.monotonic() - began < 60
        program.signal(signal.SIGCONT)
        assert program.end() == 4
    desk.check_image(settled['target'].removeprefix('image '), data)


def test_who_works_in_another_hour_keeps_its_job(
        desk: Desk, data: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'sitecustomize.py').write_text(_CLOCK)
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    with desk.start('create', name, '--image', image, environ={
            'MOVED_S': '-3600', 'PYTHONPATH':
            f'{tmp_path}:{os.environ.get("PYTHONPATH", "")}'}) as program:
        program.wait_for(MOVED)
        assert desk.ask('jobs', 'resume', '--timeout', '4') == []
        assert program.end() == 0, program.stderr
    desk.check_volume(name, data)
