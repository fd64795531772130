# SPDX-License-Identifier: Apache-2.0
"""libvirt's storage pools: one over the image cache, one of the disks.

The only importer of libvirt, and only where a pool is used: the rest of the
package works without it.
"""

from volume_rbd.compute.pools.disks import Disk, Disks
from volume_rbd.compute.pools.pools import Pools
from volume_rbd.compute.pools.storage_pool import PoolState

__all__ = ['Disk', 'Disks', 'PoolState', 'Pools']
