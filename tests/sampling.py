# SPDX-License-Identifier: Apache-2.0
"""What an ordinary run leaves out: ``make test-all`` has it."""

from __future__ import annotations

from typing import Any

import pytest


def more(*values: object) -> Any:
    """A set of parameters beside those of the sample."""
    return pytest.param(*values, marks=pytest.mark.long)
