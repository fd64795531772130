# SPDX-License-Identifier: Apache-2.0
"""Every error of the project, in one tree.

::

    VolumeRBDError                      exit code of the command line
     ├─ InvalidInput                    2   what was asked for makes no sense
     │   ├─ InvalidSize
     │   ├─ InvalidName
     │   ├─ InvalidLocation
     │   └─ ConfigurationError          2
     ├─ NotFound                        3
     │   ├─ ImageNotFound                   an rbd_image (librbd's word)
     │   ├─ SnapshotNotFound
     │   ├─ PoolNotFound
     │   ├─ GlanceImageNotFound
     │   ├─ StoreNotFound
     │   ├─ RecordNotFound                  of a job, in RADOS
     │   ├─ JobNotFound
     │   ├─ KeyNotFound                     in the key manager
     │   ├─ StoragePoolNotFound             libvirt's, not Ceph's
     │   ├─ StorageVolumeNotFound           in a storage_pool
     │   ├─ SecretNotFound                  libvirt's, or it has no value
     │   └─ BackendNotFound
     ├─ Conflict                        4   the state of things forbids it
     │   ├─ ImageExists
     │   ├─ ImageBusy
     │   ├─ ImageHasSnapshots
     │   ├─ SnapshotExists
     │   ├─ SnapshotBusy
     │   ├─ GlanceImageNotUsable            queued, deactivated, deleted …
     │   ├─ ImageUnsafe                     not what it is said to be
     │   ├─ GlanceConflict
     │   ├─ ImageNotCopied                  into another store, by Glance
     │   ├─ RecordChanged                   by another process meanwhile
     │   ├─ JobConflict                     another job is at work with it
     │   ├─ JobLost                         another process has taken it over
     │   ├─ StoragePoolConflict             one of that name is something else
     │   ├─ StoragePoolInactive             defined, and not started
     │   ├─ StorageVolumeExists
     │   ├─ StorageVolumeBusy               a guest or another process has it
     │   └─ StoreReadOnly
     ├─ AccessDenied                    5
     │   ├─ CephPermissionDenied
     │   ├─ WrongPassphrase                 it opens no such volume
     │   ├─ GlanceForbidden
     │   └─ GlanceUnauthorized
     ├─ Unavailable                     6   try again when it is back
     │   ├─ ClusterUnavailable
     │   ├─ GlanceUnavailable
     │   ├─ BackendProcessLost              a backend's process died
     │   ├─ LibvirtUnavailable
     │   ├─ ApiNotImplemented               this server does not offer the call
     │   └─ OperationTimeout
     ├─ LimitExceeded                   7
     │   ├─ NoSpace
     │   └─ QuotaExceeded
     ├─ NotSupported                    8   this release cannot do it yet
     ├─ DataCorrupted                   9   a hash did not match
     │   ├─ ConversionFailed                qemu-img gave up
     │   └─ SignatureInvalid                nobody vouches for the bytes
     ├─ RegistrationPending             10  Glance took it and did not finish
     ├─ NotThisWay                          another strategy may still do it
     │   ├─ NotCloneable
     │   ├─ NotCopyable
     │   └─ RegistrationRefused
     ├─ SandboxError                    11
     └─ Cancelled                       130

``NotThisWay`` is what a strategy raises when it cannot do the work but nothing
is wrong with the request: the flow's retry controller goes on to the next one.
Everything else ends the operation.
"""

from __future__ import annotations

from typing import Any


class VolumeRBDError(Exception):
    """An error with what happened, to what, and what to do about it.

    :param message: what happened, to what; one sentence, no secret in it.
    :param remedy: what a person can do about it; one sentence or empty.
    """

    exit_code = 1
    default_remedy = ''

    def __init__(self, message: str, *, remedy: str = '') -> None:
        # taskflow persists a failure as its type's name and these args.
        super().__init__(message, remedy or self.default_remedy)
        self.message = message
        self.remedy = remedy or self.default_remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through __init__: remedy and reason are keywords there.
        return _remake, (type(self), self.args), self.__dict__

    def __str__(self) -> str:
        if not self.remedy:
            return self.message
        return f'{self.message} {self.remedy}'


def _remake(kind: type[VolumeRBDError], args: tuple[Any, ...]
            ) -> VolumeRBDError:
    return kind.__new__(kind, *args)


class InvalidInput(VolumeRBDError):
    """What was asked for makes no sense, whatever the state of the world."""

    exit_code = 2


class InvalidSize(InvalidInput):
    """A size that is no number, not positive, or too small for the data."""


class InvalidName(InvalidInput):
    """A name that RBD or Glance cannot express."""


class InvalidLocation(InvalidInput):
    """An image location that is not a well-formed rbd:// URL."""


class ConfigurationError(InvalidInput):
    """An option is missing, unknown or contradicts another."""


class NotFound(VolumeRBDError):
    """Something that was named does not exist."""

    exit_code = 3


