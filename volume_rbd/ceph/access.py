# SPDX-License-Identifier: Apache-2.0
"""What the user may not read.

librbd says no more than "permission denied" of a clone whose parent lies in
a pool that may not be read. So its ancestors are asked for one by one.
"""

from __future__ import annotations

from volume_rbd import exception, model
from volume_rbd.ceph import header
from volume_rbd.ceph.session import Session

_LONGEST = 64


def find_denied_pool(session: Session, spec: model.ImageSpec) -> str | None:
    """See :class:`~volume_rbd.ceph.interface.Pool`."""
    pool = spec.pool
    image_id: str | None = None
    try:
        for _ in range(_LONGEST):
            ioctx = session.ioctx(pool)
            with session.translating('look for the parents of', spec):
                image_id = image_id or header.image_id(ioctx, spec.name)
                parent = header.parent(ioctx, image_id)
                if parent is None:
                    return None
                pool = session.handle.pool_reverse_lookup(parent.pool_id)
                image_id = parent.image_id
    except exception.CephPermissionDenied:
        return pool
    return None
