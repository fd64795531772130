# SPDX-License-Identifier: Apache-2.0
"""A block-storage driver for Ceph RBD that shares data with Glance."""
