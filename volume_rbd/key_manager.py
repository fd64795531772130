# SPDX-License-Identifier: Apache-2.0
"""The key manager that the configuration names (``[key_manager]``), Barbican
by default: whatever castellan knows."""

from __future__ import annotations

import contextlib
import logging as standard_logging
from collections.abc import Callable, Iterator
from typing import Any

from castellan import key_manager
from castellan.common import exception as castellan_exception
from oslo_config import cfg
from oslo_context import context as oslo_context
from oslo_log import log as logging

from volume_rbd import exception

LOG = logging.getLogger(__name__)

# What these log of an answer, at debug, may be a key.
_TALKATIVE = ('keystoneauth', 'barbicanclient', 'urllib3')


class KeyManager:
    """Keys and certificates by their id.

    :param get_auth: called when somebody wants to know who asks; gives a
        keystoneauth plugin, or None where there is nobody.
    """

    def __init__(self, conf: cfg.ConfigOpts,
                 get_auth: Callable[[], Any] = lambda: None) -> None:
        self._conf = conf
        self._get_auth = get_auth

    def get(self, managed_object_id: str) -> Any:
        """castellan's object of that id.

        Raises what castellan and the key manager behind it raise.
        """
        auth = self._get_auth()
        return key_manager.API(self._conf).get(
            _Context(auth) if auth is not None else None, managed_object_id)

    def get_passphrase(self, key_id: str) -> str:
        """What opens a volume that is encrypted with that key: its bytes in
        hexadecimal, as Cinder, Nova and os-brick have it.

        :raises KeyNotFound:
        :raises Unavailable: the key manager does not give it out.
        """
        try:
            with _silenced():
                encoded = self.get(key_id).get_encoded()
        except castellan_exception.ManagedObjectNotFoundError:
            raise exception.KeyNotFound(
                f'The key {key_id} is not in the key manager.') from None
        except exception.VolumeRBDError:
            raise
        except Exception as error:  # noqa: BLE001, each has errors of its own
            LOG.warning('The key %(id)s cannot be fetched: %(kind)s',
                        {'id': key_id, 'kind': type(error).__name__})
            raise exception.Unavailable(
                f'The key {key_id} cannot be fetched: {describe(error)}.',
                remedy='Check [key_manager] in the configuration and what it '
                       'leads to, or give the passphrase in a file.'
                ) from None
        return bytes(encoded).hex()


class _Context(oslo_context.RequestContext):
    """A castellan context that brings its authentication along."""

    def __init__(self, auth: Any) -> None:
        super().__init__(overwrite=False)
        self._auth = auth

    def get_auth_plugin(self) -> Any:
        return self._auth


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    loggers = [standard_logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(standard_logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def describe(error: Exception) -> str:
    """What may be said of an error of a key manager's."""
    if isinstance(error, (castellan_exception.CastellanException,
                          NotImplementedError)):
        return ' '.join(str(error).split()).rstrip('.') or type(
            error).__name__
    return type(error).__name__  # of a client: may hold anything
