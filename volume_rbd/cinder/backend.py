# SPDX-License-Identifier: Apache-2.0
"""What every part of the facade has: the driver in its process."""

from __future__ import annotations

from typing import Any

from cinder.volume import driver as cinder_driver

from volume_rbd import exception, opts
from volume_rbd.cinder import specs
from volume_rbd.driver import RBDDriver
from volume_rbd.process.client import BackendProcess


class Backend(cinder_driver.BaseVD):
    """A part of the facade; the whole is put together in driver.py."""

    process: BackendProcess | None = None
    config: opts.BackendConfig

    def backend(self, context: Any = None) -> RBDDriver:
        """The driver.

        :param context: of a request, where Glance is to see who asked.
        :raises ClusterUnavailable: the backend was not set up.
        """
        if self.process is None:
            raise exception.ClusterUnavailable(
                'The backend was not set up.',
                remedy='Look for the reason further up in the log.')
        return self.process.driver(specs.get_caller(context))
