# SPDX-License-Identifier: Apache-2.0
"""What must hold after an operation, however it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tests.unit.world import SIZE, SOURCE, VOLUME, World, content
from volume_rbd import exception, model, progress
from volume_rbd.ceph import lineage
from volume_rbd.driver.images import ImageRequest
from volume_rbd.flows.base import Result
from volume_rbd.flows.upload_to_image import source_snapshot

NEW = 'volume-new'
NEW_SPEC = model.VolumeSpec(NEW, model.GIB)

Run = Callable[[progress.Progress | None], Result]


@dataclasses.dataclass
class Operation:
    """One operation in a world of its own, ready to run.

    :ivar before: everything there was before it began.
    :ivar calls: what it asked of ``ceph`` and of ``glance``, in order.
    """

    world: World
    data: bytes
    run: Run
    image_id: str | None = None
    before: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    outcome: Result | BaseException | None = None
    calls: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)

    def go(self, report: progress.Progress | None = None) -> Operation:
        """Run it; what came of it is in ``outcome``."""
        self.before = self.world.state()
        self.world.trace()
        try:
            self.outcome = self.run(report)
        except Exception as error:
            self.outcome = error
        self.calls = self.world.end_trace()
        return self

    @property
    def result(self) -> Result:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome

    @property
    def error(self) -> BaseException:
        assert isinstance(self.outcome, BaseException), self.outcome
        return self.outcome

    # -- what must hold ------------------------------------------------------
    def check(self) -> None:
        """It is done, or nothing is left, or it is pending and says so."""
        if isinstance(self.outcome, exception.RegistrationPending):
            self.check_pending()
        elif 'could be undone' in str(self.outcome):
            self.check_told()
        elif isinstance(self.outcome, BaseException):
            self.check_untouched()
        else:
            self.check_done()

    def check_untouched(self) -> None:
        assert self.world.state() == self.before, repr(self.outcome)

    def check_done(self) -> None:
        raise NotImplementedError

    def check_pending(self) -> None:
        raise AssertionError(f'pending: {self.outcome}')

    def check_told(self) -> None:
        raise AssertionError(f'told: {self.outcome}')

    def _check_only_new(self, *wanted: str) -> None:
        """Nothing that was there has changed; only *wanted* are new."""
        now = self.world.state()
        for key, value in self.before.items():
            if key in now and key not in wanted:
                assert now[key] == value, key
        assert set(self.before) <= set(now)
        assert len(set(now) - set(self.before)) <= len(wanted), (
            set(now) - set(self.before))


class UploadOperation(Operation):
    """``images.upload`` of :data:`VOLUME`."""

    def check_done(self) -> None:
        result, world = self.result, self.world
        image_id = result.values['image_id']
        image = world.glance.get_image(image_id)
        assert image.status == 'active'
        assert image.size_bytes == len(self.data)
        assert world.download(image_id) == self.data
        assert world.read('volumes', VOLUME) == self.data
        self._check_source_snapshot(result, image_id)
        assert not any(disk.watchers for disk in world.ceph.disks.values())
        assert len(world.server.records) == 1
        if image.stores != ('file',):
            assert world.disks('images') == [image_id]
            assert world.snapshots('images', image_id) == ['snap!']
            mark = world.mark('images', image_id)
            kind = mark.kind if mark else None
            assert kind == (lineage.GLANCE_IMAGE
                            if result.strategy in ('clone', 'copy')
                            else None)

    def _check_source_snapshot(self, result: Result, image_id: str) -> None:
        name = source_snapshot(image_id)
        left = self.world.snapshots('volumes', VOLUME)
        leftover = result.values.get('leftover')
        if leftover:
            assert leftover == f'{VOLUME}@{name}'
            assert left in ([name], [f'{name}!'])
        elif result.strategy == 'clone' and _has_parent(self.world, image_id):
            assert left in ([f'[{name}]'], [f'{name}!'])
        else:
            assert left == []

    def check_pending(self) -> None:
        """Clone and record stay, the clone marked; nothing else does."""
        world = self.world
        [image_id] = world.disks('images')
        assert image_id in world.server.records
        assert world.snapshots('images', image_id) == ['snap!']
        mark = world.mark('images', image_id)
        assert mark is not None
        assert mark.state == lineage.PENDING
        assert image_id in str(self.error)
        assert world.snapshots('volumes', VOLUME) in (
            ([f'[{source_snapshot(image_id)}]'],
             [f'{source_snapshot(image_id)}!'])
            if _has_parent(world, image_id) else ([],))
        assert world.read('images', image_id, 'snap') == self.data

    def check_told(self) -> None:
        """The clone could not be removed, and the error says so; all the
        rest is undone, so far as the clone lets it."""
        world = self.world
        assert ('(cloning the volume: ' in str(self.error)
                or '(copying the volume: ' in str(self.error))
        assert len(world.disks('images')) == 1
        assert all(snap.startswith('[')
                   for snap in world.snapshots('volumes', VOLUME))
        left = set(world.server.records)
        assert left == ({self.image_id} if self.image_id else set())


class CreateOperation(Operation):
    """``images.create`` of :data:`NEW`."""

    def check_done(self) -> None:
        world = self.world
        assert world.disks('volumes') == [NEW]
        assert world.read('volumes', NEW, length=len(self.data)) == self.data
        [disk] = [disk for disk in world.ceph.disks.values()
                  if disk.name == NEW]
        assert disk.size == model.GIB
        assert not disk.watchers
        mark = world.mark('volumes', NEW)
        assert mark is not None
        assert (mark.kind, mark.state) == (lineage.VOLUME, lineage.COMPLETE)
        assert mark.job == self.result.job
        assert (disk.link is not None) == (self.result.strategy == 'clone')
        self._check_only_new(f'rbd volumes/{disk.id}')


def _has_parent(world: World, name: str) -> bool:
    return any(disk.link is not None for disk in world.ceph.disks.values()
               if disk.name == name)


# -- operations ---------------------------------------------------------------

def upload(world: World | None = None, *, keeps_record: bool = False,
           size_bytes: int = SIZE, is_encrypted: bool = False,
           store_id: str | None = None, **changes: Any) -> UploadOperation:
    """:param keeps_record: the caller made the record.
    :param changes: of the backend's configuration.
    """
    world = world or World()
    world.configure(**changes)
    data = world.make_volume(size_bytes=size_bytes)
    image_id = world.make_record() if keeps_record else None
    volume = dataclasses.replace(SOURCE, is_encrypted=is_encrypted)
    request = ImageRequest('title', image_id=image_id, store_id=store_id)

    def run(report: progress.Progress | None) -> Result:
        with world.driver() as driver:
            return driver.images.upload(volume, request, report=report)

    return UploadOperation(world, data, run, image_id)


def create(world: World | None = None, *, data: bytes | None = None,
           store_id: str | None = None, **changes: Any) -> CreateOperation:
    world = world or World()
    world.configure(**changes)
    data = content() if data is None else data
    image_id = world.make_image(data, store_id=store_id)

    def run(report: progress.Progress | None) -> Result:
        with world.driver() as driver:
            return driver.images.create(NEW_SPEC, image_id, report=report)

    return CreateOperation(world, data, run, image_id)
