# SPDX-License-Identifier: Apache-2.0
"""Records: texts by key, each record written as a whole or not at all."""

import concurrent.futures
import time

import pytest

from volume_rbd import exception


def test_what_was_written_is_read(records):
    records.write('one', {'a': '1', 'b': '{}'})

    assert records.read('one') == {'a': '1', 'b': '{}'}
    assert records.read_keys('one', ['b', 'c']) == {'b': '{}'}
    assert records.read_keys('one', []) == {}
    assert records.names() == ['one']


def test_keys_are_set_and_dropped_in_one(records):
    records.write('one', {'a': '1', 'b': '2'})
    records.write('one', {'c': '3'}, ['a', 'nothing'])

    assert records.read('one') == {'b': '2', 'c': '3'}


@pytest.mark.parametrize('put', [{'a': 'ü'}, {'ü': 'a'}])
def test_what_is_not_ascii_is_refused(records, put):
    for write in (records.write, records.create):
        with pytest.raises(exception.InvalidInput):
            write('one', put)
    assert records.names() == []


def test_another_namespace_is_another_place(ceph, records):
    records.write('one', {'a': '1'})

    other = ceph.cluster.records('volumes', ceph.name())
    assert other.names() == []
    with pytest.raises(exception.RecordNotFound, match='one'):
        other.read('one')
    assert 'one' not in [image.name for image in ceph.volumes.images()]


@pytest.mark.parametrize('act', [
    lambda records: records.read('none'),
    lambda records: records.read_keys('none', ['a']),
    lambda records: records.remove('none'),
    lambda records: records.write('none', {'a': '1'}, expected={'a': None}),
], ids=['read', 'read_keys', 'remove', 'write'])
def test_what_is_not_there_is_said_to_be_missing(records, act):
    with pytest.raises(exception.RecordNotFound, match='none'):
        act(records)
    assert records.names() == []


def test_a_record_is_created_once(records):
    records.create('one', {'a': '1'})

    with pytest.raises(exception.RecordChanged, match='one'):
        records.create('one', {'a': '2'})
    assert records.read('one') == {'a': '1'}


@pytest.mark.parametrize('expected', [
    {'a': '2'}, {'a': None}, {'b': 'x'}, {'a': '1', 'b': 'x'}, {'a': '11'}])
def test_a_write_that_expects_something_else_changes_nothing(
        records, expected):
    records.write('one', {'a': '1'})

    with pytest.raises(exception.RecordChanged):
        records.write('one', {'a': '3', 'c': '3'}, expected=expected)
    assert records.read('one') == {'a': '1'}


def test_a_write_that_expects_what_is_there_is_done(records):
    records.write('one', {'a': '{"text": [1, null]}'})
    records.write('one', {'a': '3'}, expected={
        'a': '{"text": [1, null]}', 'b': None})

    assert records.read('one') == {'a': '3'}


def test_of_those_who_count_at_once_none_is_lost(ceph, records):
    records.write('one', {'count': '0'})

    def count(_):
        while True:
            seen = records.read('one')['count']
            try:
                records.write('one', {'count': str(int(seen) + 1)},
                              expected={'count': seen})
                return
            except exception.RecordChanged:
                continue

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(40)))
    assert records.read('one') == {'count': '40'}


def test_a_record_of_many_keys_is_read_whole(records):
    many = {f'key-{number:05}': str(number) for number in range(2500)}
    records.write('one', many)

    assert records.read('one') == many


def test_who_may_only_read_the_pool_writes_no_record(ceph, records):
    records.write('one', {'a': '1'})
    reader = ceph.world.cluster('nova').records(
        'volumes', records.namespace)

    assert reader.read('one') == {'a': '1'}
    with pytest.raises(exception.CephPermissionDenied):
        reader.write('one', {'a': '2'})


def test_one_has_the_lock_and_the_others_see_who(ceph, records):
    other = ceph.world.cluster(private=True).records(
        'volumes', records.namespace)
    started = time.time()
    assert records.lock('one', 'job', duration_s=30, note='node-1')

    assert not other.lock('one', 'job', duration_s=30)
    assert not records.lock('one', 'other job', duration_s=30)
    assert not other.unlock('one', 'job')
    for view in (records, other):
        holder = view.find_lock('one')
        assert (holder.owner, holder.note) == ('job', 'node-1')
        assert 29 < holder.expires_s - started < 32
    assert records.unlock('one', 'job')
    assert not records.unlock('one', 'job')
    assert records.find_lock('one') is None
    assert other.lock('one', 'job', duration_s=30)
    assert other.find_lock('one').client != holder.client


def test_a_lock_ends_by_itself_unless_it_is_prolonged(ceph, records):
    other = ceph.world.cluster(private=True).records(
        'volumes', records.namespace)
    assert records.lock('one', 'job', duration_s=2)
    time.sleep(1.2)
    assert records.lock('one', 'job', duration_s=2)
    time.sleep(1.2)
    assert not other.lock('one', 'mine', duration_s=2)
    time.sleep(1.2)
    assert records.find_lock('one') is None
    assert other.lock('one', 'mine', duration_s=2)
    assert not records.lock('one', 'job', duration_s=2)
    assert not records.unlock('one', 'job')


def test_a_lock_may_be_without_an_end(records):
    assert records.lock('one', 'job', duration_s=0)

    assert records.find_lock('one').expires_s == 0


def test_a_lock_is_taken_away_from_whom_is_named(ceph, records):
    other = ceph.world.cluster(private=True).records(
        'volumes', records.namespace)
    assert records.lock('one', 'job', duration_s=30)
    holder = other.find_lock('one')

    other.break_lock('one', holder)
    other.break_lock('one', holder)

    assert other.find_lock('one') is None
    assert other.lock('one', 'mine', duration_s=30)
    other.break_lock('one', holder)
    assert other.find_lock('one').owner == 'mine'


def test_a_lock_does_not_outlive_its_record(records):
    records.lock('one', 'job', duration_s=30)
    assert records.read('one') == {}
    records.remove('one')

    assert records.find_lock('one') is None
    with pytest.raises(exception.RecordNotFound):
        records.read('one')


def test_who_may_only_read_sees_a_lock_and_takes_none(ceph, records):
    reader = ceph.world.cluster('nova').records('volumes', records.namespace)
    records.lock('one', 'job', duration_s=30)

    assert reader.find_lock('one').owner == 'job'
    with pytest.raises(exception.CephPermissionDenied):
        reader.lock('two', 'job', duration_s=30)
