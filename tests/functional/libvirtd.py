# SPDX-License-Identifier: Apache-2.0
"""A real libvirtd of the tests' own, beside any that the machine runs.

It is root's, in the foreground, in a mount namespace in which its folders are
those of the test: definitions and secrets outlive it, as they do on a host.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from volume_rbd.compute.pools import bindings

_PLACES = {'etc': '/etc/libvirt', 'lib': '/var/lib/libvirt',
           'cache': '/var/cache/libvirt', 'run': '/run'}
_CONFIG = """\
auth_unix_rw = "none"
log_outputs = "1:file:{folder}/log"
log_filters = "1:storage 1:secret"
"""
_DOMAIN = """<domain type='qemu'><name>guest</name><memory>65536</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices>{disk}</devices></domain>"""
_PATIENCE_S = 30.0


class Libvirtd:
    """:param folder: for everything it keeps; short, for its sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        for name in _PLACES:
            (folder / name).mkdir()
        (folder / 'libvirtd.conf').write_text(_CONFIG.format(folder=folder))

    @property
    def _socket(self) -> Path:
        return self.folder / 'run' / 'libvirt' / 'libvirt-sock'

    @property
    def uri(self) -> str:
        """For ``connection_uri``: without a hypervisor."""
        return f'storage:///system?socket={self._socket}'

    @property
    def secrets_uri(self) -> str:
        return f'secret:///system?socket={self._socket}'

    @property
    def log(self) -> str:
        """Everything it had to say, each call for pools too."""
        return (self.folder / 'log').read_text(errors='replace')

    def start(self) -> None:
        """Returns when it answers."""
        mounts = [f'mount --bind {self.folder / name} {place}'
                  for name, place in _PLACES.items()]
        script = ' && '.join([*mounts, 'exec libvirtd --config '
                              f'{self.folder / "libvirtd.conf"}'])
        with (self.folder / 'stderr').open('ab') as stderr:
            self._process = subprocess.Popen(
                ['unshare', '--mount', '--propagation', 'private', 'sh',
                 '-c', script], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=stderr)
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (
                self.folder / 'stderr').read_text()
            assert time.monotonic() < deadline, 'libvirtd does not answer'
            time.sleep(0.1)

    def _answers(self) -> bool:
        libvirt = bindings.libvirt()
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.open(self.uri).close()
            return True
        return False

    def kill(self) -> None:
        """As a crash would."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_PATIENCE_S)

    def translate(self, disk: str) -> str:
        """The arguments of qemu that it makes of a ``<disk>``, as it would
        for a guest that it starts.

        :raises libvirt.libvirtError: it does not take it.
        """
        connection = bindings.libvirt().open(
            f'qemu:///system?socket={self._socket}')
        try:
            return str(connection.domainXMLToNative(
                'qemu-argv', _DOMAIN.format(disk=disk), 0))
        finally:
            connection.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """libvirt's own bindings: what is looked at must not be what is
        looked through."""
        connection = bindings.libvirt().open(self.uri)
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Libvirtd]:
    """One that ends with the block."""
    assert os.geteuid() == 0, 'libvirtd needs root'
    made = Libvirtd(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
