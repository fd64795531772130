# SPDX-License-Identifier: Apache-2.0
"""The words of a plan: strategies, reasons, their sentences.

:data:`SENTENCES` has one row for each reason code, and a code never changes
its meaning once it was released.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence

from volume_rbd import exception, model


class Operation(enum.StrEnum):
    CREATE_FROM_IMAGE = 'create_from_image'
    UPLOAD_TO_IMAGE = 'upload_to_image'
    FETCH_IMAGE = 'fetch_image'


class Strategy(enum.StrEnum):
    """One way to do an operation; the words are those of the design."""

    CLONE = 'clone'
    CONVERT = 'convert'
    COPY = 'copy'
    DOWNLOAD = 'download'
    UPLOAD = 'upload'
    EXPORT = 'export'
    REUSE = 'reuse'


class Reason(enum.StrEnum):
    """Stable codes, for programs; people read :data:`SENTENCES`."""

    # why a clone is right
    SAME_CLUSTER = 'same_cluster'
    BASE_CACHED = 'base_cached'
    # about the image (create)
    NOT_RAW = 'not_raw'
    NOT_BARE = 'not_bare'
    ENCRYPTED_IMAGE = 'encrypted_image'
    ENCRYPTION_WANTED = 'encryption_wanted'
    EMPTY_IMAGE = 'empty_image'
    # about its locations
    NO_LOCATION = 'no_location'
    NOT_RBD = 'not_rbd'
    MALFORMED_LOCATION = 'malformed_location'
    OTHER_CLUSTER = 'other_cluster'
    FOREIGN_LOCATION = 'foreign_location'
    MISSING_SNAPSHOT = 'missing_snapshot'
    SNAPSHOT_DENIED = 'snapshot_denied'
    SNAPSHOT_UNREADABLE = 'snapshot_unreadable'
    # about policy
    CLONE_DISABLED = 'clone_disabled'
    DEPTH_REACHED = 'depth_reached'
    INDEPENDENCE_WANTED = 'independence_wanted'
    NOT_IN_THIS_RELEASE = 'not_in_this_release'
    # about Glance's stores
    STORES_FORBIDDEN = 'stores_forbidden'
    STORES_NOT_CONFIGURED = 'stores_not_configured'
    STORES_BROKEN = 'stores_broken'
    NO_DEFAULT_STORE = 'no_default_store'
    STORE_NOT_RBD = 'store_not_rbd'
    STORE_FSID_UNKNOWN = 'store_fsid_unknown'
    STORE_OTHER_CLUSTER = 'store_other_cluster'
    # about the volume (upload)
    ENCRYPTED_VOLUME = 'encrypted_volume'
    DECRYPTION_WANTED = 'decryption_wanted'
    EMPTY_VOLUME = 'empty_volume'
    # about a local file (fetch)
    SNAPSHOT_READABLE = 'snapshot_readable'
    ALREADY_FETCHED = 'already_fetched'
    DIRECT_DISABLED = 'direct_disabled'
    CLUSTER_UNAVAILABLE = 'cluster_unavailable'
    # found out only by trying
    CLONE_DENIED = 'clone_denied'
    CLONE_FAILED = 'clone_failed'
    COPY_FAILED = 'copy_failed'
    EXPORT_FAILED = 'export_failed'
    LOCATION_API_MISSING = 'location_api_missing'
    LOCATION_FORBIDDEN = 'location_forbidden'
    LOCATION_REFUSED = 'location_refused'
    LOCATION_TASK_FAILED = 'location_task_failed'


SENTENCES: Mapping[Reason, str] = {
    Reason.SAME_CLUSTER:
        'Image and volume share one Ceph cluster, so the data is shared.',
    Reason.BASE_CACHED:
        'The image was converted before, and its raw base is shared.',
    Reason.NOT_RAW:
        'The disk format is not raw, so its bytes are not those of a disk.',
    Reason.NOT_BARE:
        'The container format is not bare, so the disk is wrapped in '
        'something else.',
    Reason.ENCRYPTED_IMAGE:
        'The image is encrypted; a clone would share its key.',
    Reason.ENCRYPTION_WANTED:
        'The volume is to be encrypted, so every byte of the disk is written '
        'anew.',
    Reason.EMPTY_IMAGE:
        'The image has no bytes to share.',
    Reason.NO_LOCATION:
        'Glance shows no location of the image to this user.',
    Reason.NOT_RBD:
        'The image does not lie in RBD.',
    Reason.MALFORMED_LOCATION:
        'The location is not a well-formed rbd:// URL.',
    Reason.OTHER_CLUSTER:
        'The image lies in another Ceph cluster.',
    Reason.FOREIGN_LOCATION:
        "The location is not in a pool of Glance's RBD stores or not named "
        'after the image, so its owner may have written it: it is never '
        'read directly.',
    Reason.MISSING_SNAPSHOT:
        'The snapshot that the location names does not exist.',
    Reason.SNAPSHOT_DENIED:
        'The cephx user may not read the pool of the image.',
    Reason.SNAPSHOT_UNREADABLE:
        'The snapshot that the location names cannot be opened.',
    Reason.CLONE_DISABLED:
        'enable_clone_optimization is off for this backend.',
    Reason.DEPTH_REACHED:
        'The chain of clones has reached rbd_max_clone_depth.',
    Reason.INDEPENDENCE_WANTED:
        'rbd_flatten_volume_from_snapshot asks for volumes that depend on '
        'nothing.',
    Reason.NOT_IN_THIS_RELEASE:
        'This release does not have this strategy yet.',
    Reason.STORES_FORBIDDEN:
        "Glance does not tell its stores' details to these credentials "
        '(403): they need the admin or service role.',
    Reason.STORES_NOT_CONFIGURED:
        'Glance has no enabled_backends, so it has no stores to tell (404).',
    Reason.STORES_BROKEN:
        'Glance failed to tell its stores (5xx).',
    Reason.NO_DEFAULT_STORE:
        'Glance names no default store.',
    Reason.STORE_NOT_RBD:
        "Glance's store for this image is not RBD.",
    Reason.STORE_FSID_UNKNOWN:
        "Glance does not tell the store's cluster (fsid), so it cannot be "
        'known to be ours.',
    Reason.STORE_OTHER_CLUSTER:
        "Glance's store lies in another Ceph cluster.",
    Reason.ENCRYPTED_VOLUME:
        'The volume is encrypted; a clone would share its key.',
    Reason.DECRYPTION_WANTED:
        'The image is to be the disk inside of the encrypted volume.',
    Reason.EMPTY_VOLUME:
        'The volume has no bytes to share.',
    Reason.SNAPSHOT_READABLE:
        'The snapshot of the image can be read here, so its bytes need not '
        'pass through Glance.',
    Reason.ALREADY_FETCHED:
        'The file is there already.',
    Reason.DIRECT_DISABLED:
        'No location may be read directly: allowed_direct_url_schemes does '
        'not have rbd.',
    Reason.CLUSTER_UNAVAILABLE:
        'The Ceph cluster of the images does not answer here.',
    Reason.CLONE_DENIED:
        'The cephx user may not write to the pool of the images.',
    Reason.CLONE_FAILED:
        'The clone could not be made.',
    Reason.COPY_FAILED:
        'The copy inside the cluster could not be made.',
    Reason.EXPORT_FAILED:
        'The snapshot of the image could not be read to its end.',
    Reason.LOCATION_API_MISSING:
        'Glance does not offer the locations API (2.17).',
    Reason.LOCATION_FORBIDDEN:
        'Glance does not let these credentials register a location (403).',
    Reason.LOCATION_REFUSED:
        'Glance refused the location (400).',
    Reason.LOCATION_TASK_FAILED:
        'Glance took the location and could not open it; most often its '
        'cephx user may not read the pool of the volumes.',
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """One strategy and why it is taken, or why it is not."""

    strategy: Strategy
    reason: Reason
    detail: str = ''

    @property
    def sentence(self) -> str:
        text = SENTENCES[self.reason]
        return f'{text[:-1]} ({self.detail}).' if self.detail else text

    def as_dict(self) -> dict[str, str]:
        return {'strategy': self.strategy.value, 'reason': self.reason.value,
                'sentence': self.sentence}


@dataclasses.dataclass(frozen=True)
class Plan:
    """An ordered list of choices, and what was ruled out.

    :param choices: never empty; the first is taken.
    :param source: the snapshot to clone, to copy or to convert from (create);
        None where the image's bytes come through Glance.
    :param is_size_fixed: False: *size_bytes* is the least, and the volume
        grows to what the disk inside of the image turns out to need.
    :param leaves_base: what is converted becomes a base, and the volume a
        clone of that.
    :param must_be_downloadable: only who may download the image gets a clone
        of its base: who made that had to download it.
    :param stages_clone: what is converted is a clone of *source* beside the
        volume: qemu could not open *source* itself.
    :param store: where an upload goes; None: Glance decides.
    :param size_bytes: of the volume that will be made, or of the image.
    """

    operation: Operation
    choices: tuple[Choice, ...]
    ruled_out: tuple[Choice, ...] = ()
    source: model.SnapSpec | None = None
    store: model.StoreInfo | None = None
    size_bytes: int = 0
    is_size_fixed: bool = True
    leaves_base: bool = False
    must_be_downloadable: bool = False
    stages_clone: bool = False

    @property
    def strategy(self) -> Strategy:
        return self.choices[0].strategy

    @property
    def reason(self) -> Reason:
        return self.choices[0].reason

    @property
    def sentence(self) -> str:
        return self.choices[0].sentence


#: What there is.
BUILT = frozenset(Strategy)

# A copy of an image reads the same snapshot. One of a volume is registered as
# a clone is, and lies in the same pool: it would meet the same refusal, after
# all the bytes were moved.
_ALSO_AGAINST_COPY = frozenset({
    Reason.MISSING_SNAPSHOT, Reason.SNAPSHOT_DENIED,
    Reason.CLONE_DENIED, Reason.LOCATION_API_MISSING,
    Reason.LOCATION_FORBIDDEN, Reason.LOCATION_REFUSED})


def is_worth_trying(strategy: str, after: str) -> bool:
    """Whether *strategy* may do it where another one was refused.

    :param after: the reason of that refusal.
    """
    return strategy != Strategy.COPY or after not in _ALSO_AGAINST_COPY


_REMEDIES = {
    Operation.CREATE_FROM_IMAGE:
        'Convert the image to raw ("qemu-img convert -O raw") and use that.',
    Operation.UPLOAD_TO_IMAGE:
        'Upload it with --disk-format raw and container format bare.',
}


def settle(plan: Plan, reason: Reason, detail: str,
           wanted: Sequence[Strategy], built: frozenset[Strategy]) -> Plan:
    """*plan* with those of the strategies that would do which we have.

    :param reason: why it is no clone.
    :param wanted: empty: nothing can do it.
    :raises NotSupported: none is left.
    """
    ruled_out = [Choice(Strategy.CLONE, reason, detail)]
    ruled_out += [Choice(way, Reason.NOT_IN_THIS_RELEASE)
                  for way in wanted if way not in built]
    choices = tuple(Choice(way, reason, detail)
                    for way in wanted if way in built)
    if not choices:
        missing = (f'It takes the strategy {wanted[0]!s}, which this release '
                   'does not have.' if wanted else
                   'There is no strategy for that.')
        raise exception.NotSupported(f'{ruled_out[0].sentence} {missing}',
                                     remedy=_REMEDIES[plan.operation])
    return dataclasses.replace(plan, choices=choices,
                               ruled_out=tuple(ruled_out))


def refuse_conversion(operation: Operation) -> exception.NotSupported:
    return exception.NotSupported(
        'The formats differ, and image_conversion_disable forbids to '
        'convert.', remedy=_REMEDIES[operation])
