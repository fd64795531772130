# SPDX-License-Identifier: Apache-2.0
"""What becomes of an upload of which it was not known, when time ran out,
whether Glance had taken it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from volume_rbd import exception, model
from volume_rbd.ceph import lineage
from volume_rbd.flows import reaping, registration
from volume_rbd.flows.base import Tools, is_cancelled

LOG = logging.getLogger(__name__)

#: Nothing is to be waited for any more.
SETTLED = 'settled'
_PATIENCE_S = 1.0


def settle(tools: Tools, arguments: Mapping[str, Any]) -> str:
    """Read the image again; where Glance is not at work with it, and never
    was or was killed at it, let it be registered once more.

    :param arguments: with the ``hashes`` that were registered, or None.
    :returns: ``settled``: it is active; ``pending``: it is to be looked at
        once more.
    :raises GlanceImageNotUsable, RegistrationRefused: Glance has given it
        up, or somebody has deleted it, or it was cancelled and Glance is not
        at work with it: what was made for it may go.
    :raises GlanceConflict: it was cancelled, and Glance is.
    """
    image_id = arguments['image_id']
    state = registration.wait_until_settled(tools, image_id, _PATIENCE_S)
    if state != registration.ACTIVE and is_cancelled(tools.report):
        _give_up(tools, arguments)
    if state != registration.ACTIVE and _register_again(tools, arguments):
        state = registration.wait_until_settled(
            tools, image_id, tools.config.registration_timeout_s)
    if state != registration.ACTIVE:
        return state
    try:
        with tools.cluster.pool(arguments['store_pool']).open(
                image_id) as made:
            lineage.set_state(made, lineage.COMPLETE)
    except exception.ImageNotFound as error:
        raise exception.GlanceImageNotUsable(
            f'Image {image_id} is active, and its data is gone.') from error
    return SETTLED


def _give_up(tools: Tools, arguments: Mapping[str, Any]) -> None:
    image_id = arguments['image_id']
    if reaping.is_taken(tools, image_id, _location(arguments)):
        raise exception.GlanceConflict(
            f'Glance is at work with image {image_id}.',
            remedy='Delete the image: what was made for it goes then.')
    raise exception.RegistrationRefused(
        f'Image {image_id} is not registered again: it was cancelled.')


def _location(arguments: Mapping[str, Any]) -> str:
    return reaping.location_of(arguments['image_id'], arguments['fsid'],
                               arguments['store_pool'])


def _register_again(tools: Tools, arguments: Mapping[str, Any]) -> bool:
    """:returns: whether Glance has taken it now. As long as it is at work
        with what it took before, it says that of any other (409)."""
    image_id, hashes = arguments['image_id'], arguments['hashes']
    try:
        tools.glance.register_location(
            image_id, _location(arguments),
            model.Hashes(**hashes) if hashes else None)
    except exception.VolumeRBDError as error:
        LOG.info('Image %s is waited for: %s', image_id, error)
        return False
    LOG.info('Image %s is registered once more', image_id)
    return True
