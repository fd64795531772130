# SPDX-License-Identifier: Apache-2.0
"""Glance: who it is used as, what it knows, the bytes of its images.

The contract is in :mod:`.interface`. :func:`open_glance` is the door for a
command and its OS_* variables, :class:`Door` (and :func:`open_for_caller`)
the one for a service and the callers of its requests.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from volume_rbd import opts
from volume_rbd.glance import client, session
from volume_rbd.glance.callers import Door, open_for_caller
from volume_rbd.model import Caller

__all__ = ['Caller', 'Door', 'find_user_auth', 'open_for_caller',
           'open_glance']


def open_glance(conf: cfg.ConfigOpts,
                environ: Mapping[str, str] | None = None
                ) -> client.GlanceClient:
    """Glance as the user of *environ* (default: the process's own).

    Service credentials come from ``[glance]`` or ``[service_user]`` of
    *conf*. Nothing is connected yet: the first call is.

    :raises ConfigurationError: something is missing; it says what.
    """
    environ = os.environ if environ is None else environ
    config = opts.get_glance_config(conf)
    if config.region_name is None:
        config = dataclasses.replace(
            config, region_name=environ.get('OS_REGION_NAME') or None)
    user, service = session.open_sessions(conf, config, environ)
    interface = (environ.get('OS_INTERFACE')
                 or environ.get('OS_ENDPOINT_TYPE') or config.interface)
    return client.GlanceClient(config, user, service,
                               interface=interface.removesuffix('URL'))


def find_user_auth(conf: cfg.ConfigOpts,
                   environ: Mapping[str, str] | None = None) -> Any:
    """The keystoneauth plugin of whoever :func:`open_glance` acts for, by
    which other services are asked; None where that is nobody.

    :raises ConfigurationError: the credentials are not complete.
    """
    environ = os.environ if environ is None else environ
    config = opts.get_glance_config(conf)
    if session.has_user(environ):
        return session.user_session(environ, config).auth
    service = session.service_session(conf, config)
    return service.auth if service else None
