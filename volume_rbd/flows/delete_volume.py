# SPDX-License-Identifier: Apache-2.0
"""delete_volume: a volume goes to the trash, out of sight.

Two steps on the cluster, so that whoever purges knows it for ours: a mark, and
the move. Its data goes later, in the background.

Arguments (JSON): job, volume_name, image_id (of the rbd_image that is meant),
delay_s (how long it is kept), state_before (of its mark; None: it had none),
choice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from taskflow.patterns import linear_flow

from volume_rbd import exception
from volume_rbd.ceph import lineage
from volume_rbd.ceph.interface import Image, Pool
from volume_rbd.flows.base import Task, Tools

NAME = 'delete_volume'


def get_arguments(image: Image, *, job: str, delay_s: int) -> dict[str, Any]:
    mark = lineage.get_lineage(image)
    return {
        'job': job, 'volume_name': image.spec.name, 'image_id': image.id,
        'delay_s': delay_s, 'state_before': mark.state if mark else None,
        'choice': {'strategy': 'trash', 'reason': 'asked_for',
                   'sentence': 'The volume goes to the trash, and its data '
                               'in the background.'},
    }


def get_flow(tools: Tools, arguments: Mapping[str, Any]) -> linear_flow.Flow:
    return linear_flow.Flow(NAME).add(TrashVolume(tools))


class TrashVolume(Task):
    """Mark the volume and move it to the trash."""

    title = 'moving the volume to the trash'

    def execute(self, volume_name: str, image_id: str, delay_s: int,
                state_before: str | None) -> None:
        pool = self.tools.pool
        try:
            with pool.open(volume_name) as image:
                if image.id != image_id:
                    return  # the one that was meant is gone
                mark_trashed(image)
        except exception.ImageNotFound:
            if not self.tools.is_resumed:
                raise
            return
        with self.or_undo(lambda: restore_mark(pool, volume_name, image_id,
                                               state_before)):
            pool.trash_move(volume_name, delay_s)

    def revert(self, volume_name: str, image_id: str,
               state_before: str | None, **kwargs: Any) -> None:
        """What is in the trash stays there."""
        restore_mark(self.tools.pool, volume_name, image_id, state_before)


def mark_trashed(image: Image) -> None:
    lineage.set_state(image, lineage.TRASHED)


def restore_mark(pool: Pool, name: str, image_id: str, state: str | None
                 ) -> None:
    """Of a volume that was not moved after all."""
    with contextlib.suppress(exception.ImageNotFound), \
            pool.open(name) as image:
        mark = lineage.get_lineage(image)
        if (image.id != image_id or mark is None
                or mark.state != lineage.TRASHED):
            return
        if state is None:
            image.remove_metadata(lineage.KEY)
        else:
            lineage.set_state(image, state)
