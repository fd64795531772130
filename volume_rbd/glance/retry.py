# SPDX-License-Identifier: Apache-2.0
"""Calls that may be repeated are repeated, a few times, with pauses.

Only for what is idempotent. A kept-alive connection that the server closed
between two calls looks like a failure although nothing is wrong; a restart of
glance-api or of the proxy before it passes within seconds. A timeout is not
repeated: it was waited for long enough already. Neither is a 500: a store
driver that is broken stays broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import tenacity
from oslo_log import log as logging

from volume_rbd.glance import errors

LOG = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 8.0

T = TypeVar('T')


def retrying(func: Callable[[], T], *, what: str, retries: int,
             sleep: Callable[[float], None] = time.sleep,
             is_transient: Callable[[BaseException], bool]
             = errors.is_transient) -> T:
    """Call *func*, and again up to *retries* times after transient errors.

    The last foreign error is raised as it is.
    """
    controller = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(retries + 1),
        wait=tenacity.wait_random_exponential(
            multiplier=FIRST_PAUSE_S, min=FIRST_PAUSE_S,
            max=LONGEST_PAUSE_S),
        retry=tenacity.retry_if_exception(is_transient),
        before_sleep=lambda state: _log(what, state),
        sleep=sleep,
        reraise=True)
    return controller(func)


def _log(what: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause_s = state.next_action.sleep if state.next_action else 0
    LOG.warning(
        '%(what)s: attempt %(number)d failed, next in %(pause).1f s: '
        '%(error)s', {
            'what': what, 'number': state.attempt_number, 'pause': pause_s,
            'error': errors.describe(error) if error else ''})
