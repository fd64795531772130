# SPDX-License-Identifier: Apache-2.0
"""Asks Glance and Ceph what a plan is made of. Touches nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from volume_rbd import exception, model, opts, plan
from volume_rbd.ceph import ancestry
from volume_rbd.ceph.interface import Cluster
from volume_rbd.flows import encrypt
from volume_rbd.glance.interface import Glance

FindBase = Callable[[model.GlanceImage],
                    tuple[bool, plan.BaseFacts | None]]


@dataclasses.dataclass(frozen=True)
class Stores:
    """What Glance says of its stores, or why it says nothing."""

    infos: tuple[model.StoreInfo, ...] | None
    problem: plan.Reason | None = None


def get_stores(glance: Glance) -> Stores:
    try:
        return Stores(tuple(glance.get_stores()))
    except exception.GlanceForbidden:
        return Stores(None, plan.Reason.STORES_FORBIDDEN)
    except exception.ApiNotImplemented:
        return Stores(None, plan.Reason.STORES_NOT_CONFIGURED)
    except exception.GlanceUnavailable:
        # A broken store driver makes this call fail and no other; where
        # Glance is down, the next call says so.
        return Stores(None, plan.Reason.STORES_BROKEN)


def for_create(config: opts.BackendConfig, cluster: Cluster, glance: Glance,
               image_id: str, size_bytes: int | None,
               find_base: FindBase = lambda image: (False, None), *,
               encryption_wanted: bool = False) -> plan.CreateFacts:
    """Where the base will do, nobody looks for the image's locations.

    :param find_base: whether the image may have a base, and that.
    :raises GlanceImageNotFound, GlanceImageNotUsable: and what Glance and
        Ceph raise when they do not answer."""
    image = glance.get_image(image_id)
    plan.check_image_usable(image)
    may_leave_base, base = find_base(image)
    known = plan.CreateFacts(
        image=image, size_bytes=size_bytes,
        max_clone_depth=config.max_clone_depth,
        flatten_wanted=config.flatten_volume_from_snapshot,
        max_volume_bytes=config.max_volume_bytes,
        may_convert=config.may_convert, may_leave_base=may_leave_base,
        base=base, most_base_bytes=config.base_cache_max_bytes or None,
        encryption_wanted=encryption_wanted)
    if base is not None and (
            plan.plan_create(known).reason is plan.Reason.BASE_CACHED):
        return known
    return dataclasses.replace(known, must_clone=config.must_clone,
                               locations=find_places(
                                   cluster, glance, image_id,
                                   config.image_pools,
                                   for_qemu=image.disk_format != 'raw'))


def find_places(cluster: Cluster, glance: Glance, image_id: str,
                image_pools: Sequence[str], *, for_qemu: bool = False
                ) -> tuple[plan.LocationFacts, ...]:
    """All locations of an image; those that are trusted were opened.

    :param for_qemu: qemu will have to read it.
    """
    stores = get_stores(glance)
    return tuple(
        _look_at(cluster, plan.judge_location(
            url, image_id, cluster.fsid, stores.infos or (), image_pools),
            stores.problem, for_qemu=for_qemu)
        for url in glance.get_locations(image_id))


def _look_at(cluster: Cluster, place: plan.LocationFacts,
             stores_problem: plan.Reason | None, *, for_qemu: bool
             ) -> plan.LocationFacts:
    """Open the snapshot of a trusted location; others are left alone.

    :param for_qemu: it will have to be read by that.
    """
    location = place.location
    if place.problem is plan.Reason.FOREIGN_LOCATION and stores_problem:
        # Not known to be foreign: Glance did not tell its pools.
        return dataclasses.replace(place, problem=stores_problem)
    if place.problem is not None or location is None:
        return place
    pool = cluster.pool(location.pool)
    try:
        with pool.open(
                location.image, snapshot=location.snapshot,
                read_only=True) as snapshot:
            return dataclasses.replace(
                place, size_bytes=snapshot.size_bytes,
                depth=ancestry.depth(cluster, snapshot),
                may_write=not for_qemu or pool.may_write())
    except (exception.ImageNotFound, exception.SnapshotNotFound):
        problem = plan.Reason.MISSING_SNAPSHOT
    except exception.CephPermissionDenied:
        return dataclasses.replace(
            place, problem=plan.Reason.SNAPSHOT_DENIED,
            detail=_missing_cap(cluster, location))
    except exception.Unavailable:
        raise
    except exception.VolumeRBDError:
        problem = plan.Reason.SNAPSHOT_UNREADABLE
    return dataclasses.replace(place, problem=problem)


def _missing_cap(cluster: Cluster, location: model.RBDLocation) -> str:
    """Of an image that is a clone of a volume it may be that of the volumes'
    pool."""
    try:
        pool = cluster.pool(location.pool).find_denied_pool(location.image)
    except exception.VolumeRBDError:
        pool = None
    if pool is None:
        return ''
    return (f'client.{cluster.user} needs the cap "profile rbd-read-only '
            f'pool={pool}"')


def for_upload(config: opts.BackendConfig, cluster: Cluster, glance: Glance,
               volume: model.VolumeSpec, *, disk_format: str,
               container_format: str, store_id: str | None,
               decryption_wanted: bool = False) -> plan.UploadFacts:
    """:raises ImageNotFound: no such volume.
    :raises NotSupported: it is to be decrypted, and has no LUKS1 header.
    """
    stores = get_stores(glance)
    with cluster.pool(config.pool).open(volume.name, read_only=True) as image:
        size_bytes = image.size_bytes
        is_encrypted = encrypt.is_encrypted_volume(volume, image)
        if decryption_wanted:
            size_bytes -= encrypt.get_header_bytes(image)
        depth = ancestry.depth(cluster, image)
    return plan.UploadFacts(
        size_bytes=size_bytes, fsid=cluster.fsid,
        clone_enabled=config.enable_clone_optimization,
        stores=stores.infos, stores_problem=stores.problem,
        wanted_store=store_id or config.upload_store,
        disk_format=disk_format, container_format=container_format,
        is_encrypted=is_encrypted or decryption_wanted,
        decryption_wanted=decryption_wanted, depth=depth,
        max_clone_depth=config.max_clone_depth,
        flatten_first=config.clone_upload_flatten == 'before_register',
        may_convert=config.may_convert)
