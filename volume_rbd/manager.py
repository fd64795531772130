# SPDX-License-Identifier: Apache-2.0
"""The backends of a configuration, opened on demand.

For the command line, and for Python::

    from volume_rbd import manager

    with manager.VolumeManager(['/etc/cinder/cinder.conf']) as volumes:
        driver = volumes.backend('ceph')
        driver.images.create(VolumeSpec('volume-1'), image_id)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from volume_rbd import exception, key_manager, model, opts, signatures
from volume_rbd.ceph import connection
from volume_rbd.driver import RBDDriver
from volume_rbd.glance import Door, find_user_auth, open_glance
from volume_rbd.glance.interface import Glance

#: Looked for in this order where no file is named.
DEFAULT_FILES = ('/etc/volume-rbd/volume-rbd.conf', '/etc/cinder/cinder.conf')


class VolumeManager:
    """:param files: configuration files; empty: $VOLUME_RBD_CONFIG, else the
        first of :data:`DEFAULT_FILES` that exists.
    :param folders: with more of them, read after the files.
    :param environ: where the user's credentials (OS_*) are looked for.
    """

    def __init__(self, files: Sequence[str] = (),
                 folders: Sequence[str] = (), *,
                 environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self.conf = opts.load_config(
            list(files) or default_files(self._environ), folders)
        self._drivers: dict[str, RBDDriver] = {}
        self._glance: Glance | None = None
        self._door: Door | None = None

    def backend_names(self) -> list[str]:
        return opts.backend_names(self.conf)

    def backend(self, name: str | None = None) -> RBDDriver:
        """The driver of a backend; the first enabled one where none is named.

        :raises BackendNotFound: no such backend, or none at all.
        """
        chosen = name or next(iter(self.backend_names()), None)
        if chosen is None:
            raise exception.BackendNotFound(
                'No RBD backend is enabled.',
                remedy='Name the backend sections in enabled_backends, in '
                       'the file given with --config-file.')
        if chosen not in self._drivers:
            self._drivers[chosen] = self.open(
                opts.get_backend_config(self.conf, chosen))
        return self._drivers[chosen]

    def opened(self) -> list[RBDDriver]:
        """The drivers that were asked for so far."""
        return list(self._drivers.values())

    def open(self, config: opts.BackendConfig) -> RBDDriver:
        """A driver for *config*, which whoever asks closes."""
        return RBDDriver(config, connection.connect(config.cluster),
                         self.glance, self.certificates)

    def glance(self) -> Glance:
        """:raises ConfigurationError: there are no credentials."""
        if self._glance is None:
            self._glance = open_glance(self.conf, self._environ)
        return self._glance

    def certificates(self) -> signatures.Certificates:
        """Those of the key manager, asked as the service."""
        return self.certificates_for(None)

    def keys(self) -> key_manager.KeyManager:
        """The key manager, asked as the user."""
        return key_manager.KeyManager(
            self.conf, lambda: find_user_auth(self.conf, self._environ))

    # -- a service's callers -------------------------------------------------
    def glance_for(self, caller: model.Caller | None) -> Glance:
        """Glance as the caller of a request, for the keyword *glance* of
        ``driver.images``; as the service where nobody asked.

        :raises ConfigurationError: nobody asked, and there is no service.
        """
        return self._get_door().for_caller(caller)

    def certificates_for(self, caller: model.Caller | None
                         ) -> signatures.Certificates:
        """The same for the keyword *certificates*."""
        return signatures.KeyManagerCertificates(
            self.conf, lambda: self._get_door().get_auth(caller))

    def _get_door(self) -> Door:
        if self._door is None:
            self._door = Door(self.conf)
        return self._door

    def close(self) -> None:
        """Wait for background work; the connections stay for others."""
        for driver in self._drivers.values():
            driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


def default_files(environ: Mapping[str, str],
                  candidates: Sequence[str] = DEFAULT_FILES) -> list[str]:
    named = environ.get('VOLUME_RBD_CONFIG')
    if named:
        return [named]
    return [path for path in candidates if os.path.exists(path)][:1]
