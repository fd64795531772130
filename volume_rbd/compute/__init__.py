# SPDX-License-Identifier: Apache-2.0
"""For compute agents: disks in RBD, images straight from RBD into a local
cache, and libvirt's storage pools over both."""

from volume_rbd.compute.agent import ComputeAgent
from volume_rbd.compute.config import BACKEND_NAME, ComputeConfig, get_config
from volume_rbd.compute.fetch import Fetched, Fetcher

__all__ = ['BACKEND_NAME', 'ComputeAgent', 'ComputeConfig', 'Fetched',
           'Fetcher', 'get_config']
