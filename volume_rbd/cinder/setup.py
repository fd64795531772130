# SPDX-License-Identifier: Apache-2.0
"""From cinder.conf to the driver's process."""

from __future__ import annotations

import logging
from typing import Any

# Registers the options of images that are read below.
from cinder.image import image_utils  # noqa: F401
from oslo_config import cfg

from volume_rbd import opts
from volume_rbd.process.server import Hello

CONF = cfg.CONF


class _Section:
    """Cinder's configuration object, as :func:`opts.freeze_backend` reads
    it: every option as an attribute."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration

    def __getattr__(self, name: str) -> Any:
        return self._configuration.safe_get(name)


def get_hello(configuration: Any) -> Hello:
    """:param configuration: of the backend, with our options registered.
    :raises ConfigurationError: a value is wrong, contradicts another, or
        belongs to no option."""
    name = getattr(configuration, 'config_group', None) or 'DEFAULT'
    CONF.register_opts([opts.flow_opt])
    files = tuple(CONF.config_file or ())
    folders = tuple(CONF.config_dir or ())
    opts.check(CONF, name)
    return Hello(
        backend=opts.freeze_backend(
            _Section(configuration), name,
            vmdk_allowed_types=CONF.vmdk_allowed_types,
            may_convert=not CONF.image_conversion_disable,
            flow_connection=CONF.flow_connection,
            **opts.get_signature_defaults(CONF)),
        files=files, folders=folders,
        log_level=logging.getLogger('volume_rbd').getEffectiveLevel())
