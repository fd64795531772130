# SPDX-License-Identifier: Apache-2.0
"""A lane: where one operation after another is killed, beside others.

Each lane has a pool for its volumes, and so trash, records and metadata to
itself; Glance and the pool of the images are shared, where everything that a
run makes bears an id that begins with the run's (see :mod:`.children`).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tests.faults import operations
from tests.faults.cluster import PoolCluster
from tests.faults.operations import SNAPSHOT, Operation
from tests.faults.sources import Sources
from tests.faults.view import View, look
from tests.functional.api import GlanceAPI
from tests.functional.house import House

SOURCE = 'volume-source'
IMAGES = 'images'
_HANGS_AFTER_S = 90.0
_ATTEMPTS = 3

T = TypeVar('T')


class Lane:
    """:param pool: is made, and removed at the end."""

    def __init__(self, house: House, pool: str, sources: Sources) -> None:
        self.house = house
        self.pool = pool
        self.cluster = PoolCluster(house.cluster.conf)
        self.member = GlanceAPI(house.sandbox.env('member'))
        self.service = GlanceAPI(house.sandbox.env('service'))
        self.sources = sources
        self._images: dict[str, str] = {}
        self._configs: dict[str, str] = {}

    def close(self) -> None:
        self.clear()
        self.cluster.close()

    def config(self, settings: Mapping[str, object]) -> str:
        """The path of a configuration of this lane."""
        key = repr(settings)
        if key not in self._configs:
            self._configs[key] = self.house.config({
                'DEFAULT': {'flow_connection': 'rados://'},
                'optimized': {'rbd_pool': self.pool, **settings}})
        return self._configs[key]

    # -- what a harness does -------------------------------------------------
    def prepare(self, operation: Operation, run: str) -> dict[str, Any]:
        """:returns: what the operation is given."""
        return self._bounded(lambda: self._prepare(operation, run))

    def look(self, operation: Operation, run: str) -> View:
        """All that concerns this run, with names that every run has."""
        return self._bounded(lambda: look(
            self, run, self._images.get(operation.image)))

    def end_lost_watches(self, run: str) -> list[str]:
        """:returns: the rbd_images of this run that had one; see
        :meth:`.PoolCluster.end_lost_watches`."""
        return self._bounded(lambda: [
            *self.cluster.end_lost_watches(self.pool),
            *self.cluster.end_lost_watches(IMAGES, lambda name: run in name
                                           or name in self._images.values())])

    def restore(self, run: str) -> None:
        """Take away by force what a run made and left."""
        self._bounded(lambda: self._restore(run))

    def clear(self) -> None:
        """Take away what the runs work on as well."""
        self._bounded(self._clear)

    def _bounded(self, call: Callable[[], T]) -> T:
        """Do *call*; where it hangs, again with another connection.

        librbd has been seen to open an rbd_image for ever (16.2, once in
        some thousand kills, with nothing in flight at the OSD).
        """
        for _ in range(_ATTEMPTS):
            future: concurrent.futures.Future[T] = (
                concurrent.futures.Future())
            threading.Thread(target=_fulfil, args=(future, call),
                             daemon=True).start()
            try:
                return future.result(_HANGS_AFTER_S)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise  # it is the call's own
                self.cluster.abandon()
                self.cluster = PoolCluster(self.house.cluster.conf)
        raise AssertionError('librbd hangs, again and again')

    # -- what is worked on ---------------------------------------------------
    def _prepare(self, operation: Operation, run: str) -> dict[str, Any]:
        given = {'source': SOURCE, 'target': f'volume-{new_id(run)}',
                 'file': str(self.sources.file)}
        if SOURCE not in self.cluster.names(self.pool):
            self._make_volume(SOURCE, operations.WITH_SNAPSHOT)
        if operation.image:
            given['image'] = self._image(operation.image)
        if operation.own:
            given['own'] = f'volume-own-{new_id(run)}'
            self._make_volume(given['own'], operation.own)
        if operation.has_record:
            given['record'] = self.member.create(
                id=new_id(run), name='faults')
        return given

    def _make_volume(self, name: str, kind: str) -> None:
        self.cluster.make(self.pool, name, self.sources.data)
        if kind == operations.PLAIN:
            return
        is_parent = kind == operations.WITH_CLONE
        self.cluster.take_snapshot(self.pool, name, SNAPSHOT,
                                   protect=not is_parent)
        if is_parent:
            self.cluster.clone((self.pool, name, SNAPSHOT), self.pool,
                               f'{name}-clone')
            with self.cluster.open(self.pool, name) as image:
                image.remove_snap(SNAPSHOT)

    def _image(self, kind: str) -> str:
        if kind not in self._images:
            self._images[kind] = self.sources.make_image(self.member, kind)
        return self._images[kind]

    # -- taking away ---------------------------------------------------------
    def _restore(self, run: str) -> None:
        self._let_go(run)
        for image_id in self.image_ids(run):
            with contextlib.suppress(AssertionError):
                self.service.delete(image_id)
        # Never by what is to stay: other lanes make things meanwhile.
        # Each pool may have clones of what is in the other.
        self.cluster.destroy(IMAGES, lambda name: run in name)
        self.cluster.destroy(self.pool, lambda name: name != SOURCE)
        self.cluster.destroy(IMAGES, lambda name: run in name)
        self._restore_source()
        self.cluster.forget(self.pool)

    def _restore_source(self) -> None:
        if SOURCE not in self.cluster.names(self.pool):
            return
        with self.cluster.open(self.pool, SOURCE) as source:
            for found in list(source.list_snaps()):
                if found['name'] != SNAPSHOT:
                    with contextlib.suppress(Exception):
                        source.unprotect_snap(found['name'])
                    source.remove_snap_by_id(found['id'])

    def _let_go(self, run: str) -> None:
        """Nobody who was killed has anything open any more."""
        for name in self.cluster.names(self.pool):
            self.cluster.fence_watchers(self.pool, name)
        for name in self.cluster.names(IMAGES):
            if run in name or name in self._images.values():
                self.cluster.fence_watchers(IMAGES, name)

    def _clear(self) -> None:
        for image_id in self._images.values():
            with contextlib.suppress(AssertionError):
                self.service.delete(image_id)
        self._images.clear()
        self.cluster.destroy(self.pool, lambda name: True)
        self.cluster.forget(self.pool)

    def image_ids(self, run: str) -> list[str]:
        """Of Glance's records that *run* made."""
        return [str(row[0]) for row in self.house._sql(
            'glance', 'SELECT id FROM images WHERE deleted = 0 '
            'AND id LIKE %s', f'{run}%')]


def _fulfil(future: concurrent.futures.Future[T], call: Callable[[], T]
            ) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


def new_id(run: str) -> str:
    return str(uuid.UUID(hex=run + uuid.uuid4().hex[8:]))


