# SPDX-License-Identifier: Apache-2.0
"""One open connection and those who use it.

librados crashes the process when an I/O context is used after its handle was
shut down (tried). So whoever uses a session holds it, and one that was lost or
closed is shut down by the last one who lets go.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from volume_rbd import exception
from volume_rbd.ceph import errors, native

# How long an answer of a pool's OSDs is believed.
_FRESH_S = 2.0
#: A small object that every rbd pool has, or could have.
PROBE_OBJECT = 'rbd_directory'


class Session:
    """A connected ``rados.Rados`` and one I/O context per pool.

    :param who: the cephx user, for messages.
    :param timeout_s: how long a pool may be silent before it is given up.
    """

    def __init__(self, handle: Any, who: str, timeout_s: float) -> None:
        self.handle = handle
        self.who = who
        self.timeout_s = timeout_s
        self.pid = os.getpid()
        self._lock = native.lock()
        self._users = 0
        self._is_retired = False
        self._ioctxs: dict[tuple[str, str], Any] = {}
        self._stale: list[Any] = []
        self._answered: dict[str, float] = {}

    # -- lifecycle ---------------------------------------------------------
    def acquire(self) -> bool:
        """One user more; False if it must not be used any longer."""
        with self._lock:
            if self._is_retired or self.pid != os.getpid():
                return False
            self._users += 1
            return True

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            is_last = self._is_retired and self._users == 0
        if is_last:
            self._shut_down()

    def retire(self) -> None:
        """Let nobody else in; shut down when the last user has gone."""
        with self._lock:
            if self._is_retired or self.pid != os.getpid():
                return
            self._is_retired = True
            is_unused = self._users == 0
        if is_unused:
            self._shut_down()

    def _shut_down(self) -> None:
        for ioctx in [*self._ioctxs.values(), *self._stale]:
            ioctx.close()
        self._ioctxs.clear()
        self._stale.clear()
        self.handle.shutdown()

    # -- use ---------------------------------------------------------------
    @contextlib.contextmanager
    def translating(self, what: str, on: errors.Subject) -> Iterator[None]:
        """As in errors; and a lost connection is not used again."""
        try:
            with errors.translating(what, on, self.who):
                yield
        except exception.ClusterUnavailable:
            self.retire()
            raise

    def command(self, prefix: str, **arguments: str) -> Any:
        """Run a monitor command and return its JSON: the first value, where
        there are several behind each other."""
        request = json.dumps(
            {'prefix': prefix, 'format': 'json', **arguments})
        what = f'run "{prefix}" on'
        with self.translating(what, 'the monitors'):
            code, output, _status = self.handle.mon_command(request, b'')
            if code < 0:
                raise errors.from_code(
                    code, what, 'the monitors', self.who)
        value, _end = json.JSONDecoder().raw_decode(
            output.decode().lstrip())
        return value

    def ioctx(self, pool: str, namespace: str = '') -> Any:
        """The pool's I/O context, to be shared and not to be changed.

        :param namespace: of RADOS; rbd_images are in the unnamed one.
        :raises PoolNotFound: no such pool.
        :raises OperationTimeout: its OSDs do not answer.
        """
        ioctx = self._find_ioctx(pool, namespace)
        self._probe(pool, ioctx)
        return ioctx

    def _find_ioctx(self, pool: str, namespace: str) -> Any:
        place = pool, namespace
        with self.translating('use the pool', pool):
            if pool not in self.handle.list_pools():
                # librados will wait for a newer map, without a limit. So see
                # first that there is a monitor to give it one.
                self.command('mon dump')
            # A pool that was deleted and made again has another number.
            number = self.handle.pool_lookup(pool)
            with self._lock:
                known = self._ioctxs.get(place)
            if known is not None and known.get_pool_id() == number:
                return known
            opened = self.handle.open_ioctx(pool)
            # A full pool says so instead of letting every write hang;
            # removals go on.
            opened.set_osdmap_full_try()
            opened.set_namespace(namespace)
            with self._lock:
                if known is not None:
                    self._stale.append(known)
                self._ioctxs[place], opened = opened, self._ioctxs.get(place)
                if opened is not None and opened is not known:
                    self._stale.append(opened)
                return self._ioctxs[place]

    def _probe(self, pool: str, ioctx: Any) -> None:
        """See that the pool answers, before something waits for ever.

        librados waits without end for OSDs that are down, and so it should
        for a write: a write that is given up (rados_osd_op_timeout) may still
        be applied after a newer one. A read that is given up harms nobody.
        """
        if time.monotonic() - self._answered.get(pool, -_FRESH_S) < _FRESH_S:
            return
        with self.translating('use the pool', pool):
            completion = ioctx.aio_stat(PROBE_OBJECT, lambda *_: None)
            self._wait(completion, pool)
            code = completion.get_return_value()
            # A pool without any rbd_image answers, too.
            if code not in (0, -errno.ENOENT):
                raise errors.from_code(
                    code, 'use the pool', pool, self.who)
        self._answered[pool] = time.monotonic()

    def _wait(self, completion: Any, pool: str) -> None:
        # Polled, because the bindings cannot wait for a limited time.
        deadline = time.monotonic() + self.timeout_s
        pause_s = 0.0002
        while not completion.is_complete():
            if time.monotonic() > deadline:
                raise exception.OperationTimeout(
                    f'The pool {pool} did not answer within '
                    f'{self.timeout_s:g} s.',
                    remedy='Check the OSDs with "ceph -s".')
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)
