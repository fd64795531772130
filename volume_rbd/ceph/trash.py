# SPDX-License-Identifier: Apache-2.0
"""A pool's trash: where rbd_images wait that cannot be removed yet."""

from __future__ import annotations

import datetime
import time
from typing import Any

from volume_rbd import exception, model
from volume_rbd.ceph import bindings
from volume_rbd.ceph.interface import TrashEntry
from volume_rbd.ceph.session import Session


def _seconds(moment: datetime.datetime) -> float:
    # The bindings give UTC without saying so.
    return moment.replace(tzinfo=datetime.UTC).timestamp()


def _entry(info: dict[str, Any]) -> TrashEntry:
    deleted = _seconds(info['deletion_time'])
    until = _seconds(info['deferment_end_time'])
    return TrashEntry(
        id=info['id'], name=info['name'], deletion_time=deleted,
        # The bindings cut the fraction of a second off, librbd compares with
        # it.
        deferred_until=until + 1 if until > deleted else until)


def entries(session: Session, ioctx: Any, pool: str) -> list[TrashEntry]:
    with session.translating('list the trash of', pool):
        return [_entry(info) for info in bindings.rbd().RBD().trash_list(
            ioctx)]


def find(session: Session, ioctx: Any, spec: model.ImageSpec
         ) -> TrashEntry | None:
    """The entry whose id is *spec*'s name."""
    try:
        with session.translating('look into the trash for', spec):
            return _entry(bindings.rbd().RBD().trash_get(ioctx, spec.name))
    except exception.ImageNotFound:
        return None


def remove(session: Session, ioctx: Any, spec: model.ImageSpec,
           *, force: bool, callback: Any = None) -> None:
    try:
        with session.translating('remove from the trash', spec):
            bindings.rbd().RBD().trash_remove(
                ioctx, spec.name, force, on_progress=callback)
    except exception.CephPermissionDenied:
        # librbd says EPERM for both: no caps, and too early.
        entry = find(session, ioctx, spec)
        if entry is None or entry.deferred_until <= time.time():
            raise
        until = datetime.datetime.fromtimestamp(
            entry.deferred_until, datetime.UTC)
        raise exception.Conflict(
            f'Cannot remove {spec} from the trash: it is kept until '
            f'{until:%Y-%m-%d %H:%M:%S} UTC.',
            remedy='Wait, or remove it by force.') from None
