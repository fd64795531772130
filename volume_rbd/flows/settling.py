# SPDX-License-Identifier: Apache-2.0
"""The end of a new volume's making: what its type asks for, and the mark that
says that it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volume_rbd import model
from volume_rbd.ceph import lineage
from volume_rbd.ceph import settings as settings_
from volume_rbd.flows.base import Task


def get_settings(volume: model.VolumeSpec | None) -> dict[str, Any] | None:
    """The argument ``settings`` of a flow; None where nothing is asked for.
    """
    if volume is None or not settings_.are_wanted(volume):
        return None
    return {'qos': dict(volume.qos), 'is_multiattach': volume.is_multiattach}


class ApplySettings(Task):
    """Limits and multiattach, whatever the strategy was.

    To undo it is to remove the volume, which whoever made it does.
    """

    title = 'applying what the volume type asks for'

    def execute(self, volume_name: str, settings: Mapping[str, Any] | None
                ) -> None:
        wanted = model.VolumeSpec(volume_name, **settings or {})
        with self.tools.pool.open(volume_name) as volume:
            settings_.apply_settings(volume, wanted)
            self.tools.report.check()  # no step may follow that would
            lineage.set_state(volume, lineage.COMPLETE)
