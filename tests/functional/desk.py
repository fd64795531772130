# SPDX-License-Identifier: Apache-2.0
"""Commands about jobs, each in a process of its own."""

from __future__ import annotations

import contextlib
from typing import Any

from tests.functional import content
from tests.functional.content import MIB
from tests.functional.house import House
from tests.functional.ledger import Ledger
from tests.functional.program import Program, started

DISK_BYTES = 48 * MIB
SLOW_MIB_PER_S = 4
# Told from the second second on; there is a checkpoint after five.
MOVED, WITH_CHECKPOINT = r' [1-8]0 %', r' [678]0 %'
OPTIMIZED = ('--backend', 'optimized')
# Long enough for a machine that stands still for seconds now and then.
LEASE_S = 8


class Desk:
    """Where somebody sits who runs commands, some of them slow.

    :param more: sections of the configuration.
    :ivar config: no clones: everything is copied, at full speed.
    :ivar slow: as *config*, slow enough to be stopped in the middle.
    :ivar crawling: so slow that it is not over before it is cancelled.
    """

    def __init__(self, house: House, **more: Any) -> None:
        self.house = house
        self.config = house.config({**_copying(), **more})
        self.slow = house.config({
            **_copying(copy_bandwidth=SLOW_MIB_PER_S), **more})
        self.crawling = house.config({
            **_copying(copy_bandwidth=1), **more})
        self.ledger = Ledger(house.cluster)

    def start(self, *words: str, config: str | None = None, **options: Any
              ) -> contextlib.AbstractContextManager[Program]:
        return started(self.house, *words, *OPTIMIZED,
                       config=config or self.slow, **options)

    def run(self, *words: str, code: int = 0) -> str:
        """:returns: what it said, on both ways out."""
        done = self.house.run(*words, *OPTIMIZED, config=self.config)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, *words: str, **options: Any) -> Any:
        """:param options: as in :meth:`House.run`."""
        return self.house.run_json(*words, *OPTIMIZED, config=self.config,
                                   **options)

    def jobs(self) -> list[dict[str, Any]]:
        """Those that are open."""
        found: list[dict[str, Any]] = self.ask('jobs', 'list')
        return found

    def leave_half(self, *words: str, at: str = MOVED) -> str:
        """Run it, kill it in the middle of its bytes; :returns: the job."""
        with self.start(*words) as program:
            program.wait_for(at)
            program.kill()
        [job] = self.jobs()
        return str(job['job'])

    def check_image(self, image_id: str, data: bytes) -> None:
        assert self.house.member.status(image_id) == 'active'
        assert (self.house.member.digest(image_id)
                == content.digest_of_bytes(data))

    def check_volume(self, name: str, data: bytes) -> None:
        assert (self.house.cluster.digest('volumes', name)
                == content.digest_of_bytes(data))


def _copying(**more: object) -> dict[str, dict[str, object]]:
    return {'optimized': {'rbd_max_clone_depth': 0, 'job_lease': LEASE_S,
                          **more}}
