# SPDX-License-Identifier: Apache-2.0
"""Jobs whose flows are kept elsewhere than in RADOS, killed and gone on with
by another process; and their database, away in the middle."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Iterator

import pytest

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.desk import DISK_BYTES, MOVED, Desk
from tests.functional.house import House

_MORE = pytest.mark.faults


@pytest.fixture(scope='module')
def data() -> bytes:
    return content.random_bytes(DISK_BYTES)


@pytest.fixture
def desks(house: House, tmp_path: pathlib.Path) -> Iterator[dict[str, Desk]]:
    """One for each kind of flow_connection; they leave no record."""
    made = {kind: Desk(house, DEFAULT={'flow_connection': connection})
            for kind, connection in {
                'rados': 'rados://', 'mysql': house.database_url,
                'dir': f'dir://{tmp_path}/flows', 'memory': 'memory',
            }.items()}
    yield made
    made['rados'].ledger.check_no_job()
    assert house._flows() == set()
    assert not [path for path in (tmp_path / 'flows').rglob('*')
                if path.is_file()]


@pytest.mark.parametrize('kind', [
    'dir', pytest.param('mysql', marks=_MORE)])
def test_an_upload_that_was_killed_is_gone_on_with(
        desks: dict[str, Desk], data: bytes, kind: str) -> None:
    desk = desks[kind]
    volume = desk.house.volume(data)
    job = desk.leave_half('upload', volume, '--image-name', 'x')

    [settled] = desk.ask('jobs', 'resume')

    assert (settled['job'], settled['state']) == (job, 'done')
    desk.check_image(settled['target'].removeprefix('image '), data)


@pytest.mark.parametrize('kind', [
    'mysql', pytest.param('dir', marks=_MORE)])
def test_a_create_that_was_killed_is_gone_on_with(
        desks: dict[str, Desk], data: bytes, kind: str) -> None:
    desk = desks[kind]
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    job = desk.leave_half('create', name, '--image', image)

    [settled] = desk.ask('jobs', 'resume')

    assert (settled['job'], settled['state']) == (job, 'done')
    desk.check_volume(name, data)


def test_in_memory_nothing_is_known_of_it_and_the_same_again_works(
        desks: dict[str, Desk], data: bytes) -> None:
    """As before there were jobs: what was left has to be looked for."""
    desk = desks['memory']
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    with desk.start('create', name, '--image', image) as program:
        program.wait_for(MOVED)
        assert desk.jobs() == []
        program.kill()
    assert desk.ask('jobs', 'resume') == []
    desk.house.cluster.wait_until_closed('volumes', name)

    desk.run('create', name, '--image', image)

    desk.check_volume(name, data)


def test_a_database_that_is_restarted_in_mid_copy_is_not_noticed(
        desks: dict[str, Desk], data: bytes) -> None:
    """It is written to between two tasks only, by a new connection where the
    old one is gone."""
    desk = desks['mysql']
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    with desk.start('create', name, '--image', image) as program:
        program.wait_for(MOVED)
        desk.house.sandbox.stop_process('mariadb')
        desk.house.sandbox.start_process('mariadb')
        assert program.end() == 0, program.stderr
    desk.check_volume(name, data)


def test_a_database_that_is_away_when_a_task_ends_leaves_the_job_for_later(
        desks: dict[str, Desk], data: bytes) -> None:
    """What was made stays, and the job with it; once the database is back
    the job is finished."""
    desk = desks['mysql']
    image = desk.house.member.make(data)
    name = f'volume-{uuid.uuid4()}'
    with desk.start('create', name, '--image', image) as program:
        program.wait_for(MOVED)
        desk.house.sandbox.stop_process('mariadb')
        try:
            assert program.end() == 6, program.stderr
        finally:
            desk.house.sandbox.start_process('mariadb')
        assert 'taken up again' in program.stderr
    [row] = desk.jobs()
    assert row['state'] == 'abandoned'

    [settled] = desk.ask('jobs', 'resume')

    assert settled['state'] == 'done'
    desk.check_volume(name, data)


def test_a_pool_without_room_undoes_the_job_and_with_room_it_works(
        desks: dict[str, Desk], data: bytes) -> None:
    desk = desks['rados']
    cluster = desk.house.cluster
    image = desk.house.member.make(data)
    words = 'create', f'volume-{uuid.uuid4()}', '--image', image
    with desk.house.nothing_changes():
        with desk.start(*words, config=desk.crawling) as program:
            program.wait_for(MOVED)
            try:
                cluster.set_quota('volumes', MIB)
                code = program.end()
            finally:
                cluster.set_quota('volumes', 0)
            assert code == 7, program.stderr
        desk.ask('jobs', 'resume')
        assert desk.jobs() == []
    states = {row['job']: row['state']
              for row in desk.ask('jobs', 'list', '--all')}
    assert next(iter(states.values())) == 'undone'

    desk.run(*words)
    desk.check_volume(words[1], data)
