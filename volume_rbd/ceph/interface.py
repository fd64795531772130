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
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
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

CLUSTERS_LAYOUT = model.Layout()


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
class GroupSnapshotInfo:
    """An image's part in a snapshot of an RBD group.

    It has no name that librbd would open or clone it by (before Ceph 19):
    only its id.

    :param group: the group's name; '' where the group is gone.
    """

    id: int
    size_bytes: int
    group: str


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
        the pool's own quota taken into account.
    :param cluster_bytes: the size of the whole cluster, as raw space.
    """

    stored_bytes: int
    max_available_bytes: int
    quota_bytes: int | None
    cluster_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Health:
    """What the monitors say of the cluster.

    :param status: HEALTH_OK, HEALTH_WARN or HEALTH_ERR.
    :param checks: what is not well, by Ceph's names (``SLOW_OPS``); what the
        operator has muted is left out.
    :param errors: those of them that make it HEALTH_ERR.
    """

    status: str
    checks: frozenset[str] = frozenset()
    errors: frozenset[str] = frozenset()


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
    def layout(self) -> model.Layout:
        """The object size, and what of the rest it has."""

    @property
    def features(self) -> int:
        """Bits of the constants above: those that ``create`` and ``clone``
        take, not the ones librbd sets for itself."""

    @property
    def has_valid_object_map(self) -> bool:
        """False where it has none, and where librbd does not believe it."""

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

    def update_features(self, features: int, is_enabled: bool) -> None:
        """Turn *features* on or off; those that are so already stay so.

        They go together with what depends on them: object-map, fast-diff and
        journaling need exclusive-lock, fast-diff needs object-map
        (InvalidInput). deep-flatten can be turned off for good only. An
        object map that is turned on is not valid: see
        :meth:`rebuild_object_map`."""

    def rebuild_object_map(self) -> None:
        """Make the object maps of the image and of all its snapshots valid
        again. Looks at every object; nothing happens without object maps."""

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

    def snapshot_time(self, snapshot_id: int) -> float:
        """When it was taken, seconds since the epoch, by the cluster's
        clock. Also of one in the trash namespace.

        :raises SnapshotNotFound:"""

    def create_snapshot(self, name: str) -> None: ...

    def remove_snapshot(self, name: str) -> None:
        """With clone v2 children it moves to the trash namespace and stays
        their parent; with v1 children or protection SnapshotBusy."""

    def remove_snapshot_by_id(self, snapshot_id: int) -> None:
        """Also for the trash namespace. SnapshotBusy while it has
        children."""

    def rename_snapshot(self, name: str, new_name: str) -> None:
        """Also a protected one, and one with clones. SnapshotExists where
        *new_name* is taken."""

    def protect_snapshot(self, name: str) -> None:
        """Idempotent."""

    def unprotect_snapshot(self, name: str) -> None:
        """Idempotent; SnapshotBusy while it has v1 children."""

    def rollback(self, name: str,
                 on_progress: Callable[[int, int], None] | None = None
                 ) -> None: ...

    def group_snapshots(self) -> list[GroupSnapshotInfo]:
        """Oldest first. ``remove_snapshot_by_id`` removes one."""

    def children(self, snapshot_id: int | None = None) -> list[ChildInfo]:
        """Of one snapshot, or of all of them; trashed children too.

        CephPermissionDenied where a child's pool may not be read."""

    def watchers(self) -> list[str]:
        """The addresses of everybody else who has it open."""

    def living_watchers(self) -> list[str]:
        """The same without those who are blocklisted, of whom a watch may
        stay on record."""

    def fence_writer(self) -> bool:
        """Shut out another client that writes to it: the one that holds its
        exclusive lock is blocklisted, and its watch ends at once. Only for a
        process of our own that was killed, whose watch would last 30 s.

        :returns: whether there was one.
        """

    # -- bytes -------------------------------------------------------------
    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, data: bytes, offset: int) -> None: ...

    def aio_read(self, offset: int, length: int) -> AioCompletion: ...

    def aio_write(self, data: bytes, offset: int) -> AioCompletion: ...

    def aio_write_zeroes(self, offset: int, length: int) -> AioCompletion:
        """At most 1 GiB at once; space that this leaves empty is freed. (A
        discard is no way to zeros: librbd skips what is small.)"""

    def flush(self) -> None: ...

    def extents(self, offset: int = 0, length: int | None = None
                ) -> Iterator[model.Extent]:
        """All of the range in ascending order, data and holes, the parent's
        data included; neighbours of the same kind are merged. Aligned to
        objects where the object map is valid; where it is not, librbd lists
        the objects themselves. A hole reads as zeros, data may too."""

    def changes(self, since: str) -> Iterator[model.Extent]:
        """Where it may differ from its own earlier snapshot *since*, in
        ascending order; what does not exist is a hole now. Coarse, by
        objects, where the object map is valid."""


