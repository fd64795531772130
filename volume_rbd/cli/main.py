# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd``: the application around the commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from cliff import app, commandmanager

from volume_rbd import compute, exception, manager
from volume_rbd.cli import running
from volume_rbd.driver import RBDDriver

# One command, one file; imported only when it is the one that runs.
COMMANDS = {
    'create': 'create:Create',
    'upload': 'upload:Upload',
    'plan create': 'plan:PlanCreate',
    'plan upload': 'plan:PlanUpload',
    'list': 'volumes:List',
    'show': 'volumes:Show',
    'delete': 'delete:Delete',
    'extend': 'volumes:Extend',
    'snapshot create': 'snapshot:SnapshotCreate',
    'snapshot list': 'snapshot:SnapshotList',
    'snapshot delete': 'snapshot:SnapshotDelete',
    'snapshot revert': 'snapshot:SnapshotRevert',
    'disk create': 'disk:DiskCreate',
    'disk list': 'disk:DiskList',
    'disk show': 'disk:DiskShow',
    'disk delete': 'disk:DiskDelete',
    'disk resize': 'disk:DiskResize',
    'disk snapshot': 'disk:DiskSnapshot',
    'disk rollback': 'disk:DiskRollback',
    'disk clean-up': 'disk:DiskCleanUp',
    'disk capacity': 'disk:DiskCapacity',
    'disk migrate-xml': 'disk:DiskMigrateXML',
    'jobs list': 'jobs:List',
    'jobs show': 'jobs:Show',
    'jobs resume': 'jobs:Resume',
    'jobs cancel': 'jobs:Cancel',
    'reclaim': 'reclaim:Reclaim',
    'worker': 'worker:Worker',
    'pool ensure': 'pool:Ensure',
    'pool list': 'pool:List',
    'pool show': 'pool:Show',
    'pool refresh': 'pool:Refresh',
    'pool adopt': 'pool:Adopt',
    'pool create-disk': 'pool:CreateDisk',
    'pool resize-disk': 'pool:ResizeDisk',
    'pool delete-disk': 'pool:DeleteDisk',
    'pool extract-disk': 'pool:ExtractDisk',
    'pool disk-xml': 'pool:DiskXML',
    'fetch': 'fetch:Fetch',
    'sandbox up': 'sandbox:SandboxUp',
    'sandbox down': 'sandbox:SandboxDown',
    'sandbox status': 'sandbox:SandboxState',
    'sandbox env': 'sandbox:SandboxEnv',
    'sandbox configure': 'sandbox:SandboxConfigure',
    'sandbox demo': 'demo:SandboxDemo',
}

EXIT_CODES = """\
exit codes:
    0  done
    1  an error without a code of its own
    2  the request or the configuration makes no sense
    3  something that was named does not exist
    4  the state of things forbids it (exists, busy, in use, not active)
    5  somebody may not do what was tried (cephx, Glance, Keystone)
    6  a service does not answer; try again when it is back
    7  no room: the pool is full, or a quota forbids it
    8  this release, or this cluster, cannot do it
    9  data arrived damaged; nothing was kept
   10  Glance took a registration and has not finished it; the clone stays
   11  the sandbox does not work
  130  cancelled (Ctrl-C or SIGTERM); what was made has been undone

Credentials of the user come from OS_*; those of the service, the cluster and
the backends from the configuration: --config-file, else $VOLUME_RBD_CONFIG,
else /etc/volume-rbd/volume-rbd.conf, else /etc/cinder/cinder.conf (for
disk, fetch and pool: /etc/nova/nova.conf).
"""

_QUIET_LOGGERS = ('keystoneauth', 'taskflow', 'stevedore', 'urllib3',
                  'glanceclient', 'cliff')


def _is_for_people(record: logging.LogRecord) -> bool:
    """oslo.utils logs a traceback where one error takes the place of another,
    as it does when a job is lost while it is undone."""
    return not str(record.msg).startswith('Original exception being dropped')