class ImageNotFound(NotFound):
    """No such rbd_image in the pool."""

    default_remedy = 'Check the name with "volume-rbd list".'


class SnapshotNotFound(NotFound):
    """The rbd_image has no such snapshot."""

    default_remedy = 'Check the name with "volume-rbd snapshot list".'


class PoolNotFound(NotFound):
    """No such ceph_pool in the cluster."""

    default_remedy = ('Check the pool name in the configuration against '
                      '"ceph osd pool ls".')


class GlanceImageNotFound(NotFound):
    """Glance knows no such image, or does not show it to this user."""

    default_remedy = ('Check the id with "openstack image list"; a private '
                      'image of another project looks the same as none.')


class StoreNotFound(NotFound):
    """Glance has no store of that id."""


class RecordNotFound(NotFound):
    """There is no record of this name in RADOS."""


class JobNotFound(NotFound):
    default_remedy = 'See "volume-rbd jobs list --all".'


class KeyNotFound(NotFound):
    """The key manager has no such key, or does not show it to this user."""

    default_remedy = ('Check the id and whose key it is, for instance with '
                      '"openstack secret list".')


class StoragePoolNotFound(NotFound):
    """libvirt knows no storage_pool of that name."""

    default_remedy = 'Run "volume-rbd pool ensure".'


class StorageVolumeNotFound(NotFound):
    """The storage_pool has no volume of that name."""

    default_remedy = 'Check the name with "volume-rbd pool list".'


class SecretNotFound(NotFound):
    """libvirt has no such secret, or the secret has no value."""

    default_remedy = ('Run "volume-rbd pool ensure", which hands libvirt the '
                      'key of the disks\' user.')


class BackendNotFound(NotFound):
    """The configuration has no such backend section."""


class Conflict(VolumeRBDError):
    """The state of things forbids what was asked for."""

    exit_code = 4


class ImageExists(Conflict):
    """An rbd_image of that name exists already."""

    default_remedy = 'Choose another name.'


class ImageBusy(Conflict):
    """The rbd_image is open elsewhere (it has a watcher)."""

    default_remedy = ('Close what uses it and try again; the watch of a '
                      'killed client expires within 30 seconds. One that '
                      'does not is ended with "ceph osd blocklist add '
                      'ADDRESS".')


class ImageHasSnapshots(Conflict):
    """The rbd_image cannot be removed while it has snapshots."""


class SnapshotExists(Conflict):
    """A snapshot of that name exists already."""

    default_remedy = 'Choose another name.'


class SnapshotBusy(Conflict):
    """The snapshot is protected or has children."""


class GlanceImageNotUsable(Conflict):
    """The Glance image is not active, or changed under our hands."""


class ImageUnsafe(Conflict):
    """The image is not of the format it is said to be, or refers to what lies
    outside of it, or is encrypted."""

    default_remedy = ('Convert it to raw or to a plain qcow2 on a machine '
                      'that trusts it, and upload that with the right '
                      'disk_format.')


class GlanceConflict(Conflict):
    """Glance refused a change because of the image's state (409)."""


class ImageNotCopied(Conflict):
    """Glance failed to copy an image into another of its stores."""

    default_remedy = ("Glance's log says why. Copy it once more, or see that "
                      'the store has room.')


class RecordChanged(Conflict):
    """Another process wrote the record meanwhile; read it again."""


class JobConflict(Conflict):
    """Another job is at work with the same volume or image."""

    default_remedy = 'Wait until it has ended; see "volume-rbd jobs list".'
    #: The other one's id.
    job = ''


class JobLost(Conflict):
    """This process no longer has the job that it was running."""

    default_remedy = ('Another process finishes it; see "volume-rbd jobs '
                      'show".')


class StoragePoolConflict(Conflict):
    """A storage_pool of that name exists, and is another one."""

    default_remedy = ('Name another one in [libvirt] base_storage_pool or '
                      'disks_storage_pool, or remove this one with "virsh '
                      'pool-undefine"; its data stays.')


class StoragePoolInactive(Conflict):
    """The storage_pool is defined and not started."""

    default_remedy = 'Run "volume-rbd pool ensure".'


class StorageVolumeExists(Conflict):
    """The storage_pool has something of that name already."""

    default_remedy = 'Choose another name.'


class StorageVolumeBusy(Conflict):
    """A guest or another process has the volume in use."""

    default_remedy = 'Shut the guest down, or wait, and try again.'


class StoreReadOnly(Conflict):
    """The store that was chosen takes no new images."""


class AccessDenied(VolumeRBDError):
    """Somebody may not do what was tried."""

    exit_code = 5


class CephPermissionDenied(AccessDenied):
    """cephx caps of our user do not allow the call."""

    default_remedy = ('Compare the user\'s caps ("ceph auth get '
                      'client.<user>") with those in the security note.')


class WrongPassphrase(AccessDenied):
    """The passphrase does not open the encrypted volume."""

    default_remedy = 'Give the one that the volume (or image) was made with.'


