# SPDX-License-Identifier: Apache-2.0
"""Who shuts a session down, and when."""

import errno

import pytest

from volume_rbd import exception
from volume_rbd.ceph.session import Session


class _Completion:
    def __init__(self, code):
        self._code = code

    def is_complete(self):
        return self._code is not None

    def get_return_value(self):
        return self._code


class _Ioctx:
    def __init__(self, number):
        self.number = number
        self.code = 0
        self.is_closed = False
        self.probes = 0

    def get_pool_id(self):
        return self.number

    def aio_stat(self, _name, _callback):
        self.probes += 1
        return _Completion(self.code)

    def set_osdmap_full_try(self):
        self.is_full_try = True

    def set_namespace(self, namespace):
        self.namespace = namespace

    def close(self):
        self.is_closed = True


class _Handle:
    """As much of a rados.Rados as a session needs."""

    def __init__(self):
        self.numbers = {'volumes': 1}
        self.ioctxs = []
        self.is_shut_down = False

    def list_pools(self):
        return list(self.numbers)

    def pool_lookup(self, pool):
        return self.numbers[pool]

    def open_ioctx(self, pool):
        self.ioctxs.append(_Ioctx(self.numbers[pool]))
        return self.ioctxs[-1]

    def shutdown(self):
        assert all(ioctx.is_closed for ioctx in self.ioctxs)
        self.is_shut_down = True


def _session():
    handle = _Handle()
    return handle, Session(handle, 'client.cinder', 0.05)


def test_one_that_nobody_uses_is_shut_down_at_once():
    handle, session = _session()

    session.retire()

    assert handle.is_shut_down
    assert not session.acquire()


def test_one_in_use_is_shut_down_by_the_last_user():
    handle, session = _session()
    assert session.acquire()
    assert session.acquire()
    session.ioctx('volumes')

    session.retire()
    session.release()
    assert not handle.is_shut_down
    session.release()

    assert handle.is_shut_down


def test_a_retired_one_is_shut_down_once():
    _handle, session = _session()
    session.acquire()
    session.retire()
    session.retire()
    session.release()


def test_a_pool_has_one_io_context():
    _handle, session = _session()

    assert session.ioctx('volumes') is session.ioctx('volumes')


def test_a_pool_made_again_has_another_one():
    handle, session = _session()
    before = session.ioctx('volumes')
    handle.numbers['volumes'] = 7

    assert session.ioctx('volumes') is not before
    session.retire()
    assert before.is_closed


def test_a_silent_pool_is_given_up():
    handle, session = _session()
    handle.open_ioctx('volumes')
    handle.open_ioctx = lambda pool: handle.ioctxs[0]
    handle.ioctxs[0].code = None

    with pytest.raises(exception.OperationTimeout, match='volumes'):
        session.ioctx('volumes')

    assert session.acquire(), 'it may answer later'


def test_a_blocklisted_one_is_not_used_again():
    handle, session = _session()
    handle.open_ioctx('volumes')
    handle.open_ioctx = lambda pool: handle.ioctxs[0]
    handle.ioctxs[0].code = -errno.ESHUTDOWN

    with pytest.raises(exception.ClusterUnavailable):
        session.ioctx('volumes')

    assert not session.acquire()


def test_an_answer_is_believed_for_a_while():
    handle, session = _session()
    for _ in range(5):
        session.ioctx('volumes')

    assert handle.ioctxs[0].probes == 1


def test_one_of_a_parent_process_is_left_alone(monkeypatch):
    handle, session = _session()
    monkeypatch.setattr('os.getpid', lambda: -1)

    assert not session.acquire()
    session.retire()

    assert not handle.is_shut_down


def test_a_namespace_has_an_io_context_of_its_own():
    session = Session(_Handle(), 'client.cinder', 0.2)
    place = session.ioctx('volumes', 'jobs')

    assert place.namespace == 'jobs'
    assert session.ioctx('volumes', 'jobs') is place
    assert session.ioctx('volumes') is not place
    assert session.ioctx('volumes').namespace == ''
