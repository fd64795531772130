# SPDX-License-Identifier: Apache-2.0
"""Which way an operation goes, and why. Pure: facts in, a plan out.

A plan is an ordered list of choices; the flow tries the first, and the next
one only where the first one says :class:`~volume_rbd.exception.NotThisWay`.
What was ruled out stands beside it with its reason, so that the same object
feeds the log, the result and ``volume-rbd plan``.

The tables below are the whole decision: :data:`SENTENCES` has one row for each
reason code, and a code never changes its meaning once it was released.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence

from volume_rbd import exception, model


class Operation(enum.StrEnum):
    CREATE_FROM_IMAGE = 'create_from_image'
    UPLOAD_TO_IMAGE = 'upload_to_image'


class Strategy(enum.StrEnum):
    """One way to do an operation; the words are those of the design."""

    CLONE = 'clone'
    CONVERT = 'convert'
    COPY = 'copy'
    DOWNLOAD = 'download'
    UPLOAD = 'upload'


class Reason(enum.StrEnum):
    """Stable codes, for programs; people read :data:`SENTENCES`."""

    # why a clone is right
    SAME_CLUSTER = 'same_cluster'
    # about the image (create)
    NOT_RAW = 'not_raw'
    NOT_BARE = 'not_bare'
    ENCRYPTED_IMAGE = 'encrypted_image'
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
    EMPTY_VOLUME = 'empty_volume'
    # found out only by trying
    CLONE_DENIED = 'clone_denied'
    CLONE_FAILED = 'clone_failed'
    LOCATION_API_MISSING = 'location_api_missing'
    LOCATION_FORBIDDEN = 'location_forbidden'
    LOCATION_REFUSED = 'location_refused'
    LOCATION_TASK_FAILED = 'location_task_failed'


SENTENCES: Mapping[Reason, str] = {
    Reason.SAME_CLUSTER:
        'Image and volume share one Ceph cluster, so the data is shared.',
    Reason.NOT_RAW:
        'The disk format is not raw, so its bytes are not those of a disk.',
    Reason.NOT_BARE:
        'The container format is not bare, so the disk is wrapped in '
        'something else.',
    Reason.ENCRYPTED_IMAGE:
        'The image is encrypted; a clone would share its key.',
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
    Reason.EMPTY_VOLUME:
        'The volume has no bytes to share.',
    Reason.CLONE_DENIED:
        'The cephx user may not write to the pool of the images.',
    Reason.CLONE_FAILED:
        'The clone could not be made.',
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
    :param source: the snapshot to clone from (create by clone).
    :param store: where an upload goes; None: Glance decides.
    :param size_bytes: of the volume that will be made, or of the image.
    """

    operation: Operation
    choices: tuple[Choice, ...]
    ruled_out: tuple[Choice, ...] = ()
    source: model.SnapSpec | None = None
    store: model.StoreInfo | None = None
    size_bytes: int = 0

    @property
    def strategy(self) -> Strategy:
        return self.choices[0].strategy

    @property
    def reason(self) -> Reason:
        return self.choices[0].reason

    @property
    def sentence(self) -> str:
        return self.choices[0].sentence


BUILT = frozenset({Strategy.CLONE, Strategy.DOWNLOAD, Strategy.UPLOAD})


# -- create from image --------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class LocationFacts:
    """One location of the image, and what its snapshot looks like.

    :param problem: why it cannot be cloned; None if it can.
    :param depth: how many ancestors the image has itself.
    :param size_bytes: of the snapshot.
    """

    url: str
    location: model.RBDLocation | None = None
    problem: Reason | None = None
    size_bytes: int = 0
    depth: int = 0


@dataclasses.dataclass(frozen=True)
class CreateFacts:
    """:param size_bytes: what was asked for; None: what the image needs."""

    image: model.GlanceImage
    locations: tuple[LocationFacts, ...] = ()
    size_bytes: int | None = None
    max_clone_depth: int = 5
    flatten_wanted: bool = False
    max_volume_bytes: int | None = None
    built: frozenset[Strategy] = BUILT


