# SPDX-License-Identifier: Apache-2.0
"""An image's signature, verified on its way to become a volume.

A branch of a flow that shares the bytes of the image's snapshot is wrapped in
:func:`before_clone`; one that reads them from there by other means begins
with a :class:`VerifySnapshot` and tells :func:`confirm` what it opened; one
that streams them passes them through :func:`verified`, and one that copies
them feeds them to :func:`sinks`. The flow as a whole ends with :func:`at_end`,
so that a branch that does none of it makes no volume; and what follows a
VerifySnapshot asks :func:`require`.

All of it only where ``tools.checker`` is there: the image is signed and the
policy asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence

from volume_rbd import exception, model, plan
from volume_rbd.ceph.interface import Image
from volume_rbd.copying import inbound, outbound
from volume_rbd.copying.sinks import Sink
from volume_rbd.flows.base import Task, Tools


def verified(tools: Tools, chunks: Iterable[bytes]) -> Iterable[bytes]:
    """*chunks* of the whole image in order, verified as they pass.

    :raises SignatureInvalid: after the last chunk, instead of the end.
    """
    return tools.checker.pass_on(chunks) if tools.checker else chunks


@contextlib.contextmanager
def sinks(tools: Tools) -> Iterator[Sequence[Sink]]:
    """What a copy of the whole image is to feed within the block.

    :raises SignatureInvalid: at the end of the block.
    """
    if tools.checker is None:
        yield ()
        return
    with tools.checker.watching() as verifier:
        yield (verifier,)


def before_clone(tools: Tools, steps: list[Task]) -> list[Task]:
    """*steps*, which clone the image's snapshot, between two that verify."""
    if tools.checker is None:
        return steps
    return [VerifySnapshot(tools), *steps, ConfirmSnapshot(tools)]


def at_end(tools: Tools) -> list[Task]:
    return [RequireVerified(tools)] if tools.checker else []


def confirm(tools: Tools, image_id: str, ids: Sequence[object]) -> None:
    """See that what is used is what was verified, and not another snapshot
    that took its name meanwhile.

    :param ids: of the rbd_image and the snapshot, both never used again.
    :raises SignatureInvalid: it was exchanged.
    """
    verified_one = tools.checker and tools.checker.snapshot
    if verified_one and tuple(ids) != verified_one[1:]:
        raise exception.SignatureInvalid(
            f'The snapshot of Glance image {image_id} was exchanged after '
            'it was verified.')


class VerifySnapshot(Task):
    """Read the image's snapshot from end to end, unless that was done.

    A snapshot with the same ids never has other bytes. Several branches of
    one flow may have it, each by a name of its own: subclass it.
    """

    title = 'verifying the signature of the image'

    def execute(self, source: Sequence[str]) -> None:
        checker = self.tools.checker
        if checker is None:
            return
        parent = model.SnapSpec(*source)
        cluster = self.tools.cluster
        try:
            with cluster.pool(parent.pool).open(
                    parent.image, snapshot=parent.snapshot, read_only=True
                    ) as image:
                checker.snapshot = (parent.pool, image.id,
                                    _snapshot_id(image, parent))
                checker.check((cluster.fsid, *checker.snapshot),
                              lambda: _read(self.tools, image))
        except (exception.SnapshotNotFound, exception.ImageNotFound) as error:
            raise exception.NotCloneable(
                error.message, reason=plan.Reason.MISSING_SNAPSHOT.value
                ) from None
        except exception.CephPermissionDenied as error:
            raise exception.NotCloneable(
                error.message, reason=plan.Reason.SNAPSHOT_DENIED.value
                ) from None


class ConfirmSnapshot(Task):
    """See that what was cloned is what was verified."""

    title = 'comparing the clone with what was verified'

    def execute(self, image_id: str, volume_name: str) -> None:
        with self.tools.pool.open(volume_name, read_only=True) as volume:
            parent = volume.parent
        confirm(self.tools, image_id, (
            parent.image_id, parent.snapshot_id) if parent else ())


class RequireVerified(Task):
    """No volume without a verdict, whichever branch made it."""

    title = 'checking that the signature was verified'
    is_cancellable = False

    def execute(self, image_id: str) -> None:
        require(self.tools, image_id)


def require(tools: Tools, image_id: str) -> None:
    """Asked at the end, and before the image is used by who relies on an
    earlier step: that one may be done by a record only.

    :raises SignatureInvalid: nobody has verified it in this process.
    """
    checker = tools.checker
    if checker is None or checker.is_verified:
        return
    if tools.is_resumed:
        # A verdict is in no record, which would not be believed.
        raise exception.SignatureInvalid(
            f'Who verified the signature of Glance image {image_id} was '
            'killed, and the verdict is not known.',
            remedy='Nothing was kept; create the volume again.')
    raise exception.SignatureInvalid(
        f'The signature of Glance image {image_id} was not verified on the '
        'way.', remedy='Report this: it is an error of this program.')


def _snapshot_id(image: Image, parent: model.SnapSpec) -> int:
    found = image.find_snapshot(parent.snapshot)
    if found is None:
        raise exception.SnapshotNotFound(f'There is no snapshot {parent}.')
    return found.id


def _read(tools: Tools, image: Image) -> Generator[bytes, None, None]:
    """All of it in order; holes come from memory, as zeros."""
    operations = inbound.operations_within_memory(
        tools.config.copy_operations, outbound.CHUNK_BYTES)
    report = tools.transfer()
    report.start(image.size_bytes)
    with outbound.SourceStream(image, operations=operations,
                               report=report) as stream:
        while piece := stream.read():
            yield piece
