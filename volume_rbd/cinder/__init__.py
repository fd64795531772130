# SPDX-License-Identifier: Apache-2.0
"""The facade for cinder-volume, and the only importer of cinder.

In a backend's section of cinder.conf::

    volume_driver = volume_rbd.cinder.RBDDriver

It turns Cinder's objects into the driver's plain terms, calls the driver in
its own process (:mod:`volume_rbd.process`), and turns errors into those that
Cinder handles. It decides nothing that the command line would not.
"""

from volume_rbd.cinder.driver import RBDDriver

__all__ = ['RBDDriver']
