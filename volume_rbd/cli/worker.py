# SPDX-License-Identifier: Apache-2.0
"""``volume-rbd worker``"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from volume_rbd.cli import base
from volume_rbd.driver import RBDDriver, upkeep
from volume_rbd.jobs.board import Board
from volume_rbd.jobs.worker import Worker as BoardWorker

_MOST = 4


class Worker(base.Command):
    """Do the work of the backends, until SIGTERM.

    Jobs whose process is gone are gone on with or undone, and what was
    deleted is purged. Where a backend has a jobboard, copies, conversions,
    flattens, uploads and downloads that services post there are done too.

    It acts as a service does: with OS_* where they are set, else with the
    credentials of the configuration. At SIGTERM it takes nothing more; what
    runs is left to the next worker or service, which goes on with it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--jobs', metavar='N', type=_count, default=_MOST,
            help='how many jobs of a jobboard run at once, for each backend '
                 f'(default: {_MOST})')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """For the backend that --backend names, else for all."""
        is_ending = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: is_ending.set())
        manager = self.app.get_manager()
        chosen = self.app.options.backend
        names = [chosen] if chosen else manager.backend_names()
        # Without any, backend() says so.
        drivers = [manager.backend(name) for name in names] or [
            manager.backend()]
        workers = [BoardWorker(driver.jobs, Board(
            driver.config, driver.get_fsid()), parsed_args.jobs)
            for driver in drivers if driver.config.jobboard]
        for worker in workers:
            worker.start()
        for driver in drivers:
            driver.check()
            upkeep.keep_up(driver, is_ending)
        sys.stderr.write(f'{_describe(drivers)}\n')
        is_ending.wait()
        for worker in workers:
            worker.stop()
        _leave()
        return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError('at least 1')
    return number


def _describe(drivers: list[RBDDriver]) -> str:
    return 'Working for ' + ', '.join(
        f'{driver.config.name} ('
        + (driver.config.jobboard.partition('://')[0] or 'no jobboard') + ')'
        for driver in drivers) + '; SIGTERM ends it.'


def _leave() -> None:
    """As if killed, which jobs are made for: they are as they say they are,
    and another process goes on with them. To stop them first would undo."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
