# SPDX-License-Identifier: Apache-2.0
"""What is known of a fetched file, written on the file itself.

An extended attribute comes and goes with the file, under whatever name. It is
as good as the file: who can write the one can write the other, and that is
only the agent. A file system without such attributes has none: then the file
is read again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Self

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

_KEY = 'user.volume_rbd'


@dataclasses.dataclass(frozen=True)
class Record:
    """:param image_id: of the Glance image.
    :param disk_format: of the file, in Glance's word.
    :param size_bytes: of the file.
    :param disk_bytes: the size of the disk inside.
    :param hash: ``algorithm:value`` of the image's bytes, as Glance has it
        and as they had it; None: Glance has none.
    :param terms: under which its signature was verified; None: it was not.
    """

    image_id: str
    disk_format: str
    size_bytes: int
    disk_bytes: int
    hash: str | None = None
    terms: str | None = None

    def write(self, file: int | Path) -> None:
        """As far as the file system takes it."""
        try:
            os.setxattr(file, _KEY, json.dumps(
                dataclasses.asdict(self), sort_keys=True).encode())
        except OSError as error:
            LOG.info('Nothing is written on %s, which will be read again: %s',
                     file, error)

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """None: there is none, or it is of a file of another size."""
        try:
            found = json.loads(os.getxattr(path, _KEY))
            record = cls(
                str(found['image_id']), str(found['disk_format']),
                int(found['size_bytes']), int(found['disk_bytes']),
                _text(found['hash']), _text(found['terms']))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if record.size_bytes == path.stat().st_size else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
