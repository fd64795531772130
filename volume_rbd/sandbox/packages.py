# SPDX-License-Identifier: Apache-2.0
"""What must be installed before a sandbox can start."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable

from volume_rbd import exception
from volume_rbd.sandbox import layout

# Program -> Debian 12 package.
CEPH = {
    'ceph-mon': 'ceph-mon',
    'ceph-mgr': 'ceph-mgr',
    'ceph-osd': 'ceph-osd',
    'ceph': 'ceph-common',
    'rbd': 'ceph-common',
    'monmaptool': 'ceph-common',
    'qemu-img': 'qemu-utils',
}
SERVICES = {
    'mariadbd': 'mariadb-server',
    'mariadb-install-db': 'mariadb-server',
    'mariadb': 'mariadb-client',
}
CINDER = {
    'rabbitmq-server': 'rabbitmq-server',
    'epmd': 'erlang-base',
    'cryptsetup': 'cryptsetup-bin',
}
VENV = ('gunicorn', 'keystone-manage', 'glance-manage')
CINDER_VENV = ('cinder-manage', 'cinder-scheduler', 'cinder-volume',
               'privsep-helper')

# Daemons live in sbin, which an ordinary user's PATH may lack.
_SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

Which = Callable[[str], str | None]


def find_program(name: str) -> str | None:
    """The absolute path of a Debian program, or None."""
    return shutil.which(name, path=_SEARCH_PATH)


def get_program(name: str) -> str:
    """The absolute path of a Debian program.

    :raises SandboxError: it is not installed.
    """
    path = find_program(name)
    if path is None:
        raise _missing([(CEPH | SERVICES | CINDER)[name]])
    return path


def require(*, ceph_only: bool, cinder: bool = False,
            which: Which = find_program) -> None:
    """Check that every program a sandbox runs is there.

    :raises SandboxError: naming the one command that installs the rest.
    """
    wanted = CEPH if ceph_only else CEPH | SERVICES
    if cinder:
        wanted = wanted | CINDER
    packages = {p for program, p in wanted.items() if not which(program)}
    if packages:
        raise _missing(packages)
    if ceph_only:
        return
    programs = VENV + CINDER_VENV if cinder else VENV
    absent = [name for name in programs
              if not shutil.which(layout.get_venv_program(name))]
    if absent:
        raise exception.SandboxError(
            f'This Python environment lacks {", ".join(absent)}.',
            remedy="Run: pip install 'volume-rbd[sandbox,cinder]' with the "
                   'constraints of the project, or "make demo".',
        )


def _missing(packages: Iterable[str]) -> exception.SandboxError:
    names = ' '.join(sorted(packages))
    return exception.SandboxError(
        f'The sandbox needs Debian packages that are not installed: {names}.',
        remedy=f'Run: apt-get install --no-install-recommends {names}',
    )
