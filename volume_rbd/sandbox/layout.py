# SPDX-License-Identifier: Apache-2.0
"""Where everything of a sandbox lies."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path

from volume_rbd import exception

BASE_VARIABLE = 'VOLUME_RBD_SANDBOX_DIR'
DEFAULT_BASE = '.sandbox'

# sun_path of a Unix socket holds 107 bytes and a terminating zero.
MAX_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET = 'mariadb.sock'


def get_folder(name: str, base: str | os.PathLike[str] | None = None) -> Path:
    """The absolute folder of the sandbox ``name``.

    :param base: folder of all sandboxes; by default the one that
        $VOLUME_RBD_SANDBOX_DIR names, else ``.sandbox`` here.
    :raises InvalidName: for a name that is not one plain path component, or
        a path that a configuration file could not carry unquoted.
    """
    if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9._-]{0,40}', name):
        raise exception.InvalidName(
            f'{name!r} is no name for a sandbox.',
            remedy='Use letters, digits, dots, dashes and underscores.',
        )
    root = base or os.environ.get(BASE_VARIABLE) or DEFAULT_BASE
    folder = Path(os.path.abspath(Path(root) / name))
    # oslo.config expands $, ceph.conf and my.cnf end a value at ; or #.
    if re.search(r'[\s$%;#,"\'\\]', str(folder)):
        raise exception.InvalidName(
            f'The folder {str(folder)!r} has characters in its path that the '
            'configuration files of the services cannot carry.',
            remedy=f'Choose another folder with ${BASE_VARIABLE}.',
        )
    return folder


def fits_sockets(folder: Path) -> bool:
    """Whether Unix sockets can be bound in this folder."""
    longest = os.fsencode(folder / _LONGEST_SOCKET)
    return len(longest) <= MAX_SOCKET_PATH_BYTES


def get_venv_program(name: str) -> str:
    """The path of a console script beside the running interpreter."""
    return str(Path(sys.prefix) / 'bin' / name)


def get_venv_file(path: str) -> str:
    """The path of a data file that a package installed into the venv."""
    return str(Path(sys.prefix) / path)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The paths of one sandbox; pure arithmetic, nothing is touched."""

    folder: Path
    sockets: Path

    @property
    def run(self) -> Path:
        """Default place of the sockets; working directory of services."""
        return self.folder / 'run'

    @property
    def logs(self) -> Path:
        return self.folder / 'log'

    @property
    def ceph(self) -> Path:
        return self.folder / 'ceph'

    @property
    def ceph_conf(self) -> Path:
        return self.ceph / 'ceph.conf'

    @property
    def mariadb(self) -> Path:
        return self.folder / 'mariadb'

    @property
    def keystone(self) -> Path:
        return self.folder / 'keystone'

    @property
    def glance(self) -> Path:
        return self.folder / 'glance'

    @property
    def rabbitmq(self) -> Path:
        return self.folder / 'rabbitmq'

    @property
    def cinder(self) -> Path:
        return self.folder / 'cinder'

    @property
    def cinder_conf(self) -> Path:
        return self.cinder / 'cinder.conf'

    @property
    def config(self) -> Path:
        """The configuration for the project's own command line."""
        return self.folder / 'volume-rbd.conf'

    def socket(self, process: str) -> Path:
        return self.sockets / f'{process}.sock'

    def log(self, process: str) -> Path:
        """Log written by the process itself."""
        return self.logs / f'{process}.log'

    def output(self, process: str) -> Path:
        """Standard output and error of the process."""
        return self.logs / f'{process}.out'
