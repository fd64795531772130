# SPDX-License-Identifier: Apache-2.0
"""The records of jobs as whoever may write to the pool sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from tests.functional.cluster import Cluster
from volume_rbd.ceph import bindings

_NAMESPACE = 'volume_rbd.jobs'
#: What stays: of these only the format, and what history tells.
_STAYS = frozenset({'open', 'index', 'history'})


class Ledger:
    """Through the administrator's connection, with nothing of ours between.

    :param pool: whose jobs they are.
    """

    def __init__(self, cluster: Cluster, pool: str = 'volumes') -> None:
        self._cluster = cluster
        self._pool = pool

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        with self._cluster._handle.open_ioctx(self._pool) as ioctx:
            ioctx.set_namespace(_NAMESPACE)
            yield ioctx

    def names(self) -> list[str]:
        with self._opened() as ioctx:
            return sorted(item.key for item in ioctx.list_objects())

    def read(self, name: str) -> dict[str, str]:
        rados = bindings.rados()
        with self._opened() as ioctx, rados.ReadOpCtx() as operation:
            values, _ = ioctx.get_omap_vals(operation, '', '', 10_000)
            ioctx.operate_read_op(operation, name)
            return {key: value.decode() for key, value in values}

    def write(self, name: str, values: Mapping[str, str]) -> None:
        rados = bindings.rados()
        with self._opened() as ioctx, rados.WriteOpCtx() as operation:
            ioctx.set_omap(operation, tuple(values), tuple(
                value.encode() for value in values.values()))
            ioctx.operate_write_op(operation, name)

    def remove(self, name: str, *keys: str) -> None:
        rados = bindings.rados()
        with self._opened() as ioctx:
            if not keys:
                ioctx.remove_object(name)
                return
            with rados.WriteOpCtx() as operation:
                ioctx.remove_omap_keys(operation, keys)
                ioctx.operate_write_op(operation, name)

    def check_no_job(self) -> None:
        """None is open, and nothing of one is left."""
        assert set(self.names()) <= _STAYS
        for name in _STAYS - {'history'}:
            if name in self.names():
                assert set(self.read(name)) == {'format'}, name
