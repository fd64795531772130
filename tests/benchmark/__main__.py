# SPDX-License-Identifier: Apache-2.0
"""``make bench``: all cases in one run on a sandbox of its own.

Writes main-bench.json, cinder-bench.json, data-bench.json, jobs-bench.json and
compute-bench.json in doc/source/benchmarks, and plots of all but the last two.
Figures are those of the machine it ran on; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import sys
import tempfile
from typing import Any

from tests.benchmark import (
    cases,
    cinder_cases,
    compute_cases,
    data_cases,
    jobs_cases,
    plots,
    table,
)
from volume_rbd.sandbox import Options, Sandbox

SUITES = {'main': cases.Bench, 'cinder': cinder_cases.CinderBench,
          'data': data_cases.DataBench, 'jobs': jobs_cases.JobsBench,
          'compute': compute_cases.ComputeBench}
TARGET = pathlib.Path(__file__).parents[2] / 'doc/source/benchmarks'


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--folder', type=pathlib.Path, default=TARGET)
    parser.add_argument('--suite', choices=SUITES,
                        help='one of them only')
    parser.add_argument('--only', metavar='CASE',
                        help='measure one case anew, keep the others')
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for suite in SUITES:
        if arguments.suite in (None, suite):
            _measure(suite, arguments)


def _measure(suite: str, arguments: argparse.Namespace) -> None:
    with_cinder = suite in ('cinder', 'data')
    options = Options(secure_hash=False, cinder=with_cinder,
                      # The stock driver does not upload without.
                      etc_ceph=with_cinder)
    path = arguments.folder / f'{suite}-bench.json'
    report: dict[str, Any] = {'table': []} if suite == 'data' else {}
    if arguments.only and path.exists():
        report = json.loads(path.read_text())
    with tempfile.TemporaryDirectory(prefix='volume-rbd-bench-') as base, \
            Sandbox('bench', base, options=options, report=_tell) as sandbox, \
            contextlib.closing(
                SUITES[suite](sandbox, arguments.rounds)) as bench:
        for case in bench.cases():
            if arguments.only in (None, case.__name__):
                _tell(case.__name__)
                report[case.__name__] = case()
                _tell(json.dumps(report[case.__name__]))
                # What was measured stays, whatever the next one meets.
                _save(suite, report, path)


def _save(suite: str, report: dict[str, Any], path: pathlib.Path) -> None:
    report['machine'] = cases.describe_machine()
    if suite == 'data':
        report['table'] = table.rows(report)
    path.write_text(json.dumps(report, indent=2) + '\n')
    plots.draw(suite, report, path.with_suffix('.png'))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
