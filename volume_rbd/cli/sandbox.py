# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd sandbox``"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from volume_rbd import exception
from volume_rbd.cli import base
from volume_rbd.sandbox import Options, Sandbox
from volume_rbd.sandbox.status import SandboxStatus

Settings = dict[str, dict[str, str | None]]


def _report(line: str) -> None:
    sys.stderr.write(f'{line}\n')


class OfSandbox(base.Command):
    """Takes the sandbox's name and folder."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument('--name', metavar='N', default='default',
                            help="the sandbox's name (default: default)")
        parser.add_argument(
            '--folder', metavar='DIR',
            help='the folder of all sandboxes (default: '
                 '$VOLUME_RBD_SANDBOX_DIR, else .sandbox)')
        return parser

    @staticmethod
    def sandbox(parsed_args: argparse.Namespace) -> Sandbox:
        return Sandbox(parsed_args.name, parsed_args.folder,
                       report=_report)


class SandboxUp(OfSandbox, base.ShowOne):
    """Start a real Ceph, Keystone and Glance, and Cinder, on loopback.

    Everything lives in one folder and on ports of its own, so several stand
    side by side. Starts what is missing; what runs is left alone.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_switch(parser, 'cinder', 'RabbitMQ and Cinder as well, with the '
                    'backends stock, off and on')
        _add_switch(parser, 'cinder-eventlet',
                    "Cinder patched by eventlet, Cinder's default; without, "
                    'in native threads')
        _add_switch(parser, 'etc-ceph',
                    'put the keyrings that os-brick looks for into /etc/ceph '
                    'until the sandbox goes down')
        parser.add_argument(
            '--ceph-only', action='store_true', default=None,
            help='only a Ceph cluster: a second one, with another fsid')
        parser.add_argument('--osd-size', metavar='GIB', type=int,
                            help='the size of the OSD (default: 40)')
        _add_switch(parser, 'secure-hash',
                    'Glance hashes registered images in the background')
        _add_switch(parser, 'glance-reads-volumes',
                    'client.glance may read the volumes pool')
        _add_switch(parser, 'nova-reads-volumes',
                    'client.nova may read the volumes pool')
        _add_switch(parser, 'nova-writes-images',
                    'client.nova may write into the images pool: a disk '
                    'becomes an image by a clone')
        _add_switch(parser, 'show-multiple-locations',
                    "Glance's old locations API (unsafe)")
        return parser

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        sandbox = self.sandbox(parsed_args)
        values = {
            'cinder': parsed_args.cinder,
            'cinder_eventlet': parsed_args.cinder_eventlet,
            'etc_ceph': parsed_args.etc_ceph,
            'ceph_only': parsed_args.ceph_only,
            'osd_size_gib': parsed_args.osd_size,
            'secure_hash': parsed_args.secure_hash,
            'glance_reads_volumes': parsed_args.glance_reads_volumes,
            'nova_reads_volumes': parsed_args.nova_reads_volumes,
            'nova_writes_images': parsed_args.nova_writes_images,
            'show_multiple_locations': parsed_args.show_multiple_locations}
        given = {key: value for key, value in values.items()
                 if value is not None}
        known = sandbox.status().options
        options = Options.from_json({**known, **given})
        return status_fields(self.perform(lambda _: sandbox.up(options)))


class SandboxDown(OfSandbox):
    """Stop every process of the sandbox; its data stays."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--destroy', action='store_true',
                            help='remove its folder too')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.sandbox(parsed_args).down(destroy=parsed_args.destroy)


class SandboxConfigure(OfSandbox):
    """Run Cinder or Glance of the sandbox with options changed.

    What is given replaces what was changed before; without any setting the
    service goes back to normal, and so it does with ``sandbox up``. Only what
    the options concern is restarted.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('service', choices=('cinder', 'glance'),
                            help='whose configuration')
        parser.add_argument(
            'settings', metavar='SECTION.OPTION=VALUE', nargs='*',
            help='the section, the option and its value; SECTION.OPTION by '
                 'itself takes the option out')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        overrides = parse_settings(parsed_args.settings)
        sandbox = self.sandbox(parsed_args)
        configure = {'cinder': sandbox.configure_cinder,
                     'glance': sandbox.configure_glance}
        self.perform(lambda _: configure[parsed_args.service](overrides))


class SandboxState(OfSandbox, base.ShowOne):
    """Say what of the sandbox runs."""

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        return status_fields(self.sandbox(parsed_args).status())


class SandboxEnv(OfSandbox):
    """Print what a client needs, for ``eval $(volume-rbd sandbox env)``."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '-f', '--format', choices=('shell', 'json'), default='shell',
            help='export lines, or one flat JSON object')
        parser.add_argument(
            '--as', dest='role', metavar='USER', default='service',
            help="whose OS_*: service (the volume service's user, with the "
                 'roles admin and service), member or other (plain users of '
                 'two projects), admin, glance, nova')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        values = self.sandbox(parsed_args).env(parsed_args.role)
        if parsed_args.format == 'json':
            self.app.stdout.write(json.dumps(values, indent=2) + '\n')
            return
        for key, value in values.items():
            self.app.stdout.write(f'export {key}={shlex.quote(value)}\n')


def parse_settings(words: Iterable[str]) -> Settings:
    """``SECTION.OPTION=VALUE`` as section -> option -> value; the value is
    None where there is no ``=``.

    :raises InvalidInput: one is not of that form.
    """
    found: Settings = {}
    for word in words:
        name, equals, value = word.partition('=')
        section, _, option = (part.strip() for part in name.partition('.'))
        if not (section and option) or not word.isprintable():
            raise exception.InvalidInput(
                f'{word!r} is no setting.',
                remedy='Write SECTION.OPTION=VALUE on one line.')
        found.setdefault(section, {})[option] = (
            value.strip() if equals else None)
    return found


def status_fields(status: SandboxStatus) -> Mapping[str, Any]:
    processes = {process.name: f'{process.state} ({process.pid})'
                 if process.pid else process.state
                 for process in status.processes}
    return {'name': status.name, 'state': status.state,
            'folder': status.folder, 'fsid': status.fsid,
            'health': status.health, 'keystone_url': status.keystone,
            'glance_url': status.glance, 'cinder_url': status.cinder,
            **processes}


def _add_switch(parser: argparse.ArgumentParser, name: str, text: str
                ) -> None:
    parser.add_argument(f'--{name}', default=None, help=text,
                        action=argparse.BooleanOptionalAction)
