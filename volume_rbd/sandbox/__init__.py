# SPDX-License-Identifier: Apache-2.0
"""A real single-node Ceph, MariaDB, Keystone, Glance and Cinder on loopback.

For tests, the demo and trying things out; no container, no systemd, nothing
outside one folder. ``Sandbox`` is the whole interface.
"""

from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.sandbox import Sandbox
from volume_rbd.sandbox.status import ProcessStatus, SandboxStatus

__all__ = ['Options', 'ProcessStatus', 'Sandbox', 'SandboxStatus']
