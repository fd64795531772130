# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd`` as a child of a process that has imported it already: the
same command, without the second that an interpreter takes to get there."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import warnings
from collections.abc import Mapping, Sequence

from tests.zygote import Tell
from volume_rbd import ceph, cli, compute, flows, glance, jobs, persistence
from volume_rbd.ceph import bindings
from volume_rbd.cli.__main__ import main

for _package in (ceph, cli, compute, flows, glance, jobs, persistence):
    for _module in pkgutil.iter_modules(_package.__path__,
                                        f'{_package.__name__}.'):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # libraries about each other
            importlib.import_module(_module.name)
bindings.rados()
bindings.rbd()


def command(tell: Tell, *, words: Sequence[str], environ: Mapping[str, str],
            stdout: str, stderr: str) -> None:
    """Run ``volume-rbd WORDS``; tells its exit ``code``.

    :param stdout: the path of the file that it writes to.
    """
    for descriptor, path in ((1, stdout), (2, stderr)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ['volume-rbd', *words]
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    tell(code=code)
