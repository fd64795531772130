# SPDX-License-Identifier: Apache-2.0
"""The key that librados uses: for signing, and for the hypervisor's secret
store. It is never logged.
"""

from __future__ import annotations

import configparser
import contextlib
from collections.abc import Callable, Iterator

from volume_rbd import exception


def find_key(setting: Callable[[str], str | None], who: str) -> bytes:
    """:param setting: of the connection's configuration (``conf_get``).
    :param who: ``client.NAME``.
    :raises ConfigurationError: there is none where librados would look.
    """
    if 'cephx' not in (setting('auth_client_required') or 'cephx'):
        return b''  # a cluster that asks nobody who he is
    key = setting('key')
    if key:
        return key.encode()
    path = setting('keyfile')
    if path:
        with _reading(path), open(path, encoding='ascii') as file:
            return file.read().strip().encode()
    for path in (setting('keyring') or '').split(','):
        parsed = configparser.ConfigParser(interpolation=None,
                                           strict=False)
        with _reading(path):
            # Those that are not there are passed over, as librados does.
            parsed.read(path.strip())
        key = parsed.get(who, 'key', fallback='')
        if key:
            return key.encode()
    raise exception.ConfigurationError(
        f'No key of {who} is found where ceph.conf says.',
        remedy='Name a readable keyring in ceph.conf.')


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, configparser.Error) as error:
        # Not the error itself: it may show a line of the file.
        raise exception.ConfigurationError(
            f'{path} cannot be read as a keyring: {type(error).__name__}.'
        ) from None
