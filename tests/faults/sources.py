# SPDX-License-Identifier: Apache-2.0
"""What is worked on: the same bytes for every run of a session, so that all
results of an operation are alike."""

from __future__ import annotations

import hashlib
import pathlib
import random

from tests.faults.operations import SIZE
from tests.functional import content, formats
from tests.functional.api import GlanceAPI
from tests.functional.content import MIB


class Sources:
    """:param folder: for files.
    :ivar checksum: as Glance has it.
    :ivar content: as a view tells it.
    :ivar file: a qcow2 with the same in it.
    """

    def __init__(self, folder: pathlib.Path, seed: int) -> None:
        self.data = _make_data(random.Random(seed))
        self.checksum = hashlib.md5(
            self.data, usedforsecurity=False).hexdigest()
        self.content = content.digest_of_bytes(self.data)[:16]
        self._qcow2 = formats.make(folder, self.data, 'qcow2')
        self.file = folder / 'source.qcow2'
        self.file.write_bytes(self._qcow2)

    def make_image(self, api: GlanceAPI, kind: str) -> str:
        """:param kind: raw, qcow2, each perhaps followed by ``in file``."""
        disk_format, _, store = kind.partition(' in ')
        return api.make(self._qcow2 if disk_format == 'qcow2' else self.data,
                        store or None, disk_format=disk_format)


def _make_data(random_: random.Random) -> bytes:
    """Data in each fourth of it, holes between."""
    data = bytearray(SIZE)
    for start in range(0, SIZE, SIZE // 4):
        data[start:start + MIB] = random_.randbytes(MIB)
    data[-70_000:] = random_.randbytes(70_000)
    return bytes(data)
