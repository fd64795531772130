# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd disk``: the disks of a compute agent's guests, in RBD."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volume_rbd import exception, model
from volume_rbd.cli import base, delete, display, upload, volumes
from volume_rbd.compute import clean_up
from volume_rbd.compute.disks import Disks
from volume_rbd.driver import RBDDriver
from volume_rbd.flows.base import Result


class _OfDisks(base.Command):
    """A command about the agent's disks."""

    @property
    def disks(self) -> Disks:
        return self.agent.disks


class _OfOne(_OfDisks):
    """A command about one disk."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('name', metavar='NAME',
                            help='the disk, mostly UUID_disk')
        return parser


class DiskCreate(_OfOne, base.ShowOne):
    """Create a disk of a Glance image, or an empty one.

    It is a clone of the image wherever that can be; the result says which way
    was taken and why. With images_rbd_glance_store_name Glance is asked first
    to copy the image to where it can be cloned; with images_rbd_must_clone
    there is no other way.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--image', metavar='ID',
                            help='the id of a Glance image')
        parser.add_argument(
            '--size', metavar='GIB',
            help='the size in GiB; of an image, at least its size (default: '
                 'just that)')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        volume = base.volume_spec(parsed_args.name, parsed_args.size)
        disks, pool = self.disks, self.agent.config.disks.pool
        if parsed_args.image:
            result = self.perform(lambda shown: disks.create(
                volume.name, parsed_args.image, volume.size_bytes,
                report=shown))
            return {'name': volume.name, 'pool': pool,
                    'image_id': parsed_args.image,
                    **base.result_fields(result), **_about_copy(result)}
        if volume.size_bytes is None:
            raise exception.InvalidSize('An empty disk needs a size.',
                                        remedy='Give --size GIB or --image.')
        size_bytes, started = volume.size_bytes, time.monotonic()

        def make(shown: display.Display) -> None:
            shown.check()
            shown.step('creating the disk')
            disks.create_blank(volume.name, size_bytes)

        self.perform(make)
        return {'name': volume.name, 'pool': pool,
                'size_gib': model.gib_for(size_bytes),
                'size_bytes': size_bytes, 'origin': 'blank',
                'seconds': round(time.monotonic() - started, 3)}


def _about_copy(result: Result) -> Mapping[str, Any]:
    return {key: result.values[key]
            for key in ('copied_to_store', 'not_copied')
            if key in result.values}


class DiskList(_OfDisks, base.Lister):
    """List the disks, or those of one instance."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('--filter', metavar='PREFIX',
                            help='what their names begin with')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        rows = [(disk.name, model.gib_for(disk.size_bytes), disk.parent,
                 len(disk.snapshots), bool(disk.watchers))
                for disk in self.disks.list(parsed_args.filter)]
        return ('name', 'size_gib', 'parent', 'snapshots', 'is_open'), rows


class DiskShow(_OfOne, base.ShowOne):
    """Show a disk: size, layout, lineage, snapshots, who has it open."""

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        return _disk_fields(self.disks, parsed_args.name)


def _disk_fields(disks: Disks, name: str) -> Mapping[str, Any]:
    layout = disks.layout(name)
    return {**volumes.volume_fields(disks.show(name)),
            'object_size_bytes': layout.object_size_bytes,
            'stripe_unit_bytes': base.OptionalColumn(
                layout.stripe_unit_bytes),
            'stripe_count': base.OptionalColumn(layout.stripe_count),
            'data_pool': base.OptionalColumn(layout.data_pool)}


class DiskDelete(delete.Delete):
    """Delete disks that nobody has open and that have no snapshots."""

    what = 'the disks'

    @property
    def driver(self) -> RBDDriver:
        return self.agent.driver


class DiskResize(_OfOne, base.ShowOne):
    """Make a disk larger, also while a guest uses it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('size', metavar='GIB', help='the new size in GiB')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        self.disks.resize(parsed_args.name,
                          model.size_bytes_from_gib(parsed_args.size))
        return _disk_fields(self.disks, parsed_args.name)


class DiskSnapshot(_OfOne, base.ShowOne):
    """Make a Glance image of a disk, as it is at this moment.

    Where Glance's store is in the same cluster and may be written to, it is a
    clone that is flattened before Glance is told; otherwise its bytes go
    through Glance. Without --disk-format it is in snapshot_image_format.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        upload.add_image_arguments(parser)
        parser.set_defaults(disk_format=None, decrypt=False)
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        parsed_args.disk_format = (parsed_args.disk_format
                                   or self.agent.config.snapshot_format
                                   or 'raw')
        request = upload.image_request(parsed_args)
        disks = self.disks
        result = self.perform(lambda shown: disks.snapshot_to_image(
            parsed_args.name, request, report=shown))
        return {'image_id': result.values['image_id'],
                'image_name': request.name,
                'disk_format': request.disk_format,
                'name': parsed_args.name,
                'store': result.values.get('store_id'),
                **base.result_fields(result)}


class DiskRollback(_OfDisks, base.ShowOne):
    """Make a disk what it was at a snapshot."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('snapshot', metavar='NAME@SNAPSHOT',
                            help='the disk and its snapshot')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        name, snapshot = base.split_snapshot(parsed_args.snapshot)
        disks = self.disks
        self.perform(lambda shown: disks.rollback(name, snapshot,
                                                  report=shown))
        return _disk_fields(disks, name)


class DiskCleanUp(_OfDisks, base.Lister):
    """Find the disks of an instance that is gone, and remove them with --yes.

    One that is still open is tried again for a while, and then stays; so does
    one that has snapshots, unless --with-snapshots lets them go too.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--filter', metavar='PREFIX', required=True,
            help='what their names begin with: the UUID of the instance and '
                 '"_"')
        parser.add_argument('--with-snapshots', action='store_true',
                            help='also those that have snapshots')
        parser.add_argument('--yes', action='store_true',
                            help='remove them (default: only list them)')
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        self._stayed = 0
        code = super().run(parsed_args)
        if not code and self._stayed:
            sys.stderr.write(f'volume-rbd: {self._stayed} disk(s) stay.\n')
            return exception.Conflict.exit_code
        return code

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        disks, prefix = self.disks, parsed_args.filter
        columns = ('name', 'state', 'reason')
        if not parsed_args.yes:
            clean_up.check_filter(prefix)
            return columns, [(name, 'found', '')
                             for name in disks.names(prefix)]
        gone = self.perform(lambda shown: disks.clean_up(
            prefix, with_snapshots=parsed_args.with_snapshots, report=shown))
        self._stayed = sum(not disk.is_gone for disk in gone)
        return columns, [(disk.name, disk.state.value, disk.reason)
                         for disk in gone]


class DiskCapacity(_OfDisks, base.ShowOne):
    """Show the room for disks: what their pool can still take."""

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        found = self.disks.capacity()
        return {'pool': found.pool, 'total_bytes': found.total_bytes,
                'used_bytes': found.used_bytes,
                'free_bytes': found.free_bytes}


class DiskMigrateXML(_OfDisks):
    """Print the XML of a guest with the monitors that are there now.

    Only the disks of this cluster are changed, and of those only the
    addresses of the monitors.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='FILE',
                            help='what "virsh dumpxml" prints; - for stdin')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        sys.stdout.write(self.disks.migrate_xml(_read(parsed_args.file)))


def _read(path: str) -> str:
    if path == '-':
        return sys.stdin.read()
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise exception.InvalidInput(
            f'{path} cannot be read: {error}.') from None