def judge_location(url: str, image_id: str, fsid: str,
                   stores: Sequence[model.StoreInfo],
                   image_pools: Sequence[str] = ()) -> LocationFacts:
    """Say whether *url* may be read directly, before anything is opened.

    With show_multiple_locations every project member can write any URL onto
    an image of theirs, so only a pool of Glance's own RBD stores (or of
    ``rbd_image_pools``) and the image's own id as the name are trusted.
    """
    if not url.startswith('rbd://'):
        return LocationFacts(url, problem=Reason.NOT_RBD)
    try:
        location = model.RBDLocation.from_url(url)
    except exception.InvalidLocation:
        return LocationFacts(url, problem=Reason.MALFORMED_LOCATION)
    problem = None
    if location.fsid != fsid:
        problem = Reason.OTHER_CLUSTER
    elif (location.image != image_id
          or not _is_store_pool(location, stores, image_pools)):
        problem = Reason.FOREIGN_LOCATION
    return LocationFacts(url, location, problem)


def _is_store_pool(location: model.RBDLocation,
                   stores: Sequence[model.StoreInfo],
                   image_pools: Sequence[str]) -> bool:
    return location.pool in image_pools or any(
        store.type == 'rbd' and store.pool == location.pool
        and store.fsid in (None, location.fsid) for store in stores)


def check_image_usable(image: model.GlanceImage) -> None:
    """:raises GlanceImageNotUsable: unless the image is active."""
    if image.status != 'active':
        raise exception.GlanceImageNotUsable(
            f'Image {image.id} is {image.status}, not active.',
            remedy='Wait until it is active, or reactivate it.')


def volume_size(facts: CreateFacts) -> int:
    """The size in bytes of the volume that will be made.

    :raises InvalidSize: smaller than the image.
    :raises QuotaExceeded: larger than per_volume_gigabytes allows.
    """
    image = facts.image
    needed = max([image.needed_bytes] + [
        place.size_bytes for place in facts.locations
        if place.problem is None])
    needed = max(needed, image.min_disk_gib * model.GIB)
    size = facts.size_bytes
    if size is None:
        size = max(model.gib_for(needed), 1) * model.GIB
    if size < needed:
        raise exception.InvalidSize(
            f'A volume of {model.gib_for(size)} GiB is smaller than image '
            f'{image.id}, which needs {model.gib_for(needed)} GiB.',
            remedy=f'Ask for {model.gib_for(needed)} GiB or more.')
    check_quota(size, facts.max_volume_bytes)
    return size


def check_quota(size_bytes: int, max_volume_bytes: int | None) -> None:
    """:raises QuotaExceeded: larger than per_volume_gigabytes allows."""
    if max_volume_bytes is not None and size_bytes > max_volume_bytes:
        raise exception.QuotaExceeded(
            f'A volume of {model.gib_for(size_bytes)} GiB is larger than '
            f'the {max_volume_bytes // model.GIB} GiB that '
            'per_volume_gigabytes allows.',
            remedy='Ask for less, or raise per_volume_gigabytes.')


def plan_create(facts: CreateFacts) -> Plan:
    """Decide how a volume is made from an image.

    :raises GlanceImageNotUsable, InvalidSize, QuotaExceeded: no way can
        help.
    :raises NotSupported: only a strategy that this release does not have
        could do it.
    """
    check_image_usable(facts.image)
    size = volume_size(facts)
    source = _first_cloneable(facts.locations)
    obstacle = _clone_obstacle(facts, source)
    if obstacle is None and source is not None and source.location:
        first = Choice(Strategy.CLONE, Reason.SAME_CLUSTER)
        return Plan(Operation.CREATE_FROM_IMAGE,
                    (first, Choice(Strategy.DOWNLOAD, Reason.CLONE_FAILED)),
                    source=source.location.snap_spec, size_bytes=size)
    reason = obstacle or Reason.NO_LOCATION
    detail = _location_detail(facts, reason)
    wanted = _create_ways_without_clone(reason)
    return _settle(Operation.CREATE_FROM_IMAGE, reason, detail, wanted,
                   facts.built, size_bytes=size)


