# SPDX-License-Identifier: Apache-2.0
"""What libvirt raises, in our words: one table.

libvirt numbers its errors; the table has their names, so that it can be read
without the bindings. A test goes through the module and fails when one is
missing here.

Two things a number does not say. SYSTEM_ERROR is whatever the system said to
libvirtd, with the errno beside it. And that the connection is lost is said
with any number at all, by the part of libvirt that speaks with libvirtd.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from volume_rbd import exception
from volume_rbd.compute.pools import bindings

_Kind = type[exception.VolumeRBDError]
_PREFIX = 'VIR_ERR_'
_LEVELS = ('NONE', 'WARNING', 'ERROR')  # these are how bad an error is
_SPOKESMEN = ('VIR_FROM_RPC', 'VIR_FROM_REMOTE')

_GROUPS: tuple[tuple[_Kind, str], ...] = (
    (exception.StoragePoolNotFound, 'NO_STORAGE_POOL'),
    (exception.StorageVolumeNotFound, 'NO_STORAGE_VOL'),
    (exception.StorageVolumeExists, 'STORAGE_VOL_EXIST'),
    (exception.SecretNotFound, 'NO_SECRET'),
    (exception.StoragePoolConflict,
     'STORAGE_POOL_BUILT STORAGE_PROBE_FAILED'),
    (exception.LibvirtUnavailable,
     'RPC NO_CONNECT UNKNOWN_HOST INVALID_CONN SSH LIBSSH GNUTLS_ERROR '
     'DBUS_SERVICE AGENT_UNRESPONSIVE AGENT_UNSYNCED'),
    (exception.OperationTimeout, 'OPERATION_TIMEOUT'),
    (exception.Cancelled, 'OPERATION_ABORTED'),
    (exception.AccessDenied,
     'OPERATION_DENIED AUTH_FAILED AUTH_CANCELLED AUTH_UNAVAILABLE '
     'ACCESS_DENIED'),
    (exception.Conflict,
     'OPERATION_INVALID DOM_EXIST NETWORK_EXIST NETWORK_PORT_EXIST '
     'RESOURCE_BUSY BLOCK_COPY_ACTIVE SNAPSHOT_REVERT_RISKY MIGRATE_UNSAFE '
     'CHECKPOINT_INCONSISTENT MULTIPLE_INTERFACES MULTIPLE_DOMAINS '
     'CPU_INCOMPATIBLE'),
    (exception.NotFound,
     'NO_DOMAIN NO_NETWORK NO_NODE_DEVICE NO_INTERFACE NO_NWFILTER '
     'NO_NWFILTER_BINDING NO_NETWORK_PORT NO_SERVER NO_CLIENT '
     'NO_DOMAIN_SNAPSHOT NO_DOMAIN_CHECKPOINT NO_DOMAIN_BACKUP '
     'NO_DOMAIN_METADATA NO_DEVICE DEVICE_MISSING NO_SOURCE NO_TARGET '
     'NO_ROOT NO_OS NO_NAME NO_KERNEL NO_HOSTNAME'),
    (exception.NotSupported,
     'NO_SUPPORT CONFIG_UNSUPPORTED OPERATION_UNSUPPORTED '
     'ARGUMENT_UNSUPPORTED NO_SECURITY_MODEL NO_XEN NO_XENSTORE '
     'DRIVER_FULL'),
    (exception.InvalidInput,
     'INVALID_ARG XML_ERROR XML_DETAIL XML_INVALID_SCHEMA CONF_SYNTAX '
     'PARSE_FAILED OVERFLOW OS_TYPE SEXPR_SERIAL INVALID_DOMAIN '
     'INVALID_NETWORK INVALID_MAC INVALID_STORAGE_POOL INVALID_STORAGE_VOL '
     'INVALID_NODE_DEVICE INVALID_INTERFACE INVALID_NWFILTER INVALID_SECRET '
     'INVALID_DOMAIN_SNAPSHOT INVALID_STREAM INVALID_NWFILTER_BINDING '
     'INVALID_DOMAIN_CHECKPOINT INVALID_NETWORK_PORT'),
    (exception.VolumeRBDError,
     'INTERNAL_ERROR NO_MEMORY OPERATION_FAILED GET_FAILED POST_FAILED '
     'HTTP_ERROR XEN_CALL CALL_FAILED OPEN_FAILED READ_FAILED WRITE_FAILED '
     'SYSTEM_ERROR BUILD_FIREWALL MIGRATE_PERSIST_FAILED MIGRATE_FINISH_OK '
     'HOOK_SCRIPT_FAILED'),
)

#: The name of libvirt's number, without the prefix, to our error.
TABLE: Mapping[str, _Kind] = {
    name: kind for kind, names in _GROUPS for name in names.split()}

#: SYSTEM_ERROR, by the errno.
BY_ERRNO: Mapping[int, _Kind] = {
    errno.ENOENT: exception.NotFound,
    errno.EEXIST: exception.Conflict,
    errno.EBUSY: exception.StorageVolumeBusy,
    errno.EACCES: exception.AccessDenied,
    errno.EPERM: exception.AccessDenied,
    errno.EROFS: exception.AccessDenied,
    errno.ENOSPC: exception.NoSpace,
    errno.EDQUOT: exception.NoSpace,
    errno.ETIMEDOUT: exception.ClusterUnavailable,
    errno.ECONNREFUSED: exception.ClusterUnavailable,
}

_INACTIVE = re.compile(r"storage pool '.*' is not active")
# qemu-img, which libvirtd runs, about a disk that a guest has.
_LOCKED = re.compile(r'Failed to get .*lock')


def names() -> dict[str, int]:
    """The errors that the bindings know, with their numbers."""
    module = bindings.libvirt()
    return {name.removeprefix(_PREFIX): number
            for name, number in vars(module).items()
            if name.startswith(_PREFIX) and number
            and name.removeprefix(_PREFIX) not in _LEVELS}


@functools.cache
def _by_number() -> dict[int, str]:
    return {number: name for name, number in names().items()}


def _kind_of(error: Any) -> _Kind:
    module = bindings.libvirt()
    if error.get_error_domain() in [getattr(module, part)
                                    for part in _SPOKESMEN]:
        return exception.LibvirtUnavailable
    text = str(error)
    if _INACTIVE.search(text):
        return exception.StoragePoolInactive
    if _LOCKED.search(text):
        return exception.StorageVolumeBusy
    name = _by_number().get(error.get_error_code(), '')
    if name == 'SYSTEM_ERROR':
        return BY_ERRNO.get(error.get_int1() or 0, exception.VolumeRBDError)
    return TABLE.get(name, exception.VolumeRBDError)


def translate(error: BaseException, what: str, on: str
              ) -> exception.VolumeRBDError | None:
    """*error* in our words, None if it is not one of libvirt's.

    :param what: the verb: 'start', 'look up'.
    """
    if type(error).__module__ != 'libvirt':
        return None
    kind = _kind_of(error)
    remedy = ''
    if kind is exception.LibvirtUnavailable and what != 'open':
        remedy = (kind.default_remedy + ' What was asked for may have been '
                  'done: look before trying again.')
    return kind(f'libvirt cannot {what} {on}: {error}.', remedy=remedy)


@contextlib.contextmanager
def translating(what: str, on: str) -> Iterator[None]:
    """Inside, libvirt's errors become ours: "libvirt cannot *what* *on*"."""
    try:
        yield
    except Exception as error:
        ours = translate(error, what, on)
        if ours is None:
            raise
        raise ours from error
