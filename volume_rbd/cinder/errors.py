# SPDX-License-Identifier: Apache-2.0
"""The driver's errors as Cinder's.

Cinder's manager treats some of its exceptions specially: VolumeIsBusy and
SnapshotIsBusy give back what could not be deleted, ImageUnacceptable and its
kin are not tried on another backend, and so on (see
``cinder.volume.flows.manager.create_volume.NO_RETRY`` and the manager's
handlers). The table says which of ours is which of those; what is not in it
is VolumeBackendAPIException, for which another backend may be tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from cinder import exception as cinder_exception

from volume_rbd import exception

Kinds = Mapping[type[exception.VolumeRBDError],
                type[cinder_exception.CinderException]]

#: The nearest class of an error's own line of ancestors counts.
TABLE: Kinds = {
    exception.VolumeRBDError: cinder_exception.VolumeBackendAPIException,
    exception.InvalidInput: cinder_exception.InvalidInput,
    exception.ConfigurationError: cinder_exception.InvalidConfigurationValue,
    exception.ImageNotFound: cinder_exception.VolumeNotFound,
    exception.SnapshotNotFound: cinder_exception.SnapshotNotFound,
    exception.GlanceImageNotFound: cinder_exception.ImageNotFound,
    exception.ImageBusy: cinder_exception.VolumeIsBusy,
    exception.ImageHasSnapshots: cinder_exception.VolumeIsBusy,
    exception.SnapshotBusy: cinder_exception.SnapshotIsBusy,
    exception.GlanceImageNotUsable: cinder_exception.ImageUnacceptable,
    exception.ImageUnsafe: cinder_exception.ImageUnacceptable,
    exception.GlanceForbidden: cinder_exception.ImageNotAuthorized,
    exception.GlanceUnauthorized: cinder_exception.ImageNotAuthorized,
    exception.GlanceUnavailable: cinder_exception.GlanceConnectionFailed,
    exception.SignatureInvalid:
        cinder_exception.ImageSignatureVerificationException,
    exception.DataCorrupted: cinder_exception.ImageCopyFailure,
    exception.RegistrationPending: cinder_exception.ImageCopyFailure,
}

#: Where an image becomes a volume: what cannot fit will fit nowhere else.
FROM_IMAGE: Kinds = {
    exception.InvalidSize: cinder_exception.ImageUnacceptable,
}

#: Where a name was given by an administrator.
MANAGE: Kinds = {
    kind: cinder_exception.ManageExistingInvalidReference for kind in (
        exception.InvalidInput, exception.NotFound, exception.ImageNotFound,
        exception.SnapshotNotFound, exception.Conflict, exception.ImageBusy,
        exception.SnapshotBusy)
}


def get_kind(error: exception.VolumeRBDError, special: Kinds = TABLE
             ) -> type[cinder_exception.CinderException]:
    """:param special: goes before :data:`TABLE` for the same class."""
    table = {**TABLE, **special}
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


@contextlib.contextmanager
def translating(special: Kinds = TABLE) -> Iterator[None]:
    """Within the block, what the driver raises is raised as Cinder's."""
    try:
        yield
    except exception.VolumeRBDError as error:
        # With a message of ours Cinder does not fill in a template.
        raise get_kind(error, special)(message=str(error)) from error