def _first_cloneable(places: Sequence[LocationFacts]
                     ) -> LocationFacts | None:
    good = [place for place in places if place.problem is None]
    return min(good, key=lambda place: place.depth) if good else None


def _clone_obstacle(facts: CreateFacts, source: LocationFacts | None
                    ) -> Reason | None:
    image = facts.image
    if image.container_format != 'bare':
        return Reason.NOT_BARE
    if image.disk_format != 'raw':
        return Reason.NOT_RAW
    if image.is_encrypted:
        return Reason.ENCRYPTED_IMAGE
    if source is None:
        return _location_problem(facts.locations)
    if source.size_bytes == 0:
        return Reason.EMPTY_IMAGE
    if facts.flatten_wanted:
        return Reason.INDEPENDENCE_WANTED
    if source.depth + 1 > facts.max_clone_depth:
        return Reason.DEPTH_REACHED
    return None


def _location_problem(places: Sequence[LocationFacts]) -> Reason:
    """The most telling of several: what an operator could change first."""
    problems = [place.problem for place in places if place.problem]
    if not problems:
        return Reason.NO_LOCATION
    return next((problem for problem in problems
                 if problem is not Reason.NOT_RBD), problems[0])


def _location_detail(facts: CreateFacts, reason: Reason) -> str:
    if reason is Reason.NOT_RAW:
        return f'disk_format {facts.image.disk_format}'
    if reason is Reason.NOT_BARE:
        return f'container_format {facts.image.container_format}'
    return ''


def _create_ways_without_clone(reason: Reason) -> tuple[Strategy, ...]:
    if reason in (Reason.NOT_RAW, Reason.NOT_BARE):
        return (Strategy.CONVERT,)
    if reason in (Reason.INDEPENDENCE_WANTED, Reason.DEPTH_REACHED):
        return (Strategy.COPY, Strategy.DOWNLOAD)
    return (Strategy.DOWNLOAD,)


_REMEDIES = {
    Operation.CREATE_FROM_IMAGE:
        'Convert the image to raw ("qemu-img convert -O raw") and use that.',
    Operation.UPLOAD_TO_IMAGE:
        'Upload it with --disk-format raw and container format bare.',
}


def _settle(operation: Operation, reason: Reason, detail: str,
            wanted: Sequence[Strategy], built: frozenset[Strategy],
            store: model.StoreInfo | None = None, size_bytes: int = 0
            ) -> Plan:
    """Turn the strategies that would do into a plan of those we have."""
    ruled_out = [Choice(Strategy.CLONE, reason, detail)]
    ruled_out += [Choice(way, Reason.NOT_IN_THIS_RELEASE)
                  for way in wanted if way not in built]
    choices = tuple(Choice(way, reason, detail)
                    for way in wanted if way in built)
    if not choices:
        raise exception.NotSupported(
            f'{ruled_out[0].sentence} It takes the strategy {wanted[0]!s}, '
            'which this release does not have.',
            remedy=_REMEDIES[operation])
    return Plan(operation, choices, tuple(ruled_out), store=store,
                size_bytes=size_bytes)


# -- upload to image ----------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class UploadFacts:
    """:param stores: None where Glance did not tell, for the reason given.
    :param wanted_store: a store id that was asked for, or the type's.
    :param depth: how many ancestors the volume has.
    :param flatten_first: clone_upload_flatten is before_register.
    """

    size_bytes: int
    fsid: str
    clone_enabled: bool
    stores: tuple[model.StoreInfo, ...] | None = None
    stores_problem: Reason | None = None
    wanted_store: str | None = None
    disk_format: str = 'raw'
    container_format: str = 'bare'
    is_encrypted: bool = False
    depth: int = 0
    max_clone_depth: int = 5
    flatten_first: bool = False
    built: frozenset[Strategy] = BUILT


