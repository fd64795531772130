# SPDX-License-Identifier: Apache-2.0
"""Each error of ours is one that Cinder can deal with."""

from __future__ import annotations

import pytest
from cinder import exception as cinder_exception

from volume_rbd import exception
from volume_rbd.cinder import errors

ALL = [kind for kind in vars(exception).values()
       if isinstance(kind, type)
       and issubclass(kind, exception.VolumeRBDError)]


@pytest.mark.parametrize('kind', ALL)
def test_each_becomes_an_exception_of_cinders_with_its_words(
        kind: type[exception.VolumeRBDError]) -> None:
    error = kind('It went wrong.', remedy='Mend it.')
    with pytest.raises(cinder_exception.CinderException) as raised, \
            errors.translating():
        raise error
    assert str(raised.value) == 'It went wrong. Mend it.'
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(('ours', 'theirs'), [
    (exception.ImageBusy, cinder_exception.VolumeIsBusy),
    (exception.ImageHasSnapshots, cinder_exception.VolumeIsBusy),
    (exception.SnapshotBusy, cinder_exception.SnapshotIsBusy),
    (exception.SnapshotNotFound, cinder_exception.SnapshotNotFound),
    (exception.GlanceImageNotUsable, cinder_exception.ImageUnacceptable),
    (exception.ImageUnsafe, cinder_exception.ImageUnacceptable),
    (exception.GlanceImageNotFound, cinder_exception.ImageNotFound),
    (exception.SignatureInvalid,
     cinder_exception.ImageSignatureVerificationException),
    (exception.DataCorrupted, cinder_exception.ImageCopyFailure),
    (exception.ClusterUnavailable,
     cinder_exception.VolumeBackendAPIException),
    (exception.NoSpace, cinder_exception.VolumeBackendAPIException),
])
def test_those_that_cinder_treats_specially(
        ours: type[exception.VolumeRBDError],
        theirs: type[cinder_exception.CinderException]) -> None:
    assert errors.get_kind(ours('x')) is theirs


def test_a_volume_too_small_for_its_image_is_the_images_fault() -> None:
    assert errors.get_kind(
        exception.InvalidSize('x'), errors.FROM_IMAGE
    ) is cinder_exception.ImageUnacceptable


def test_a_bad_reference_is_the_administrators() -> None:
    for kind in (exception.ImageNotFound, exception.ImageBusy,
                 exception.ImageExists, exception.InvalidName):
        assert errors.get_kind(kind('x'), errors.MANAGE) is (
            cinder_exception.ManageExistingInvalidReference)


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ValueError, match='x'), errors.translating():
        raise ValueError('x')
