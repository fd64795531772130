# SPDX-License-Identifier: Apache-2.0
"""What is found, and who finds it: the contract of a source."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from volume_rbd.ceph.interface import Pool
from volume_rbd.ceph.lineage import Lineage

OURS = 'volume_rbd'
STOCK = 'stock driver'
GLANCE = 'glance'
USER = 'user'

#: Between two looks at what takes two: between download and conversion, say,
#: nobody has a stage open, for moments.
APART_S = 20.0


@dataclasses.dataclass(frozen=True)
class Reclaimable:
    """:param what: its kind, one of its source's.
    :param name: the rbd_image's name, or ``name@snapshot``.
    :param age_s: since it was made, or came to rest; None: not known.
    :param why: why it is nobody's.
    :param owner: whose it was: ``job ID``, 'volume_rbd', 'stock driver',
        'glance' or 'user'.
    :param takes_two_looks: who is at work with it may let go of it for a
        moment: it is removed only if it looks the same a while later.
    """

    what: str
    pool: str
    name: str
    image_id: str
    size_bytes: int
    age_s: float | None
    why: str
    owner: str = OURS
    snapshot_id: int | None = None
    takes_two_looks: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the same thing, whenever it is looked at."""
        return (self.what, self.pool, self.name, self.image_id,
                self.snapshot_id)


class Source(Protocol):
    """Finds things of some kinds that nobody owns, and removes them.

    :cvar kinds: what its items are, see :attr:`Reclaimable.what`.
    """

    @property
    def kinds(self) -> Collection[str]: ...

    def find(self, pools: Sequence[Pool]) -> Iterator[Reclaimable]:
        """Touches nothing. What cannot be proved is left out.

        :param pools: that may be read: of the volumes, then of the images.
        """

    def remove(self, item: Reclaimable) -> bool:
        """Remove it, if it is still nobody's.

        :returns: whether it is gone.
        :raises ImageNotFound: it was gone already.
        :raises VolumeRBDError: it stays.
        """


def owner_of(mark: Lineage | None) -> str:
    """Who made an rbd_image of ours."""
    return f'job {mark.job}' if mark is not None and mark.job else OURS
