# SPDX-License-Identifier: Apache-2.0
"""Connections to clusters: how they are opened, shared, lost and reopened.

Timeouts
    ``connect_timeout_s`` bounds everything that waits for monitors:
    connecting (client_mount_timeout) and, on an open connection, their
    commands (rados_mon_op_timeout). It also bounds the probe of a pool's
    OSDs with which each use of a pool begins, see session.py.
    rados_osd_op_timeout stays 0: librbd would report a write as failed that
    may still be applied after a later one.

Retries
    Only what may pass by itself is tried again: monitors that do not answer.
    A wrong ceph.conf, keyring or user stays wrong and is said at once.
"""

from __future__ import annotations

import atexit
import contextlib
import hmac
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import tenacity

from volume_rbd import exception
from volume_rbd.ceph import bindings, errors, keyring, mon, native
from volume_rbd.ceph.interface import Cluster, Health
from volume_rbd.ceph.pool import RBDPool
from volume_rbd.ceph.records import RadosRecords
from volume_rbd.ceph.session import Session
from volume_rbd.ceph.tasks import ManagerTasks
from volume_rbd.opts import ClusterConfig

#: librados' own client_mount_timeout.
DEFAULT_TIMEOUT_S = 300
# As Ceph's own mon_osd_blocklist_default_expire.
_BLOCKLIST_S = 3600
_CLONE_FORMAT = 'rbd_default_clone_format'

_registry_lock = native.lock()
_registry: dict[ClusterConfig, RadosCluster] = {}
# Of a parent process: to destroy them in this one would hang.
_inherited: list[Session] = []


def connect(config: ClusterConfig) -> Cluster:
    """The process's connection of *config*; equal ones share it.

    Nothing is opened yet.
    """
    with _registry_lock:
        return _registry.setdefault(config, RadosCluster(config))


@atexit.register
def _close_all() -> None:
    # Before the interpreter takes the objects apart in an order of its own,
    # which crashes librados.
    with _registry_lock:
        clusters = list(_registry.values())
        _registry.clear()
    for cluster in clusters:
        cluster.close()


