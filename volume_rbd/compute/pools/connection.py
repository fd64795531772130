# SPDX-License-Identifier: Apache-2.0
"""The connection to libvirtd: opened on demand, opened again when lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tenacity

from volume_rbd import exception
from volume_rbd.compute.pools import bindings, errors

# So long does a restart of libvirtd take, no longer.
PATIENCE_S = 5.0


class Connection:
    """:param uri: ``qemu:///system``, or ``storage:///system`` for a
        libvirtd without a hypervisor.

    Objects of libvirt belong to the connection they come from: they are
    looked up by name for each use, and not kept.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._opened: dict[str, Any] = {}

    @contextlib.contextmanager
    def storage(self, what: str, on: str) -> Iterator[Any]:
        """The ``virConnect`` for pools and volumes, and its errors in our
        words: "libvirt cannot *what* *on*".

        A libvirtd that was restarted is noticed before the block begins; one
        that goes in the middle of it is LibvirtUnavailable, and what was
        asked for may or may not have happened.

        :raises LibvirtUnavailable: it cannot be reached.
        :raises NotSupported: without libvirt's bindings.
        """
        with errors.translating(what, on):
            yield self._get(self.uri)

    @contextlib.contextmanager
    def secrets(self, what: str, on: str) -> Iterator[Any]:
        """The same for secrets, which a ``storage://`` has none of."""
        scheme, colon, rest = self.uri.partition(':')
        if scheme.partition('+')[0] == 'storage':
            scheme = 'secret' + scheme.removeprefix('storage')
        with errors.translating(what, on):
            yield self._get(scheme + colon + rest)

    def close(self) -> None:
        for uri in list(self._opened):
            self._drop(uri)

    def _get(self, uri: str) -> Any:
        found = self._opened.get(uri)
        if found is not None:
            if _answers(found):
                return found
            self._drop(uri)
        opened = self._opened[uri] = self._open(uri)
        return opened

    def _open(self, uri: str) -> Any:
        open_it: Callable[[str], Any] = bindings.libvirt().open

        def attempt() -> Any:
            with errors.translating('open', uri):
                return open_it(uri)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                exception.LibvirtUnavailable),
            stop=tenacity.stop_after_delay(PATIENCE_S),
            wait=tenacity.wait_fixed(0.25), reraise=True)(attempt)

    def _drop(self, uri: str) -> None:
        found = self._opened.pop(uri, None)
        if found is not None:
            with contextlib.suppress(bindings.libvirt().libvirtError):
                found.close()


def _answers(connection: Any) -> bool:
    """One short question: only an answer tells that libvirtd is there."""
    try:
        connection.getLibVersion()
    except bindings.libvirt().libvirtError:
        return False
    return True
