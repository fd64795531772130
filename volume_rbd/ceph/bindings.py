# SPDX-License-Identifier: Apache-2.0
"""The only place where librados and librbd come in.

They are imported when they are first used: plans, fakes and the command
line's help work on a machine without Ceph.
"""

from __future__ import annotations

import functools
import sysconfig
from typing import Any

from volume_rbd import exception


@functools.cache
def rados() -> Any:
    """:raises ConfigurationError: the binding is not installed."""
    try:
        import rados
    except ImportError as error:
        raise _missing('rados', error) from None
    return rados


@functools.cache
def rbd() -> Any:
    """:raises ConfigurationError: the binding is not installed."""
    try:
        import rbd
    except ImportError as error:
        raise _missing('rbd', error) from None
    return rbd


def _missing(name: str, error: ImportError) -> exception.ConfigurationError:
    # PyPI has no working package of either: they belong to the librados and
    # librbd of the machine, and to one minor version of the interpreter.
    site = sysconfig.get_path('platlib')
    return exception.ConfigurationError(
        f'The Python binding {name!r} of Ceph cannot be imported: {error}.',
        remedy='Install the Debian packages python3-rbd and python3-rados; '
               'in a virtual environment also link them: ln -s /usr/lib/'
               f'python3/dist-packages/r{{ados,bd}}.*.so {site}/')
