# SPDX-License-Identifier: Apache-2.0
"""The table of libvirt's errors: complete, and right."""

from __future__ import annotations

import builtins
import errno
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from volume_rbd import exception
from volume_rbd.compute.pools import bindings, connection, errors

STORAGE = libvirt.VIR_FROM_STORAGE


def foreign(code: int, text: str = 'x', domain: int = STORAGE,
            number: int = 0) -> libvirt.libvirtError:
    """As the bindings make one of what libvirt said last."""
    error = libvirt.libvirtError('call() failed')
    error.err = (code, domain, text, libvirt.VIR_ERR_ERROR, '', '', '',
                 number, -1)
    error.args = (text,)
    return error


def translated(error: BaseException) -> type[exception.VolumeRBDError]:
    found = errors.translate(error, 'start', "storage_pool 'disks'")
    assert found is not None
    return type(found)


def test_the_table_has_every_error_of_libvirt_and_no_other() -> None:
    assert sorted(errors.names()) == sorted(errors.TABLE)


def test_no_error_is_in_two_groups() -> None:
    names = ' '.join(group for _, group in errors._GROUPS).split()
    assert len(names) == len(set(names))


@pytest.mark.parametrize(('code', 'kind'), [
    ('NO_STORAGE_POOL', exception.StoragePoolNotFound),
    ('NO_STORAGE_VOL', exception.StorageVolumeNotFound),
    ('STORAGE_VOL_EXIST', exception.StorageVolumeExists),
    ('NO_SECRET', exception.SecretNotFound),
    ('OPERATION_INVALID', exception.Conflict),
    ('AUTH_FAILED', exception.AccessDenied),
    ('NO_SUPPORT', exception.NotSupported),
    ('XML_ERROR', exception.InvalidInput),
    ('INTERNAL_ERROR', exception.VolumeRBDError)])
def test_an_error_goes_by_its_number(
        code: str, kind: type[exception.VolumeRBDError]) -> None:
    number = getattr(libvirt, f'VIR_ERR_{code}')
    assert translated(foreign(number)) is kind


@pytest.mark.parametrize(('number', 'kind'), [
    (errno.ENOENT, exception.NotFound),
    (errno.EPERM, exception.AccessDenied),
    (errno.ENOSPC, exception.NoSpace),
    (errno.ETIMEDOUT, exception.ClusterUnavailable),
    (errno.EIO, exception.VolumeRBDError)])
def test_what_the_system_said_goes_by_its_errno(
        number: int, kind: type[exception.VolumeRBDError]) -> None:
    assert translated(foreign(libvirt.VIR_ERR_SYSTEM_ERROR, number=number)
                      ) is kind


@pytest.mark.parametrize(('code', 'text'), [
    (38, 'Cannot write data: Broken pipe'),
    (1, 'internal error: client socket is closed'),
    (38, 'End of file while reading data: Input/output error')])
def test_a_connection_is_lost_with_any_number(code: int, text: str) -> None:
    error = errors.translate(
        foreign(code, text, libvirt.VIR_FROM_RPC), 'make', 'a disk')
    assert type(error) is exception.LibvirtUnavailable
    assert 'look before trying again' in error.remedy


def test_the_same_where_it_cannot_be_opened_is_sure() -> None:
    error = errors.translate(foreign(38, 'Connection refused',
                                     libvirt.VIR_FROM_RPC), 'open', 'uri')
    assert error
    assert 'again' not in error.remedy


@pytest.mark.parametrize(('text', 'kind'), [
    ("Requested operation is not valid: storage pool 'a' is not active",
     exception.StoragePoolInactive),
    ('internal error: Child process (qemu-img convert) unexpected exit '
     'status 1: qemu-img: Failed to get shared "write" lock',
     exception.StorageVolumeBusy)])
def test_what_only_the_text_says(
        text: str, kind: type[exception.VolumeRBDError]) -> None:
    assert translated(foreign(55, text)) is kind


@pytest.mark.parametrize('error', [
    ValueError('x'), exception.ImageBusy('ours'), OSError(2, 'x')])
def test_what_is_not_libvirts_passes_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, errors.translating('a', 'b'):
        raise error
    assert caught.value is error


def test_the_message_says_what_was_tried_on_what() -> None:
    with pytest.raises(exception.SecretNotFound) as caught, \
            errors.translating('start', "storage_pool 'disks'"):
        raise foreign(libvirt.VIR_ERR_NO_SECRET, 'Secret not found: x')
    assert caught.value.message == (
        "libvirt cannot start storage_pool 'disks': Secret not found: x.")
    assert 'pool ensure' in caught.value.remedy


@pytest.fixture
def without_libvirt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a host that has no bindings."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name == 'libvirt':
            raise ModuleNotFoundError("No module named 'libvirt'", name=name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, '__import__', refuse)
    bindings.libvirt.cache_clear()
    yield
    bindings.libvirt.cache_clear()


@pytest.mark.usefixtures('without_libvirt')
def test_bindings_that_are_missing_are_said_when_they_are_needed() -> None:
    made = connection.Connection('qemu:///system')
    made.close()
    with pytest.raises(exception.NotSupported, match='python3-libvirt'), \
            made.storage('look up', 'x'):
        pass
