# SPDX-License-Identifier: Apache-2.0
"""What becomes of an upload that Glance took and had not finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.flows import registration
from volume_rbd.flows.base import Tools

#: Nothing is to be waited for any more.
SETTLED = 'settled'


def settle(tools: Tools, arguments: Mapping[str, Any]) -> str:
    """Read the image again.

    :returns: ``settled``: it is active; ``pending``: it is to be looked at
        once more.
    :raises GlanceImageNotUsable, RegistrationRefused: Glance has given it
        up, or somebody has deleted it: what was made for it may go.
    """
    image_id = arguments['image_id']
    state = registration.wait_until_settled(tools, image_id, 1.0)
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
