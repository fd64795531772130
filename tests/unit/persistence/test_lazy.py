# SPDX-License-Identifier: Apache-2.0
"""What is kept back, and what is not."""

import json

import pytest

from tests.fakes.ceph import FakeCeph
from volume_rbd import exception
from volume_rbd.persistence.lazy import LazyRecords

BOOK = json.dumps({'name': 'book'})


def _atom(state, result=None):
    return json.dumps({'atom': {'state': state, 'results': result}})


@pytest.fixture
def plain():
    records = FakeCeph().cluster().records('volumes', 'test')
    records.create('book.1', {'book': BOOK, 'atom.1': _atom('PENDING')})
    return records


@pytest.fixture
def lazy(plain):
    return LazyRecords(plain)


def test_that_a_task_runs_is_written_with_that_it_is_done(plain, lazy):
    lazy.write('book.1', {'atom.1': _atom('RUNNING')},
               expected={'book': BOOK, 'atom.1': _atom('PENDING')})
    assert plain.read('book.1')['atom.1'] == _atom('PENDING')
    assert lazy.read('book.1')['atom.1'] == _atom('RUNNING')
    assert lazy.read_keys('book.1', ['atom.1']) == {
        'atom.1': _atom('RUNNING')}

    lazy.write('book.1', {'atom.2': _atom('RUNNING')},
               expected={'book': BOOK, 'atom.2': None})
    lazy.write('book.1', {'atom.1': _atom('SUCCESS', 7)},
               expected={'book': BOOK, 'atom.1': _atom('RUNNING')})
    assert plain.read('book.1') == {
        'book': BOOK, 'atom.1': _atom('SUCCESS', 7),
        'atom.2': _atom('RUNNING')}


@pytest.mark.parametrize('state', ['SUCCESS', 'FAILURE', 'REVERTED',
                                   'REVERT_FAILURE', 'SUSPENDED'])
def test_what_is_over_is_written_at_once(plain, lazy, state):
    lazy.write('book.1', {'atom.1': _atom(state)},
               expected={'book': BOOK, 'atom.1': _atom('PENDING')})
    assert plain.read('book.1')['atom.1'] == _atom(state)


def test_what_another_has_written_meanwhile_is_not_overwritten(plain, lazy):
    lazy.write('book.1', {'atom.1': _atom('RUNNING')},
               expected={'book': BOOK, 'atom.1': _atom('PENDING')})
    plain.write('book.1', {'atom.1': _atom('FAILURE')})

    with pytest.raises(exception.RecordChanged):
        lazy.write('book.1', {'atom.1': _atom('SUCCESS')},
                   expected={'book': BOOK, 'atom.1': _atom('RUNNING')})
    assert lazy.read('book.1')['atom.1'] == _atom('FAILURE')


def test_what_is_removed_does_not_come_back(plain, lazy):
    lazy.write('book.1', {'atom.1': _atom('RUNNING')},
               expected={'book': BOOK, 'atom.1': _atom('PENDING')})
    lazy.remove('book.1')
    assert plain.names() == []
    with pytest.raises(exception.RecordNotFound):
        lazy.read('book.1')
