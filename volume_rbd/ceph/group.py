# SPDX-License-Identifier: Apache-2.0
"""RBD groups: several images, one point in time.

librbd takes the exclusive locks of all members, keeps them while it takes the
snapshots, and makes writers wait meanwhile: nothing else does that without
failing their writes. The members leave at once, because an image in a group
cannot be removed or joined to another; their snapshots stay, in the group's
namespace (tried with 16.2).

librbd cannot remove a group whose snapshot has a member that is gone (ENOENT,
tried): its record of the snapshot has to go first.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from typing import Any

from volume_rbd import exception, model
from volume_rbd.ceph import bindings
from volume_rbd.ceph.session import Session

_SNAPSHOT = 'snap'
_DIRECTORY = 'rbd_group_directory'
_MOST_KEYS = 1000


def snapshot(session: Session, ioctx: Any, group: model.ImageSpec,
             images: Sequence[str]) -> None:
    """See :class:`~volume_rbd.ceph.interface.Pool`.

    :param group: its pool and name.
    """
    rbd = bindings.rbd()
    with session.translating('make the RBD group', str(group)):
        try:
            rbd.RBD().group_create(ioctx, group.name)
        except rbd.ObjectExists:
            raise exception.Conflict(
                f'There is an RBD group {group} already.') from None
    try:
        members = rbd.Group(ioctx, group.name)
        for name in images:
            _join(session, members, ioctx, model.ImageSpec(group.pool, name))
        with session.translating('take a snapshot of the RBD group',
                                 str(group)):
            members.create_snap(_SNAPSHOT)
        _leave(session, ioctx, group)
    except BaseException:
        with contextlib.suppress(exception.VolumeRBDError), \
                session.translating('undo the RBD group', str(group)):
            with contextlib.suppress(rbd.ObjectNotFound):
                rbd.Group(ioctx, group.name).remove_snap(_SNAPSHOT)
            remove(session, ioctx, group)
        raise


def _join(session: Session, members: Any, ioctx: Any, spec: model.ImageSpec
          ) -> None:
    rbd = bindings.rbd()
    with session.translating('join to an RBD group', spec):
        try:
            members.add_image(ioctx, spec.name)
        except rbd.ObjectExists:
            raise exception.Conflict(
                f'{spec} is in another RBD group.',
                remedy='Take it out with "rbd group image remove".'
            ) from None


def _leave(session: Session, ioctx: Any, group: model.ImageSpec) -> None:
    members = bindings.rbd().Group(ioctx, group.name)
    with session.translating('empty the RBD group', str(group)):
        for member in list(members.list_images()):
            with contextlib.suppress(bindings.rbd().ObjectNotFound):
                members.remove_image(ioctx, member['name'])


def remove(session: Session, ioctx: Any, group: model.ImageSpec) -> None:
    """See :class:`~volume_rbd.ceph.interface.Pool`."""
    with session.translating('remove the RBD group', str(group)):
        if group.name not in bindings.rbd().RBD().group_list(ioctx):
            return
    _leave(session, ioctx, group)
    with session.translating('remove the RBD group', str(group)):
        _forget_snapshots(ioctx, group.name)
        with contextlib.suppress(bindings.rbd().ObjectNotFound):
            bindings.rbd().RBD().group_remove(ioctx, group.name)


def _forget_snapshots(ioctx: Any, name: str) -> None:
    """Remove the group's record of its snapshots (cls_rbd: snapshot_ID)."""
    found = _keys(ioctx, _DIRECTORY).get(f'name_{name}')
    if found is None:
        return
    (length,) = struct.unpack_from('<I', found)
    header = f'rbd_group_header.{found[4:4 + length].decode()}'
    records = tuple(key for key in _keys(ioctx, header)
                    if key.startswith('snapshot_'))
    if records:
        with bindings.rados().WriteOpCtx() as operation:
            ioctx.remove_omap_keys(operation, records)
            ioctx.operate_write_op(operation, header)


def _keys(ioctx: Any, name: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    last = ''
    while True:
        with bindings.rados().ReadOpCtx() as operation:
            values, _ = ioctx.get_omap_vals(operation, last, '', _MOST_KEYS)
            ioctx.operate_read_op(operation, name)
            some = dict(values)
        found.update(some)
        if len(some) < _MOST_KEYS:
            return found
        last = max(some)
