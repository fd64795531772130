# SPDX-License-Identifier: Apache-2.0
"""``rados://`` behaves as taskflow expects of its own backends: taskflow's own
tests of them, and what they leave out."""

from __future__ import annotations

import unittest
import uuid

import pytest
from taskflow import engines, exceptions, task
from taskflow.patterns import linear_flow
from taskflow.persistence import models
from taskflow.tests.unit.persistence import base

from volume_rbd.persistence import RadosBackend
from volume_rbd.persistence.books import INDEX

_THEIRS = sorted(name for name in dir(base.PersistenceTestMixin)
                 if name.startswith('test_'))


@pytest.fixture
def backend(records):
    return RadosBackend({}, records=records)


@pytest.fixture
def conn(backend):
    made = backend.get_connection()
    made.upgrade()
    return made


@pytest.mark.parametrize('name', _THEIRS)
def test_taskflows_own(backend, name):
    class Case(base.PersistenceTestMixin, unittest.TestCase):
        def _get_connection(self):
            return backend.get_connection()

    result = Case(name).run()
    assert result.wasSuccessful(), [
        text for _, text in [*result.errors, *result.failures]]


def test_there_are_tests_of_theirs():
    assert len(_THEIRS) >= 18


def _book(**meta):
    book = models.LogBook('book')
    book.meta = meta
    flow = models.FlowDetail('flow', str(uuid.uuid4()))
    atom = models.TaskDetail('atom', str(uuid.uuid4()))
    flow.add(atom)
    book.add(flow)
    return book, flow, atom


def test_a_book_is_read_by_others_as_it_was_saved(backend, conn):
    book, flow, atom = _book(one=1)
    conn.save_logbook(book)

    found = backend.get_connection().get_logbook(book.uuid)
    assert found.meta == {'one': 1}
    assert found.created_at == book.created_at
    assert found.updated_at == book.updated_at
    assert [item.uuid for item in found.find(flow.uuid)] == [atom.uuid]
    other = backend.get_connection()
    assert other.get_flow_details(flow.uuid).name == 'flow'
    assert other.get_atom_details(atom.uuid).name == 'atom'
    assert [item.uuid for item in other.get_flows_for_book(book.uuid)] == [
        flow.uuid]
    assert [item.uuid for item in other.get_atoms_for_flow(flow.uuid)] == [
        atom.uuid]


def test_what_is_new_goes_on_as_the_object_it_was(conn):
    """taskflow's storage adds an atom, saves the flow, and changes the atom.
    """
    book, flow, atom = _book()
    assert conn.save_logbook(book).find(flow.uuid).find(atom.uuid) is atom
    more = models.TaskDetail('more', str(uuid.uuid4()))
    flow.add(more)
    assert conn.update_flow_details(flow).find(more.uuid) is more
    second = models.FlowDetail('second', str(uuid.uuid4()))
    book.add(second)
    assert conn.save_logbook(book).find(second.uuid) is second


def test_a_flow_runs_and_is_taken_up(backend, conn):
    class Work(task.Task):
        def execute(self, value):
            done.append((self.name, value))
            if len(done) == 2:
                raise KeyboardInterrupt
            return value + 1

    done = []
    flow = linear_flow.Flow('work').add(
        Work('one', provides='two'), Work('two', rebind={'value': 'two'}))
    book = models.LogBook('book')
    detail = models.FlowDetail('work', str(uuid.uuid4()))
    book.add(detail)
    conn.save_logbook(book)
    engine = engines.load(flow, flow_detail=detail, book=book,
                          backend=backend, store={'value': 1})
    with pytest.raises(KeyboardInterrupt):
        engine.run()

    # Another process has the flow's code and nothing but the record.
    other = backend.get_connection().get_logbook(book.uuid)
    engines.load(flow, flow_detail=other.find(detail.uuid), book=other,
                 backend=backend).run()
    assert done == [('one', 1), ('two', 2), ('two', 2)]


def test_what_is_gone_is_gone_for_all(backend, conn, records):
    book, flow, atom = _book()
    conn.save_logbook(book)
    backend.get_connection().destroy_logbook(book.uuid)

    for call in (lambda: conn.get_logbook(book.uuid),
                 lambda: conn.get_flow_details(flow.uuid),
                 lambda: conn.get_atom_details(atom.uuid),
                 lambda: conn.update_flow_details(flow),
                 lambda: conn.update_atom_details(atom),
                 lambda: conn.destroy_logbook(book.uuid),
                 lambda: list(conn.get_flows_for_book(book.uuid))):
        with pytest.raises(exceptions.NotFound):
            call()
    assert list(conn.get_logbooks()) == []
    assert records.names() == [INDEX]
    assert set(records.read(INDEX)) == {'format'}


def test_two_who_change_a_flow_lose_nothing(backend, conn):
    book, flow, atom = _book()
    conn.save_logbook(book)
    other = backend.get_connection()
    theirs = other.get_flow_details(flow.uuid)
    more = models.TaskDetail('more', str(uuid.uuid4()))
    theirs.add(more)
    other.update_flow_details(theirs)

    # This one has not seen it, and changes another thing.
    atom.state = 'RUNNING'
    conn.update_atom_details(atom)
    flow.meta = {'seen': True}
    conn.update_flow_details(flow)

    found = backend.get_connection().get_logbook(book.uuid).find(flow.uuid)
    assert {item.name for item in found} == {'atom', 'more'}
    assert found.find(atom.uuid).state == 'RUNNING'
    assert found.meta == {'seen': True}


def test_all_is_cleared(conn, records):
    for _ in range(3):
        conn.save_logbook(_book()[0])
    conn.clear_all()

    assert list(conn.get_logbooks()) == []
    assert records.names() == [INDEX]


def test_nothing_was_ever_kept_here(backend):
    conn = backend.get_connection()
    conn.validate()
    assert list(conn.get_logbooks()) == []
    with pytest.raises(exceptions.NotFound):
        conn.get_flow_details('none')


def test_a_newer_format_is_left_alone(backend, conn, records):
    records.write(INDEX, {'format': '2'})
    for call in (conn.upgrade, conn.validate):
        with pytest.raises(exceptions.StorageFailure, match='newer'):
            call()


@pytest.mark.parametrize('text', [
    'no json', '[]', '1', '{}', '{"type": "TASK_DETAIL"}',
    '{"type": "os.system", "atom": {"name": "id", "uuid": "1"}}',
    '{"type": "TASK_DETAIL", "atom": {"uuid": 1}}',
    '{"type": "TASK_DETAIL", "atom": {"name": "n", "uuid": "u", '
    '"failure": {"version": 7}}}'])
def test_what_somebody_else_wrote_there_is_refused(
        backend, conn, records, text):
    book, flow, atom = _book()
    conn.save_logbook(book)
    records.write(f'book.{book.uuid}', {
        f'atom.{flow.uuid}.{atom.uuid}': text})

    with pytest.raises(exceptions.StorageFailure, match='no record'):
        backend.get_connection().get_logbook(book.uuid)
    with pytest.raises(exceptions.StorageFailure, match='no record'):
        backend.get_connection().get_atom_details(atom.uuid)


def test_a_cluster_that_does_not_answer_is_a_storage_failure(ceph):
    records = ceph.world.unreachable().records('volumes', 'none')
    conn = RadosBackend({}, records=records).get_connection()
    with pytest.raises(exceptions.StorageFailure):
        conn.save_logbook(_book()[0])
