# SPDX-License-Identifier: Apache-2.0
"""Who acts in a test, and what the test has made.

Everything that was made by it is deleted after a test as users would delete
it, and nothing of it may be left in a pool then. Others may use the same
pools meanwhile: only what bears an id of ours is looked at.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql

from tests.e2e.cinder import CinderAPI
from tests.functional import content
from tests.functional.api import GlanceAPI
from tests.functional.cluster import Cluster
from volume_rbd.sandbox import Sandbox
from volume_rbd.sandbox.state import find_state

POOLS = {'on': 'volumes', 'off': 'volumes-off'}
IMAGES = 'images'
_POLL_S = 0.1


class Traces:
    """:ivar cinder: as a plain user; *admin* the same as administrator."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.cinder = CinderAPI(sandbox.env('member'))
        self.admin = CinderAPI(sandbox.env('admin'))
        self.glance = GlanceAPI(sandbox.env('member'))
        self.cluster = Cluster(sandbox.env()['CEPH_CONF'])
        self.conversion = sandbox.folder / 'cinder' / 'conversion'
        self._log = sandbox.folder / 'log' / 'cinder-volume.log'
        self._log_begin = 0
        self._volumes: list[str] = []
        self._snapshots: list[str] = []
        self._images: list[tuple[GlanceAPI, str]] = []

    # -- making --------------------------------------------------------------
    def volume(self, volume_type: str = 'on', size_gib: int = 1, *,
               status: str | None = 'available', **fields: Any) -> str:
        made = self.cinder.create(volume_type, size_gib, status=None,
                                  **fields)
        self._volumes.append(made)
        if status == 'error':
            self._wait_for_error(made)
        elif status:
            self.cinder.wait_for_status(made, status)
        return made

    def written(self, volume_type: str = 'on', **fields: Any
                ) -> tuple[str, str]:
        """A volume with data here and there, and its hash."""
        volume = self.volume(volume_type, **fields)
        return volume, self.write(volume, POOLS[volume_type])

    def write(self, volume: str, pool: str = 'volumes') -> str:
        name = f'volume-{volume}'
        for offset in (0, 500 * content.MIB, 1020 * content.MIB):
            self.cluster.write(pool, name, content.random_bytes(
                content.MIB), offset)
        return self.cluster.digest(pool, name)

    def snapshot(self, volume: str) -> str:
        made = self.cinder.create_snapshot(volume)
        self._snapshots.append(made)
        return made

    def image(self, data: bytes, store: str = 'rbd', *,
              glance: GlanceAPI | None = None, **fields: Any) -> str:
        glance = glance or self.glance
        made = glance.create(**fields)
        self._images.append((glance, made))
        if data:
            glance.upload(made, data, store)
        return made

    def upload(self, volume: str, *, status: str | None = 'active',
               **fields: Any) -> str:
        """An image of the volume, which is then again as it was."""
        before = self.cinder.show(volume).status
        made = self.cinder.upload(volume, **fields)
        self._images.append((self.glance, made))
        if status:
            self.glance.wait_for_status(made, status)
            self.cinder.wait_for_status(volume, before)
        return made

    def owns(self, volume: str) -> str:
        """Delete it after the test; it was made in another way."""
        self._volumes.append(volume)
        return volume

    def forget_virtual_size(self, image: str) -> None:
        """As Glance does not know it of images that an older one took in."""
        state = find_state(self.sandbox.folder)
        assert state is not None
        with contextlib.closing(pymysql.connect(
                host='127.0.0.1', port=state.ports['mariadb'],
                user='glance', database='glance',
                password=state.passwords['db_glance'])
                ) as connection, connection.cursor() as cursor:
            cursor.execute('UPDATE images SET virtual_size = NULL '
                           'WHERE id = %s', (image,))
            connection.commit()

    # -- looking -------------------------------------------------------------
    def digest(self, volume: str, pool: str = 'volumes') -> str:
        return self.cluster.digest(pool, f'volume-{volume}')

    def parent(self, volume: str, pool: str = 'volumes') -> str | None:
        return self.cluster.parent(pool, f'volume-{volume}')

    def logged(self) -> str:
        """What cinder-volume has logged since the test began."""
        with self._log.open('rb') as stream:
            stream.seek(self._log_begin)
            return stream.read().decode('utf-8', 'replace')

    def says(self, *words: str, timeout_s: float = 10) -> bool:
        """Whether one line of the log has all the words, soon."""
        return soon(lambda: any(all(word in line for word in words)
                                for line in self.logged().splitlines()),
                    timeout_s)

    def message(self, resource: str, timeout_s: float = 10) -> str:
        """What the user was told about it, once that is said."""
        soon(lambda: bool(self.cinder.messages(resource)), timeout_s)
        return '; '.join(self.cinder.messages(resource))

    def _wait_for_error(self, volume: str) -> None:
        assert soon(lambda: self.cinder.status(volume) == 'error', 60), (
            self.cinder.status(volume))

    # -- the end -------------------------------------------------------------
    def begin(self) -> None:
        self._log_begin = self._log.stat().st_size

    def clean_up(self) -> None:
        """As their owners would: the newest first.

        :raises AssertionError: it cannot be deleted, or leaves something.
        """
        ids = [*self._volumes, *self._snapshots,
               *(image for _, image in self._images)]
        while self._snapshots:
            snapshot = self._snapshots.pop()
            self._delete('volume_snapshots', snapshot,
                         self.cinder.wait_for_snapshot)
        while self._volumes:
            volume = self._volumes.pop()
            self._delete('volumes', volume, self.cinder.wait_for_status)
        while self._images:
            glance, image = self._images.pop()
            glance.delete(image)
        # What had children is purged with the next interval.
        assert soon(lambda: not self._left(ids), 75), self._left(ids)

    def _delete(self, kind: str, identity: str,
                wait: Callable[[str, str | None], None]) -> None:
        manager = getattr(self.admin.client, kind)
        with contextlib.suppress(Exception):  # it is gone already
            manager.delete(identity)
        wait(identity, None)

    def _left(self, ids: list[str]) -> list[str]:
        found: list[str] = []
        for pool in (*POOLS.values(), IMAGES):
            found += self.cluster.names(pool)
            found += [row['name'] for row in self.cluster.trash(pool)]
        return [name for name in found
                if any(identity in name for identity in ids)]

    def scrub(self) -> None:
        """By force, in Cinder's records too."""
        for snapshot in self._snapshots:
            with contextlib.suppress(Exception):
                self.admin.client.volume_snapshots.delete(snapshot, True)
        for volume in self._volumes:
            with contextlib.suppress(Exception):
                self.admin.client.volumes.force_delete(volume)

    def close(self) -> None:
        self.cluster.close()


@contextlib.contextmanager
def opened(sandbox: Sandbox) -> Iterator[Traces]:
    with contextlib.closing(Traces(sandbox)) as made:
        made.begin()
        try:
            yield made
            made.clean_up()
        except BaseException:
            with contextlib.suppress(Exception):
                made.clean_up()
            made.scrub()
            raise


@contextlib.contextmanager
def no_file_in(folder: Path) -> Iterator[None]:
    """Nobody puts a file there meanwhile, however short."""
    seen: set[str] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            seen.update(os.listdir(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
    assert not seen


def soon(is_so: Callable[[], bool], timeout_s: float = 20) -> bool:
    """Whether it becomes so: what goes in the background is waited for."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
