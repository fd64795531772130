# SPDX-License-Identifier: Apache-2.0
"""The worlds in which the contracts are tried."""

from tests.contract.ceph_fixtures import ceph, real_world, records

__all__ = ['ceph', 'real_world', 'records']
