# SPDX-License-Identifier: Apache-2.0
"""The figures as a picture."""

from __future__ import annotations

import pathlib
from typing import Any

import matplotlib as mpl

mpl.use('Agg')

from matplotlib import pyplot as plt

OURS = '#2a6f97'
FLOOR = '#bcbcbc'


def draw(report: dict[str, Any], path: pathlib.Path) -> None:
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(11, 3.6), layout='constrained')
    upload = report['clone_upload']
    _pairs(left, 'Upload by clone, by size', upload['seconds'],
           upload['floor_seconds'], 'bare calls')
    create = report['clone_create']
    many = report['at_once']
    _pairs(middle, 'Create by clone; uploads at once',
           {'create': create['flow_seconds'], '1 upload': many['one_seconds'],
            '20 uploads': many['twenty_seconds']},
           {'create': create['floor_seconds'],
            '20 uploads': many['floor_of_twenty_seconds']}, 'bare calls')
    chunked = report['chunked_upload']
    right.bar(['driver', 'from memory'],
              [chunked['mib_per_second'],
               chunked['from_memory_mib_per_second']], color=[OURS, FLOOR])
    right.set_title('Upload through Glance, 4 GiB full')
    right.set_ylabel('MiB/s')
    for axes in (left, middle, right):
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=110)


#: case -> title
CINDER_PANELS = {'cinder_upload': 'Upload to image, full volume',
                 'cinder_rows': 'Everyday operations',
                 'cinder_delete': 'Delete returns'}


def draw_cinder(report: dict[str, Any], path: pathlib.Path) -> None:
    """What was measured, a panel for each."""
    tables = {name: title for name, title in CINDER_PANELS.items()
              if name in report}
    figure, axes = plt.subplots(
        1, len(tables), figsize=(4 * len(tables), 3.8), squeeze=False,
        layout='constrained')
    for place, (case, title) in zip(axes[0], tables.items(), strict=True):
        rows = report[case]['seconds']
        _pairs(place, title, {name: row['on'] for name, row in rows.items()},
               {name: row['stock'] for name, row in rows.items()},
               'stock driver')
        place.tick_params(axis='x', labelsize=8)
        place.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=110)


def _pairs(axes: Any, title: str, ours: dict[str, float],
           floor: dict[str, float], floor_label: str) -> None:
    names = list(ours)
    places = range(len(names))
    axes.bar([place - 0.2 for place in places], list(ours.values()), 0.38,
             color=OURS, label='driver')
    axes.bar([place + 0.2 for place in places],
             [floor.get(name, 0) for name in names], 0.38, color=FLOOR,
             label=floor_label)
    axes.set_xticks(list(places),
                    [name.replace(' GiB ', ' GiB\n').replace(
                        ' TiB ', ' TiB\n').replace(
                        'create from', 'create\nfrom') for name in names])
    axes.set_title(title)
    axes.set_ylabel('seconds')
    axes.margins(y=0.25)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc='upper left', ncols=2)
