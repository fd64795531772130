# SPDX-License-Identifier: Apache-2.0
"""Options that cannot be meant as they are: told at start, with a sentence.

What the stock driver works with goes on working, also where it has no effect.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg, types
from oslo_log import log as logging

from volume_rbd import exception, sections

LOG = logging.getLogger(__name__)

_HOURS = re.compile(r'([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)')

# The stock driver has had it; it is without effect since 2020 (OSSN-0085).
_FORMER_OPTIONS = ('rbd_keyring_conf',)


def check_jobboard(name: str, jobboard: str, flow_connection: str) -> None:
    """:raises ConfigurationError: workers could not use it."""
    if not jobboard:
        return
    # Not the values: they may hold a password.
    if jobboard.partition('://')[0] not in ('redis', 'etcd', 'zookeeper'):
        raise exception.ConfigurationError(
            f'Backend {name!r}: jobboard is of no kind that is known.',
            remedy='Begin it with redis://, etcd:// or zookeeper://, or leave '
                   'it empty.')
    scheme = flow_connection.partition(':')[0]
    if scheme in ('memory', 'dir', 'file'):
        raise exception.ConfigurationError(
            f'Backend {name!r}: jobboard is set, and workers cannot read '
            f'what flow_connection keeps ({scheme}).',
            remedy='Use rados:// or a database for flow_connection.')


def check_values(group: Any, name: str) -> None:
    """Refuse values that are wrong or contradict each other.

    :param group: has the options as attributes, see opts.freeze_backend.
    :raises ConfigurationError:
    """
    chunk_mib: int = group.rbd_store_chunk_size
    if chunk_mib & (chunk_mib - 1):
        raise exception.ConfigurationError(
            f'Backend {name!r}: rbd_store_chunk_size {chunk_mib} is no power '
            'of two.', remedy='Use 1, 2, 4, 8, 16 or 32.')
    if group.allow_legacy_locations and not group.enable_clone_optimization:
        raise _contradiction(name, 'allow_legacy_locations has no meaning '
                             'without enable_clone_optimization')
    if group.image_base_cache and not group.rbd_max_clone_depth:
        raise _contradiction(name, 'image_base_cache clones, and '
                             'rbd_max_clone_depth 0 is never to clone')
    if group.background_tasks == 'mgr' and group.background_bytes_per_s:
        raise _contradiction(name, "background_tasks mgr cannot be held to "
                             'background_bytes_per_s')
    if group.replication_device:
        raise exception.ConfigurationError(
            f'Backend {name!r}: replication_device is set, and replication '
            'comes with a later release of this driver.',
            remedy='Remove the option, or leave this backend to the stock '
                   'driver.')
    if (group.rbd_attach_user or '').startswith('client.'):
        raise exception.ConfigurationError(
            f'Backend {name!r}: rbd_attach_user is '
            f'{group.rbd_attach_user!r}, with "client." before the name.',
            remedy='Give the name alone.')
    if group.rbd_secret_uuid and not _is_uuid(group.rbd_secret_uuid):
        raise exception.ConfigurationError(
            f'Backend {name!r}: rbd_secret_uuid {group.rbd_secret_uuid!r} is '
            'no UUID, so no hypervisor has such a secret.',
            remedy='Compare it with "virsh secret-list".')
    if group.image_base_cache and group.rbd_flatten_volume_from_snapshot:
        LOG.warning('Backend %r: image_base_cache has no effect with '
                    'rbd_flatten_volume_from_snapshot.', name)
    if group.deferred_deletion_delay and not group.enable_deferred_deletion:
        LOG.warning('Backend %r: deferred_deletion_delay has no effect '
                    'without enable_deferred_deletion.', name)


def parse_hours(text: str, name: str) -> tuple[int, int] | None:
    """background_hours as minutes of the day; None: all day.

    :raises ConfigurationError:
    """
    if not text.strip():
        return None
    found = _HOURS.fullmatch(text.strip())
    if found is None:
        raise exception.ConfigurationError(
            f'Backend {name!r}: background_hours {text!r} is not of the form '
            'HH:MM-HH:MM.', remedy='Write for instance 22:00-06:00, or leave '
                                   'it empty for all day.')
    begin_h, begin_min, end_h, end_min = map(int, found.groups())
    begin, end = begin_h * 60 + begin_min, end_h * 60 + end_min
    if begin == end:
        raise exception.ConfigurationError(
            f'Backend {name!r}: background_hours {text!r} ends when it '
            'begins.', remedy='Leave it empty for all day.')
    return begin, end


def _contradiction(name: str, what: str) -> exception.ConfigurationError:
    return exception.ConfigurationError(
        f'Backend {name!r}: {what}.',
        remedy='Remove the one or change the other.')


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def find_unknown(conf: cfg.ConfigOpts, name: str, known: Sequence[str]
                 ) -> list[sections.Unknown]:
    """See :func:`volume_rbd.opts.find_unknown`."""
    return sections.find_unknown(
        sections.read(conf, name), [*known, *_FORMER_OPTIONS], 'rbd_')


def check_written(conf: cfg.ConfigOpts, name: str, defaults: str) -> None:
    """Refuse what stands in section *name* itself and has no effect there;
    in section *defaults* it may be for other backends.

    :raises ConfigurationError:
    """
    written = sections.read(conf, name)
    values = sections.read(conf, defaults) | written
    if written.get('clone_upload_flatten', 'never') == 'never':
        return
    is_on = values.get('enable_clone_optimization', 'no')
    if not types.Boolean()(is_on):
        raise _contradiction(name, 'clone_upload_flatten has no meaning '
                             'without enable_clone_optimization')