class Pool(Protocol):
    """One ceph_pool, as seen by the cluster's user."""

    @property
    def name(self) -> str: ...

    def check(self) -> None:
        """:raises PoolNotFound, CephPermissionDenied, ClusterUnavailable:
        if it cannot be used."""

    def may_write(self) -> bool:
        """Whether the user may write to it; nothing is written."""

    def images(self) -> list[ImageSummary]: ...

    def has_image(self, name: str) -> bool:
        """Whether it can be opened: not in the trash, not half removed."""

    def find_denied_pool(self, name: str) -> str | None:
        """Which pool the user may not read of those that an rbd_image and
        its ancestors are in; None: all may be read. Also for one that cannot
        be opened for that reason.

        :raises ImageNotFound:
        """

    def sizes(self, image_ids: Iterable[str]) -> dict[str, int]:
        """The sizes of images by their ids, without opening them: one round
        trip each, a bounded number at once. What is not there is left out;
        what is in the trash or half removed is not."""

    def open(self, name: str, *, snapshot: str | None = None,
             read_only: bool = False) -> AbstractContextManager[Image]: ...

    def open_by_id(self, image_id: str, *, snapshot_id: int | None = None,
                   read_only: bool = False) -> AbstractContextManager[Image]:
        """Also for images in the trash."""

    def create(self, name: str, size_bytes: int, *,
               features: int | None = None,
               layout: model.Layout = CLUSTERS_LAYOUT) -> None:
        """An empty rbd_image; *features* None takes the cluster's default.

        :raises InvalidSize: the layout is none.
        :raises PoolNotFound, CephPermissionDenied: also of the data pool.
        """

    def clone(self, parent: model.SnapSpec, name: str, *,
              features: int = CLONE_FEATURES,
              layout: model.Layout = CLUSTERS_LAYOUT) -> None:
        """Clone *parent* (of any pool) into this pool.

        Clone v2, so that the parent snapshot may be removed; where the
        cluster refuses it the parent snapshot is protected and cloned in
        format 1.

        :param layout: one without an object size leaves objects and stripes
            as the parent has them; its data pool is never taken over.
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

    def metadata(self) -> Mapping[str, str]:
        """The pool's own. librbd keeps settings there (``conf_*``)."""

    def set_metadata(self, key: str, value: str) -> None: ...

    def remove_metadata(self, key: str) -> None:
        """Idempotent."""

    def usage(self) -> PoolUsage:
        """One ``df`` for the pool, however many images it has."""

    # -- trash -------------------------------------------------------------
    def trash(self) -> list[TrashEntry]: ...

    def find_trashed(self, image_id: str) -> TrashEntry | None: ...

    def trash_move(self, name: str, delay_s: int = 0) -> None: ...

    def trash_remove(self, image_id: str, *, force: bool = False,
                     on_progress: Callable[[int, int], None] | None = None
                     ) -> None:
        """ImageHasSnapshots while it has snapshots; ImageBusy while open.

        One that is interrupted stays in the trash, where it can be opened,
        half its data gone; ``trash_remove`` finishes it."""

    def trash_restore(self, image_id: str, name: str) -> None: ...

    # -- groups ------------------------------------------------------------
    def groups(self) -> list[str]: ...

    def snapshot_group(self, group_name: str, images: Sequence[str]) -> None:
        """Snapshots of *images* at one point in time: no image is written
        to while another one's is taken, as long as all have exclusive-lock.

        Makes the RBD group *group_name*; the images are joined to it only
        for the snapshot, and keep :class:`GroupSnapshotInfo`. All or
        nothing.

        Conflict where the group exists, or an image is in another one;
        ImageNotFound."""

    def remove_group(self, group_name: str) -> None:
        """Members leave it, and its record of snapshots goes; what is left
        of the snapshots themselves stays on the images. Idempotent."""


@dataclasses.dataclass(frozen=True)
class LockHolder:
    """Who has the lock of a record.

    :param client: its name for the cluster, ``client.4711``; every connection
        has another.
    :param owner: as it was given when the lock was taken.
    :param expires_s: when the lock ends by itself, seconds since the epoch
        by the clock of the OSD; 0: never.
    :param note: for people.
    """

    client: str
    owner: str
    expires_s: float
    note: str


