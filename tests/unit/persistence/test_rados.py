# SPDX-License-Identifier: Apache-2.0
"""The URL of ``rados://``, and how often the cluster is asked."""

import pathlib
import uuid

import pytest
from taskflow.persistence import backends, models
from taskflow.types import failure

from tests.fakes.ceph import FakeCeph
from volume_rbd import exception
from volume_rbd.ceph import connection
from volume_rbd.persistence import RadosBackend


@pytest.fixture
def connected(monkeypatch):
    """What connections were asked for; their clusters are fakes."""
    asked = []

    def connect(config):
        asked.append(config)
        return FakeCeph().cluster(config.user or 'admin')

    monkeypatch.setattr(connection, 'connect', connect)
    return asked


def test_taskflow_finds_it_by_its_url(connected):
    backend = backends.fetch(
        'rados://volumes/a.b?user=cinder&conf=/etc/c.conf&cluster=x'
        '&timeout=7')

    assert isinstance(backend, RadosBackend)
    (config,) = connected
    assert (config.user, config.ceph_conf, config.cluster_name,
            config.connect_timeout_s) == ('cinder', '/etc/c.conf', 'x', 7)
    with backends.backend({'connection': 'rados://volumes'}) as other:
        assert list(other.get_connection().get_logbooks()) == []


def test_a_pool_may_have_capitals_and_the_namespace_a_default(connected):
    backend = RadosBackend({'connection': 'rados://volumes?user=cinder'})
    assert backend._records.namespace == 'volume_rbd.jobs'
    backend = RadosBackend({'connection': 'rados://Some_Pool/ns'})
    assert backend._records._place == ('Some_Pool', 'ns')


@pytest.mark.parametrize('url', [
    'rados://', 'rados:///ns', 'rados://user:secret@pool/ns',
    'rados://pool/ns?password=secret', 'rados://pool/ns?timeout=soon', ''])
def test_what_it_does_not_know_is_refused_and_not_told(connected, url):
    with pytest.raises(exception.ConfigurationError) as caught:
        RadosBackend({'connection': url})
    assert 'secret' not in str(caught.value)
    assert connected == []


def test_an_engine_alone_with_its_flow_writes_without_reading():
    cluster = FakeCeph().cluster('cinder')
    records = cluster.records('volumes', 'ns')
    conn = RadosBackend({}, records=records).get_connection()
    book = models.LogBook('book')
    flow = models.FlowDetail('flow', str(uuid.uuid4()))
    atom = models.TaskDetail('atom', str(uuid.uuid4()))
    flow.add(atom)
    book.add(flow)
    conn.save_logbook(book)
    cluster.server.fail_next('read_record', AssertionError('was read'))

    for state in ('RUNNING', 'SUCCESS'):
        atom.state = state
        assert conn.update_atom_details(atom).state == state
    flow.state = 'SUCCESS'
    assert conn.update_flow_details(flow).state == 'SUCCESS'


def test_nothing_is_written_where_nothing_changed():
    cluster = FakeCeph().cluster('cinder')
    conn = RadosBackend({}, records=cluster.records('volumes', 'ns')
                        ).get_connection()
    book = models.LogBook('book')
    flow = models.FlowDetail('flow', str(uuid.uuid4()))
    book.add(flow)
    conn.save_logbook(book)
    cluster.server.fail_next('write_record', AssertionError('was written'))

    conn.update_flow_details(flow)


def test_nothing_of_a_record_is_imported(tmp_path, monkeypatch):
    """What taskflow itself would import and call, were it asked to."""
    (tmp_path / 'forged.py').write_text(
        f'import pathlib; pathlib.Path({str(tmp_path / "ran")!r}).touch()')
    monkeypatch.syspath_prepend(str(tmp_path))
    cluster = FakeCeph().cluster('cinder')
    conn = RadosBackend({}, records=cluster.records('volumes', 'ns')
                        ).get_connection()
    book = models.LogBook('book')
    book.meta = {'factory': {'name': 'forged.main', 'args': ['id']}}
    flow = models.FlowDetail('flow', str(uuid.uuid4()))
    flow.meta = dict(book.meta)
    book.add(flow)
    conn.save_logbook(book)

    assert conn.get_logbook(book.uuid).meta['factory']
    assert not pathlib.Path(tmp_path / 'ran').exists()


def test_what_a_retry_provided_survives_the_failure_of_its_try():
    """taskflow's own reading puts the failure in its place."""
    records = FakeCeph().cluster('cinder').records('volumes', 'ns')
    connection = RadosBackend({}, records=records).get_connection()
    book = models.LogBook('b', uuid=str(uuid.uuid4()))
    flow = models.FlowDetail('f', uuid=str(uuid.uuid4()))
    detail = models.RetryDetail('r', uuid=str(uuid.uuid4()))
    refused = failure.Failure.from_exception(ValueError('no'))
    detail.results = [({'strategy': 'clone'}, {'task': refused}),
                      ({'strategy': 'copy'}, {})]
    flow.add(detail)
    book.add(flow)
    connection.save_logbook(book)

    found = connection.get_logbook(book.uuid).find(flow.uuid).find(
        detail.uuid)

    assert [provided for provided, _ in found.results] == [
        {'strategy': 'clone'}, {'strategy': 'copy'}]
    assert found.results[0][1]['task'].matches(refused)
