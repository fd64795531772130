# SPDX-License-Identifier: Apache-2.0
"""The committed figures as tables: whatever ``*bench*.json`` there is."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from generated import decisions


def _is_flat(value: Any) -> bool:
    return not isinstance(value, Mapping | list)


def _text(value: Any) -> str:
    if value is None:
        return '–'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return str(value)


def _words(key: str) -> str:
    return key.replace('_', ' ')


def _rows_of(records: Sequence[Mapping[str, Any]]) -> str:
    """A list of objects: one line each."""
    columns = list(dict.fromkeys(
        key for record in records for key in record))
    return decisions.table(
        [_words(column) for column in columns],
        ' '.join('1' for _ in columns),
        [[_text(record.get(column)) for column in columns]
         for record in records])


def _grid(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Several objects with the same keys: one line a key, one column each."""
    keys = list(dict.fromkeys(key for group in groups.values()
                              for key in group))
    return decisions.table(
        ['', *(_words(name) for name in groups)],
        ' '.join('1' for _ in range(len(groups) + 1)),
        [[key, *(_text(group.get(key)) for group in groups.values())]
         for key in keys])


def _case(name: str, case: Any) -> Iterator[str]:
    yield f'.. rubric:: {_words(name).capitalize()}'
    yield ''
    if isinstance(case, list) and case and isinstance(case[0], Mapping):
        yield _rows_of(case)
    elif isinstance(case, Mapping):
        yield from _mapping(case)
    else:
        yield _text(case)
    yield ''


def _mapping(case: Mapping[str, Any]) -> Iterator[str]:
    flat = {key: value for key, value in case.items() if _is_flat(value)}
    groups = {key: value for key, value in case.items()
              if isinstance(value, Mapping)
              and all(_is_flat(cell) for cell in value.values())}
    if groups:
        yield _grid(groups)
        yield ''
    for value in case.values():
        if isinstance(value, list) and value and all(
                isinstance(row, Mapping) for row in value):
            yield _rows_of(value)
            yield ''
    for key, value in case.items():
        # One level deeper: {'1 GiB': {'upload': 3, 'download': 4}}.
        if isinstance(value, Mapping) and key not in groups and all(
                isinstance(inner, Mapping) for inner in value.values()):
            yield f'{_words(key).capitalize()}:'
            yield ''
            yield _grid(value)
            yield ''
    if flat:
        yield decisions.table(
            ['figure', 'value'], '40 60',
            [[_words(key), _text(value)] for key, value in flat.items()])
        yield ''


class BenchFigures(SphinxDirective):
    """Single measurements (lists of numbers) stay in the JSON."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # new files
        folder = pathlib.Path(self.get_source_info()[0]).parent
        lines: list[str] = []
        for path in sorted(folder.glob('*bench*.json')):
            lines += self._file(path)
        if not lines:
            lines = ['.. note::', '',
                     '   This tree has no figures yet; ``make bench`` makes '
                     'them.']
        return self.parse_text_to_nodes('\n'.join(lines),
                                        allow_section_headings=True)

    def _file(self, path: pathlib.Path) -> Iterator[str]:
        report = json.loads(path.read_text())
        title = _words(path.stem)
        yield title
        yield '~' * len(title)
        yield ''
        if path.with_suffix('.png').exists():
            yield f'.. image:: {path.stem}.png'
            yield '   :width: 100%'
            yield f'   :alt: {title}'
            yield ''
        if isinstance(report, list):
            yield _rows_of(report)
        else:
            for name, case in report.items():
                yield from _case(name, case)
        yield ''
        yield f'All of it: :download:`{path.name}`.'
        yield ''


_OF_KILLS = ('kills', 'leaks', 'mismatches', 'unfinished', 'slow', 'complete',
             'gone', 'median_recovery_s', 'slowest_recovery_s')


class KillFigures(SphinxDirective):
    """Of each ``*.json`` that a run of the kill points has written."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # new files
        folder = pathlib.Path(self.get_source_info()[0]).parent
        lines: list[str] = []
        for path in sorted(folder.glob('kills*.json')):
            report = json.loads(path.read_text())
            rows = [*report['operations'].items(), ('all', report)]
            lines += [
                f'.. rubric:: {path.stem}: seed {report["seed"]}, watches of '
                f'killed clients last {report["watch_timeout_s"]} s', '',
                decisions.table(
                    ['operation', *map(_words, _OF_KILLS)],
                    '3 1 1 1 1 1 1 1 1 1',
                    [[name, *(_text(row[key]) for key in _OF_KILLS)]
                     for name, row in rows]), '',
                f'Again: ``{report["command"]}``. All of it: '
                f':download:`{path.name}`.', '']
        return self.parse_text_to_nodes('\n'.join(lines))


def register(app: Sphinx) -> None:
    app.add_directive('kill-figures', KillFigures)
    app.add_directive('bench-figures', BenchFigures)
