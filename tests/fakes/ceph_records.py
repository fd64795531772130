# SPDX-License-Identifier: Apache-2.0
"""The records of a RADOS namespace, in memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from volume_rbd import exception
from volume_rbd.ceph import interface
from volume_rbd.ceph.records import check_ascii

if TYPE_CHECKING:
    from tests.fakes.ceph import FakeCluster


class FakeRecords:
    """Implements :class:`volume_rbd.ceph.interface.Records`."""

    def __init__(self, cluster: FakeCluster, pool: str, namespace: str
                 ) -> None:
        self._cluster = cluster
        self._place = pool, namespace
        self._all = cluster.server.records
        self._locks = cluster.server.record_locks

    @property
    def namespace(self) -> str:
        return self._place[1]

    @contextlib.contextmanager
    def _doing(self, method: str, wanted: str = 'r') -> Iterator[None]:
        with self._cluster.server.lock:
            self._cluster.begin(method)
            self._cluster.check_caps(self._place[0], wanted)
            yield

    def _find(self, name: str) -> dict[str, str]:
        try:
            return self._all[*self._place, name]
        except KeyError:
            raise exception.RecordNotFound(
                f'There is no record {name}.') from None

    def names(self) -> list[str]:
        with self._doing('names'):
            return sorted(key[2] for key in self._all
                          if key[:2] == self._place)

    def read(self, name: str) -> dict[str, str]:
        with self._doing('read_record'):
            return dict(self._find(name))

    def read_keys(self, name: str, keys: Collection[str]) -> dict[str, str]:
        with self._doing('read_record'):
            return {key: value for key, value in self._find(name).items()
                    if key in keys}

    def create(self, name: str, put: Mapping[str, str]) -> None:
        check_ascii(put)
        with self._doing('create_record', 'rw'):
            if (*self._place, name) in self._all:
                raise exception.RecordChanged(f'There is a record {name}.')
            self._all[*self._place, name] = dict(put)

    def write(self, name: str, put: Mapping[str, str],
              drop: Collection[str] = (), *,
              expected: Mapping[str, str | None] | None = None) -> None:
        check_ascii(put)
        with self._doing('write_record', 'rw'):
            for key, value in (expected or {}).items():
                found = self._find(name).get(key)
                # Other letters stand for bytes that are none.
                if found != value or not (found or '').isascii():
                    raise exception.RecordChanged(f'{name} was changed.')
            record = self._all.setdefault((*self._place, name), {})
            record.update(put)
            for key in drop:
                record.pop(key, None)

    def remove(self, name: str) -> None:
        with self._doing('remove_record', 'rw'):
            self._find(name)
            del self._all[*self._place, name]
            self._locks.pop((*self._place, name), None)

    def lock(self, name: str, owner: str, *, duration_s: int,
             note: str = '') -> bool:
        with self._doing('lock_record', 'rw'):
            self._all.setdefault((*self._place, name), {})
            holder = self._holder(name)
            client = self._cluster.address
            if holder and (holder.client, holder.owner) != (client, owner):
                return False
            self._locks[*self._place, name] = interface.LockHolder(
                client, owner,
                time.time() + duration_s if duration_s else 0, note)
            return True

    def unlock(self, name: str, owner: str) -> bool:
        with self._doing('unlock_record', 'rw'):
            holder = self._holder(name)
            client = self._cluster.address
            if not holder or (holder.client, holder.owner) != (client, owner):
                return False
            del self._locks[*self._place, name]
            return True

    def find_lock(self, name: str) -> interface.LockHolder | None:
        with self._doing('read_record'):
            return self._holder(name)

    def break_lock(self, name: str, holder: interface.LockHolder) -> None:
        with self._doing('break_record_lock', 'rw'):
            found = self._holder(name)
            if found and (found.client, found.owner) == (
                    holder.client, holder.owner):
                del self._locks[*self._place, name]

    def _holder(self, name: str) -> interface.LockHolder | None:
        holder = self._locks.get((*self._place, name))
        ends_s = holder.expires_s if holder else 0
        return holder if not ends_s or ends_s > time.time() else None
