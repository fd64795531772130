# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd list``, ``show`` and ``extend``"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from volume_rbd import model
from volume_rbd.cli import base
from volume_rbd.driver.volumes import VolumeInfo


class List(base.Lister):
    """List the volumes of a backend."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        columns = ('name', 'size_gib', 'parent', 'snapshots')
        rows = [(made.name, model.gib_for(made.size_bytes), made.parent,
                 len(made.snapshots))
                for made in self.driver.volumes.list()]
        return columns, rows


class Show(base.ShowOne):
    """Show a volume: size, encryption, lineage, snapshots, who has it open.

    The size of an encrypted one is that with its header.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='the volume')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        name = parsed_args.name
        is_encrypted = self.driver.encryption.is_encrypted(name)
        return {**volume_fields(self.driver.volumes.show(name)),
                'encryption': 'luks' if is_encrypted else None}


class Extend(base.ShowOne):
    """Make a volume larger, also while it is in use."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME', help='the volume')
        parser.add_argument('size', metavar='GIB', help='the new size in GiB')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        volumes = self.driver.volumes
        volumes.extend(parsed_args.name,
                       model.size_bytes_from_gib(parsed_args.size))
        return volume_fields(volumes.show(parsed_args.name))


def volume_fields(made: VolumeInfo) -> Mapping[str, Any]:
    mark = made.lineage
    return {
        'name': made.name,
        'pool': made.pool,
        'size_gib': model.gib_for(made.size_bytes),
        'size_bytes': made.size_bytes,
        'rbd_image_id': made.image_id,
        'parent': made.parent,
        'depth': made.depth,
        'snapshots': base.ListColumn(made.snapshots),
        'watchers': base.ListColumn(made.watchers),
        'origin': mark.origin if mark else None,
        'state': mark.state if mark else None,
        'job': mark.job if mark else None,
    }
