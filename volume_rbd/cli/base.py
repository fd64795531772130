# SPDX-License-Identifier: Apache-2.0
"""What the commands share: errors to exit codes, results to columns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cliff import columns, command, lister, show

from volume_rbd import compute, exception, key_manager, model
from volume_rbd.cli import display, running
from volume_rbd.driver import RBDDriver
from volume_rbd.flows.base import Result

if TYPE_CHECKING:
    from volume_rbd.cli.main import App

T = TypeVar('T')


class Command(command.Command):
    """A command that prints nothing of its own."""

    app: App

    @property
    def driver(self) -> RBDDriver:
        return self.app.get_driver()

    @property
    def agent(self) -> compute.ComputeAgent:
        return self.app.get_agent()

    @property
    def keys(self) -> key_manager.KeyManager:
        return self.app.get_manager().keys()

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            return int(super().run(parsed_args) or 0)
        except exception.VolumeRBDError as error:
            return running.report_error(error)

    def perform(self, operation: Callable[[display.Display], T]) -> T:
        """Run *operation* with a display; signals cancel it.

        Jobs whose process was killed are taken up beside it, once it has
        begun: until then one of them may be what is asked for.
        """
        with display.open_display() as shown:
            shown.on_begun = self._recover_soon
            result = running.run(lambda: operation(shown), shown)
        if count := sum(driver.jobs.count_settling()
                        for driver in self.app.opened()):
            sys.stderr.write(
                f'{count} job(s) of a process that was killed are being '
                'settled; to interrupt that leaves them to the next '
                'command.\n')
        return result

    def _recover_soon(self) -> None:
        for driver in self.app.opened():
            driver.jobs.recover_soon()


class ShowOne(Command, show.ShowOne):
    """A command that prints one thing, or JSON with -f json."""

    def take_action(self, parsed_args: argparse.Namespace) -> Any:
        fields = self.fields(parsed_args)
        return tuple(fields), tuple(fields.values())

    def fields(self, parsed_args: argparse.Namespace) -> Mapping[str, Any]:
        raise NotImplementedError


class ListColumn(columns.FormattableColumn):
    """A list: as such in JSON, separated by commas for a person."""

    def human_readable(self) -> str:
        return ', '.join(str(item) for item in self._value)

    def machine_readable(self) -> list[Any]:
        return list(self._value)


class OptionalColumn(columns.FormattableColumn):
    """None is null in JSON, and nothing for a person."""

    def human_readable(self) -> str:
        return '' if self._value is None else str(self._value)

    def machine_readable(self) -> Any:
        return self._value


class AgeColumn(columns.FormattableColumn):
    """Seconds or None: rounded in JSON, in days or less for a person."""

    def human_readable(self) -> str:
        if self._value is None:
            return ''
        for unit, seconds in (('d', 86400), ('h', 3600), ('min', 60)):
            if self._value >= 2 * seconds:
                return f'{self._value / seconds:.0f} {unit}'
        return f'{self._value:.0f} s'

    def machine_readable(self) -> int | None:
        return None if self._value is None else round(self._value)


class Lister(Command, lister.Lister):
    """A command that prints a table, or JSON with -f json."""

    #: Of one that goes on after an error, and tells of it at the end.
    exit_code = 0

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or self.exit_code


def volume_spec(name: str, size: object | None) -> model.VolumeSpec:
    """:param size: GiB as typed; None if not given."""
    size_bytes = None if size is None else model.size_bytes_from_gib(size)
    return model.VolumeSpec(model.check_name(name), size_bytes)


def split_snapshot(spec: str) -> tuple[str, str]:
    """``VOLUME@SNAPSHOT`` into its two names.

    :raises InvalidName: it is not of that form.
    """
    volume, separator, snapshot = spec.partition('@')
    if not (separator and volume and snapshot) or '@' in snapshot:
        raise exception.InvalidName(
            f'{spec!r} does not name a snapshot.',
            remedy='Write VOLUME@SNAPSHOT.')
    return volume, snapshot


def result_fields(result: Result) -> dict[str, Any]:
    """What every operation with strategies prints."""
    fields: dict[str, Any] = {
        'strategy': result.strategy,
        'reason': result.reason,
        'sentence': result.sentence,
        'size_gib': model.gib_for(result.size_bytes),
        'size_bytes': result.size_bytes,
        'bytes_moved': result.bytes_moved,
        'seconds': round(result.seconds, 3),
        'origin': result.lineage.get('origin'),
        'job': result.job,
    }
    return {**fields, **attempt_fields(result.attempts)}


def attempt_fields(attempts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What was tried, where the first strategy was not the last."""
    if len(attempts) < 2:
        return {}
    return {'attempts': ', '.join(
        f'{attempt["strategy"]} ({attempt["reason"]})'
        for attempt in attempts)}
