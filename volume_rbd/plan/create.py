# SPDX-License-Identifier: Apache-2.0
"""The plan of create_from_image: an image becomes a volume."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from volume_rbd import exception, model
from volume_rbd.plan.words import (
    BUILT,
    Choice,
    Operation,
    Plan,
    Reason,
    Strategy,
    refuse_conversion,
    settle,
)

#: The disk formats, as Glance calls them, that can be converted to a disk.
READABLE_FORMATS = frozenset({
    'qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'iso', 'ploop'})

_SECTOR_BYTES = 512

#: Those whose bytes are those of the disk all the same.
_PLAIN_FORMATS = frozenset({'raw', 'iso'})


@dataclasses.dataclass(frozen=True)
class LocationFacts:
    """One location of the image, and what its snapshot looks like.

    :param problem: why it cannot be read; None if it can.
    :param depth: how many ancestors the image has itself.
    :param size_bytes: of the snapshot.
    :param detail: more of the problem, for people.
    :param may_write: the cephx user may write to its pool.
    """

    url: str
    location: model.RBDLocation | None = None
    problem: Reason | None = None
    size_bytes: int = 0
    depth: int = 0
    detail: str = ''
    may_write: bool = True


@dataclasses.dataclass(frozen=True)
class BaseFacts:
    """The raw base of the image: it can be cloned, and is of this image.

    :param size_bytes: of the disk inside, rounded up to whole GiB.
    :param is_direct: it was read from where a clone of the image, were it
        raw, would be made; its bytes did not come through Glance.
    """

    source: model.SnapSpec
    size_bytes: int
    is_direct: bool = True


@dataclasses.dataclass(frozen=True)
class CreateFacts:
    """:param size_bytes: what was asked for; None: what the image needs.
    :param may_convert: image_conversion_disable is off.
    :param may_leave_base: the base cache is on, and this image may use it.
    :param base: what the base cache has of it.
    :param encryption_wanted: the volume is to be encrypted; *size_bytes* is
        what is to fit into it.
    :param most_base_bytes: what all bases together may use; None: no limit.
    :param must_clone: no bytes may be moved.
    """

    image: model.GlanceImage
    locations: tuple[LocationFacts, ...] = ()
    size_bytes: int | None = None
    max_clone_depth: int = 5
    flatten_wanted: bool = False
    max_volume_bytes: int | None = None
    may_convert: bool = True
    may_leave_base: bool = False
    base: BaseFacts | None = None
    encryption_wanted: bool = False
    most_base_bytes: int | None = None
    must_clone: bool = False
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
    """The size in bytes of the volume that will be made; beside the header,
    where it is encrypted on the way. What is encrypted already brings its
    header along, behind whole GiB.

    :raises InvalidSize: smaller than the image.
    :raises QuotaExceeded: larger than per_volume_gigabytes allows.
    """
    image = facts.image
    disk = _disk_bytes(facts)
    header = disk % model.GIB if _is_sealed(facts) else 0
    needed = max(disk - header, image.min_disk_gib * model.GIB)
    size = facts.size_bytes
    if size is None:
        size = max(model.gib_for(needed), 1) * model.GIB
    if size < needed:
        raise exception.InvalidSize(
            f'A volume of {model.gib_for(size)} GiB is smaller than image '
            f'{image.id}, which needs {model.gib_for(needed)} GiB.',
            remedy=f'Ask for {model.gib_for(needed)} GiB or more.')
    check_quota(size, facts.max_volume_bytes)
    return size + header


def _is_sealed(facts: CreateFacts) -> bool:
    """The volume is to be encrypted, and the image is."""
    return facts.encryption_wanted and facts.image.is_encrypted


def _disk_bytes(facts: CreateFacts) -> int:
    """The size of the disk inside, as far as it is known: the file that wraps
    it may be smaller, and larger too."""
    if facts.image.disk_format not in _PLAIN_FORMATS:
        return facts.image.virtual_size_bytes or 0
    return max([facts.image.needed_bytes] + [
        place.size_bytes for place in facts.locations
        if place.problem is None])


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
    :raises NotSupported: nothing we have could do it.
    :raises NotCloneable: by policy there is no other way.
    """
    decided = _plan_any(facts)
    if not facts.must_clone:
        return decided
    if decided.strategy is not Strategy.CLONE:
        raise exception.NotCloneable(
            f'Image {facts.image.id} cannot be cloned, and must be: '
            f'{decided.sentence}', reason=decided.reason.value,
            remedy='Use a raw image in an RBD store of this cluster, or turn '
                   'images_rbd_must_clone off.')
    # Nor are bytes moved where the clone fails.
    return dataclasses.replace(decided, choices=decided.choices[:1])


