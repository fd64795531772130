# SPDX-License-Identifier: Apache-2.0
"""Moves bytes between protocols. Knows neither Ceph nor Glance."""
