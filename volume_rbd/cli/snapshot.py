# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd snapshot``"""

from __future__ import annotations

import argparse
from typing import Any

from volume_rbd import exception, model
from volume_rbd.cli import base


class _OfSnapshot(base.Command):
    """Takes ``VOLUME@SNAPSHOT``, or the two names apart."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('volume', metavar='VOLUME[@SNAPSHOT]',
                            help='the volume')
        parser.add_argument('snapshot', metavar='SNAPSHOT', nargs='?',
                            help='the snapshot, if not given with @')
        return parser

    @staticmethod
    def names(parsed_args: argparse.Namespace) -> tuple[str, str]:
        if parsed_args.snapshot is None:
            return base.split_snapshot(parsed_args.volume)
        if '@' in parsed_args.volume:
            raise exception.InvalidName('Two snapshots are named.',
                                        remedy='Write VOLUME@SNAPSHOT.')
        return parsed_args.volume, parsed_args.snapshot


class SnapshotCreate(_OfSnapshot):
    """Take a snapshot of a volume."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.driver.snapshots.create(*self.names(parsed_args))


class SnapshotDelete(_OfSnapshot):
    """Delete a snapshot; clones of it live on."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.driver.snapshots.delete(*self.names(parsed_args))


class SnapshotRevert(_OfSnapshot):
    """Make a volume what it was at a snapshot."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.driver.snapshots.revert(*self.names(parsed_args))


class SnapshotList(base.Lister):
    """List the snapshots of a volume."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('volume', metavar='VOLUME', help='the volume')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        rows = [(found.name, model.gib_for(found.size_bytes), found.id)
                for found in self.driver.snapshots.list(parsed_args.volume)]
        return ('name', 'size_gib', 'id'), rows
