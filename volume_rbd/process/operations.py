# SPDX-License-Identifier: Apache-2.0
"""What a service may ask of the child, and how values cross.

The table is closed: a name that is not in it is refused. The types of
arguments and results are those that the driver's methods are annotated with,
so that both sides read them from the same place.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import cattrs

from volume_rbd import exception
from volume_rbd.driver import RBDDriver
from volume_rbd.driver.connection import Connections
from volume_rbd.driver.encryption import Encryption
from volume_rbd.driver.groups import Groups
from volume_rbd.driver.images import Images
from volume_rbd.driver.manage import Manage
from volume_rbd.driver.migration import Migration
from volume_rbd.driver.qos import QoS
from volume_rbd.driver.snapshots import Snapshots
from volume_rbd.driver.stats import Stats
from volume_rbd.driver.volumes import Volumes

T = TypeVar('T')

#: subject -> its class and the methods that may be called. The subject ''
#: is the driver itself.
OPERATIONS: Mapping[str, tuple[type, frozenset[str]]] = {
    '': (RBDDriver, frozenset({'check', 'get_fsid'})),
    'volumes': (Volumes, frozenset({
        'create', 'create_from_snapshot', 'create_from_volume', 'delete',
        'extend', 'names', 'rename', 'set_multiattach', 'show'})),
    'snapshots': (Snapshots, frozenset({
        'create', 'delete', 'list', 'revert'})),
    'groups': (Groups, frozenset({'create_snapshot', 'delete_snapshot'})),
    'images': (Images, frozenset({
        'create', 'create_from_file', 'replace', 'upload'})),
    'encryption': (Encryption, frozenset({
        'change_passphrase', 'create_blank', 'create_from_file'})),
    'connections': (Connections, frozenset({'get'})),
    'stats': (Stats, frozenset({'get'})),
    'qos': (QoS, frozenset({'check', 'set', 'clear'})),
    'manage': (Manage, frozenset({
        'sizes', 'list_volumes', 'get_size_bytes', 'manage', 'unmanage',
        'list_snapshots', 'get_snapshot_size_bytes', 'manage_snapshot',
        'unmanage_snapshot'})),
    'migration': (Migration, frozenset({'migrate'})),
}

_converter = cattrs.Converter(forbid_extra_keys=True)


def _take_plain(value: Any, kind: type) -> Any:
    """cattrs would make a str of whatever comes."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f'a {type(value).__name__} is no {kind.__name__}')
    return value


for _kind in (str, int, float, bool):
    _converter.register_structure_hook(_kind, _take_plain)
# By identity: every class is a subclass of object.
_converter.register_structure_hook_func(
    lambda kind: kind is object, lambda value, _: value)


def find(subject: str, method: str) -> Callable[..., Any]:
    """The method as the class has it.

    :raises InvalidInput: it is not one that may be called.
    """
    kind, methods = OPERATIONS.get(subject, (None, frozenset()))
    if kind is None or method not in methods:
        raise exception.InvalidInput(
            f'There is no operation {subject}.{method}.')
    function: Callable[..., Any] = getattr(kind, method)
    return function


def pack(value: object) -> Any:
    """A value of the driver's as JSON has it."""
    if isinstance(value, Iterator):
        value = list(value)
    return _converter.unstructure(value)


def unpack(kind: type[T], value: Any) -> T:
    """What :func:`pack` made of a *kind*, or None of None."""
    return cast(T, value if value is None else _structure(value, kind))


def unpack_arguments(subject: str, method: str, values: Mapping[str, Any]
                     ) -> dict[str, Any]:
    """:raises InvalidInput: they are not of the annotated types."""
    hints = _hints(subject, method)
    try:
        return {name: _structure(value, hints[name])
                for name, value in values.items()}
    except (KeyError, ValueError, TypeError, cattrs.BaseValidationError
            ) as error:
        # Not the values: a key may be among them.
        raise exception.InvalidInput(
            f'{subject}.{method} cannot be called with '
            f'{", ".join(values)}: {type(error).__name__}.') from None


def unpack_result(subject: str, method: str, value: Any) -> Any:
    return _structure(value, _hints(subject, method)['return'])


def _structure(value: Any, hint: Any) -> Any:
    if hint is type(None):
        return None
    origin = typing.get_origin(hint)
    if origin in (Iterator, typing.get_origin(typing.Iterator[int])):
        hint = list[typing.get_args(hint)[0]]  # type: ignore[misc]
    return _converter.structure(value, hint)


@functools.cache
def _hints(subject: str, method: str) -> dict[str, Any]:
    return typing.get_type_hints(find(subject, method))
