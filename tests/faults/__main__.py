# SPDX-License-Identifier: Apache-2.0
"""Kills by hand::

    python -m tests.faults --operation upload/clone --at 7 --side after
    python -m tests.faults --operation upload/clone
    python -m tests.faults --count 60 --seed 4711 --report kills.json
    python -m tests.faults --list

On a sandbox of its own, or on that of $VOLUME_RBD_TEST_SANDBOX.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping

from tests.faults import choosing, harness
from tests.faults.choosing import Task
from tests.faults.effects import SIDES, KillPoint
from tests.faults.judging import Reference
from tests.faults.operations import OPERATIONS
from tests.faults.report import Kill
from tests.functional.house import House
from volume_rbd.sandbox import Options, Sandbox


def main() -> int:
    asked = _parse()
    if asked.list:
        print(*OPERATIONS, sep='\n')
        return 0
    seed = asked.seed or random.randrange(2 ** 32)
    print(f'VOLUME_RBD_FAULTS_SEED={seed}', flush=True)
    with tempfile.TemporaryDirectory(prefix='volume-rbd-faults-') as folder:
        path = pathlib.Path(asked.folder or folder)
        with _sandbox(path) as sandbox, contextlib.closing(
                House(sandbox, path)) as house, \
                house.nothing_changes(), harness.opened(
                    house, path, lanes=asked.lanes, seed=seed,
                    watch_timeout_s=asked.watch_timeout) as opened:
            names = asked.operation or list(OPERATIONS)
            references = opened.references(names)
            if asked.effects:
                for name, reference in references.items():
                    for number, effect in enumerate(reference.effects, 1):
                        print(f'{name} #{number} {effect}')
                return 0
            report = opened.report

            def tell(kill: Kill) -> None:
                print(f'{kill.verdict:9} {kill.recovered_s:5.1f} s  {kill}',
                      flush=True)
                if asked.report:  # whoever ends the run leaves that
                    report.write(asked.report)

            report.on_kill = tell
            report.command = _again(asked, seed)
            opened.run(_choose(asked, references, seed))
            print(report.render())
            return bool(report.findings)


def _again(asked: argparse.Namespace, seed: int) -> str:
    words = ['python', '-m', 'tests.faults', '--seed', str(seed)]
    for name in asked.operation or ():
        words += ['--operation', name]
    if asked.at:
        words += ['--side', asked.side]
    for name in ('at', 'again', 'count', 'watch_timeout'):
        value = getattr(asked, name)
        if value is not None:
            words += [f'--{name.replace("_", "-")}', str(value)]
    return shlex.join(words)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m tests.faults', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--operation', action='append', choices=OPERATIONS,
                        metavar='NAME', help='one of --list; may be repeated')
    parser.add_argument('--at', type=int, help='the number of the effect')
    parser.add_argument('--side', choices=SIDES, default='after')
    parser.add_argument('--again', type=int, help='kill the recovery before '
                        'its effect of this number')
    parser.add_argument('--count', type=int, help='so many, spread; without '
                        'it every kill point once')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--lanes', type=int, default=int(
        os.environ.get('VOLUME_RBD_FAULTS_LANES', '8')))
    parser.add_argument('--watch-timeout', type=int,
                        default=harness.SHORT_WATCH_S, help='seconds that '
                        "a killed client's watch lasts; Ceph has 30")
    parser.add_argument('--report', help='write the figures here, as JSON')
    parser.add_argument('--folder', help='keep the logs of children here')
    parser.add_argument('--list', action='store_true',
                        help='the operations')
    parser.add_argument('--effects', action='store_true',
                        help='the side effects of each; kill nothing')
    return parser.parse_args()


def _choose(asked: argparse.Namespace, references: Mapping[str, Reference],
            seed: int) -> list[Task]:
    if asked.at:
        return [Task(name, KillPoint(asked.at, asked.side),
                             asked.again) for name in references]
    if asked.count:
        return choosing.spread(references, asked.count, seed)
    return choosing.everything(references)


@contextlib.contextmanager
def _sandbox(base: pathlib.Path) -> Iterator[Sandbox]:
    kept = os.environ.get('VOLUME_RBD_TEST_SANDBOX')
    if kept:
        folder = pathlib.Path(kept).resolve()
        running = Sandbox(folder.name, folder.parent)
        running.up()
        yield running
        return
    with Sandbox('faults', base, options=Options(
            quick_monitor=True, secure_hash=False)) as running:
        yield running


if __name__ == '__main__':
    sys.exit(main())
