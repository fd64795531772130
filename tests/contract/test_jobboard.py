# SPDX-License-Identifier: Apache-2.0
"""Boards: the one in memory that unit tests have, and real servers."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from taskflow import exceptions as taskflow_exceptions
from taskflow.jobs import backends

from tests.fakes.jobboard import MemoryServer
from tests.jobboards import SERVERS
from volume_rbd import exception, opts
from volume_rbd.jobs.board import Board

FSID = '00000000-0000-4000-8000-000000000001'


class Boards:
    """Boards on one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.opened: list[Board] = []

    def open(self, backend: str = 'ceph', fsid: str = FSID) -> Board:
        board = Board(opts.BackendConfig(backend, 'volumes',
                                         jobboard=self._url), fsid)
        self.opened.append(board)
        return board


@pytest.fixture(params=['memory', 'redis', 'etcd'])
def boards(request: pytest.FixtureRequest, tmp_path: Path,
           monkeypatch: pytest.MonkeyPatch) -> Iterator[Boards]:
    with contextlib.ExitStack() as stack:
        if request.param == 'memory':
            made = Boards(MemoryServer().install(monkeypatch))
        else:
            made = Boards(stack.enter_context(
                SERVERS[request.param](tmp_path)).url)
        yield made
        for board in made.opened:
            board.close()


def a_job() -> str:
    return str(uuid.uuid4())


def test_what_is_posted_is_an_id_and_a_backend(boards: Boards) -> None:
    job = a_job()
    boards.open().post(job)

    other = boards.open()
    [posting] = other.iterjobs()

    assert posting.details == {'job': job, 'backend': 'ceph'}
    assert posting.book is None
    assert other.find_job(posting.details) == job


def test_one_claims_it_and_takes_it_off(boards: Boards) -> None:
    boards.open().post(a_job())
    one, two = boards.open(), boards.open()
    [posting], [same] = one.iterjobs(), two.iterjobs()

    one.claim(posting, 'one')

    with pytest.raises(taskflow_exceptions.UnclaimableJob):
        two.claim(same, 'two')
    assert list(two.iterjobs()) == []
    one.prolong(posting)
    one.consume(posting, 'one')
    with pytest.raises(taskflow_exceptions.TaskFlowException):
        two.claim(same, 'two')
    assert list(boards.open().iterjobs()) == []


def test_what_is_given_back_is_another_ones(boards: Boards) -> None:
    boards.open().post(a_job())
    one, two = boards.open(), boards.open()
    [posting] = one.iterjobs()
    one.claim(posting, 'one')
    one.abandon(posting, 'one')

    [same] = two.iterjobs()
    two.claim(same, 'two')
    two.trash(same, 'two')

    assert list(one.iterjobs()) == []


def test_who_has_posted_withdraws_what_nobody_has(boards: Boards) -> None:
    board, mine, other = boards.open(), a_job(), a_job()
    board.post(mine)
    board.post(other)

    boards.open().withdraw(mine)

    [left] = boards.open().iterjobs()
    assert left.details['job'] == other
    boards.open().claim(left, 'one')
    board.withdraw(other)
    board.withdraw(a_job())


def test_backends_and_clusters_do_not_see_each_others(boards: Boards
                                                      ) -> None:
    boards.open().post(a_job())
    assert list(boards.open('other').iterjobs()) == []
    assert list(boards.open(fsid=FSID.replace('1', '2')).iterjobs()) == []
    assert len(list(boards.open().iterjobs())) == 1


@pytest.mark.parametrize('details', [
    None, {}, [], 'x', {'job': 'x', 'backend': 'ceph'},
    {'job': FSID, 'backend': 'other'}, {'job': None, 'backend': 'ceph'},
    {'job': FSID, 'backend': 'ceph', 'factory': 'subprocess.getoutput'},
    {'job': '../' + FSID, 'backend': 'ceph'},
    {'job': FSID.replace('-', ''), 'backend': 'ceph'}])
def test_a_posting_that_is_not_ours_names_no_job(details: object) -> None:
    assert Boards('redis://127.0.0.1:1').open().find_job(details) is None


@pytest.mark.parametrize('url', ['redis://127.0.0.1:1', 'etcd://127.0.0.1:1'])
def test_a_server_that_is_away_is_a_failure_to_wait_for(url: str) -> None:
    board = Boards(url).open()
    with pytest.raises(taskflow_exceptions.JobFailure):
        board.post(a_job())
    with pytest.raises(taskflow_exceptions.JobFailure):
        board.iterjobs()
    board.close()


@pytest.mark.parametrize(('url', 'conf'), [
    ('redis://user:p%40ss@host/2?ssl=true', {
        'board': 'redis', 'host': 'host', 'port': 6379, 'username': 'user',
        'password': 'p@ss', 'db': '2', 'ssl': 'true', 'socket_timeout': 10,
        'socket_connect_timeout': 10, 'namespace': f'volume_rbd/{FSID}/ceph'}),
    ('redis://host:1?socket_timeout=3', {
        'board': 'redis', 'host': 'host', 'port': 1, 'socket_timeout': '3',
        'socket_connect_timeout': 10, 'namespace': f'volume_rbd/{FSID}/ceph'}),
    ('etcd://host?ca_cert=/x&protocol=https', {
        'board': 'etcd', 'host': 'host', 'port': 2379, 'ca_cert': '/x',
        'protocol': 'https', 'timeout': 10,
        'path': f'volume_rbd/{FSID}/ceph'}),
    ('zookeeper://a:1,b:2', {
        'board': 'zookeeper', 'hosts': 'a:1,b:2',
        'path': f'/volume_rbd/{FSID}/ceph'})])
def test_a_url_is_what_taskflow_wants_of_that_kind(
        url: str, conf: dict[str, object], monkeypatch: pytest.MonkeyPatch
        ) -> None:
    asked: list[object] = []
    monkeypatch.setattr(backends, 'fetch', lambda name, conf: asked.append(
        conf))
    Boards(url).open()
    assert asked == [conf]


def test_zookeepers_board_is_made_of_its_url() -> None:
    board = Boards('zookeeper://127.0.0.1:1').open()
    assert not board.connected
    board.close()


def test_an_unknown_kind_is_refused_without_its_password() -> None:
    with pytest.raises(exception.ConfigurationError) as raised:
        Boards('nosuch://user:hunter2@host').open()
    assert 'hunter2' not in str(raised.value)