def _plan_any(facts: CreateFacts) -> Plan:
    check_image_usable(facts.image)
    size = volume_size(facts)
    source = find_source(facts.locations)
    spec = source.location.snap_spec if source and source.location else None
    plan = Plan(Operation.CREATE_FROM_IMAGE, (), size_bytes=size,
                is_size_fixed=facts.size_bytes is not None)
    obstacle = _clone_obstacle(facts, source)
    if obstacle is None and spec is not None:
        first = Choice(Strategy.CLONE, Reason.SAME_CLUSTER)
        return dataclasses.replace(plan, source=spec, choices=(
            first, *(Choice(way, Reason.CLONE_FAILED)
                     for way in _RAW_WAYS if way in facts.built)))
    reason = obstacle or Reason.NO_LOCATION
    detail = _location_detail(facts, reason)
    wanted = _ways_without_clone(facts.image, reason, source)
    if Strategy.COPY in wanted:
        plan = dataclasses.replace(plan, source=spec)
    if Strategy.CONVERT in wanted:
        if not facts.may_convert and facts.image.disk_format != 'raw':
            raise refuse_conversion(plan.operation)
        if _may_share_base(facts):
            if facts.base is not None and _fits(facts.base, plan):
                return _clone_base(facts, facts.base, plan)
            if facts.base is None and _is_too_large_for_a_base(facts):
                detail += ('; a base of it would be larger than '
                           'image_base_cache_max_gib')
            else:
                plan = dataclasses.replace(
                    plan, leaves_base=facts.base is None)
        if source is not None and source.size_bytes % _SECTOR_BYTES:
            # qemu's rbd driver ends with an assertion there (tried: 7.2).
            spec = None
        # It opens everything for writing.
        plan = dataclasses.replace(
            plan, source=spec, stages_clone=spec is not None
            and source is not None and not source.may_write)
    return settle(plan, reason, detail, wanted, facts.built)


def _may_share_base(facts: CreateFacts) -> bool:
    """A base has no ancestors, so a clone of it has one."""
    return (facts.may_leave_base and not facts.flatten_wanted
            and not facts.encryption_wanted
            and facts.max_clone_depth >= 1
            and Strategy.CLONE in facts.built)


def base_bytes(image: model.GlanceImage) -> int:
    """What a base of *image* will use, about: its file holds little beside
    data. Of a file that is compressed it is too little."""
    file_bytes = image.size_bytes or 0
    return min(file_bytes, image.virtual_size_bytes or file_bytes)


def _is_too_large_for_a_base(facts: CreateFacts) -> bool:
    return (facts.most_base_bytes is not None
            and base_bytes(facts.image) > facts.most_base_bytes)


def _fits(base: BaseFacts, plan: Plan) -> bool:
    """It is rounded up: a volume that is too small for the base may be large
    enough for the disk."""
    return not plan.is_size_fixed or plan.size_bytes >= base.size_bytes


def _clone_base(facts: CreateFacts, base: BaseFacts, plan: Plan) -> Plan:
    size = max(plan.size_bytes, base.size_bytes)
    check_quota(size, facts.max_volume_bytes)
    return dataclasses.replace(
        plan, source=base.source, size_bytes=size,
        must_be_downloadable=not base.is_direct,
        choices=(Choice(Strategy.CLONE, Reason.BASE_CACHED),))


def find_source(places: Sequence[LocationFacts]) -> LocationFacts | None:
    """What is read where it lies: the shallowest that can be."""
    good = [place for place in places if place.problem is None]
    return min(good, key=lambda place: place.depth) if good else None


def _clone_obstacle(facts: CreateFacts, source: LocationFacts | None
                    ) -> Reason | None:
    image = facts.image
    if image.container_format != 'bare':
        return Reason.NOT_BARE
    if facts.encryption_wanted and _can_encrypt(image):
        return Reason.ENCRYPTION_WANTED
    if image.disk_format != 'raw':
        return Reason.NOT_RAW
    if image.is_encrypted:
        return Reason.ENCRYPTED_IMAGE
    if source is None:
        return location_problem(facts.locations)
    if source.size_bytes == 0:
        return Reason.EMPTY_IMAGE
    if facts.flatten_wanted:
        return Reason.INDEPENDENCE_WANTED
    if source.depth + 1 > facts.max_clone_depth:
        return Reason.DEPTH_REACHED
    return None


def _can_encrypt(image: model.GlanceImage) -> bool:
    return not image.is_encrypted and (
        image.disk_format == 'raw' or image.disk_format in READABLE_FORMATS)


def location_problem(places: Sequence[LocationFacts]) -> Reason:
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
    return next((place.detail for place in facts.locations
                 if place.problem is reason), '')


#: A snapshot that can be read can be copied, whatever forbids to clone it.
_RAW_WAYS = (Strategy.COPY, Strategy.DOWNLOAD)


def _ways_without_clone(image: model.GlanceImage, reason: Reason,
                        source: LocationFacts | None
                        ) -> tuple[Strategy, ...]:
    if reason is Reason.NOT_BARE:
        return ()
    if reason is Reason.ENCRYPTION_WANTED:
        return (Strategy.CONVERT,)
    if reason is Reason.NOT_RAW:
        # What is encrypted inside of a format has a key we do not know.
        is_readable = (image.disk_format in READABLE_FORMATS
                       and not image.is_encrypted)
        return (Strategy.CONVERT,) if is_readable else ()
    return _RAW_WAYS if source else (Strategy.DOWNLOAD,)
