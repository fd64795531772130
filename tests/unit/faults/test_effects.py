# SPDX-License-Identifier: Apache-2.0
"""What counts as a side effect, and where a process is killed."""

from __future__ import annotations

import pytest

from tests.faults.effects import (
    AFTER,
    BEFORE,
    GROUP,
    IMAGE,
    IOCTX,
    RBD,
    Counter,
    KillPoint,
    sample,
)
from volume_rbd.ceph import bindings

#: Of the bindings: what changes nothing that outlives the process, and what
#: has no place in an operation that is killed.
_READING = (
    'get', 'list', 'is_', 'stat', 'size', 'id', 'features', 'flags',
    'read', 'aio_read', 'set_snap', 'diff_iterate', 'parent', 'old',
    'overlap', 'watchers', 'lock_get', 'block_name', 'stripe',
    'snap_', 'access', 'create_timestamp', 'modify', 'op_features',
    'data_pool', 'version', 'close', 'aio_close', 'flush',
    'aio_flush', 'invalidate', 'require', 'group',
    'pool_metadata_get', 'pool_metadata_list', 'pool_stats',
    'group_list', 'trash_get', 'trash_list', 'features_',
    'config_get', 'config_list', 'namespace_exists', 'namespace_list',
    'list2', 'metadata_get', 'metadata_list', 'aio_open',
    'encryption_load', 'list_', 'alignment', 'application_get',
    'application_list', 'aio_stat', 'operate_read',
    'operate_aio_read', 'create_read_op', 'create_write_op',
    'release', 'dup', 'complete', 'safe', 'locator', 'name', 'nspace',
    'set_read', 'set_namespace', 'set_locator', 'set_osdmap',
    'unset_osdmap', 'state', 'watch', 'lookup', 'cmpext', 'execute',
    'aio_execute', 'set_omap', 'remove_omap', 'clear_omap')
_NOT_USED = ('mirror', 'aio_mirror', 'migration', 'config_', 'pool_init',
             'namespace_', 'trash_purge', 'encryption_format', 'set_snap_',
             'remove_snap_limit', 'lock_exclusive', 'lock_shared', 'unlock',
             'application_', 'append', 'aio_', 'writesame', 'trunc', 'rm_',
             'snap_rollback', 'rollback_', 'create_s', 'remove_s',
             'lock', 'set_self')


@pytest.mark.parametrize(('kind', 'counted'), [
    ('RBD', RBD), ('Image', IMAGE), ('Group', GROUP)])
def test_a_method_of_librbd_is_counted_or_known_to_change_nothing(
        kind: str, counted: tuple[str, ...]) -> None:
    """One that a newer binding brings along must be put somewhere."""
    methods = {name for name in dir(getattr(bindings.rbd(), kind))
               if not name.startswith('_')}

    assert set(counted) <= methods
    rest = methods - set(counted)
    assert {name for name in rest
            if not name.startswith((*_READING, *_NOT_USED))} == set()


def test_a_method_of_librados_is_counted_or_known_to_change_nothing() -> None:
    methods = {name for name in dir(bindings.rados().Ioctx)
               if not name.startswith('_')}

    assert set(IOCTX) <= methods
    assert {name for name in methods - set(IOCTX)
            if not name.startswith((*_READING, *_NOT_USED))} == set()


class Killed(Exception):
    """Stands for the end of the process."""


def _count(point: KillPoint | None, done: list[str]) -> Counter:
    def kill() -> None:
        raise Killed

    counter = Counter(point, done.append, kill)
    for name in ('one', 'two', 'three'):
        counter.around(name, lambda name=name: done.append(f'{name} done'))
    return counter


def test_it_is_killed_before_the_effect() -> None:
    done: list[str] = []
    with pytest.raises(Killed):
        _count(KillPoint(2, BEFORE), done)
    assert done == ['one done', 'two']


def test_it_is_killed_after_the_effect() -> None:
    done: list[str] = []
    with pytest.raises(Killed):
        _count(KillPoint(2, AFTER), done)
    assert done == ['one done', 'two done', 'two']


def test_an_effect_that_fails_is_one_all_the_same() -> None:
    counter = Counter(KillPoint(1, AFTER), kill=_raise_killed)
    with pytest.raises(Killed):
        counter.around('one', _fail)


def _raise_killed() -> None:
    raise Killed


def _fail() -> None:
    raise OSError


def test_nobody_is_killed_without_a_point() -> None:
    done: list[str] = []
    assert _count(None, done).names == ['one', 'two', 'three']


def test_every_effect_is_a_kill_point_on_both_sides() -> None:
    assert sample(['a', 'b']) == [
        KillPoint(1, BEFORE), KillPoint(1, AFTER),
        KillPoint(2, BEFORE), KillPoint(2, AFTER)]


def test_of_many_writes_the_first_one_between_and_the_last_are() -> None:
    names = ['RBD.create', *['Image.aio_write'] * 9, 'Image.create_snap',
             *['Image.aio_write'] * 2]

    assert [point.at for point in sample(names)
            if point.side == BEFORE] == [1, 2, 6, 10, 11, 12, 13]
