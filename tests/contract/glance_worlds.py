# SPDX-License-Identifier: Apache-2.0
"""A Glance to run the contract on: the fake, and the sandbox's.

A world is one Glance with three users of it and the few things that only a
test may do to it: make what a location names, break a stored image.
"""

from __future__ import annotations

import contextlib
import functools
import io
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from tests.fakes.glance import FakeGlance, GlanceServer
from volume_rbd import exception, model, opts
from volume_rbd.glance import channel, client, session
from volume_rbd.glance.interface import Glance
from volume_rbd.sandbox import Sandbox

MIB = model.MIB


class World(Protocol):
    """One Glance; stores ``rbd`` (the default) and ``file``."""

    member: Glance  #: a plain user, with the service's credentials at hand
    other: Glance  #: the same in another project
    plain: Glance  #: the member without any service's credentials
    admin: Glance  #: an admin

    def make_rbd_image(self, name: str, size_bytes: int) -> str:
        """A clone with a protected ``snap`` in the store's pool: its URL."""

    def bad_url(self, image_id: str) -> str:
        """Well-formed; there is nothing behind it."""

    def deactivated(self, image_id: str
                    ) -> contextlib.AbstractContextManager[None]:
        """The image is deactivated for so long.

        And then is again what it was: a deactivated image that a user who is
        not admin deletes leaves its rbd_image behind (tried: Glance 33).
        """

    def use(self, image_id: str) -> Callable[[], None]:
        """Let something outside of Glance depend on the image in the RBD
        store; call the result to end that."""

    def break_file(self, image_id: str,
                   change: Callable[[bytes], bytes]) -> None:
        """Change what the file store has of the image."""

    def close(self) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._server = GlanceServer(can_open=self._sizes.get)
        self.member: Glance = FakeGlance(self._server)
        self.other: Glance = FakeGlance(self._server, project='other')
        self.plain: Glance = FakeGlance(self._server, has_service=False)
        self.admin: Glance = FakeGlance(self._server, project='admin',
                                        roles=('admin',))

    def make_rbd_image(self, name: str, size_bytes: int) -> str:
        [fsid] = [store.fsid for store in self._server.stores.values()
                  if store.type == 'rbd']
        url = model.RBDLocation(fsid or '', 'images', name, 'snap').url
        self._sizes[url] = size_bytes
        return url

    def bad_url(self, image_id: str) -> str:
        return f'rbd://nowhere/images/{image_id}/snap'

    @contextlib.contextmanager
    def deactivated(self, image_id: str) -> Iterator[None]:
        self._server.deactivate(image_id)
        yield
        self._server.get_record(image_id).change(status='active')

    def use(self, image_id: str) -> Callable[[], None]:
        self._server.set_in_use(image_id)
        return lambda: self._server.set_in_use(image_id, False)

    def break_file(self, image_id: str,
                   change: Callable[[bytes], bytes]) -> None:
        data = self._server.get_record(image_id).data
        self._server.tamper(image_id, change(data or b''))

    def close(self) -> None:
        pass


