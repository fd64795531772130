# SPDX-License-Identifier: Apache-2.0
"""Limits of an rbd_image: the service's words into librbd's.

librbd reads its overrides from image metadata, ``conf_<option>``, and clients
that have the image open follow a change at once. Clones inherit them:
:func:`volume_rbd.ceph.lineage.adopt` strips them, so limits are set after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.ceph.interface import Image

LOG = logging.getLogger(__name__)

_KINDS = {
    'total_iops_sec': 'iops', 'read_iops_sec': 'read_iops',
    'write_iops_sec': 'write_iops', 'total_bytes_sec': 'bps',
    'read_bytes_sec': 'read_bps', 'write_bytes_sec': 'write_bps'}

#: Cinder's word to the key of the image metadata; ``_max`` is the burst.
KEYS = {
    **{word: f'conf_rbd_qos_{kind}_limit' for word, kind in _KINDS.items()},
    **{f'{word}_max': f'conf_rbd_qos_{kind}_burst'
       for word, kind in _KINDS.items()}}

# Of the hypervisor only; they come here where the consumer is "both".
_FRONT_END = re.compile(
    r'size_iops_sec|(total|read|write)_(iops|bytes)_sec'
    r'_(max_length|per_gb|per_gb_min)')
_MOST = 2 ** 63 - 1


def check(specs: Mapping[str, str]) -> dict[str, str]:
    """What *specs* are as image metadata. Touches nothing.

    A limit of 0 is no limit, also where the pool or the cluster has one.

    :raises InvalidInput: an unknown word, or no whole number.
    """
    numbers = {word: _number(word, value) for word, value in specs.items()
               if not _is_front_end(word)}
    for word in _KINDS:
        limit, burst = numbers.get(word, 0), numbers.get(f'{word}_max', 0)
        if burst and (burst < limit or not limit):
            # librbd goes on with the limit alone (tried with 16.2).
            LOG.warning('The QoS spec %s_max (%s) has no effect: it is no '
                        'more than %s (%s).', word, burst, word,
                        limit or 'not set')
    return {KEYS[word]: str(number) for word, number in numbers.items()}


def _is_front_end(word: str) -> bool:
    if not _FRONT_END.fullmatch(word):
        return False
    LOG.warning('The QoS spec %s is left to the hypervisor: RBD has nothing '
                'like it.', word)
    return True


def _number(word: str, value: str) -> int:
    if word not in KEYS:
        raise exception.InvalidInput(
            f'There is no QoS spec {word!r} for a back end in RBD.',
            remedy=f'Those are: {", ".join(KEYS)}.')
    text = str(value).strip()
    if not re.fullmatch('[0-9]{1,19}', text) or int(text) > _MOST:
        raise exception.InvalidInput(
            f'The QoS spec {word} is {value!r}, no whole number.',
            remedy='Give operations or bytes a second; 0 is no limit.')
    return int(text)


def replace(image: Image, specs: Mapping[str, str]) -> None:
    """Let the limits of the open *image* be *specs* and nothing else.

    :raises InvalidInput: see :func:`check`; nothing was touched.
    :raises VolumeRBDError: the limits are what they were before.
    """
    wanted = check(specs)
    known = image.metadata()
    before = {key: known[key] for key in KEYS.values() if key in known}
    try:
        _change(image, before, wanted)
    except BaseException:
        try:
            # What was not changed is written again: it cannot be known.
            _change(image, {**before, **wanted}, before, is_forced=True)
        except exception.VolumeRBDError as error:
            LOG.error('The limits of %s are half changed: %s', image.spec,
                      error)
        raise


def _change(image: Image, before: Mapping[str, str],
            wanted: Mapping[str, str], *, is_forced: bool = False) -> None:
    for key in sorted({*before, *wanted}):
        if key not in wanted:
            image.remove_metadata(key)
        elif is_forced or before.get(key) != wanted[key]:
            image.set_metadata(key, wanted[key])
