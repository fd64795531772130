# SPDX-License-Identifier: Apache-2.0
"""The jobs of the sandbox's backends, as they are written down."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from tests.e2e.faults import POOLS, wait_until
from tests.functional.cluster import Cluster
from volume_rbd.ceph import bindings
from volume_rbd.jobs.records import NAMESPACE

_MANY = 10_000


def texts(cluster: Cluster, pool: str) -> dict[str, dict[str, str]]:
    """All that the records of *pool* say, key by key."""
    found = {}
    with cluster._handle.open_ioctx(pool) as ioctx:
        ioctx.set_namespace(NAMESPACE)
        for item in list(ioctx.list_objects()):
            with contextlib.suppress(bindings.rados().ObjectNotFound):
                found[item.key] = _values(ioctx, item.key)
    return found


def _values(ioctx: Any, name: str) -> dict[str, str]:
    rados = bindings.rados()
    with rados.ReadOpCtx() as operation:
        pairs, _ = ioctx.get_omap_vals(operation, '', '', _MANY)
        ioctx.operate_read_op(operation, name)
        values = {key: value.decode('utf-8', 'replace')
                  for key, value in pairs}
    attributes = {key: value.decode('utf-8', 'replace')
                  for key, value in ioctx.get_xattrs(name)}
    return values | attributes | {
        '': ioctx.read(name).decode('utf-8', 'replace')}


def unfinished(cluster: Cluster) -> list[dict[str, Any]]:
    """The jobs of both backends that are not over."""
    return [json.loads(json.loads(text)['job'])
            for pool in POOLS.values()
            for key, text in texts(cluster, pool).get('open', {}).items()
            if key.startswith('job.')]


def wait_for_end(cluster: Cluster, timeout_s: float) -> None:
    wait_until(lambda: not unfinished(cluster), timeout_s,
               'there are jobs that are not over')


def owner(job: dict[str, Any]) -> int:
    """The id of the process that has it, or had it last."""
    return int(job['node'].split('/')[3])
