# SPDX-License-Identifier: Apache-2.0
"""What the children of the zygote do."""

from __future__ import annotations

import logging
import secrets
import time
import traceback
import uuid
from collections.abc import Mapping
from typing import Any

from tests.faults import operations
from tests.faults.effects import Counter, KillPoint, instrument
from tests.zygote import Tell
from volume_rbd import exception, manager

BACKEND = 'optimized'


def operate(tell: Tell, *, operation: str, given: Mapping[str, Any],
            config: str, environ: Mapping[str, str], run: str,
            point: tuple[int, str] | None = None) -> None:
    """Run one operation, to its end or to its kill point.

    Tells ``killed`` (the effect), or ``effects`` (all of them), ``strategy``
    and ``error``.
    """
    counter = _count(tell, run, point)
    try:
        with manager.VolumeManager([config], environ=environ) as opened:
            result = operations.find(operation).act(
                opened.backend(BACKEND), given)
            tell(strategy=getattr(result, 'strategy', ''))
    except exception.VolumeRBDError as error:
        traceback.print_exc()
        tell(error=f'{type(error).__name__}: {error}')
    tell(effects=counter.names)


def recover(tell: Tell, *, config: str, environ: Mapping[str, str],
            run: str, timeout_s: float, purges: bool,
            point: tuple[int, str] | None = None) -> None:
    """Settle every job that is not finished.

    Tells ``recovered_s`` and ``outcomes``, and ``error``.

    :param purges: what is done in the background is done now.
    """
    counter = _count(tell, run, point)
    started = time.monotonic()
    try:
        with manager.VolumeManager([config], environ=environ) as opened:
            driver = opened.backend(BACKEND)
            jobs = getattr(driver, 'jobs', None)
            if jobs is not None:
                tell(outcomes=[
                    f'{each.job.operation} {each.state.value}: {each.error}'
                    for each in jobs.recover_until_idle(timeout_s)])
            tell(recovered_s=time.monotonic() - started)
            if purges:
                # As the service does from time to time. Not purge(), which
                # would tidy up for the other lanes too.
                driver.reclaimer.purge_due()
                driver.reclaimer.wait()
    except exception.VolumeRBDError as error:
        traceback.print_exc()
        tell(error=f'{type(error).__name__}: {error}')
    tell(effects=counter.names)


def _count(tell: Tell, run: str, point: tuple[int, str] | None) -> Counter:
    logging.basicConfig(
        level=logging.INFO, format=f'{run} %(asctime)s %(levelname)s '
                                   '%(name)s %(message)s')
    counter = Counter(KillPoint(*point) if point else None,
                      lambda name: tell(killed=name))
    instrument(counter)
    name_all_after(run)
    return counter


def name_all_after(run: str) -> None:
    """Every id made from now on begins with *run*, so that whatever is found
    later says which run made it.

    :param run: 8 hexadecimal digits.
    """
    uuid.uuid4 = lambda: uuid.UUID(  # type: ignore[assignment]
        hex=run + secrets.token_hex(12), version=4)
