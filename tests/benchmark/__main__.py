# SPDX-License-Identifier: Apache-2.0
"""``make bench``: all cases in one run on a sandbox of its own.

Writes doc/source/benchmarks/main-bench.json and its plot. Figures are those
of the machine it ran on; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile

from tests.benchmark import cases, plots
from volume_rbd.sandbox import Options, Sandbox

TARGET = pathlib.Path(__file__).parents[2] / 'doc/source/benchmarks'


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--folder', type=pathlib.Path, default=TARGET)
    parser.add_argument('--only', metavar='CASE',
                        help='measure one case anew, keep the others')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='volume-rbd-bench-') as base, \
            Sandbox('bench', base, options=Options(secure_hash=False),
                    report=lambda line: print(line, file=sys.stderr)
                    ) as sandbox:
        report = cases.Bench(sandbox, arguments.rounds).run(arguments.only)
    report['machine'] = cases.describe_machine()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = arguments.folder / 'main-bench.json'
    if arguments.only:
        report = json.loads(path.read_text()) | report
    path.write_text(json.dumps(report, indent=2) + '\n')
    plots.draw(report, arguments.folder / 'main-bench.png')


if __name__ == '__main__':
    main()
