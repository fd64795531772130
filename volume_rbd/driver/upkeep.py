# SPDX-License-Identifier: Apache-2.0
"""What is done for a backend as long as a process stays: jobs whose owners
are gone, and what is to be purged."""

from __future__ import annotations

import threading

from oslo_log import log as logging

from volume_rbd import exception
from volume_rbd.driver.driver import RBDDriver

LOG = logging.getLogger(__name__)


def keep_up(driver: RBDDriver, is_ending: threading.Event) -> None:
    """In the background: at once, for what an earlier process has left, and
    again and again until *is_ending*."""
    driver.jobs.watch()
    threading.Thread(target=_purge, args=(driver, is_ending), name='purge',
                     daemon=True).start()


def _purge(driver: RBDDriver, is_ending: threading.Event) -> None:
    while not is_ending.is_set():
        try:
            driver.reclaimer.purge_due()
        except exception.VolumeRBDError as error:
            LOG.warning('Nothing is purged now: %s', error)
        except Exception:
            LOG.exception('Purging failed')
        is_ending.wait(driver.config.purge_interval_s)
