# SPDX-License-Identifier: Apache-2.0
"""The table of Ceph's errors: complete, and right about its subjects."""

import errno

import pytest
import rados
import rbd

from volume_rbd import exception, model
from volume_rbd.ceph import errors

IMAGE = model.ImageSpec('volumes', 'a')
SNAPSHOT = model.SnapSpec('volumes', 'a', 's')


def _foreign_errors():
    return sorted(
        f'{module.__name__}.{name}' for module in (rbd, rados)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
        and kind.__module__ == module.__name__)


def test_the_table_has_every_error_of_the_bindings_and_no_other():
    assert _foreign_errors() == sorted(errors.TABLE)


@pytest.mark.parametrize(('on', 'kind'), [
    (IMAGE, exception.ImageNotFound),
    (SNAPSHOT, exception.SnapshotNotFound),
    ('volumes', exception.PoolNotFound)])
def test_the_subject_says_what_is_missing(on, kind):
    for foreign in (rbd.ImageNotFound('x', errno=2),
                    rados.ObjectNotFound('x', errno=2)):
        assert type(errors.translate(foreign, 'open', on)) is kind


@pytest.mark.parametrize(('foreign', 'kind'), [
    (rbd.ImageBusy('x', errno=16), exception.SnapshotBusy),
    (rbd.ImageExists('x', errno=17), exception.SnapshotExists),
    (rbd.PermissionError('x', errno=1), exception.CephPermissionDenied),
    (rados.PermissionDeniedError('x', errno=13),
     exception.CephPermissionDenied),
    (rbd.DiskQuotaExceeded('x', errno=errno.EDQUOT), exception.NoSpace),
    (rbd.ConnectionShutdown('x', errno=108), exception.ClusterUnavailable),
    (rados.TimedOut('x', errno=110), exception.OperationTimeout),
    (rbd.OperationCanceled('x', errno=125), exception.Cancelled)])
def test_a_snapshots_errors(foreign, kind):
    assert type(errors.translate(foreign, 'remove', SNAPSHOT)) is kind


@pytest.mark.parametrize(('number', 'kind'), [
    (errno.EDQUOT, exception.NoSpace),
    (errno.ENOSPC, exception.NoSpace),
    (errno.ESHUTDOWN, exception.ClusterUnavailable),
    (errno.ETIMEDOUT, exception.OperationTimeout),
    (errno.EROFS, exception.NotSupported),
    (errno.EINVAL, exception.InvalidInput),
    (errno.EACCES, exception.CephPermissionDenied),
    (errno.EMLINK, exception.ImageBusy),
    (errno.EXDEV, exception.VolumeRBDError)])
def test_an_error_without_a_class_goes_by_its_number(number, kind):
    for foreign in (rbd.OSError('x', errno=number),
                    rados.OSError('x', errno=number)):
        assert type(errors.translate(foreign, 'open', IMAGE)) is kind
    assert type(errors.from_code(-number, 'open', IMAGE)) is kind


def test_a_subclass_that_is_unknown_goes_by_its_base():
    class Later(rbd.ImageNotFound):
        pass

    found = errors.translate(Later('x', errno=2), 'open', IMAGE)
    assert type(found) is exception.ImageNotFound


@pytest.mark.parametrize('foreign', [
    ValueError('x'), PermissionError('the builtin one'), OSError(2, 'x'),
    exception.ImageBusy('ours')])
def test_what_is_not_cephs_passes_unchanged(foreign):
    with pytest.raises(type(foreign)) as caught, errors.translating(
            'open', IMAGE):
        raise foreign
    assert caught.value is foreign


def test_the_message_says_what_was_tried_on_what_by_whom():
    with pytest.raises(exception.CephPermissionDenied) as caught, \
            errors.translating('open', IMAGE, 'client.nova'):
        raise rbd.PermissionError(
            "error opening image b'a' at snapshot None", errno=1)

    assert caught.value.message == (
        'Cannot open volumes/a as client.nova: RBD permission error.')
    assert isinstance(caught.value.__cause__, rbd.PermissionError)


# -- progress --------------------------------------------------------------
def test_no_callback_is_none_for_librbd():
    with errors.reporting(None) as callback:
        assert callback is None


def test_a_callback_that_returns_goes_on():
    calls = []
    with errors.reporting(lambda *done: calls.append(done)) as callback:
        assert callback(1, 2) == 0
    assert calls == [(1, 2)]


def test_a_callback_that_raises_aborts_and_is_not_called_again():
    calls = []

    def stop(done, total):
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _flatten(stop)
    assert calls == [1]


def _flatten(on_progress):
    """As librbd does it when the callback refuses."""
    with errors.reporting(on_progress) as callback, errors.translating(
            'flatten', IMAGE):
        assert callback(1, 2) == -errno.ECANCELED
        assert callback(2, 2) == -errno.ECANCELED
        raise rbd.OperationCanceled('x', errno=errno.ECANCELED)


def test_without_a_callbacks_error_librbds_own_comes_through():
    with pytest.raises(exception.ImageBusy), errors.reporting(
            lambda *done: None), errors.translating('remove', IMAGE):
        raise rbd.ImageBusy('x', errno=16)
