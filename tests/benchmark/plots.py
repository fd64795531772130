# SPDX-License-Identifier: Apache-2.0
"""The figures as pictures."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl

mpl.use('Agg')

from matplotlib import pyplot as plt

OURS = {'driver': '#2a6f97', 'copy': '#2a6f97', 'through Glance': '#89c2d9'}
OTHERS = ('#bcbcbc', '#8a8a8a')

# Panel: title -> bars by row, and their labels.
Rows = Mapping[str, Mapping[str, float]]


def draw(suite: str, report: dict[str, Any], path: pathlib.Path) -> None:
    """A panel for each of the suite's cases that was measured."""
    panels = {'main': _main, 'cinder': _cinder, 'data': _data,
              'jobs': lambda _: {}, 'compute': lambda _: {}}[suite](report)
    if not panels:
        return
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4 * len(panels), 3.8), squeeze=False,
        layout='constrained')
    for place, (title, rows) in zip(axes[0], panels.items(), strict=True):
        _bars(place, title, rows)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _main(report: dict[str, Any]) -> dict[str, Rows]:
    if not {'clone_upload', 'clone_create', 'at_once',
            'chunked_upload'} <= report.keys():
        return {}
    upload, create = report['clone_upload'], report['clone_create']
    many, chunked = report['at_once'], report['chunked_upload']
    return {
        'Upload by clone, by size': {
            size: {'driver': seconds,
                   'bare calls': upload['floor_seconds'][size]}
            for size, seconds in upload['seconds'].items()},
        'Create by clone; uploads at once': {
            'create': {'driver': create['flow_seconds'],
                       'bare calls': create['floor_seconds']},
            '1 upload': {'driver': many['one_seconds']},
            '20 uploads': {'driver': many['twenty_seconds'],
                           'bare calls': many['floor_of_twenty_seconds']}},
        'Upload through Glance': {
            '4 GiB full': {'driver': chunked['seconds'],
                           'from memory': chunked['from_memory_seconds']}}}


def _cinder(report: dict[str, Any]) -> dict[str, Rows]:
    titles = {'cinder_upload': 'Upload to image, full volume',
              'cinder_rows': 'Everyday operations',
              'cinder_delete': 'Delete returns'}
    return {title: {
        name: {'driver': row['on'], 'stock driver': row['stock']}
        for name, row in report[case]['seconds'].items()}
        for case, title in titles.items() if case in report}


def _data(report: dict[str, Any]) -> dict[str, Rows]:
    panels: dict[str, Rows] = {}
    if found := report.get('data_uploads'):
        panels['Raw upload through Cinder'] = {
            name: {'copy': row['copy'], 'through Glance': row['glance'],
                   'stock driver': row['stock']}
            for name, row in found['seconds'].items()}
    if found := report.get('data_qcow2'):
        through, bare = found['through_cinder_seconds'], found['bare_seconds']
        panels['Create from qcow2'] = {
            'through Cinder': {'driver': through['on'],
                               'stock driver': through['stock']},
            'bare': {'driver': bare['driver'],
                     'qemu-img': bare['qemu-img']}}
    if found := report.get('data_copies'):
        panels['Pool to pool'] = {
            name: {'driver': row['engine'],
                   'rbd deep cp': row['rbd deep cp']}
            for name, row in found['seconds'].items()}
    if found := report.get('data_files'):
        panels['Into a local file'] = {
            name: {'driver': row['engine'],
                   'rbd export; sync': row['rbd export, synced']}
            for name, row in found['seconds'].items()}
    if found := report.get('data_streams'):
        panels['Through Glance, 4 GiB full'] = found['seconds']
    return panels


def _bars(axes: Any, title: str, rows: Rows) -> None:
    labels = list(dict.fromkeys(
        label for row in rows.values() for label in row))
    others = iter(OTHERS)
    width = 0.8 / len(labels)
    for number, label in enumerate(labels):
        colour = OURS.get(label) or next(others)
        shown = [(place, row[label])
                 for place, row in enumerate(rows.values()) if label in row]
        axes.bar([place + (number - (len(labels) - 1) / 2) * width
                  for place, _ in shown], [value for _, value in shown],
                 width * 0.95, color=colour, label=label)
    axes.set_xticks(range(len(rows)), [_wrapped(name) for name in rows])
    axes.tick_params(axis='x', labelsize=8)
    axes.set_title(title)
    axes.set_ylabel('seconds')
    axes.margins(y=0.3)
    axes.set_ylim(bottom=0)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, loc='upper left', ncols=2, fontsize=8)


def _wrapped(name: str) -> str:
    for words in (' GiB ', ' TiB ', 'create from '):
        name = name.replace(words, words[:-1] + '\n')
    return name
