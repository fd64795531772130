# SPDX-License-Identifier: Apache-2.0
"""The plan of fetch_image: an image becomes a local file."""

from __future__ import annotations

import dataclasses

from volume_rbd import model
from volume_rbd.plan.create import (
    LocationFacts,
    check_image_usable,
    find_source,
    location_problem,
)
from volume_rbd.plan.words import Choice, Operation, Plan, Reason, Strategy


@dataclasses.dataclass(frozen=True)
class FetchFacts:
    """:param obstacle: why no location was looked at, and in *detail* what
        was said; None: they were.
    """

    image: model.GlanceImage
    locations: tuple[LocationFacts, ...] = ()
    obstacle: Reason | None = None
    detail: str = ''


def plan_fetch(facts: FetchFacts) -> Plan:
    """Decide where the bytes of an image come from.

    Any format can be read from a snapshot, for it is the file that is wanted;
    what is refused there can still be downloaded.

    :raises GlanceImageNotUsable: no way can help.
    """
    check_image_usable(facts.image)
    plan = Plan(Operation.FETCH_IMAGE, (),
                size_bytes=facts.image.size_bytes or 0)
    source = find_source(facts.locations)
    if facts.obstacle is None and source and source.location:
        return dataclasses.replace(
            plan, source=source.location.snap_spec,
            size_bytes=source.size_bytes, choices=(
                Choice(Strategy.EXPORT, Reason.SNAPSHOT_READABLE),
                Choice(Strategy.DOWNLOAD, Reason.EXPORT_FAILED)))
    reason = facts.obstacle or location_problem(facts.locations)
    detail = facts.detail or next((
        place.detail for place in facts.locations
        if place.problem is reason), '')
    return dataclasses.replace(
        plan, choices=(Choice(Strategy.DOWNLOAD, reason, detail),),
        ruled_out=(Choice(Strategy.EXPORT, reason, detail),))
