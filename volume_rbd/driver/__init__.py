# SPDX-License-Identifier: Apache-2.0
"""A backend's whole life in plain terms, a file per subject."""

from volume_rbd.driver.driver import RBDDriver

__all__ = ['RBDDriver']
