# SPDX-License-Identifier: Apache-2.0
"""The data path's figures in one table: what was asked, what was reached."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

#: Work, against, how many times as quick at least, and where the report has
#: it.
ROWS: tuple[tuple[str, str, float, tuple[str, ...]], ...] = (
    ('create from qcow2, 1.4 GiB of data in 6 GiB', 'stock driver', 5.0,
     ('data_qcow2', 'ratio_to_stock')),
    ('the same', 'bare qemu-img, pool to pool', 0.9,
     ('data_qcow2', 'ratio_to_qemu_img')),
    ('second create from it, base cache', 'create by clone', 1.0,
     ('data_base_cache', 'ratio')),
    ('upload by copy, 4 GiB full, hashed on the way', 'stock driver', 1.8,
     ('data_uploads', 'ratio', 'full 4 GiB', 'copy')),
    ('the same, hashing left to Glance', 'stock driver', 2.3,
     ('data_uploads_hashed_by_glance', 'ratio', 'full 4 GiB', 'copy')),
    ('upload by copy, 8 GiB 25 % full, hashed on the way', 'stock driver',
     3.5, ('data_uploads', 'ratio', '25 % full 8 GiB', 'copy')),
    ('the same, hashing left to Glance', 'stock driver', 7.0,
     ('data_uploads_hashed_by_glance', 'ratio', '25 % full 8 GiB', 'copy')),
    ('RBD to RBD, 4 GiB full', 'rbd deep cp', 1.0,
     ('data_copies', 'ratio', 'full 4 GiB', 'engine')),
    ('RBD to RBD, 8 GiB 25 % full', 'rbd deep cp', 1.0,
     ('data_copies', 'ratio', '25 % full 8 GiB', 'engine')),
    ('RBD to a file, 4 GiB full', 'rbd export', 0.95,
     ('data_files', 'ratio', 'full 4 GiB', 'engine')),
    ('RBD to a file, 8 GiB 25 % full', 'rbd export', 0.95,
     ('data_files', 'ratio', '25 % full 8 GiB', 'engine')),
    ('RBD to a file, 4 GiB full', 'rbd export; sync', 0.95,
     ('data_files', 'ratio_to_synced', 'full 4 GiB')),
    ('upload through Glance, 4 GiB full', 'rbd export | curl', 1.0,
     ('data_streams', 'ratio', 'upload', 'driver')),
    ('the same', 'stock driver', 1.3,
     ('data_uploads', 'ratio', 'full 4 GiB', 'glance')),
    ('download from Glance, 4 GiB full', 'curl | rbd import', 1.0,
     ('data_streams', 'ratio', 'download', 'driver')),
)


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Of what was measured; a list of objects with the same keys."""
    return list(_rows(report))


def _rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for work, against, wanted, path in ROWS:
        with contextlib.suppress(KeyError):
            value: Any = report
            for key in path:
                value = value[key]
            yield {'work': work, 'against': against, 'times as quick': value,
                   'asked': wanted,
                   'reached': 'yes' if value >= wanted else 'no'}