class GlanceForbidden(AccessDenied):
    """Glance's policy forbids the call to this token (403)."""


class GlanceUnauthorized(AccessDenied):
    """The credentials were not accepted (401)."""

    default_remedy = 'Check the OS_* variables or the [glance] section.'


class Unavailable(VolumeRBDError):
    """A service did not answer; the same call may work later."""

    exit_code = 6


class ClusterUnavailable(Unavailable):
    """The Ceph cluster cannot be reached, or the connection was lost."""

    default_remedy = ('Check the monitors with "ceph -s", the ceph.conf in '
                      'rbd_ceph_conf (for disks: images_rbd_ceph_conf) and '
                      "the user's keyring.")


class GlanceUnavailable(Unavailable):
    """Glance cannot be reached or failed inside (5xx).

    :ivar was_sent: False where the request surely did not reach Glance.
    """

    was_sent = True
    default_remedy = 'Check that glance-api runs and look into its log.'


class ApiNotImplemented(Unavailable):
    """The server is reachable and does not offer this call (404, 501)."""


class OperationTimeout(Unavailable):
    """An answer did not come in time."""


class LibvirtUnavailable(Unavailable):
    """libvirtd cannot be reached, or the connection was lost."""

    default_remedy = 'Check that libvirtd runs, and [libvirt] connection_uri.'


class BackendProcessLost(Unavailable):
    """The process that drives a backend ended in the middle of a call."""

    default_remedy = ('Look into the log for what ended it; the next call '
                      'starts another.')


class LimitExceeded(VolumeRBDError):
    """There is no room for the data."""

    exit_code = 7


class NoSpace(LimitExceeded):
    """The pool, the cluster or a local file system is full."""

    default_remedy = ('Free space or raise the pool\'s quota; "ceph df" '
                      'shows what is left.')


class QuotaExceeded(LimitExceeded):
    """A quota of the block-storage service or of Glance forbids it."""


class NotSupported(VolumeRBDError):
    """This release, or this cluster, cannot do it."""

    exit_code = 8


class DataCorrupted(VolumeRBDError):
    """Bytes that arrived do not have the hash that was promised."""

    exit_code = 9
    default_remedy = ('Nothing was kept. Try again; if it stays, the image '
                      'in the store is damaged.')


class SignatureInvalid(DataCorrupted):
    """The image's signature does not fit its bytes, or cannot be checked.

    Ends the operation: no other strategy would make the image a better one.
    """

    default_remedy = ('Nothing was kept. Do not use the image before whoever '
                      'signed it has looked at it, its img_signature '
                      'properties and the certificate.')


class ConversionFailed(DataCorrupted):
    """qemu-img gave up on a disk."""

    default_remedy = ('Nothing was kept. Check the image with "qemu-img '
                      'check"; the log has more.')


class RegistrationPending(VolumeRBDError):
    """Glance accepted a location (202) and has not made the image active.

    The clone or copy stays, marked pending: to undo it could leave an active
    image without data.
    """

    exit_code = 10


class NotThisWay(VolumeRBDError):
    """This strategy cannot do it; another one may.

    :param reason: the stable code that the result will carry.
    """

    exit_code = 1

    def __init__(self, message: str, *, reason: str = 'not_this_way',
                 remedy: str = '') -> None:
        super().__init__(message, remedy=remedy)
        self.args = (message, self.remedy, reason)
        self.reason = reason


class NotCloneable(NotThisWay):
    """A clone cannot be made, or cannot be read by those who need it."""


class NotCopyable(NotThisWay):
    """A copy inside the cluster cannot be made."""


class RegistrationRefused(NotThisWay):
    """Glance does not take what was made as an image's location."""


class SandboxError(VolumeRBDError):
    """A part of the sandbox does not start, stop or answer."""

    exit_code = 11


class Cancelled(VolumeRBDError):
    """Somebody asked to stop; what was made has been undone."""

    exit_code = 130


def describe(error: VolumeRBDError) -> tuple[str, list[object]]:
    """What :func:`from_name` makes it from again, in JSON."""
    kind = type(error)
    return (f'{kind.__module__}.{kind.__qualname__}',
            [error.message, error.remedy, *error.args[2:]])


def from_name(name: str, args: tuple[object, ...]) -> VolumeRBDError | None:
    """The error that was persisted as *name* with *args*; None if not ours.

    Only the classes of this module: a record is untrusted input.
    """
    module, _, kind_name = name.rpartition('.')
    kind = globals().get(kind_name) if module == __name__ else None
    if not (isinstance(kind, type) and issubclass(kind, VolumeRBDError)):
        return None
    texts = [str(arg) for arg in args] + ['', '']
    if issubclass(kind, NotThisWay) and len(args) > 2:
        return kind(texts[0], remedy=texts[1], reason=texts[2])
    return kind(texts[0], remedy=texts[1])
