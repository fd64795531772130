# SPDX-License-Identifier: Apache-2.0
"""Side effects, counted where they leave this process.

Each call of librbd, librados and HTTP that changes something, and each start
of qemu-img, is an effect with a number. At the one that is asked for, before
it or after it, the process kills itself. Calls that only read are no effects:
nothing differs before and after them.

Meant for a process that does nothing else: it exchanges the bindings' classes.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import requests

from volume_rbd.ceph import bindings

T = TypeVar('T')

BEFORE, AFTER = 'before', 'after'
SIDES = (BEFORE, AFTER)

RBD = ('create', 'clone', 'remove', 'rename', 'trash_move', 'trash_remove',
       'trash_restore', 'pool_metadata_set', 'pool_metadata_remove',
       'group_create', 'group_remove', 'group_rename')
IMAGE = ('resize', 'flatten', 'write', 'write_zeroes', 'discard', 'aio_write',
         'aio_write_zeroes', 'aio_discard', 'copy', 'deep_copy',
         'metadata_set', 'metadata_remove', 'create_snap', 'remove_snap',
         'remove_snap2', 'remove_snap_by_id', 'rename_snap', 'protect_snap',
         'unprotect_snap', 'rollback_to_snap', 'update_features',
         'rebuild_object_map', 'lock_acquire', 'lock_break', 'lock_release',
         'break_lock', 'sparsify')
GROUP = ('add_image', 'remove_image', 'create_snap', 'remove_snap',
         'rename_snap')
IOCTX = ('operate_write_op', 'operate_aio_write_op', 'remove_object',
         'aio_remove', 'unlock', 'lock_exclusive', 'set_xattr', 'write',
         'write_full', 'notify')
#: Of many in a row only a few say something new.
BULK = ('Image.aio_write', 'Image.aio_write_zeroes', 'Image.write', 'piece')

_SENDING = ('POST', 'PUT', 'PATCH', 'DELETE')
_TOKENS = '/auth/tokens'
_UUID = re.compile(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}')
# A conversion of a few MiB takes some tenths of a second.
_MIDDLE_S = 0.08


@dataclasses.dataclass(frozen=True)
class KillPoint:
    """:param at: the number of the effect, from 1.
    :param side: BEFORE or AFTER it.
    """

    at: int
    side: str

    def __str__(self) -> str:
        return f'{self.side} #{self.at}'


class Counter:
    """:param on_kill: is told the name of the effect just before the end.
    :param kill: ends the process.
    """

    def __init__(self, point: KillPoint | None = None,
                 on_kill: Callable[[str], None] = lambda name: None,
                 kill: Callable[[], None] | None = None) -> None:
        self.names: list[str] = []
        self._point = point
        self._on_kill = on_kill
        self._kill = kill or _kill_self
        self._lock = threading.Lock()

    def around(self, name: str, call: Callable[[], T]) -> T:
        """Do *call*, an effect; one that fails may have had its effect."""
        with self._lock:
            self.names.append(name)
            number = len(self.names)
        self._reach(number, BEFORE, name)
        try:
            return call()
        finally:
            self._reach(number, AFTER, name)

    def is_due(self, number: int) -> bool:
        return self._point is not None and self._point.at == number

    def _reach(self, number: int, side: str, name: str) -> None:
        if self._point == KillPoint(number, side):
            self._on_kill(name)
            self._kill()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # nothing may happen between the signal and the end


def sample(names: Sequence[str], bulk: int = 3) -> list[KillPoint]:
    """The kill points of an operation with these effects: all, and of a run
    of equal writes the first, the last and some between.

    :param bulk: so many of a run, at least 2.
    """
    points = []
    numbered = list(enumerate(names, 1))
    for name, group in itertools.groupby(numbered, lambda pair: pair[1]):
        run = [number for number, _ in group]
        if name.endswith(BULK) and len(run) > bulk:
            last = len(run) - 1
            run = sorted({run[round(last * step / (bulk - 1))]
                          for step in range(bulk)})
        points += [KillPoint(number, side) for number in run
                   for side in SIDES]
    return points


# -- where effects are made ---------------------------------------------------

def instrument(counter: Counter) -> None:
    """Count the effects of this process from now on, for good."""
    rados, rbd = bindings.rados(), bindings.rbd()
    for name in dir(rbd.RBD):
        if not name.startswith('_'):
            _wrap_rbd(counter, rbd.RBD, name)
    rbd.Image = _counted(counter, rbd.Image, 'Image', IMAGE)
    rbd.Group = _counted(counter, rbd.Group, 'Group', GROUP)
    rados.Rados = _counted_rados(counter, rados.Rados)
    _wrap_http(counter)
    subprocess.Popen = _counted_popen(  # type: ignore[misc]
        counter, subprocess.Popen)


def _wrap_rbd(counter: Counter, kind: Any, name: str) -> None:
    inner = getattr(kind, name)

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        args = tuple(map(_raw, args))
        if name not in RBD:
            return inner(*args, **kwargs)
        return counter.around(f'RBD.{name}', lambda: inner(*args, **kwargs))

    setattr(kind, name, outer)


def _counted(counter: Counter, kind: Any, title: str, names: Sequence[str]
             ) -> Any:
    """A subclass of the binding's class whose methods count."""
    def method(name: str) -> Any:
        inner = getattr(kind, name)

        def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
            args = tuple(map(_raw, args))
            return counter.around(f'{title}.{name}', lambda: inner(
                self, *args, **kwargs))
        return outer

    def init(self: Any, ioctx: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, _raw(ioctx), *args, **kwargs)

    return type(title, (kind,), {'__init__': init, **{
        name: method(name) for name in names if hasattr(kind, name)}})


