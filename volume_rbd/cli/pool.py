# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd pool``: libvirt's storage pools of a compute agent"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from volume_rbd import model
from volume_rbd.cli import base
from volume_rbd.compute.pools import Disk, PoolState

_STATE = ('name', 'type', 'target', 'state', 'done', 'uuid')
_LEGACY = ('name', 'size_bytes', 'state', 'path', 'target')


class Ensure(base.Lister):
    """Make what disks need: folders, both storage pools, the secret.

    What is there stays; what is stopped is started. A pool of that name that
    is something else is not touched.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        return _STATE, [_state_row(state)
                        for state in self.agent.pools.ensure()]


class Refresh(base.Lister):
    """Let libvirt look at every volume of both pools again."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        return _STATE, [_state_row(state)
                        for state in self.agent.pools.refresh()]


class List(base.Lister):
    """List the disks of guests, and what they share data with."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--base', action='store_true',
            help='the images in the cache instead, and how many disks in '
                 'files share the data of each')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        if parsed_args.base:
            users = self.agent.pools.count_users()
            return ('name', 'format', 'size_bytes', 'used_by'), [
                (volume.name, volume.format, volume.capacity_bytes,
                 users.get(volume.path, 0))
                for volume in self.agent.pools.base.pool.volumes()]
        disks = self.agent.pools.disks
        known = disks.known()
        return ('instance', 'name', 'format', 'size_gib', 'backing',
                'known'), [
            (disk.instance, disk.name, disk.volume.format,
             model.gib_for(disk.volume.capacity_bytes), _chain(disk),
             disk.volume.name in known) for disk in disks.list()]


class _OfDisk(base.Command):
    """Takes the guest's uuid and the name of a disk."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('instance', metavar='INSTANCE_UUID',
                            help='the guest')
        parser.add_argument('name', metavar='NAME',
                            help='the disk: disk, disk.local, kernel …')
        return parser


class Show(_OfDisk, base.ShowOne):
    """Show a disk of a guest."""

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        disks = self.agent.pools.disks
        disk = disks.get(parsed_args.instance, parsed_args.name)
        return {**disk_fields(disk),
                'known': disk.volume.name in disks.known()}


class CreateDisk(_OfDisk, base.ShowOne):
    """Make a disk for a guest, blank or from an image.

    In files it shares the data of an image in the cache (images_type qcow2)
    or is a copy of it (raw); in RBD it is made as volumes are: by a clone
    where that is possible.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--size', metavar='GIB',
                            help='its size (default: that of the image)')
        parser.add_argument(
            '--image', metavar='IMAGE',
            help='for disks in files the name of a file in the image cache; '
                 'for those in RBD the id of a Glance image')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        size_bytes = (None if parsed_args.size is None
                      else model.size_bytes_from_gib(parsed_args.size))
        return disk_fields(self.perform(
            lambda report: self.agent.pools.disks.create(
                parsed_args.instance, parsed_args.name, size_bytes,
                image=parsed_args.image, report=report)))


class ResizeDisk(_OfDisk, base.ShowOne):
    """Make a disk of a guest larger."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('size', metavar='GIB', help='the new size')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        return disk_fields(self.agent.pools.disks.resize(
            parsed_args.instance, parsed_args.name,
            model.size_bytes_from_gib(parsed_args.size)))


class DeleteDisk(_OfDisk):
    """Delete a disk of a guest."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.agent.pools.disks.delete(parsed_args.instance, parsed_args.name)


class ExtractDisk(_OfDisk, base.ShowOne):
    """Make a second disk with the content of one, and data of its own only.

    For disks in files; the guest must be off or paused.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('target', metavar='NEW_NAME',
                            help='the name of the new disk')
        parser.add_argument('--disk-format', choices=['qcow2', 'raw'],
                            default='qcow2',
                            help='of the new disk (default: qcow2)')
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        return disk_fields(self.agent.pools.dir_disks.extract(
            parsed_args.instance, parsed_args.name, parsed_args.target,
            disk_format=parsed_args.disk_format))


class DiskXML(_OfDisk):
    """Print the <disk> element for the guest's domain."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('--device', default='vda',
                            help='the name in the guest (default: vda)')
        parser.add_argument('--bus', default='virtio',
                            help='of the device (default: virtio)')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        text = self.agent.pools.disks.xml(
            parsed_args.instance, parsed_args.name, parsed_args.device,
            parsed_args.bus)
        self.app.stdout.write(f'{text}\n')


class Adopt(base.Lister):
    """Move the disks in a guest's folder into the pool, with --yes.

    Without a guest: list the guests that have such disks. The guest must be
    off, or its disks are linked (--link) while it runs: after its live
    migration the same command without --link removes the old names.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('instance', metavar='INSTANCE_UUID', nargs='?',
                            help='the guest')
        parser.add_argument('--link', action='store_true',
                            help='leave the old names in place')
        parser.add_argument('--yes', action='store_true',
                            help='do it (default: only list the disks)')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        adoption = self.agent.pools.adoption
        if parsed_args.instance is None:
            return ('instance',), [(name,) for name in adoption.instances()]
        found = (adoption.adopt(parsed_args.instance, keep=parsed_args.link)
                 if parsed_args.yes
                 else list(adoption.find(parsed_args.instance)))
        if found and parsed_args.yes:
            sys.stderr.write('Its domain names them by "volume-rbd pool '
                             'disk-xml" from now on.\n')
        return _LEGACY, [(disk.name, disk.size_bytes, str(disk.state),
                          str(disk.path), str(disk.target)) for disk in found]


def _state_row(state: PoolState) -> tuple[Any, ...]:
    return (state.name, state.kind, state.target,
            'active' if state.is_active else 'inactive', state.done,
            state.uuid)


def _chain(disk: Disk) -> base.ListColumn:
    return base.ListColumn([backing.path for backing in disk.chain])


def disk_fields(disk: Disk) -> Mapping[str, Any]:
    volume = disk.volume
    return {
        'instance': disk.instance,
        'name': disk.name,
        'volume': volume.name,
        'path': volume.path,
        'format': volume.format,
        'size_gib': model.gib_for(volume.capacity_bytes),
        'size_bytes': volume.capacity_bytes,
        'allocation_bytes': volume.allocation_bytes,
        'backing': _chain(disk),
    }