class _Commands(commandmanager.CommandManager):
    """A closed table instead of a search for entry points."""

    def load_commands(self, namespace: str) -> None:
        for name, target in COMMANDS.items():
            self.commands[name] = metadata.EntryPoint(
                name, f'volume_rbd.cli.{target}', namespace)


class App(app.App):
    """The application; commands find their manager on it."""

    NAME = 'volume-rbd'

    def __init__(self) -> None:
        super().__init__(
            description='Volumes in Ceph RBD that share data with Glance.',
            version=_version(), command_manager=_Commands('volume_rbd.cli'),
            deferred_help=True)
        self.manager: manager.VolumeManager | None = None
        self.agent: compute.ComputeAgent | None = None

    def build_option_parser(self, description: str, version: str,
                            argparse_kwargs: Any = None) -> Any:
        parser = super().build_option_parser(description, version, {
            'epilog': EXIT_CODES,
            'formatter_class': argparse.RawDescriptionHelpFormatter})
        # parse_known_args takes these wherever they stand, so they work
        # before the command and behind it.
        parser.add_argument(
            '--config-file', metavar='FILE', action='append', default=[],
            help='a configuration file (a cinder.conf or nova.conf works as '
                 'it is); may be given several times')
        parser.add_argument(
            '--backend', metavar='NAME',
            help='the backend section to use (default: the first enabled '
                 'one); libvirt: the disks of a compute agent')
        return parser

    def interact(self) -> int:
        """No command was given: say what there is."""
        self.run_subcommand(['help'])
        raise SystemExit(2)  # cliff takes no code from here

    def configure_logging(self) -> None:
        """Warnings to stderr; -v: what is done; -vv: everything."""
        level = {0: logging.ERROR, 1: logging.WARNING, 2: logging.INFO}.get(
            self.options.verbose_level, logging.DEBUG)
        logging.basicConfig(
            level=level, stream=sys.stderr, force=True,
            format='%(levelname)s: %(message)s' if level > logging.DEBUG
            else '%(asctime)s %(levelname)s %(name)s: %(message)s')
        logging.captureWarnings(level > logging.INFO)
        if level > logging.DEBUG:
            for handler in logging.getLogger().handlers:
                handler.addFilter(_is_for_people)
            for name in _QUIET_LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            logging.getLogger('py.warnings').setLevel(logging.CRITICAL)

    def run_subcommand(self, argv: list[str]) -> int:
        try:
            return int(super().run_subcommand(argv) or 0)
        finally:
            for opened in (self.agent, self.manager):
                if opened is not None:
                    opened.close()

    def get_manager(self) -> manager.VolumeManager:
        if self.manager is None:
            self.manager = manager.VolumeManager(self.options.config_file)
        return self.manager

    def get_driver(self) -> RBDDriver:
        name = self.options.backend
        if (name == compute.BACKEND_NAME
                and name not in self.get_manager().backend_names()):
            return self.get_agent().driver
        return self.get_manager().backend(name)

    def get_agent(self) -> compute.ComputeAgent:
        if self.agent is None:
            self.agent = compute.ComputeAgent(self.options.config_file)
        return self.agent

    def opened(self) -> list[RBDDriver]:
        """The drivers that were asked for so far."""
        return [driver for opened in (self.agent, self.manager)
                if opened is not None for driver in opened.opened()]


def _version() -> str:
    try:
        return metadata.version('volume-rbd')
    except metadata.PackageNotFoundError:
        return 'unknown'


def main(argv: Sequence[str] | None = None) -> int:
    """What the console script runs.

    :returns: an exit code of :data:`EXIT_CODES`.
    """
    running.install_handlers()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = int(App().run(arguments))
        running.ignore_signals()
        return code
    except exception.VolumeRBDError as error:
        return running.report_error(error)
    except KeyboardInterrupt:
        return running.report_error(
            exception.Cancelled('Cancelled before anything was done.'))
    except BrokenPipeError:
        # Who read our output has gone; Python would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
