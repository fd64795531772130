# SPDX-License-Identifier: Apache-2.0
"""How an rbd_image lies in RADOS, in librbd's words and in ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volume_rbd import exception, model
from volume_rbd.ceph.session import Session

if TYPE_CHECKING:
    from volume_rbd.ceph.connection import RadosCluster


def get_options(cluster: RadosCluster, layout: model.Layout
                ) -> dict[str, Any]:
    """As librbd takes them to make an rbd_image.

    :raises InvalidSize: they are not possible.
    :raises PoolNotFound, CephPermissionDenied: the data pool.
    """
    layout.check()
    size = layout.object_size_bytes
    if layout.data_pool:
        _check_data_pool(cluster, layout.data_pool)
    # A clone would have its parent's stripes in objects of another size.
    unit, count = layout.stripe_unit_bytes or size, layout.stripe_count or 1
    return {'order': None if size is None else size.bit_length() - 1,
            'stripe_unit': unit,
            'stripe_count': count if unit else None,
            'data_pool': layout.data_pool}


def _check_data_pool(cluster: RadosCluster, name: str) -> None:
    """librbd makes an rbd_image also where its data could not be written, and
    says of a pool that is not there only that something is missing."""
    try:
        may_write = cluster.pool(name).may_write()
    except exception.PoolNotFound:
        raise exception.PoolNotFound(
            f'There is no data pool {name!r}.',
            remedy='Make it ("ceph osd pool create"; for one that is '
                   'erasure-coded also "allow_ec_overwrites true"), or '
                   'correct the option.') from None
    if not may_write:
        raise exception.CephPermissionDenied(
            f'client.{cluster.user} may not write to the data pool {name!r}.',
            remedy=f'Give it the cap "profile rbd pool={name}".')


def of_image(session: Session, ioctx: Any, raw: Any) -> model.Layout:
    """Of an open librbd image. Inside ``translating``."""
    size: int = raw.stat()['obj_size']
    unit: int = raw.stripe_unit()
    count: int = raw.stripe_count()
    is_striped = (unit, count) != (size, 1)
    return model.Layout(
        object_size_bytes=size,
        stripe_unit_bytes=unit if is_striped else None,
        stripe_count=count if is_striped else None,
        data_pool=_data_pool(session, ioctx, raw))


def _data_pool(session: Session, ioctx: Any, raw: Any) -> str | None:
    number: int = raw.data_pool_id()
    if number == ioctx.get_pool_id():
        return None
    name: str = session.handle.pool_reverse_lookup(number)
    return name
