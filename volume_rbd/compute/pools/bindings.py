# SPDX-License-Identifier: Apache-2.0
"""The only importer of libvirt, when it is first needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from volume_rbd import exception


@functools.cache
def libvirt() -> Any:
    """The module.

    :raises NotSupported: it is not installed.
    """
    try:
        import libvirt as module
    except ImportError as error:
        raise exception.NotSupported(
            "libvirt's storage pools need its Python bindings, and they are "
            f'not installed: {error}.',
            remedy='Install the package python3-libvirt, or libvirt-python '
                   'from PyPI; everything else works without.') from error
    # Errors are raised; to have them on stderr as well is of use to nobody.
    module.registerErrorHandler(lambda context, error: None, None)
    return module


def find(look_up: Callable[[Any], Any], what: Any) -> Any:
    """What *look_up* finds; None where libvirt says that there is none."""
    module = libvirt()
    try:
        return look_up(what)
    except module.libvirtError as error:
        if error.get_error_code() not in (module.VIR_ERR_NO_STORAGE_POOL,
                                          module.VIR_ERR_NO_STORAGE_VOL,
                                          module.VIR_ERR_NO_SECRET):
            raise
        return None
