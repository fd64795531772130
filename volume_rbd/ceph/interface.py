# SPDX-License-Identifier: Apache-2.0
"""What the rest of the house may ask of a Ceph cluster: the contract.

Three kinds of things: a :class:`Cluster` (one connection of one user), its
:class:`Pool` objects, and an open rbd_image, :class:`Image`. The real ones are
in this package, an in-memory one in ``tests/fakes``; the same contract tests
run on both.

Lifecycle
    A cluster connects when it is first used, reconnects when the connection
    was lost, and is shared by all threads. A pool is a name and costs nothing
    to hold. An image is open from entering its ``with`` block to leaving it,
    and belongs to the thread that opened it, except for ``aio_read``,
    ``aio_write``.

Errors
    Only those of :mod:`volume_rbd.exception`: ImageNotFound, ImageExists,
    ImageBusy, ImageHasSnapshots, SnapshotNotFound, SnapshotExists,
    SnapshotBusy, PoolNotFound, CephPermissionDenied, NoSpace,
    ClusterUnavailable, OperationTimeout, InvalidSize, NotSupported, and
    VolumeRBDError for what has no name. Connecting may say
    ConfigurationError (ceph.conf, keyring); a clone NotCloneable; a callback
    that aborted, what it raised. The message says what was tried on what.

Units
    Sizes, offsets and lengths are bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from volume_rbd import model

# The numbers of librbd's feature bits (include/rbd/features.h); they are on
# disk, so they cannot change.
LAYERING = 1
STRIPINGV2 = 2
EXCLUSIVE_LOCK = 4
OBJECT_MAP = 8
FAST_DIFF = 16
DEEP_FLATTEN = 32
JOURNALING = 64
DATA_POOL = 128

#: What a clone of ours has, whatever its parent has. Without deep-flatten the
#: snapshot of a flattened clone would keep its parent.
CLONE_FEATURES = (LAYERING | EXCLUSIVE_LOCK | OBJECT_MAP | FAST_DIFF
                  | DEEP_FLATTEN)


@dataclasses.dataclass(frozen=True)
class SnapshotInfo:
    """One snapshot.

    :param name: for a snapshot in the trash namespace its original name.
    :param in_trash: it was removed while it had clones (clone v2).
    """

    id: int
    name: str
    size_bytes: int
    is_protected: bool = False
    in_trash: bool = False


@dataclasses.dataclass(frozen=True)
class ParentInfo:
    """Where a clone comes from.

    :param image_id: the parent's internal id; its name may be gone.
    :param in_trash: the parent image is in its pool's trash.
    :param snapshot: the parent snapshot's name (original name if trashed).
    """

    pool: str
    image: str
    image_id: str
    snapshot: str
    snapshot_id: int
    in_trash: bool = False


@dataclasses.dataclass(frozen=True)
class ChildInfo:
    pool: str
    image: str
    image_id: str
    in_trash: bool = False


@dataclasses.dataclass(frozen=True)
class TrashEntry:
    """One entry of a pool's trash.

    :param name: the name before it was moved.
    :param deferred_until: seconds since the epoch, before which it may not
        be removed without force.
    """

    id: str
    name: str
    deletion_time: float
    deferred_until: float


@dataclasses.dataclass(frozen=True)
class PoolUsage:
    """:param max_available_bytes: what can still be written, replicas and
        the pool's own quota taken into account."""

    stored_bytes: int
    max_available_bytes: int
    quota_bytes: int | None


@dataclasses.dataclass(frozen=True)
class ImageSummary:
    name: str
    id: str


class AioCompletion(Protocol):
    """One read or write in flight."""

    def wait(self) -> bytes | None:
        """Block until it is done.

        :returns: the data of a read, None for a write.
        :raises VolumeRBDError: what went wrong, in our words.
        """


