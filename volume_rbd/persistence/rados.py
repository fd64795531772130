# SPDX-License-Identifier: Apache-2.0
"""The backend behind ``rados://``, under taskflow's own entry point."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from taskflow.persistence import base

from volume_rbd import exception, opts
from volume_rbd.ceph import connection
from volume_rbd.ceph.interface import Records
from volume_rbd.persistence.books import Books, Seen

DEFAULT_NAMESPACE = 'volume_rbd.jobs'
_KNOWN = frozenset({'user', 'conf', 'cluster', 'timeout'})


class RadosBackend(base.Backend):  # type: ignore[misc]
    """Logbooks in a RADOS namespace of a pool.

    :param conf: with ``connection``,
        ``rados://POOL[/NAMESPACE][?user=…&conf=…&cluster=…&timeout=…]``:
        the cephx user without "client.", the path of the ceph.conf, the
        cluster's name, the seconds to wait for the monitors.
    :param records: where the logbooks are, instead of what *conf* says; the
        connection is then its owner's.
    :raises ConfigurationError: the URL names no pool, or more than that.
    """

    def __init__(self, conf: Mapping[str, Any] | None,
                 records: Records | None = None) -> None:
        super().__init__(dict(conf or {}))
        if records is None:
            pool, namespace, config = _parse(
                str(self._conf.get('connection', '')))
            records = connection.connect(config).records(pool, namespace)
        self._records = records
        self._seen = Seen()

    def get_connection(self) -> Books:
        return Books(self, self._records, self._seen)

    def close(self) -> None:
        """librados connections are shared by all of a process: the last one
        who uses this one closes it."""


def _parse(url: str) -> tuple[str, str, opts.ClusterConfig]:
    parsed = urllib.parse.urlsplit(url)
    # Not .hostname: pools may have capitals.
    pool = urllib.parse.unquote(parsed.netloc)
    namespace = urllib.parse.unquote(parsed.path).strip('/')
    given = dict(urllib.parse.parse_qsl(parsed.query))
    timeout = given.get('timeout', '')
    if (not pool or '@' in pool or given.keys() - _KNOWN
            or (timeout and not timeout.isdecimal())):
        raise exception.ConfigurationError(
            'A rados:// connection that names no pool, or something unknown.',
            remedy='Write rados://POOL/NAMESPACE?user=USER&conf=PATH, with '
                   'cluster and timeout where they are needed.')
    return pool, namespace or DEFAULT_NAMESPACE, opts.ClusterConfig(
        user=given.get('user'), ceph_conf=given.get('conf', ''),
        cluster_name=given.get('cluster', 'ceph'),
        connect_timeout_s=int(timeout) if timeout else None)
