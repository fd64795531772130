# SPDX-License-Identifier: Apache-2.0
"""Small records beside the rbd_images: omap objects in a RADOS namespace.

A record is one object with texts by key. What is done to one record is done
as a whole or not at all; nothing spans two.

Whoever may write to the pool may write here too: what is read is untrusted.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from volume_rbd import exception
from volume_rbd.ceph import bindings, record_lock
from volume_rbd.ceph.interface import LockHolder
from volume_rbd.ceph.session import Session

if TYPE_CHECKING:
    from volume_rbd.ceph.connection import RadosCluster

_LOCK = 'volume_rbd'

# An OSD gives out at most osd_max_omap_entries_per_request at once, 1024.
_PAGE = 1000


class RadosRecords:
    """A :class:`~volume_rbd.ceph.interface.Records` over librados."""

    def __init__(self, cluster: RadosCluster, pool: str, namespace: str
                 ) -> None:
        self._cluster = cluster
        self._pool = pool
        self._namespace = namespace

    @property
    def namespace(self) -> str:
        return self._namespace

    def read(self, name: str) -> dict[str, str]:
        with self._doing('read', name) as ioctx:
            while True:
                version, found = self._read_once(ioctx, name)
                # Pages of two versions would be a record that never was.
                if len(found) < _PAGE or version == _version(ioctx, name):
                    return found

    def read_keys(self, name: str, keys: Collection[str]) -> dict[str, str]:
        if not keys:
            return {}
        with self._doing('read', name) as ioctx, \
                bindings.rados().ReadOpCtx() as operation:
            found, code = ioctx.get_omap_vals_by_keys(
                operation, tuple(keys))
            _check(code, name)
            ioctx.operate_read_op(operation, name)
            return _read_texts(found)[1]

    def write(self, name: str, put: Mapping[str, str],
              drop: Collection[str] = (), *,
              expected: Mapping[str, str | None] | None = None) -> None:
        check_ascii(put)
        with self._doing('write', name) as ioctx, \
                bindings.rados().WriteOpCtx() as operation:
            for key, value in (expected or {}).items():
                # A key that is not there compares as empty.
                operation.omap_cmp(key, value or '')
            if put:
                ioctx.set_omap(operation, tuple(put), tuple(
                    value.encode() for value in put.values()))
            if drop:
                ioctx.remove_omap_keys(operation, tuple(drop))
            ioctx.operate_write_op(operation, name)

    def create(self, name: str, put: Mapping[str, str]) -> None:
        check_ascii(put)
        with self._doing('create', name) as ioctx, \
                bindings.rados().WriteOpCtx() as operation:
            operation.new(bindings.rados().LIBRADOS_CREATE_EXCLUSIVE)
            ioctx.set_omap(operation, tuple(put), tuple(
                value.encode() for value in put.values()))
            ioctx.operate_write_op(operation, name)

    def remove(self, name: str) -> None:
        with self._doing('remove', name) as ioctx:
            ioctx.remove_object(name)

    def lock(self, name: str, owner: str, *, duration_s: int,
             note: str = '') -> bool:
        rados = bindings.rados()
        with self._doing('lock', name) as ioctx:
            try:
                ioctx.execute(name, 'lock', 'lock', record_lock.encode(
                    _LOCK, owner, note, duration_s))
            except rados.ObjectBusy:
                return False
        return True

    def unlock(self, name: str, owner: str) -> bool:
        with self._doing('unlock', name) as ioctx:
            try:
                ioctx.unlock(name, _LOCK, owner)
            except bindings.rados().ObjectNotFound:
                return False
        return True

    def find_lock(self, name: str) -> LockHolder | None:
        with self._doing('look for the lock of', name) as ioctx:
            try:
                _, answer = ioctx.execute(name, 'lock', 'get_info',
                                          record_lock.encode_question(_LOCK))
            except bindings.rados().ObjectNotFound:
                return None
        return record_lock.decode(answer)

    def break_lock(self, name: str, holder: LockHolder) -> None:
        with self._doing('break the lock of', name) as ioctx, \
                contextlib.suppress(bindings.rados().ObjectNotFound):
            ioctx.execute(name, 'lock', 'break_lock',
                          record_lock.encode_break(_LOCK, holder))

    def names(self) -> list[str]:
        with self._using('list the records of', self._pool) as (_, ioctx):
            return sorted(found.key for found in ioctx.list_objects())

    # -- helpers -----------------------------------------------------------
    def _read_once(self, ioctx: Any, name: str
                   ) -> tuple[int, dict[str, str]]:
        found: dict[str, str] = {}
        after, version = '', 0
        while True:
            with bindings.rados().ReadOpCtx() as operation:
                page, code = ioctx.get_omap_vals(operation, after, '', _PAGE)
                _check(code, name)
                ioctx.operate_read_op(operation, name)
                count, texts = _read_texts(page)
            version = version or ioctx.get_last_version()
            found |= texts
            if count < _PAGE or not texts:
                return version, found
            after = max(texts)

    @contextlib.contextmanager
    def _using(self, what: str, on: str) -> Iterator[tuple[Session, Any]]:
        with self._cluster.use(self._pool, self._namespace) as (
                session, ioctx), session.translating(what, on):
            yield session, ioctx

    @contextlib.contextmanager
    def _doing(self, what: str, name: str) -> Iterator[Any]:
        rados = bindings.rados()
        where = f'{self._pool}/{self._namespace}/{name}'
        with self._using(f'{what} the record', where) as (_, ioctx):
            try:
                yield ioctx
            except rados.ObjectNotFound:
                raise exception.RecordNotFound(
                    f'There is no record {where}.') from None
            except rados.ObjectExists:
                raise exception.RecordChanged(
                    f'There is a record {where} already.') from None
            except rados.OSError as error:
                if abs(error.errno) == errno.ECANCELED:
                    raise exception.RecordChanged(
                        f'The record {where} was changed meanwhile.'
                        ) from None
                raise


def check_ascii(put: Mapping[str, str]) -> None:
    """To compare a text the bindings count its characters, and tell librados
    that these are its bytes.

    :raises InvalidInput:
    """
    for key, value in put.items():
        if not (key.isascii() and value.isascii()):
            raise exception.InvalidInput(f'{key!r} is not written in ASCII.')


def _version(ioctx: Any, name: str) -> int:
    ioctx.stat(name)
    version: int = ioctx.get_last_version()
    return version


def _check(code: int, name: str) -> None:
    if code:
        raise OSError(abs(code), name)


def _read_texts(pairs: Iterator[tuple[str, bytes | None]]
                ) -> tuple[int, dict[str, str]]:
    """Untrusted, so perhaps no text; whoever reads it as JSON says so.

    :returns: how many *pairs* were, with those whose key is none and is left
        out.
    """
    count = 0
    found: dict[str, str] = {}
    while True:
        try:
            key, value = next(pairs)
        except StopIteration:
            return count, found
        except UnicodeDecodeError:
            count += 1
            continue
        count += 1
        # The bindings have no bytes where there are none.
        found[key] = (value or b'').decode(errors='replace')