def choose_store(stores: Sequence[model.StoreInfo], wanted: str | None
                 ) -> model.StoreInfo | None:
    """The store an upload goes to; None if there is no default.

    :raises StoreNotFound: no store of the wanted id.
    :raises StoreReadOnly: it takes no images.
    """
    names = ', '.join(store.id for store in stores) or 'none'
    for store in stores:
        if store.id == wanted or (wanted is None and store.is_default):
            if store.is_read_only:
                raise exception.StoreReadOnly(
                    f'Store {store.id!r} is read-only.',
                    remedy=f'Name another with --store; Glance has: {names}.')
            return store
    if wanted is not None:
        raise exception.StoreNotFound(
            f'Glance has no store {wanted!r}.',
            remedy=f'It has: {names}.')
    return None


def plan_upload(facts: UploadFacts) -> Plan:
    """Decide how a volume becomes an image.

    :raises StoreNotFound, StoreReadOnly: no way can help.
    :raises NotSupported: only a strategy that this release does not have
        could do it.
    """
    store = None
    if facts.stores is not None:
        store = choose_store(facts.stores, facts.wanted_store)
    elif facts.wanted_store is not None:
        # Glance will say itself whether it has it.
        store = model.StoreInfo(facts.wanted_store, type='')
    obstacle = _upload_obstacle(facts, store)
    if obstacle is None:
        first = Choice(Strategy.CLONE, Reason.SAME_CLUSTER)
        return Plan(Operation.UPLOAD_TO_IMAGE,
                    (first, Choice(Strategy.UPLOAD, Reason.CLONE_FAILED)),
                    store=store, size_bytes=facts.size_bytes)
    detail = ''
    if obstacle is Reason.NOT_RAW:
        detail = f'disk_format {facts.disk_format}'
    elif obstacle is Reason.NOT_BARE:
        detail = f'container_format {facts.container_format}'
    elif store is not None and obstacle in _ABOUT_STORE:
        detail = f'store {store.id}'
    return _settle(Operation.UPLOAD_TO_IMAGE, obstacle, detail,
                   _upload_ways_without_clone(obstacle), facts.built,
                   store=store, size_bytes=facts.size_bytes)


_ABOUT_STORE = frozenset({
    Reason.STORE_NOT_RBD, Reason.STORE_FSID_UNKNOWN,
    Reason.STORE_OTHER_CLUSTER})


def _upload_obstacle(facts: UploadFacts, store: model.StoreInfo | None
                     ) -> Reason | None:
    if facts.disk_format != 'raw':
        return Reason.NOT_RAW
    if facts.container_format != 'bare':
        return Reason.NOT_BARE
    if not facts.clone_enabled:
        return Reason.CLONE_DISABLED
    if facts.is_encrypted:
        return Reason.ENCRYPTED_VOLUME
    if facts.size_bytes == 0:
        return Reason.EMPTY_VOLUME
    return _store_obstacle(facts, store) or _depth_obstacle(facts)


def _store_obstacle(facts: UploadFacts, store: model.StoreInfo | None
                    ) -> Reason | None:
    if facts.stores is None:
        return facts.stores_problem or Reason.STORES_BROKEN
    if store is None:
        return Reason.NO_DEFAULT_STORE
    if store.type != 'rbd' or not store.pool:
        return Reason.STORE_NOT_RBD
    if not store.fsid:
        return Reason.STORE_FSID_UNKNOWN
    if store.fsid != facts.fsid:
        return Reason.STORE_OTHER_CLUSTER
    return None


def _depth_obstacle(facts: UploadFacts) -> Reason | None:
    if facts.flatten_first and facts.max_clone_depth > 0:
        return None
    if facts.depth + 1 > facts.max_clone_depth:
        return Reason.DEPTH_REACHED
    return None


def _upload_ways_without_clone(reason: Reason) -> tuple[Strategy, ...]:
    if reason in (Reason.NOT_RAW, Reason.NOT_BARE):
        return (Strategy.CONVERT,)
    if reason is Reason.DEPTH_REACHED:
        return (Strategy.COPY, Strategy.UPLOAD)
    return (Strategy.UPLOAD,)