class Records(Protocol):
    """Records of ASCII texts by key, beside the rbd_images of a pool. Each
    call is done as a whole or not at all.

    Whoever may write to the pool may write here: untrusted input.
    """

    @property
    def namespace(self) -> str: ...

    def names(self) -> list[str]:
        """All of them, sorted. Asks every placement group: for upkeep only.
        """

    def read(self, name: str) -> dict[str, str]:
        """:raises RecordNotFound:"""

    def read_keys(self, name: str, keys: Collection[str]) -> dict[str, str]:
        """Those that are there. :raises RecordNotFound: no record at all."""

    def create(self, name: str, put: Mapping[str, str]) -> None:
        """:raises RecordChanged: it is there already."""

    def write(self, name: str, put: Mapping[str, str],
              drop: Collection[str] = (), *,
              expected: Mapping[str, str | None] | None = None) -> None:
        """Set and drop keys; a record that is not there is made.

        :param expected: what keys must hold before, None: not be there. The
            record must be there then.
        :raises RecordChanged: one of them holds something else.
        :raises RecordNotFound: something is expected of no record.
        """

    def remove(self, name: str) -> None:
        """:raises RecordNotFound:"""

    def lock(self, name: str, owner: str, *, duration_s: int,
             note: str = '') -> bool:
        """Take the record's lock, or prolong it, for *duration_s* from now; a
        record that is not there is made. It does not keep anybody from
        writing: all have to ask for it.

        :param owner: a lock belongs to this word and this connection.
        :param duration_s: 0: it does not end by itself.
        :returns: False where somebody else has it.
        """

    def unlock(self, name: str, owner: str) -> bool:
        """:returns: False where it was not ours, or is over."""

    def find_lock(self, name: str) -> LockHolder | None:
        """Who has it, by the clock of the OSD; None: nobody, or there is no
        record."""

    def break_lock(self, name: str, holder: LockHolder) -> None:
        """Take the lock away from *holder*, if that one still has it."""


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """Something that Ceph's manager is to do.

    :param is_running: it is at work with it now; it does one after another.
    :param progress: from 0 to 1.
    :param problem: why it failed; the manager tries again by itself.
    """

    id: str
    is_running: bool = False
    progress: float = 0.0
    problem: str = ''


class Tasks(Protocol):
    """What Ceph's manager does in the background, for whoever has the cap
    ``mgr 'profile rbd'``. It goes on when this process has ended.

    OperationTimeout where the manager does not answer within seconds,
    CephPermissionDenied without the cap, NotSupported or InvalidInput where
    it has no such module.
    """

    def flatten(self, pool: str, name: str) -> TaskInfo:
        """The rbd_image that bears the name when its turn comes. One that
        is to be flattened already: that task.

        :raises ImageNotFound: also where it has no parent.
        """

    def remove_trashed(self, pool: str, image_id: str) -> TaskInfo:
        """:raises ImageNotFound:"""

    def find(self, task_id: str) -> TaskInfo | None:
        """None once it is done, or given up, or cancelled."""

    def cancel(self, task_id: str) -> None:
        """What runs stops within a second or so. Idempotent."""


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

    def private(self) -> Cluster:
        """A connection of the same user for one purpose, opened when it is
        first used. Once lost, it is not opened again: whoever was shut out
        must not come back under a new address. Its owner closes it."""

    def blocklist(self, address: str) -> None:
        """Shut a connection out of the whole cluster, for an hour. When this
        returns, whatever is done by this connection comes after the last
        thing that the other one could do. Its watches and locks on
        rbd_images end with it."""

    def sign(self, text: str) -> str:
        """What only those can say of *text* who have our user's key, too."""

    def key(self) -> bytes:
        """The user's cephx key in base64, for the hypervisor's secret store
        and nothing else: whoever holds it never shows it. Empty where the
        cluster asks nobody who he is.

        :raises ConfigurationError: it is not where librados would look."""

    def pool(self, name: str) -> Pool: ...

    def records(self, pool: str, namespace: str) -> Records:
        """The small records in a RADOS namespace of *pool*."""

    def pools(self) -> list[str]: ...

    def health(self) -> Health: ...

    def tasks(self) -> Tasks: ...

    def monitors(self) -> list[str]:
        """host:port of every monitor, IPv6 in brackets; the v1 port where it
        has one, else the v2 port."""

    def close(self) -> None:
        """Let go of the connection, when its last user has: those who have
        an image open go on. The next use opens another."""