class RadosCluster:
    """A :class:`~volume_rbd.ceph.interface.Cluster` over librados.

    :param overrides: options of ceph.conf that win over the file; for tests.
    """

    def __init__(self, config: ClusterConfig, *,
                 overrides: Mapping[str, str] | None = None,
                 reconnects: bool = True) -> None:
        self._config = config
        self._overrides = dict(overrides or {})
        self._reconnects = reconnects
        self._was_open = False
        self._session: Session | None = None
        self._lock = native.lock()
        self._last_failure: tuple[float, exception.VolumeRBDError] | None
        self._last_failure = None
        self._format1: RadosCluster | None = None
        self._key: bytes | None = None

    @property
    def user(self) -> str:
        return self._config.user or 'admin'

    def __str__(self) -> str:
        where = self._config.ceph_conf or 'the default ceph.conf'
        return f'cluster {self._config.cluster_name!r} ({where})'

    # -- the contract ------------------------------------------------------
    @property
    def fsid(self) -> str:
        with self.session() as session, session.translating(
                'ask for the fsid of', str(self)):
            fsid: str = session.handle.get_fsid()
            return fsid

    @property
    def address(self) -> str:
        with self.session() as session, session.translating(
                'ask for our address in', str(self)):
            address: str = session.handle.get_addrs()
            return address

    def private(self) -> RadosCluster:
        return RadosCluster(self._config, overrides=self._overrides,
                            reconnects=False)

    def blocklist(self, address: str) -> None:
        with self.session() as session, session.translating(
                f'blocklist {address} in', str(self)):
            session.handle.blocklist_add(address, _BLOCKLIST_S)
            # What we do next carries this map's number, and an OSD that has
            # an older one fetches it first.
            session.handle.wait_for_latest_osdmap()

    def sign(self, text: str) -> str:
        return hmac.new(self.key(), text.encode(), 'sha256').hexdigest()

    def key(self) -> bytes:
        with self.session() as session:
            if self._key is None:
                self._key = keyring.find_key(
                    session.handle.conf_get, f'client.{self.user}')
        return self._key

    def pool(self, name: str) -> RBDPool:
        return RBDPool(self, name)

    def records(self, pool: str, namespace: str) -> RadosRecords:
        return RadosRecords(self, pool, namespace)

    def pools(self) -> list[str]:
        with self.session() as session, session.translating(
                'list the pools of', str(self)):
            return list(session.handle.list_pools())

    def health(self) -> Health:
        with self.session() as session:
            return mon.health(session)

    def tasks(self) -> ManagerTasks:
        return ManagerTasks(self._arguments(self._overrides))

    def monitors(self) -> list[str]:
        with self.session() as session, session.translating(
                'list the monitors of', str(self)):
            return mon.addresses(session)

    def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            format1, self._format1 = self._format1, None
        if session is not None:
            session.retire()
        if format1 is not None:
            format1.close()

    # -- for the rest of the package ---------------------------------------
    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """The open connection, held for the length of the block.

        :raises ClusterUnavailable, CephPermissionDenied,
            ConfigurationError: there is none to be had.
        """
        session = self._acquire()
        try:
            yield session
        finally:
            session.release()

    @contextlib.contextmanager
    def use(self, pool: str, namespace: str = ''
            ) -> Iterator[tuple[Session, Any]]:
        """A live session and the I/O context of *pool*."""
        session, ioctx = self._acquire_with(pool, namespace)
        try:
            yield session, ioctx
        finally:
            session.release()

    @contextlib.contextmanager
    def in_clone_format_1(self) -> Iterator[RadosCluster]:
        """A connection that makes clones of format 1 within the block.

        The bindings of Ceph 16 take the format from the configuration only.
        To change that on a connection would change it for all threads: so it
        is another connection. That of a job is one thread's, and must be the
        only one by which it changes anything: whoever takes the job up shuts
        out that one.
        """
        if self._reconnects:
            yield self._open_format_1()
            return
        with self.session() as session:
            before = session.handle.conf_get(_CLONE_FORMAT)
            session.handle.conf_set(_CLONE_FORMAT, '1')
            try:
                yield self
            finally:
                session.handle.conf_set(_CLONE_FORMAT, before)

    def _open_format_1(self) -> RadosCluster:
        with self._lock:
            if self._format1 is None:
                self._format1 = RadosCluster(
                    self._config, overrides={**self._overrides,
                                             _CLONE_FORMAT: '1'})
            return self._format1

    def _acquire_with(self, pool: str, namespace: str
                      ) -> tuple[Session, Any]:
        session = self._acquire()
        try:
            return session, session.ioctx(pool, namespace)
        except exception.ClusterUnavailable:
            # It was lost since its last use, and nothing has been done yet.
            session.release()
            session = self._acquire()
        except BaseException:
            session.release()
            raise
        try:
            return session, session.ioctx(pool, namespace)
        except BaseException:
            session.release()
            raise

    def _acquire(self) -> Session:
        session = self._session
        if session is not None and session.acquire():
            return session
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_pass),
            stop=tenacity.stop_after_attempt(self._config.retries + 1),
            wait=tenacity.wait_fixed(self._config.retry_interval_s),
            reraise=True)
        return retrying(self._acquire_or_open)

    def _may_pass(self, error: BaseException) -> bool:
        return (isinstance(error, exception.ClusterUnavailable)
                and not self._is_over())

    def _is_over(self) -> bool:
        return self._was_open and not self._reconnects

    def _acquire_or_open(self) -> Session:
        """One attempt, for all threads that wait meanwhile."""
        asked = time.monotonic()
        with self._lock:
            session = self._session
            if session is not None and session.acquire():
                return session
            if self._is_over():
                raise self._gone()
            if self._last_failure and self._last_failure[0] >= asked:
                failure = self._last_failure[1]
                raise type(failure)(failure.message, remedy=failure.remedy)
            try:
                opened = self._open()
            except exception.VolumeRBDError as error:
                self._last_failure = (time.monotonic(), error)
                raise
            if session is not None and session.pid != os.getpid():
                _inherited.append(session)
            self._session = opened
            self._was_open = True
            opened.acquire()
            return opened

    def _gone(self) -> exception.ClusterUnavailable:
        return exception.ClusterUnavailable(
            f'The connection of client.{self.user} to {self} is gone.',
            remedy='Another worker may have taken the job over; this '
                   'connection is not opened again.')

    def _open(self) -> Session:
        timeout_s = self._config.connect_timeout_s or DEFAULT_TIMEOUT_S
        handle = self._configure({
            'client_mount_timeout': str(timeout_s),
            'rados_mon_op_timeout': str(timeout_s),
            _CLONE_FORMAT: '2',
            **self._overrides})
        try:
            handle.connect()
        except Exception as error:
            handle.shutdown()
            raise self._explain(error) from error
        return Session(handle, f'client.{self.user}', timeout_s)

    def _configure(self, options: dict[str, str]) -> Any:
        path = self._config.ceph_conf
        try:
            return bindings.rados().Rados(**self._arguments(options))
        except Exception as error:
            ours = errors.translate(error, 'read', path or 'ceph.conf')
            if ours is None:
                raise
            raise exception.ConfigurationError(
                f'{path or "The default ceph.conf"} cannot be used: {error}.',
                remedy='Name a readable ceph.conf in rbd_ceph_conf (for '
                       'disks: images_rbd_ceph_conf).') from error

    def _arguments(self, options: Mapping[str, str]) -> dict[str, Any]:
        return {'name': f'client.{self.user}', 'conf': dict(options),
                'conffile': self._config.ceph_conf,
                'clustername': self._config.cluster_name}

    def _explain(self, error: Exception) -> exception.VolumeRBDError:
        """Why connecting failed, which librados tells by number only."""
        who = f'client.{self.user}'
        ours = errors.translate(error, 'connect to', str(self))
        if ours is None:
            raise error
        if isinstance(ours, exception.CephPermissionDenied):
            return exception.CephPermissionDenied(
                f'{self} refused {who}.',
                remedy=f'Compare the keyring with "ceph auth get {who}": the '
                       'user is unknown or the key is another one.')
        if isinstance(ours, exception.PoolNotFound):
            return exception.ConfigurationError(
                f'{self}: no keyring for {who} or no monitor was found.',
                remedy='Check rbd_user, and that ceph.conf names "mon host" '
                       f'and a keyring with {who} that can be read.')
        if type(error).__name__ in ('InvalidArgumentError', 'IOError'):
            return exception.ConfigurationError(
                f'{self}: the keyring of {who} or "mon host" is malformed.',
                remedy='Correct the keyring, or the addresses in ceph.conf.')
        timeout_s = self._config.connect_timeout_s or DEFAULT_TIMEOUT_S
        return exception.ClusterUnavailable(
            f'{self} did not answer {who} within {timeout_s:g} s: '
            f'{type(error).__name__}.')
