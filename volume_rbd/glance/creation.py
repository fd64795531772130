# SPDX-License-Identifier: Apache-2.0
"""Creating an image record, exactly once even when an answer gets lost.

The id is ours, so a second attempt cannot make a second image; and when the
second attempt hears that the id is taken, the record itself tells whether it
was the first attempt that took it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volume_rbd import exception, model
from volume_rbd.glance import channel as channels
from volume_rbd.glance import images


def create(channel: channels.Channel, record: Mapping[str, Any],
           properties: Mapping[str, str]) -> model.GlanceImage:
    """:param record: Glance's own fields, the id among them.

    :raises GlanceConflict: the id is taken, and not by us.
    """
    what = f'Creating Glance image {record["id"]}'
    _check_properties(what, record, properties)
    attempts = 0

    def attempt() -> Any:
        nonlocal attempts
        attempts += 1
        return channel.http.post('/v2/images', data={**properties, **record}
                                 )[1]

    try:
        return images.image_from_json(channel.call(what, attempt))
    except exception.GlanceConflict:
        own = _find_own(channel, record) if attempts > 1 else None
        if own is None:
            raise
    except exception.GlanceUnavailable:
        own = _find_own(channel, record)
        if own is None:
            raise
    return own


def _check_properties(what: str, record: Mapping[str, Any],
                      properties: Mapping[str, str]) -> None:
    wrong = sorted(set(record) & set(properties))
    if wrong:
        raise exception.InvalidInput(
            f'{what} failed: {", ".join(wrong)} cannot be given as a '
            'property.')


def _find_own(channel: channels.Channel, record: Mapping[str, Any]
              ) -> model.GlanceImage | None:
    """The image of that id, if it is what *record* asked for."""
    try:
        image = channel.get_image(record['id'])
    except exception.VolumeRBDError:
        return None
    same = (image.status == 'queued'
            and image.name == record['name']
            and image.disk_format == record['disk_format']
            and image.container_format == record['container_format'])
    return image if same else None