class RealWorld:
    """:param sandbox: up; this is the only thing that knows where it is."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        environ = sandbox.env('member')
        self._folder = Path(environ['SANDBOX'])
        self._ceph_conf = environ['CEPH_CONF']
        self.config_file = environ['VOLUME_RBD_CONFIG']
        self.member: Glance = self.open_client('member')
        self.other: Glance = self.open_client('other')
        self.plain: Glance = self.open_client('member', has_service=False)
        self.admin: Glance = self.open_client('admin')
        self._sources: list[str] = []

    def environ(self, role: str) -> dict[str, str]:
        """The variables of one of the sandbox's users."""
        return self._sandbox.env(role)

    def open_client(self, role: str, *, has_service: bool = True,
                    **environ: str) -> client.GlanceClient:
        conf = opts.load_config([self.config_file])
        config = opts.get_glance_config(conf)
        user = session.user_session(self._sandbox.env(role) | environ, config)
        service = session.service_session(conf, config)
        assert service is not None
        return client.GlanceClient(config, user,
                                   service if has_service else None)

    def make_rbd_image(self, name: str, size_bytes: int) -> str:
        source = f'volumes/contract-{name}'
        self._sources.append(source)
        self._rbd('create', '--size', f'{size_bytes}B', source)
        self._rbd('snap', 'create', f'{source}@from')
        self._rbd('clone', '--rbd-default-clone-format', '2',
                  f'{source}@from', f'images/{name}')
        self._rbd('snap', 'create', f'images/{name}@snap')
        self._rbd('snap', 'protect', f'images/{name}@snap')
        return model.RBDLocation(self._fsid(), 'images', name, 'snap').url

    def bad_url(self, image_id: str) -> str:
        return model.RBDLocation(
            self._fsid(), 'images', image_id, 'snap').url

    @contextlib.contextmanager
    def deactivated(self, image_id: str) -> Iterator[None]:
        self._admin().images.deactivate(image_id)
        yield
        self._admin().images.reactivate(image_id)

    def use(self, image_id: str) -> Callable[[], None]:
        # Format 1: with format 2 Glance moves the rbd_image to the trash.
        child = f'volumes/contract-child-{image_id}'
        self._rbd('clone', '--rbd-default-clone-format', '1',
                  f'images/{image_id}@snap', child)
        return lambda: self._rbd('remove', '--no-progress', child)

    def break_file(self, image_id: str,
                   change: Callable[[bytes], bytes]) -> None:
        path = self._folder / 'glance' / 'file' / image_id
        path.write_bytes(change(path.read_bytes()))

    def close(self) -> None:
        """Remove what the clones came from; the clones are the images'."""
        for source in self._sources:
            clone = 'images/' + source.partition('contract-')[2]
            self._rbd('snap', 'unprotect', f'{clone}@snap', check=False)
            self._rbd('snap', 'purge', clone, check=False)
            self._rbd('remove', '--no-progress', clone, check=False)
            self._rbd('snap', 'purge', source, check=False)
            self._rbd('remove', '--no-progress', source)

    def _admin(self) -> Any:
        conf = opts.load_config([self.config_file])
        config = opts.get_glance_config(conf)
        admin = session.user_session(self._sandbox.env('admin'), config)
        return channel.Channel(admin, config)

    def _fsid(self) -> str:
        [fsid] = [store.fsid for store in self.member.get_stores()
                  if store.type == 'rbd']
        assert fsid is not None
        return fsid

    def _rbd(self, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            ['rbd', '--conf', self._ceph_conf, '--id', 'cinder', *arguments],
            capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise AssertionError(f'rbd {arguments}: {done.stderr}')


class Maker:
    """Makes image records and deletes them after the test."""

    def __init__(self) -> None:
        self._made: list[tuple[Glance, str]] = []

    def new_id(self, glance: Glance) -> str:
        """An id; should an image of it come to be, it goes again."""
        image_id = str(uuid.uuid4())
        self._made.append((glance, image_id))
        return image_id

    def queued(self, glance: Glance, **fields: Any) -> str:
        values: dict[str, Any] = {
            'name': 'contract', 'disk_format': 'raw',
            'container_format': 'bare'} | fields
        image_id = self.new_id(glance)
        glance.create_image(image_id=image_id, **values)
        return image_id

    def active(self, glance: Glance, data: bytes, store_id: str = 'rbd',
               **fields: Any) -> str:
        image_id = self.queued(glance, **fields)
        glance.upload(image_id, io.BytesIO(data), size_bytes=len(data),
                      store_id=store_id)
        return image_id

    def delete_all(self) -> None:
        for glance, image_id in reversed(self._made):
            wait_until(functools.partial(_is_deleted, glance, image_id))


def _is_deleted(glance: Glance, image_id: str) -> bool:
    try:
        glance.delete_image(image_id)
    except exception.GlanceImageNotFound:
        return True
    except exception.Conflict:
        return False
    return True


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """What *condition* returns, once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, 'this did not come true in time'
        time.sleep(0.1)
    return result
