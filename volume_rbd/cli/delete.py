# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd delete``"""

from __future__ import annotations

import argparse
from typing import Any

from volume_rbd import exception
from volume_rbd.cli import base, running


class Delete(base.Lister):
    """Delete volumes.

    One whose data is still shared by clones goes out of sight at once and for
    good with the last of them.
    """

    what = 'the volumes'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', nargs='+',
                            help=self.what)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        volumes = self.driver.volumes
        rows = []
        for name in parsed_args.name:
            try:
                gone = volumes.delete(name)
            except exception.VolumeRBDError as error:
                # The others are still to be deleted.
                self.exit_code = running.report_error(error)
                continue
            rows.append((name, 'in trash' if gone.is_trashed else 'deleted',
                         gone.reason))
        return ('name', 'state', 'reason'), rows
