# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd reclaim``"""

from __future__ import annotations

import argparse
from typing import Any

from volume_rbd import exception, model
from volume_rbd.cli import base, running
from volume_rbd.driver.reclaim import Reclaimable


class Reclaim(base.Lister):
    """Find what nobody owns any more, and remove it with --yes.

    Volumes and images that were deleted while clones still needed them, the
    snapshots that clones left behind, clones in the images' pools that Glance
    does not know, what an operation that was killed had begun, the records of
    jobs that nobody could settle, what the stock driver left, and the bases of
    images that Glance no longer has. What cannot be proved to be nobody's is
    not listed.

    With delayed_delete in glance-api.conf an image that could still be
    restored looks as if it were gone: do not use --yes until scrub_time has
    passed since the last deletion that may be taken back.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('--yes', action='store_true',
                            help='remove it (default: only list it); with '
                                 "Glance's delayed_delete not before "
                                 'scrub_time is over')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        items = (self._remove() if parsed_args.yes
                 else list(self.driver.reclaimer.find()))
        state = 'removed' if parsed_args.yes else 'found'
        rows = [(item.what, item.pool, item.name,
                 model.gib_for(item.size_bytes), item.size_bytes,
                 base.AgeColumn(item.age_s), item.owner, state, item.why)
                for item in items]
        return ('what', 'pool', 'name', 'size_gib', 'size_bytes', 'age_s',
                'owner', 'state', 'why'), rows

    def _remove(self) -> list[Reclaimable]:
        """What went; the exit code is that of what stays."""
        gone: list[Reclaimable] = []
        try:
            for step in self.driver.reclaimer.purge_in_steps():
                gone += [each.item for each in step if each.is_gone]
                self.exit_code = next((each.error.exit_code for each in step
                                       if each.error), 0)
        except exception.VolumeRBDError as error:
            if not gone:
                raise
            self.exit_code = running.report_error(error)
        return gone