def _counted_rados(counter: Counter, kind: Any) -> Any:
    class Rados(kind):  # type: ignore[misc]
        def open_ioctx(self, name: str) -> Any:
            return Ioctx(super().open_ioctx(name), counter)

        def blocklist_add(self, *args: Any) -> Any:
            return counter.around('Rados.blocklist_add', lambda: super(
                Rados, self).blocklist_add(*args))

        def mon_command(self, command: str, *args: Any, **kwargs: Any
                        ) -> Any:
            def call() -> Any:
                return super(Rados, self).mon_command(
                    command, *args, **kwargs)
            return (counter.around('Rados.blocklist', call)
                    if 'blocklist' in command else call())

    return Rados


class Ioctx:
    """An I/O context whose writes count. librados makes these itself, so
    there is no subclass: calls of librbd are handed the raw one."""

    def __init__(self, raw: Any, counter: Counter) -> None:
        self.raw = raw
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.raw, name)
        if name not in IOCTX:
            return inner

        def outer(*args: Any) -> Any:
            # The name of the object: first, or behind the operation.
            key = next(arg for arg in args if isinstance(arg, str))
            return self._counter.around(
                f'Ioctx.{name} {_without_ids(key)}', lambda: inner(*args))

        return outer

    def execute(self, key: str, kind: str, method: str, *args: Any) -> Any:
        def call() -> Any:
            return self.raw.execute(key, kind, method, *args)
        if method.startswith('get') or kind != 'lock':
            return call()
        return self._counter.around(
            f'Ioctx.execute {kind}.{method} {_without_ids(key)}', call)


def _without_ids(text: str) -> str:
    return _UUID.sub('ID', text)


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, Ioctx) else value


def _wrap_http(counter: Counter) -> None:
    send = requests.Session.send

    @functools.wraps(send)
    def outer(self: Any, request: Any, **kwargs: Any) -> Any:
        path = str(request.path_url)
        if request.method not in _SENDING or path.endswith(_TOKENS):
            return send(self, request, **kwargs)
        name = f'{request.method} {_without_ids(path)}'
        if hasattr(request.body, '__iter__') and not isinstance(
                request.body, str | bytes):
            request.body = _pieces(counter, name, request.body)
        return counter.around(name, lambda: send(self, request, **kwargs))

    requests.Session.send = outer  # type: ignore[method-assign]


def _pieces(counter: Counter, name: str, body: Any) -> Iterator[Any]:
    """A body that is sent bit by bit: each is an effect of its own."""
    for piece in body:
        yield counter.around(f'{name} piece', functools.partial(
            lambda kept: kept, piece))


def _counted_popen(counter: Counter, kind: Any) -> Any:
    class Popen(kind):  # type: ignore[misc]
        def __init__(self, command: Any, *args: Any, **kwargs: Any) -> None:
            self.title = _title(command)
            counter.around(f'{self.title} starts', lambda: kind.__init__(
                self, command, *args, **kwargs))
            counter.around(f'{self.title} runs', lambda: time.sleep(
                _MIDDLE_S if counter.is_due(len(counter.names)) else 0))

        def __exit__(self, *error: Any) -> None:
            counter.around(f'{self.title} ends', lambda: kind.__exit__(
                self, *error))

    return Popen


def _title(command: Sequence[Any]) -> str:
    words = [str(word) for word in command]
    for place, word in enumerate(words):
        if os.path.basename(word) == 'qemu-img' and place + 1 < len(words):
            return f'qemu-img {words[place + 1]}'
    return os.path.basename(words[0])