class Image(Protocol):
    """An open rbd_image, maybe at one of its snapshots (then read-only)."""

    @property
    def spec(self) -> model.ImageSpec: ...

    @property
    def id(self) -> str:
        """librbd's internal id, unique in the pool, never reused."""

    @property
    def size_bytes(self) -> int:
        """Of the image, or of the snapshot it was opened at."""

    @property
    def object_size_bytes(self) -> int: ...

    @property
    def features(self) -> int:
        """Bits of the constants above: those that ``create`` and ``clone``
        take, not the ones librbd sets for itself."""

    @property
    def is_clone_v2(self) -> bool:
        """It is a clone, made in format 2 (no protection of the parent)."""

    @property
    def parent(self) -> ParentInfo | None: ...

    def resize(self, size_bytes: int, *, allow_shrink: bool = False
               ) -> None: ...

    def flatten(self, on_progress: Callable[[int, int], None] | None = None
                ) -> None:
        """Cut the image loose from its parent; snapshots too where it has
        deep-flatten. Nothing happens to an image without a parent.

        ``on_progress(done, total)`` is called on a thread of librbd's, in
        units of its own, and may raise to abort: that error comes back."""

    # -- metadata ----------------------------------------------------------
    def metadata(self) -> Mapping[str, str]: ...

    def set_metadata(self, key: str, value: str) -> None: ...

    def remove_metadata(self, key: str) -> None:
        """Idempotent."""

    # -- snapshots ---------------------------------------------------------
    def snapshots(self) -> list[SnapshotInfo]:
        """User snapshots and those in the trash namespace, oldest first."""

    def find_snapshot(self, name: str) -> SnapshotInfo | None:
        """By name, user snapshots only."""

    def create_snapshot(self, name: str) -> None: ...

    def remove_snapshot(self, name: str) -> None:
        """With clone v2 children it moves to the trash namespace and stays
        their parent; with v1 children or protection SnapshotBusy."""

    def remove_snapshot_by_id(self, snapshot_id: int) -> None:
        """Also for the trash namespace. SnapshotBusy while it has
        children."""

    def protect_snapshot(self, name: str) -> None:
        """Idempotent."""

    def unprotect_snapshot(self, name: str) -> None:
        """Idempotent; SnapshotBusy while it has v1 children."""

    def rollback(self, name: str,
                 on_progress: Callable[[int, int], None] | None = None
                 ) -> None: ...

    def children(self, snapshot_id: int | None = None) -> list[ChildInfo]:
        """Of one snapshot, or of all of them; trashed children too.

        CephPermissionDenied where a child's pool may not be read."""

    def watchers(self) -> list[str]:
        """The addresses of everybody else who has it open."""

    # -- bytes -------------------------------------------------------------
    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, data: bytes, offset: int) -> None: ...

    def aio_read(self, offset: int, length: int) -> AioCompletion: ...

    def aio_write(self, data: bytes, offset: int) -> AioCompletion: ...

    def flush(self) -> None: ...

    def extents(self, offset: int = 0, length: int | None = None
                ) -> Iterator[model.Extent]:
        """All of the range in ascending order, data and holes, the parent's
        data included; neighbours of the same kind are merged. Aligned to
        objects where the object map is valid; where it is not, librbd lists
        the objects themselves. A hole reads as zeros, data may too."""


class Pool(Protocol):
    """One ceph_pool, as seen by the cluster's user."""

    @property
    def name(self) -> str: ...

    def check(self) -> None:
        """:raises PoolNotFound, CephPermissionDenied, ClusterUnavailable:
        if it cannot be used."""

    def images(self) -> list[ImageSummary]: ...

    def has_image(self, name: str) -> bool:
        """Whether it can be opened: not in the trash, not half removed."""

    def open(self, name: str, *, snapshot: str | None = None,
             read_only: bool = False) -> AbstractContextManager[Image]: ...

    def open_by_id(self, image_id: str, *, snapshot_id: int | None = None,
                   read_only: bool = False) -> AbstractContextManager[Image]:
        """Also for images in the trash."""

    def create(self, name: str, size_bytes: int, *,
               features: int | None = None,
               object_size_bytes: int | None = None) -> None:
        """An empty rbd_image; *features* None takes the cluster's default."""

    def clone(self, parent: model.SnapSpec, name: str, *,
              features: int = CLONE_FEATURES) -> bool:
        """Clone *parent* (of any pool) into this pool.

        Clone v2; where the cluster refuses it the parent snapshot is
        protected and cloned in format 1.

        :returns: True for v2: the parent snapshot may be removed.
        """

    def remove(self, name: str,
               on_progress: Callable[[int, int], None] | None = None
               ) -> None:
        """Remove an rbd_image for good.

        One that is interrupted, by *on_progress* or a crash, leaves an
        rbd_image that is listed but cannot be found, opened or restored: its
        data may be gone. Its name is free; ``remove`` finishes it.
        """

    def rename(self, name: str, new_name: str) -> None: ...

    def usage(self) -> PoolUsage:
        """One ``df`` for the pool, however many images it has."""

    # -- trash -------------------------------------------------------------
    def trash(self) -> list[TrashEntry]: ...

    def trash_move(self, name: str, delay_s: int = 0) -> None: ...

    def trash_remove(self, image_id: str, *, force: bool = False) -> None:
        """ImageHasSnapshots while it has snapshots; ImageBusy while open."""

    def trash_restore(self, image_id: str, name: str) -> None: ...


class Cluster(Protocol):
    """One connection of one user to one cluster, shared by all threads."""

    @property
    def fsid(self) -> str: ...

    @property
    def user(self) -> str:
        """The cephx user without ``client.``."""

    @property
    def address(self) -> str:
        """Of this connection, as "ceph osd blocklist add" takes it. Another
        one after a reconnect."""

    def pool(self, name: str) -> Pool: ...

    def pools(self) -> list[str]: ...

    def monitors(self) -> list[str]:
        """host:port of every monitor, the v1 port, IPv6 in brackets."""

    def close(self) -> None:
        """Let go of the connection, when its last user has: those who have
        an image open go on. The next use opens another."""
