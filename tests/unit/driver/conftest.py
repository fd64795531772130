# SPDX-License-Identifier: Apache-2.0
"""The drivers' tests run flows, too."""

from tests.unit.flows.conftest import impatience

__all__ = ['impatience']
